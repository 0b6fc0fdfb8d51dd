"""Error answers: every refusal and every failure becomes one problem details object (RFC 9457).

Owns the mapping from exceptions to answers, and the one log line of a failure. Must not know any route.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import quote, quote_plus

import structlog
from aiohttp import web

from gateway.errors import Invalid, Refused, StoreError
from gateway.http.route import Handler
from schemas import problem

log = structlog.get_logger()

#: Set once the head of the answer is on its way: from then on no other answer can be given.
STARTED = web.RequestKey("started", bool)

#: The authentication scheme (RFC 6750).
CHALLENGE = 'Bearer realm="mainstem"'

#: Seconds after which a request that failed for a passing reason is worth another try.
_RETRY_AFTER = "5"
_CODES = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "timed_out", 411: "length_required", 413: "body_too_large", 415: "unsupported_media_type",
    417: "expectation_failed", 426: "upgrade_required", 429: "too_many_requests",
    502: "upstream_failed", 503: "unavailable", 504: "upstream_timed_out",
}  # fmt: skip
#: Headers that answers with a status have, unless the refusal brings its own.
_HEADERS = {
    426: {"Upgrade": "websocket", "Connection": "Upgrade"},  # RFC 9110, section 15.5.22
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}
_DETAILS = {
    404: "There is no resource at this path.",
    413: "The body is larger than the limit of 1 MiB.",
}


class Rejection(Refused):
    """A refusal that says more than its status.

    Attributes:
        errors: name of each parameter or field that is not valid, and what is wrong with it.
        headers: to be sent with the answer.
        members: further members of the problem details object.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        errors: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(status, code, message)
        self.errors = errors or {}
        self.headers = headers or {}
        self.members = members or {}


def invalid(errors: Mapping[str, str], *, where: str) -> Rejection:
    """A 400 that names parameters of the query, or fields of the body, and says what is wrong with each."""
    message = "; ".join(f"{name}: {text}" for name, text in errors.items())
    return Rejection(400, f"invalid_{where}", message, errors=errors)


def answer(
    request: web.Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> web.Response:
    """The answer that carries a problem details object."""
    body = problem.Problem(
        type=problem.TYPE_PREFIX + code,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_text(detail),
        instance=quote(request.rel_url.raw_path, safe="/%:@!$&'()*+,;=~", errors="surrogateescape"),
        code=code,
        errors=[problem.FieldProblem(field=_text(name), detail=_text(text)) for name, text in errors.items()]
        if errors
        else None,
        **(members or {}),
    )
    return web.Response(
        status=status,
        body=body.model_dump_json(exclude_none=True).encode(),
        content_type=problem.MEDIA_TYPE,
        headers={**(_HEADERS.get(status) or {}), **(_challenge(request) if status == 401 else {}), **(headers or {})},
    )


def _challenge(request: web.Request) -> dict[str, str]:
    """How a client is told that it needs a token, or another one (RFC 6750, section 3)."""
    presented = "Authorization" in request.headers or "token" in request.query
    return {"WWW-Authenticate": CHALLENGE + (', error="invalid_token"' if presented else "")}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets no exception out: each becomes an answer, or the end of the connection where an answer was begun."""
    try:
        return await handler(request)
    except Exception as error:
        if isinstance(error, ConnectionError) and (request.get(STARTED) or request.transport is None):
            raise  # the client is gone: nobody is left to be answered
        if request.get(STARTED):
            _report(request, error)
            raise ConnectionAbortedError("the answer was cut off") from error
        return _answered(request, error)


def _answered(request: web.Request, error: Exception) -> web.StreamResponse:
    match error:
        case web.HTTPException():
            return _translated(request, error)
        case Rejection():
            return answer(
                request, error.status, error.code, str(error),
                errors=error.errors, headers=error.headers, members=error.members,
            )  # fmt: skip
        case Invalid():
            return answer(request, error.status, error.code, str(error), errors=error.errors)
        case Refused():
            return answer(request, error.status, error.code, str(error))
        case web.RequestPayloadError():
            return answer(request, 400, "unreadable_body", "The body is not encoded as its headers say.")
        case TimeoutError():
            detail = "The request took too long. It may have been carried out."
            return answer(request, 503, "timed_out", detail)
        case StoreError():
            _report(request, error)
            detail = "The log cannot be read or written at the moment."
            return answer(request, 503, "log_unavailable", detail)
        case _:
            _report(request, error)
            return answer(request, 500, "internal_error", "The gateway failed to answer this request.")


def _translated(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """An exception of aiohttp, its own or one that a handler raised, with its headers."""
    if error.status < 400 or error.content_type == problem.MEDIA_TYPE:
        raise error  # it is an answer already
    headers = {name: value for name, value in error.headers.items() if not name.lower().startswith("content-")}
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = allowed(error)
        headers["Allow"] = ", ".join(allow)
        detail = f"{request.method} is not allowed here; allowed: {', '.join(allow)}."
    elif error.status in _DETAILS:
        detail = _DETAILS[error.status]
    else:
        detail = error.text or error.reason
    code = _CODES.get(error.status, "bad_request" if error.status < 500 else "internal_error")
    return answer(request, error.status, code, detail, headers=headers)


def allowed(error: web.HTTPMethodNotAllowed) -> Sequence[str]:
    """The methods of a resource, OPTIONS included."""
    return sorted({*error.allowed_methods, "OPTIONS"})


def _report(request: web.Request, error: Exception) -> None:
    resource = request.match_info.route.resource
    log.error(
        "http_request_failed",
        method=request.method,
        route=resource.canonical if resource else None,
        error=type(error).__name__,
        trace=_scrubbed(request, "".join(traceback.format_exception(error))),
    )


def _scrubbed(request: web.Request, text: str) -> str:
    """A trace without the credentials that the request came with; those of the configuration are scrubbed from every log."""
    secrets = {request.headers.get("Authorization", "").partition(" ")[2].strip(), *request.query.getall("token", ())}
    forms = {form for secret in secrets for form in (secret, quote(secret), quote_plus(secret))}
    for form in sorted(filter(None, forms), key=len, reverse=True):
        text = text.replace(form, "[redacted]")
    return text


def _text(value: str) -> str:
    """A text that can be encoded: header bytes that are not UTF-8 reach us as lone surrogates."""
    return value.encode("utf-8", "replace").decode()
