"""The search page and the routes behind it.

    page = SearchPage(systems, settings)
    app = create_app(service, more=[page.router], open_paths=page.open_paths)
    page.close()                       # when the server has ended

It has a worker of its own, so that a comparison of three systems holds up no ``/search``.
Source: issue 7, point 4.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from llara_core.retrieval.bm25_terms import Analyser
from llara_core.search_page_settings import SearchPageSettings
from llara_core.serving.compare import (
    NotYetError,
    UnknownPassageError,
    UnknownSystemError,
    compare,
    whole_passage,
)
from llara_core.serving.page_schemas import (
    NOT_FOUND,
    CompareRequest,
    CompareResponse,
    ExamplesResponse,
    PassageResponse,
    SystemFacts,
    SystemsResponse,
)
from llara_core.serving.refusals import ServiceError
from llara_core.serving.schemas import GET_ERRORS, POST_ERRORS, errors
from llara_core.serving.systems import BM25, CHAMPION, Systems

T = TypeVar("T")
_SCRIPTS = ("search", "client", "draw", "keys")
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/search.css": ("search.css", "text/css; charset=utf-8"),
    **{f"/page/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in _SCRIPTS},
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Nothing but our own files runs, whatever a passage holds; and no text may become markup by mistake
# (trusted types). A page elsewhere cannot put this one into a frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds what somebody looks for
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for again by its ETag, so that an upgrade is seen at once
}
_LONGEST_ID = 8192  # characters of a passage's id in an address; servers take little more
_EXAMPLES = 6  # judged queries to begin with: a row or two of buttons


class SearchPage:
    """Page and routes over the systems that can be compared.

    Args:
        systems: all there are; closed with the page.
        settings: what one visitor may ask for.
    """

    def __init__(self, systems: Systems, settings: SearchPageSettings) -> None:
        self._systems, self._settings = systems, settings
        self._analyser = Analyser(settings.bm25)
        self._worker = ThreadPoolExecutor(1, "llara-compare")
        self._waiting = 0
        self.open_paths = tuple(_FILES)  # they hold nothing of the corpus, and one asks for the key
        self.router = APIRouter(tags=["search page"])
        for path, (name, kind) in _FILES.items():
            self.router.add_api_route(
                path, _sender(name, kind), methods=["GET", "HEAD"], include_in_schema=False
            )
        self._add_get()
        self._add_post()

    def close(self) -> None:
        """End the worker and let go of what is open."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._systems.close()

    def _add_get(self) -> None:
        get = self.router.get

        @get("/systems", responses=GET_ERRORS | errors(503))
        async def systems() -> SystemsResponse:
            """What can be compared: the champion, BM25 and the other generations, newest first."""
            return await anyio.to_thread.run_sync(self._listed)

        @get("/passage", responses=GET_ERRORS | errors(422, 503) | NOT_FOUND)
        async def passage(
            id: Annotated[str, Query(max_length=_LONGEST_ID, description="Of the passage.")],
            system: Annotated[str, Query(max_length=200, description="That found it.")] = CHAMPION,
            query: Annotated[str, Query(description="Whose words are marked.")] = "",
        ) -> PassageResponse:
            """A passage, whole, with the words of a query marked."""
            self._check_query(query)
            return await self._run(lambda: whole_passage(self._systems, self._analyser, id, system, query))

        @get("/examples", responses=GET_ERRORS | errors(503))
        async def examples() -> ExamplesResponse:
            """Judged queries of the collection to begin with; none where nothing is judged."""
            return await self._run(self._examples)

    def _add_post(self) -> None:
        @self.router.post("/compare", responses=POST_ERRORS | NOT_FOUND)
        async def compare_systems(body: CompareRequest) -> CompareResponse:
            """One query for several systems. Those that are not open yet say so: ask again for them."""
            self._check_query(body.query)
            self._check_asked(body)
            return await self._run(
                lambda: compare(self._systems, self._analyser, body.query, body.systems, body.k)
            )

    def _listed(self) -> SystemsResponse:
        champion = self._systems.champion()
        corpus = None if champion is None else champion.corpus
        return SystemsResponse(
            systems=[SystemFacts(**asdict(one)) for one in self._systems.listed()],
            collection="" if corpus is None else corpus.name,
            judged_queries=0 if corpus is None else corpus.judged_queries,
            open_generations=self._settings.open_generations,
        )

    def _examples(self) -> ExamplesResponse:
        champion = self._systems.champion()
        if champion is None or champion.corpus is None:
            return ExamplesResponse(queries=[])
        return ExamplesResponse(queries=champion.corpus.examples(_EXAMPLES))

    def _check_query(self, query: str) -> None:
        most = self._settings.query_length
        if len(query) > most:
            raise ServiceError(
                422, "text_too_long", f"query: has {len(query)} characters, at most {most} are taken",
                param="query",
            )  # fmt: skip

    def _check_asked(self, body: CompareRequest) -> None:
        if not body.query.strip():
            raise ServiceError(422, "empty_query", "query: is empty; say what to look for", param="query")
        if body.k > self._settings.results:
            most = self._settings.results
            raise ServiceError(422, "k_too_large", f"k: got {body.k}, at most {most} are given", param="k")
        if len(set(body.systems)) < len(body.systems):
            raise ServiceError(422, "system_twice", "systems: one is named twice", param="systems")
        # More than can be open at once would close each other for ever.
        if sum(one not in (CHAMPION, BM25) for one in body.systems) > self._settings.open_generations:
            most = self._settings.open_generations
            raise ServiceError(
                422, "too_many_systems",
                f"systems: at most {most} generations are compared at once, besides champion and bm25",
                param="systems",
            )  # fmt: skip

    async def _run(self, work: Callable[[], T]) -> T:
        """Do the work in the page's worker, and tell what it raises as HTTP does."""
        if self._waiting >= self._settings.waiting:
            raise ServiceError(
                429, "queue_full", f"{self._waiting} comparisons wait already; try again", retry_after=1
            )
        if self._systems.champion() is None:
            raise ServiceError(503, "nothing_serves", "nothing serves yet; try again", retry_after=1)
        self._waiting += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._worker, work)
            return await asyncio.wait_for(future, self._settings.seconds)
        except (UnknownSystemError, UnknownPassageError) as error:
            param = "id" if isinstance(error, UnknownPassageError) else "system"
            raise ServiceError(404, "not_found", str(error), param=param) from None
        except NotYetError as error:
            raise ServiceError(503, "not_open", str(error), retry_after=error.waiting.retry_after) from None
        except (asyncio.TimeoutError, TimeoutError):
            raise ServiceError(
                503, "took_too_long", f"no answer within {self._settings.seconds:g} s", retry_after=1
            ) from None
        finally:
            self._waiting -= 1


def _sender(name: str, kind: str) -> Callable[[Request], Any]:
    """A route that sends one of the page's files."""
    content = (files("llara_core.serving") / "page" / name).read_bytes()
    headers = _HEADERS | {"ETag": f'"{hashlib.sha256(content).hexdigest()[:20]}"'}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return send
