"""The error tree, and the one table that maps it to HTTP, CLI exit codes and condition reasons.

ComputilityError
├── InvalidInput          400  the request or resource is wrong; names the field or line
│   └── ContextExceeded   400  prompt or max_tokens beyond the model's context
├── Unauthenticated       401
├── Forbidden             403
│   ├── Paused            403  a key, project, tenant or model was stopped; ``pause`` says which, and why
│   └── GuardrailBlocked  403  a guardrail forbids what is in it; ``guardrail`` says which, and where
├── NotFound              404
├── MethodNotAllowed      405  the path is right, the method is not
├── UnsupportedMediaType  415  the body is said to be something that is not taken here
├── Conflict              409  exists already, is in use, or changed meanwhile
│   └── IdempotencyMismatch 422 same key, other body
├── TooLarge              413
├── TooManyRequests       429  over a limit of rate or of how much at once; ``retry_after_seconds`` says when
│   ├── RateLimited       429  over a limit that somebody set; ``limit`` says which one, of whom, until when
│   └── BudgetSpent       429  a budget has not enough left; ``budget`` says which one, how much, until when
├── Unavailable           503  try again later
│   ├── NotAwake          503  an engine that was asked for is not there yet; ``retry_after_seconds``
│   └── EngineFailed      502  the engine broke while serving
└── SetupError            -    this machine or installation lacks something; the message says what to do
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from common.vocabulary import harmless

DATABASE_UNAVAILABLE = "database_unavailable"
"""The code of ``Unavailable`` where it is the database that fails."""

NO_ROOM = "no_room"
"""The code of ``Unavailable`` where a disk is full."""

NOT_LEADING = "not_leading"
"""The code of ``Unavailable`` where another control process leads, and this one may change nothing."""

NO_LEADER = "no_leader"
"""The code of ``Unavailable`` where no control process leads now, or it does not answer."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in an input: ``path`` like ``spec.roles[0].replicas`` or ``line 7``."""

    path: str
    message: str
    code: str = "invalid"


@dataclass
class ComputilityError(Exception):
    """Base of all errors that we raise on purpose. ``code`` is stable and machine-readable."""

    message: str
    code: str = ""
    param: str | None = None
    problems: tuple[Problem, ...] = field(default=())

    def __post_init__(self) -> None:
        super().__init__(self.message)
        if not self.code:
            self.code = mapping_of(self).code

    def __str__(self) -> str:
        return self.message


class InvalidInput(ComputilityError):
    """The input is wrong; ``param`` or ``problems`` name where."""


class ContextExceeded(InvalidInput):
    """More tokens were asked for than the model's context holds."""


class Unauthenticated(ComputilityError):
    """No key, an unknown key or a revoked key."""


class Forbidden(ComputilityError):
    """The principal is known but may not do this."""


@dataclass(frozen=True)
class PauseTold:
    """What is paused: a key, project, tenant or model (``scope``) of that name, ``since`` when (RFC 3339),
    and the ``reason`` that was given."""

    scope: str
    name: str
    since: str
    reason: str


@dataclass
class Paused(Forbidden):
    """Somebody has stopped it; to ask again is in vain until somebody resumes it."""

    pause: PauseTold | None = None


@dataclass(frozen=True)
class GuardTold:
    """The guard of a guardrail that found something, on its way in or out (``direction``), at ``path``."""

    name: str
    guard: str
    direction: str
    path: str


@dataclass
class GuardrailBlocked(Forbidden):
    """What it holds may not pass; what that is, is not told."""

    guardrail: GuardTold | None = None


class NotFound(ComputilityError):
    """There is no such thing, or the principal must not learn that there is."""


@dataclass
class MethodNotAllowed(ComputilityError):
    """The path is known, but not with this method; ``allowed`` has those that it is known with."""

    allowed: tuple[str, ...] = ()


@dataclass
class UnsupportedMediaType(ComputilityError):
    """The body's type or coding is not taken; ``accepts`` is the header that says what would be."""

    accepts: tuple[str, str] = ("accept-post", "application/json")


class Conflict(ComputilityError):
    """The thing exists already or has changed meanwhile."""


class IdempotencyMismatch(Conflict):
    """An Idempotency-Key was used again with another body."""


class TooLarge(ComputilityError):
    """The body is over the limit."""


@dataclass
class TooManyRequests(ComputilityError):
    """More than the caller may do at once or within a time; ``retry_after_seconds`` is when to try again."""

    retry_after_seconds: int = 1


@dataclass(frozen=True)
class LimitTold:
    """A limit that a request is over. ``scope`` and ``name``: whose it is; ``limit``: its name in
    ``spec.rateLimits``; ``until``: when the same request will pass (RFC 3339), None where that is not known.
    """

    scope: str
    name: str
    limit: str
    value: int
    until: str | None


