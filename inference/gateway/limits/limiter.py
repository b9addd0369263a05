"""Whether a request is within the limits of its key, project, tenant and model: it takes of all, or of none.

Of tokens is set aside what a request may take, as far as that can be known before it is answered; when it
has ended, what is billed of it counts, and the rest is given back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.auth import Principal
from common.clock import Clock, rfc3339
from common.errors import InvalidInput, LimitTold, RateLimited, Unavailable
from common.wire import Route, RouteLimits
from inference.core.apis.wires import WIRES
from inference.core.body import InferenceRequest
from inference.core.rates import Share, go_duration
from inference.gateway import metrics
from inference.gateway.control_link.table import RouteIndex
from inference.gateway.limits.table import LimitTable, NoRow, Row

ASSUMED_ANSWER_TOKENS = 256
"""Set aside for each answer of a request that does not say how long one may be."""
RETRY_AFTER_SECONDS = 2
"""Where it cannot be known when a request that is open ends."""
_SECOND_NS = 1_000_000_000
_REQUESTS, _TOKENS = "requestsPerMinute", "tokensPerMinute"


@dataclass(frozen=True)
class Limited:
    """One of those whose limits bind a request. ``scope``: ``key``, ``project``, ``tenant`` or ``model``;
    ``id`` tells apart what has the same name, ``name`` is what the client may know."""

    scope: str
    id: str
    name: str
    limits: RouteLimits

    @property
    def words(self) -> str:
        return f"the {self.scope} {self.name}"


def limited(
    index: RouteIndex, principal: Principal, route: Route, tenant: str, project: str
) -> Iterator[Limited]:
    """All whose limits bind a request that ``project`` of ``tenant`` is billed for."""
    of_key = index.key_limits.get(principal.key)
    if of_key is not None:
        yield Limited("key", principal.key, principal.key, of_key)
    of_project, of_tenant = index.project_limits.get(project), index.tenant_limits.get(tenant)
    if of_project is not None:
        yield Limited("project", project, project, of_project)
    if of_tenant is not None:
        yield Limited("tenant", tenant, tenant, of_tenant)
    if route.limits is not None:
        yield Limited("model", route.limited_as, route.model, route.limits)


@dataclass(frozen=True)
class Taken:
    """What one request has of a row of the table. ``tokens``: None where they are not limited."""

    at: int
    tokens: Share | None


class Limiter:
    """The limits of one worker's requests."""

    def __init__(self, table: LimitTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def close(self) -> None:
        self._table.close()

    def admit(
        self, whose: Sequence[Limited], request: InferenceRequest, head: dict[bytes, bytes]
    ) -> list[Taken]:
        """Take what the request needs; to be released once, when it has ended. ``head`` gets the headers that
        tell what is left.

        Raises ``RateLimited`` over a limit, ``InvalidInput`` for what no limit would ever let through,
        ``Unavailable`` where there is no room to count.
        """
        _check_possible(whose, request)
        now_ns = self._now_ns()
        with self._table.locked():
            try:
                rows = self._table.rows([(one.scope, one.id) for one in whose], now_ns)
            except NoRow as error:
                raise Unavailable("too many limits are in use right now; try again") from error
            for one, row in zip(whose, rows, strict=True):
                row.requests.adjust(one.limits.requests_per_minute or 0, now_ns)
                row.tokens.adjust(one.limits.tokens_per_minute or 0, now_ns)
            refusal = self._refusal(whose, rows, request, now_ns)
            taken = [self._take(row, request, now_ns) for row in rows] if refusal is None else []
        head.update(_headers(rows, now_ns))
        if refusal is not None:
            told = refusal.limit
            if told is not None:
                metrics.RATE_LIMITED.labels(told.scope, told.limit).inc()
            raise refusal
        return taken

    def release(self, taken: Sequence[Taken], tokens: int) -> None:
        """A request has ended, and so many tokens of it are billed."""
        now_ns = self._now_ns()
        with self._table.locked():
            for one in taken:
                self._table.count_open(one.at, -1)
                row = self._table.read(one.at)
                if one.tokens is not None and row.tokens.per_minute:
                    row.tokens.settle(one.tokens, tokens, now_ns)
                    self._table.write(row)

    def _take(self, row: Row, request: InferenceRequest, now_ns: int) -> Taken:
        tokens = None
        if row.requests.per_minute:
            row.requests.take(1, now_ns)
        if row.tokens.per_minute:
            tokens = row.tokens.take(_tokens(request, row.tokens.per_minute), now_ns)
        self._table.write(row)
        self._table.count_open(row.at, 1)
        return Taken(row.at, tokens)

    def _refusal(
        self, whose: Sequence[Limited], rows: Sequence[Row], request: InferenceRequest, now_ns: int
    ) -> RateLimited | None:
        """Of all limits that refuse it, the one that does so for longest."""
        worst: tuple[int, RateLimited] | None = None
        for one, row in zip(whose, rows, strict=True):
            for name, bucket, amount in (
                (_REQUESTS, row.requests, 1),
                (_TOKENS, row.tokens, _tokens(request, row.tokens.per_minute)),
            ):
                wait_ns = bucket.wait_ns(amount, now_ns) if bucket.per_minute else 0
                if wait_ns and (worst is None or wait_ns > worst[0]):
                    worst = wait_ns, self._over(one, row, name, amount, now_ns)
        if worst is not None:
            return worst[1]
        for one, row in zip(whose, rows, strict=True):
            most = one.limits.concurrent_requests
            if most is not None and self._table.open_requests(row.at) >= most:
                return _too_many_open(one, most)
        return None

    def _over(self, one: Limited, row: Row, name: str, amount: int, now_ns: int) -> RateLimited:
        bucket = row.requests if name == _REQUESTS else row.tokens
        wait_ns = bucket.wait_ns(amount, now_ns)
        until = rfc3339(self._clock.now_ms() + -(-wait_ns // 1_000_000))
        what = "requests" if bucket is row.requests else "tokens"
        return RateLimited(
            f"{one.words} has {bucket.per_minute} {what} a minute ({name}): {bucket.left(now_ns)} are left, "
            f"and this request takes {amount}; try again in {go_duration(wait_ns)}",
            retry_after_seconds=-(-wait_ns // _SECOND_NS),
            limit=LimitTold(one.scope, one.name, name, bucket.per_minute, until),
        )

    def _now_ns(self) -> int:
        return int(self._clock.monotonic_seconds() * _SECOND_NS)


def _too_many_open(one: Limited, most: int) -> RateLimited:
    return RateLimited(
        f"{one.words} may have {most} requests open at the same time (concurrentRequests); wait until "
        "one has ended",
        retry_after_seconds=RETRY_AFTER_SECONDS,
        limit=LimitTold(one.scope, one.name, "concurrentRequests", most, None),
    )


def _check_possible(whose: Sequence[Limited], request: InferenceRequest) -> None:
    """Raise ``InvalidInput`` for what is more than a limit at any time."""
    name, asked = _asked(request)
    for one in whose:
        sequences, tokens = one.limits.sequences_per_request, one.limits.tokens_per_minute
        if sequences is not None and request.sequences > sequences:
            raise InvalidInput(
                f"this request asks for {request.sequences} answers, where {one.words} may ask for "
                f"{sequences} in one request (sequencesPerRequest); send several requests",
                code="array_too_long",
                param="n" if request.choices_per_prompt > 1 else request.input_field,
            )
        if tokens is not None and asked is not None and asked > tokens:
            raise InvalidInput(
                f"this request asks for up to {asked} tokens, where {one.words} may use {tokens} a minute "
                f"(tokensPerMinute): ask for fewer with {name}",
                code="tokens_over_limit",
                param=name,
            )


def _asked(request: InferenceRequest) -> tuple[str, int | None]:
    """The field that says how long answers may be, and tokens of all of them; None where none says so."""
    name, most = max(request.token_limits, key=lambda limit: limit[1], default=("max_tokens", None))
    return name, most * request.sequences if most is not None else None


def _tokens(request: InferenceRequest, per_minute: int) -> int:
    """What the request may use, as far as it is known; at most what one may ever use at once."""
    if not WIRES[request.api].is_billed:
        return 0
    _, asked = _asked(request)
    if asked is None:
        asked = 0 if request.task == "embeddings" else ASSUMED_ANSWER_TOKENS * request.sequences
    return min(per_minute, request.prompt_tokens_about + asked)


def _headers(rows: Sequence[Row], now_ns: int) -> Iterator[tuple[bytes, bytes]]:
    """Those of OpenAI's API, of the limit of which least is left."""
    for what, buckets in (
        (b"requests", [row.requests for row in rows]),
        (b"tokens", [row.tokens for row in rows]),
    ):
        told = [(bucket.left(now_ns), bucket) for bucket in buckets if bucket.per_minute]
        if told:
            left, bucket = min(told, key=lambda pair: pair[0])
            yield b"x-ratelimit-limit-" + what, b"%d" % bucket.per_minute
            yield b"x-ratelimit-remaining-" + what, b"%d" % left
            yield b"x-ratelimit-reset-" + what, go_duration(bucket.reset_ns(now_ns)).encode()
