"""What machines ask: does the process live, does it serve, and how is it."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from llara_core.serving.refusals import ServiceError
from llara_core.serving.schemas import GET_ERRORS, Health, errors
from llara_core.serving.service import CANNOT_OPEN, Service, as_json


def router(service: Service) -> APIRouter:
    """``/healthz``, ``/readyz`` and ``/metrics``."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz", response_model=Health, responses=errors(400))
    async def healthz() -> Response:
        """The process lives; asked by whoever would restart it."""
        return as_json({"status": "ok", "pair": None, "reason": None})

    @routes.get("/readyz", response_model=Health, responses=errors(400, 503))
    async def readyz() -> Response:
        """A pair is loaded and has encoded; asked by whoever would send requests here."""
        if service.draining:
            raise ServiceError(503, "shutting_down", "the service is being shut down")
        served = service.served()
        reason = None if service.champion.trouble is None else CANNOT_OPEN
        # What serves is good; that another cannot be opened is for an alarm, not for a load balancer.
        return as_json({"status": "ready", "pair": served.name, "reason": reason})

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **GET_ERRORS},
    )
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return routes