@dataclass
class RateLimited(TooManyRequests):
    """Over one of the limits of key, project, tenant or model."""

    limit: LimitTold | None = None


@dataclass(frozen=True)
class BudgetTold:
    """A budget that a request does not fit into: what it ``needs`` at most, and what the budget's ``limit``
    has come to, in ``unit``. ``held`` is set aside for requests that run. ``resets``: when the next period
    begins (RFC 3339), None = never."""

    name: str
    unit: str
    limit: int
    spent: int
    held: int
    needs: int
    period: str
    resets: str | None


@dataclass
class BudgetSpent(TooManyRequests):
    """A hard budget has not enough left. ``passes_soon``: only what other requests hold is in the way."""

    budget: BudgetTold | None = None
    passes_soon: bool = False


class Unavailable(ComputilityError):
    """Cannot be done now; may work later."""


@dataclass
class NotAwake(Unavailable):
    """An engine that was asked for is not there yet; ``retry_after_seconds`` is when to try again."""

    retry_after_seconds: int = 1


class EngineFailed(Unavailable):
    """The engine broke while it served the request."""


class SetupError(ComputilityError):
    """This machine or installation lacks something."""


@dataclass(frozen=True)
class Mapping:
    """How one error class appears outside: in HTTP, to OpenAI clients, in the CLI, as a condition reason."""

    http_status: int
    openai_type: str
    code: str
    exit_code: int
    reason: str


_TABLE: dict[type[ComputilityError], Mapping] = {
    ContextExceeded: Mapping(400, "invalid_request_error", "context_length_exceeded", 2, "ContextExceeded"),
    InvalidInput: Mapping(400, "invalid_request_error", "invalid_value", 2, "InvalidInput"),
    Unauthenticated: Mapping(401, "authentication_error", "invalid_api_key", 3, "Unauthenticated"),
    Paused: Mapping(403, "permission_error", "paused", 3, "Paused"),
    GuardrailBlocked: Mapping(403, "invalid_request_error", "guardrail_blocked", 3, "GuardrailBlocked"),
    Forbidden: Mapping(403, "permission_error", "forbidden", 3, "Forbidden"),
    NotFound: Mapping(404, "not_found_error", "not_found", 4, "NotFound"),
    MethodNotAllowed: Mapping(405, "invalid_request_error", "method_not_allowed", 2, "MethodNotAllowed"),
    UnsupportedMediaType: Mapping(
        415, "invalid_request_error", "unsupported_media_type", 2, "UnsupportedMediaType"
    ),
    IdempotencyMismatch: Mapping(
        422, "invalid_request_error", "idempotency_mismatch", 5, "IdempotencyMismatch"
    ),
    Conflict: Mapping(409, "conflict_error", "conflict", 5, "Conflict"),
    TooLarge: Mapping(413, "invalid_request_error", "request_too_large", 2, "TooLarge"),
    BudgetSpent: Mapping(429, "insufficient_quota", "insufficient_quota", 6, "BudgetSpent"),
    TooManyRequests: Mapping(429, "rate_limit_error", "rate_limit_exceeded", 6, "TooManyRequests"),
    EngineFailed: Mapping(502, "server_error", "engine_failed", 6, "EngineFailed"),
    Unavailable: Mapping(503, "server_error", "unavailable", 6, "Unavailable"),
    SetupError: Mapping(500, "server_error", "setup_error", 7, "SetupError"),
    ComputilityError: Mapping(500, "server_error", "internal_error", 1, "InternalError"),
}


def mapping_of(error: BaseException) -> Mapping:
    """The row of the table for ``error``: its nearest base class's; unknown errors are internal ones."""
    for base in type(error).__mro__:
        if base in _TABLE:
            return _TABLE[base]
    return _TABLE[ComputilityError]


def openai_body(error: ComputilityError) -> dict[str, object]:
    """The error in OpenAI's shape; ``problems`` are added where there are several places. What it quotes can
    always be sent and shown."""
    row = mapping_of(error)
    body: dict[str, object] = {
        "message": harmless(error.message),
        "type": row.openai_type,
        "param": harmless(error.param) if error.param else error.param,
        "code": error.code,
    }
    if error.problems:
        body["problems"] = [
            {"path": harmless(p.path), "message": harmless(p.message), "code": p.code} for p in error.problems
        ]
    if isinstance(error, RateLimited) and error.limit is not None:
        body["limit"] = asdict(error.limit)
    if isinstance(error, Paused) and error.pause is not None:
        body["pause"] = asdict(error.pause)
    if isinstance(error, GuardrailBlocked) and error.guardrail is not None:
        body["guardrail"] = asdict(error.guardrail)
    if isinstance(error, BudgetSpent) and error.budget is not None:
        body["budget"] = asdict(error.budget)
    return {"error": body}
