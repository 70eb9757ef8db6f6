"""Every error that GemmaPy raises on purpose.

The class says what kind of trouble it is (status, stable code, default message, hint); the instance says what happened.
They are raised anywhere, and turned into the shape of the API that was called in one place (`api/shapes.py`).

    GemmaPyError
    ├── InvalidRequest 400          the request cannot be understood
    │   └── PayloadTooLarge 413
    ├── Unauthorized 401            nobody we know
    ├── Forbidden 403               somebody we know, but not for this
    │   └── CsrfRefused 403         a cookie, in a request that may be another site's doing
    ├── NotFound 404
    │   └── UnknownModel 404        in the words that Ollama uses
    ├── MethodNotAllowed 405
    ├── Conflict 409
    ├── TooManyRequests 429         come back after `retry_after_s`
    │   └── LimitReached 429        a limit of the caller's own
    ├── UpstreamError 502           the server behind answered with garbage, or died
    │   ├── UpstreamUnreachable 503
    │   ├── UpstreamLost 502        it hung up before its answer was complete
    │   └── UpstreamTimeout 504
    ├── Unavailable 503             this gateway cannot take it now
    │   ├── Draining 503
    │   ├── Overloaded 503          more than it can take: shed, and not written down
    │   └── StorageUnavailable 503
    └── ConfigurationError          the operator's mistake, found at the start; never reaches a client
"""

from __future__ import annotations

from collections.abc import Sequence


class GemmaPyError(Exception):
    """Something went wrong that GemmaPy has a name for."""

    status: int = 500
    code: str = "internal_error"
    default: str = "Something went wrong inside the gateway."
    default_hint: str = "Look for this request id in the gateway's log."
    headers: Sequence[tuple[bytes, bytes]] = ()
    """What else the client is told, in its answer's head."""

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, retry_after_s: float | None = None
    ) -> None:
        # Half a surrogate pair, which JSON can hold and UTF-8 cannot, must not make an error of the error.
        self.message = (message or self.default).encode("utf-8", "replace").decode()
        super().__init__(self.message)
        self.hint = hint or self.default_hint
        self.retry_after_s = retry_after_s


class InvalidRequest(GemmaPyError, ValueError):
    """The request cannot be understood; the message says what was wrong and what is allowed.

    Also a ValueError, which is what a caller from Python expects of a bad argument.
    """

    status = 400
    code = "invalid_request"
    default = "The request is not valid."
    default_hint = "The reference at /docs shows the fields and their types."


class PayloadTooLarge(InvalidRequest):
    """The body is longer than the gateway holds in memory."""

    status = 413
    code = "payload_too_large"
    default = "The request body is too large."
    default_hint = "Send less, or raise max_body_mb in gemmapy.toml."


class Unauthorized(GemmaPyError):
    """No credential, or one that is unknown, expired, revoked or forged. Which of them is not said."""

    status = 401
    code = "unauthorized"
    default = "Sign in first: the token or API key is missing, unknown, expired or revoked."
    default_hint = "Send 'Authorization: Bearer <token or API key>', or use the path prefix /k/<key>/."


class Forbidden(GemmaPyError):
    """A known caller asks for what it may not have."""

    status = 403
    code = "forbidden"
    default = "You may not do this."
    default_hint = "Ask an admin of this gateway."


class CsrfRefused(Forbidden):
    """A request with the page's cookie that cannot be told from one that another site's page makes."""

    code = "csrf"
    default = "This request cannot be told from one that another site makes."
    default_hint = "GET /api/session tells the text for X-CSRF-Token; with a Bearer credential none is needed."


class NotFound(GemmaPyError):
    """There is no such thing, or it is not the caller's own."""

    status = 404
    code = "not_found"
    default = "There is nothing here."
    default_hint = "The reference at /docs lists every route."


class UnknownModel(NotFound):
    """No upstream has the model. Worded as Ollama words it, since clients match on the text."""

    code = "model_not_found"
    default_hint = "GET /api/tags lists the models; an admin can pull one with POST /api/pull."

    def __init__(self, model: str) -> None:
        super().__init__(f"model '{model}' not found")
        self.model = model


class MethodNotAllowed(GemmaPyError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    default = "This path does not take this method."
    default_hint = "The reference at /docs lists every route with its methods."


class Conflict(GemmaPyError):
    """It contradicts what is there."""

    status = 409
    code = "conflict"
    default = "This contradicts what is already there."
    default_hint = "Look at the present state first, then try again."


class TooManyRequests(GemmaPyError):
    """Slow down; `retry_after_s` says for how long."""

    status = 429
    code = "too_many_requests"
    default = "Too many requests."
    default_hint = "Wait for the time that Retry-After names."


class LimitReached(TooManyRequests):
    """The caller has reached a limit of its own; others go on."""

    code = "rate_limit_exceeded"
    default = "You have reached your limit."
    default_hint = "Wait for the time that Retry-After names; GET /api/limits shows your limits."


class UpstreamError(GemmaPyError):
    """The server behind the gateway failed, or said something that is not an answer."""

    status = 502
    code = "upstream_error"
    default = "The model server gave no usable answer."
    default_hint = "GET /readyz shows the state of every upstream; 'gemmapy doctor' says how to mend it."


class UpstreamUnreachable(UpstreamError):
    """No connection to the upstream could be made."""

    status = 503
    code = "upstream_unreachable"
    default = "The model server cannot be reached."


class UpstreamLost(UpstreamError):
    """The upstream took the request and closed the connection before its answer was complete."""

    default = "The model server closed the connection before its answer was complete."


class UpstreamTimeout(UpstreamError):
    """The upstream took longer than the operator allows."""

    status = 504
    code = "upstream_timeout"
    default = "The model server took too long."


class Unavailable(GemmaPyError):
    """The gateway cannot take the request at this moment."""

    status = 503
    code = "unavailable"
    default = "The gateway cannot take this request now."
    default_hint = "Try again shortly."


class Draining(Unavailable):
    """The gateway is shutting down and takes nothing new."""

    code = "draining"
    default = "The gateway is shutting down."


class Overloaded(Unavailable):
    """More is asked than can be answered in time, so this request is turned away at once."""

    code = "overloaded"
    default = "The gateway has more requests than it can take."
    default_hint = "Try again after the time that Retry-After names."


class StorageUnavailable(Unavailable):
    """The books cannot be written (disk full, database locked), so nothing may be answered."""

    code = "storage_unavailable"
    default = "The gateway cannot write its records, so it takes no requests."
    default_hint = "Free disk space or end what locks the database; 'gemmapy doctor' says which."


class ConfigurationError(GemmaPyError):
    """A setting is wrong; found at the start, told to the operator."""

    code = "configuration_error"
    default = "The configuration is not valid."
    default_hint = "'gemmapy serve --help' and docs/configuration.md list every setting."
