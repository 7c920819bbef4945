"""The application: routes behind a door.

    app = create_app(Service(champion, settings))

Source: issue 7, point 3.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import APIRouter, FastAPI

from llara_core import __version__
from llara_core.serving import openai_routes, probes, refusals, routes
from llara_core.serving.guard import Guard
from llara_core.serving.service import Service

_ABOUT = (
    "Encodes texts with a registered model and searches the index that belongs to it. Every answer names the "
    "pair it came from; vectors of different fingerprints do not mix. Errors have one shape, OpenAI's."
)


def create_app(
    service: Service,
    *,
    keys: Sequence[str] = (),
    hosts: Sequence[str] = (),
    more: Sequence[APIRouter] = (),
    open_paths: Sequence[str] = (),
) -> FastAPI:
    """The application of a service, which starts and ends with it.

    Args:
        service: not started yet.
        keys: any of which a request must bring; none: no key is asked for.
        hosts: names by which it may be called; none: any.
        more: further routes, such as the search page's.
        open_paths: of these, the ones that need no key.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        service.champion.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(service.close)

    app = FastAPI(
        title="LLaRA retrieval service",
        version=__version__,
        description=_ABOUT,
        lifespan=living,
        # Swagger's and ReDoc's pages load scripts from other people's servers; the description itself stays.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    refusals.install(app)
    for router in (routes.router(service), openai_routes.router(service), probes.router(service), *more):
        app.include_router(router)
    app.add_middleware(Guard, service=service, keys=keys, hosts=hosts, open_paths=open_paths)
    return app
