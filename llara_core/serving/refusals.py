"""Why a request is not answered, in one shape for all routes: that of OpenAI's errors.

    {"error": {"message": "…", "type": "invalid_request_error", "param": "texts", "code": "too_many_texts"}}

What the client sent is never said back to it: it may hold what no answer can (half a surrogate pair), be
megabytes long, or be nobody's business in a log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteError

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 500: "internal_error"}
_DEEPEST = 4  # parts of a place that are told: texts.17, never a path as long as a hostile body is deep


class ServiceError(HTTPException):
    """A request is refused.

    Args:
        status: of HTTP.
        code: short name of the reason; clients may go by it.
        message: what was found, what is expected and what to do.
        param: the field at fault.
        retry_after: seconds after which it is worth trying again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, message)
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after = param, retry_after
        self.headers = self._headers()

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}

    def _headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def install(app: FastAPI) -> None:
    """Let every error of an application be told in this shape."""
    app.add_exception_handler(ServiceError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteError, _http)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)  # noqa: S101 - what Starlette promises
    return error.response()


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what Starlette promises
    return invalid(error.errors()).response()


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteError)  # noqa: S101 - what Starlette promises
    code = _CODES.get(error.status_code, "error")
    found = ServiceError(error.status_code, code, str(error.detail)).response()
    found.headers.update(error.headers or {})
    return found


def invalid(errors: Sequence[Mapping[str, Any]]) -> ServiceError:
    """What pydantic has found, without what was sent."""
    first = errors[0] if errors else {}
    if first.get("type") == "json_invalid":
        return ServiceError(400, "invalid_json", f"the body is no JSON: {first['ctx']['error']}")
    where = [str(part)[:40] for part in first.get("loc", ()) if part not in ("body", "query", "path")]
    # A union reports one error a member, and names the member within the place.
    place = ".".join(part for part in where[:_DEEPEST] if not part.startswith(("list[", "constrained")))
    message = str(first.get("msg", "the request is not what was expected")).removeprefix("Value error, ")
    more = "" if len(errors) < 2 else f" (and {len(errors) - 1} more)"
    kind = str(first.get("type", "invalid"))
    return ServiceError(422, kind, f"{place or 'body'}: {message}{more}", param=place or None)
