"""The ASGI application: which path goes where, and the boundary where errors become answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from common.auth import Principal, shows_token
from common.clock import SYSTEM_CLOCK, Clock
from common.durable import room_needed
from common.errors import ComputilityError, MethodNotAllowed, NotFound
from common.http_server.content import require_json
from common.http_server.front import Front
from common.http_server.request import ClientGone, Request
from common.settings import Settings
from common.telemetry import get_logger, render_metrics
from common.tls import ClientTrust
from common.wire import Route
from inference.core.apis.wires import APIS
from inference.core.body import Api
from inference.gateway import metrics
from inference.gateway.books.aside import rejected_bytes
from inference.gateway.books.bill import Books
from inference.gateway.books.journal import JOURNAL_FILE, Journal
from inference.gateway.books.recovery import recover
from inference.gateway.books.shipper import Shipper
from inference.gateway.books.spool import Spool, segments
from inference.gateway.budgets.guard import BudgetGuard
from inference.gateway.budgets.keeper import LeaseKeeper
from inference.gateway.budgets.predecessors import Predecessors
from inference.gateway.control_link.addresses import trusted_url
from inference.gateway.control_link.demand import DemandTeller
from inference.gateway.control_link.proxy import PROXIED_PREFIXES, ControlProxy, is_proxied
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.tallies import Tallies
from inference.gateway.direct import DirectExchange, is_plain
from inference.gateway.engines.upstream import Upstream
from inference.gateway.engines.variants import VARIANT_HEADER
from inference.gateway.exchange import Exchange, Receive, Scope, Send
from inference.gateway.guardrails.board import HitBoard
from inference.gateway.learning.teller import ThresholdTeller
from inference.gateway.limits.limiter import Limiter
from inference.gateway.limits.table import LimitTable
from inference.gateway.one_door.external import Externals
from inference.gateway.serve import InferenceHandler
from inference.gateway.tracing.start import start_tracing
from inference.gateway.workers.pages import PageServer, merged, pages_of
from inference.gateway.workers.shares import spool_folder

_MODELS_PATH = "/v1/models"
_JSON = b"application/json"
Handler = Callable[[Exchange], Awaitable[None]]
_FAREWELL_SECONDS = 3.0
_log = get_logger("gateway")


class Gateway:
    """One gateway process. ``start`` and ``stop`` bracket its life; calling it serves one request.
    ``worker``: which of those that share the port; ``limits``: the file of the table of limits that they
    share, None where there is one."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock = SYSTEM_CLOCK,
        worker: int = 0,
        limits: int | None = None,
    ) -> None:
        self._settings = settings
        self._worker, self._limits = worker, limits
        self._page_server: PageServer | None = None
        self._clock = clock
        self.trust = ClientTrust(settings, trusted_url(settings))
        self.tracer = start_tracing(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._front = Front(self._http, settings.gateway.cors_origins)
        self._directly = {path.encode(): self._direct_handler(path, api) for path, api in APIS.items()}

    async def start(self) -> None:
        """Take up what an earlier run left, and begin to follow control. Control need not be there."""
        settings = self._settings
        self.spool = Spool(spool_folder(settings, self._worker))
        await recover(self.spool)
        with room_needed(f"there is no room on the disk for the journal of usage in {self.spool.folder}"):
            self._journal = Journal(self.spool.folder / JOURNAL_FILE)
        connector = aiohttp.TCPConnector(ssl=self.trust.verify)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self._upstream = Upstream(settings.gateway, settings.internal_token, self._clock)
        self._proxy = ControlProxy(settings, self.trust.verify)
        self.routes = RouteFollower(settings, self._session, self._clock, self._routes_changed)
        self.shipper = Shipper(settings, self._session, self.spool, self._clock)
        self._books = books = Books(self.spool, self._journal, self._clock)
        self._leases = LeaseKeeper(
            settings,
            self._session,
            self._clock,
            self._posted_before,
            Predecessors(self.spool.folder, self._clock.monotonic_seconds()),
        )
        demand = DemandTeller(settings, self._session)
        tallies, self._hits = Tallies(settings, self._session), HitBoard(settings, self._session)
        self._inference = InferenceHandler(
            settings.gateway,
            self.routes,
            self._upstream,
            books,
            demand,
            tallies,
            settings.internal_token,
            self._limiter(),
            BudgetGuard(self._leases, self._clock),
            Externals(settings.gateway, settings.folder("provider-keys")),
            self._hits,
            settings.engine.media_domains,
            self.tracer,
        )
        self.routes.load()
        self._routes_changed()
        if settings.gateway.workers > 1:
            self._page_server = PageServer(self.spool.folder, lambda: self._page()[0])
            await self._page_server.start()
        loops = (
            self.routes.follow(),
            self.shipper.run(),
            self._leases.run(),
            self._inference.admission.watch_keys(),
            self._upstream.reports.follow(),
            demand.run(),
            tallies.run(),
            self._hits.run(),
            ThresholdTeller(settings, self._session, self._inference.thresholds).run(),
        )
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        for task in self._tasks:
            task.add_done_callback(_log_death)

    def _limiter(self) -> Limiter:
        workers = self._settings.gateway.workers if self._limits is not None else 1
        table = LimitTable(self._settings.internal_token, self._limits, self._worker, workers)
        return Limiter(table, self._clock)

    def _posted_before(self) -> float:
        """Before which moment all usage is posted."""
        return self._books.settled_before(self.shipper.posted_before)

    def leave(self) -> None:
        """What is at work is finished; what only waits for an engine would not be in time."""
        self._inference.end_waits()

    async def stop(self) -> None:
        """Flush the spool, ship once more if control is there, close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._page_server is not None:
            await self._page_server.close()
        await self._inference.give_up_copies()  # they would write into books that are closed
        try:
            await asyncio.wait_for(self.shipper.step(), _FAREWELL_SECONDS)
        except (aiohttp.ClientError, OSError) as error:
            _log.warning("usage events stay in the spool", error=str(error) or type(error).__name__)
        await self._leases.close()
        await self._books.close()
        await self.spool.close()
        self._journal.close()
        closing = (self._session, self._upstream, self._proxy, self._inference)
        await asyncio.gather(*(part.close() for part in closing))
        if self.tracer is not None:
            await self.tracer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._front(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except ComputilityError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def direct(self, request: Request) -> Callable[[Request], Awaitable[None]] | None:
        """What answers a request of the hot paths, on its connection; None for all others."""
        if request.method != b"POST" or not is_plain(request):
            return None
        return self._directly.get(request.target)

    def _direct_handler(self, path: str, api: Api) -> Callable[[Request], Awaitable[None]]:
        async def infer(exchange: Exchange) -> None:
            await self._infer(exchange, api)

        async def answer(request: Request) -> None:
            await self._answer(DirectExchange(request, path), path, infer)

        return answer

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(Exchange(scope, receive, send))

    async def _serve(self, exchange: Exchange) -> None:
        await self._answer(exchange, *self._handler(exchange))

    async def _answer(self, exchange: Exchange, name: str, handler: Handler) -> None:
        code = ""
        metrics.IN_FLIGHT.change += 1
        try:
            await handler(exchange)
        except ComputilityError as error:
            code = error.code
            await exchange.respond_error(error)
        except ClientGone:
            exchange.status = 499
        except Exception:  # the request boundary
            code = "internal_error"
            _log.exception("a request failed", path=exchange.path, request_id=exchange.request_id)
            if exchange.started:
                raise
            await exchange.respond_error(ComputilityError(f"internal error; mention {exchange.request_id}"))
        finally:
            metrics.IN_FLIGHT.change -= 1
            if exchange.trace is not None:
                variant = exchange.head.get(VARIANT_HEADER, b"").decode()
                exchange.trace.end(exchange.status or 499, code, variant)
            status, model = str(exchange.status or 499), metrics.MODELS.of(exchange.model)
            metrics.REQUESTS.count(name, status, model)

    def _handler(self, exchange: Exchange) -> tuple[str, Handler]:
        """The path's name in metrics (few values), and what answers it."""
        method, path = exchange.method, exchange.path
        if is_proxied(method, path):
            return "/".join(path.split("/", 3)[:3]), self._pass_on
        name, handlers = self._known(path)
        if not handlers:
            return "other", _no_such_route
        return name, handlers.get(method) or _wrong_method(tuple(handlers))

    def _known(self, path: str) -> tuple[str, dict[str, Handler]]:
        """The path's name in metrics, and its handlers by method."""
        if (api := APIS.get(path)) is not None:
            return path, {"POST": lambda exchange: self._infer(exchange, api)}
        if path.startswith(f"{_MODELS_PATH}/"):
            return _MODELS_PATH, {"GET": self._models, "DELETE": self._pass_on}
        if path.startswith("/v1/responses/"):
            return "/v1/responses", dict.fromkeys(("GET", "POST", "DELETE"), _not_stored)
        own: dict[str, Handler] = {
            _MODELS_PATH: self._models,
            "/healthz": self._health,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }
        return path, {"GET": own[path]} if path in own else {}

    async def _infer(self, exchange: Exchange, api: Api) -> None:
        kind = exchange.headers.get(b"content-type", b"")
        if kind != _JSON:
            require_json(kind.decode("latin-1"))
        await self._inference.handle(exchange, api)

    async def _pass_on(self, exchange: Exchange) -> None:
        """Control answers, and judges the key again; what has none does not get that far."""
        principal = await self._principal(exchange)
        if self.tracer is not None:
            exchange.trace = self.tracer.passed_on(exchange, self._handler(exchange)[0], principal)
        await self._proxy.handle(exchange)

    async def _principal(self, exchange: Exchange) -> Principal:
        return (await self.routes.key_of(exchange.headers.get(b"authorization", b""))).principal

    async def _models(self, exchange: Exchange) -> None:
        key = await self.routes.key_of(exchange.credentials())
        name = exchange.path[len(_MODELS_PATH) + 1 :]
        if name:
            _, route = await self.routes.find(key.digest, name)
            await exchange.respond_json(200, _model_object(route))
        else:
            data = [_model_object(route) for route in self.routes.index.visible(key.principal)]
            await exchange.respond_json(200, {"object": "list", "data": data})

    async def _health(self, exchange: Exchange) -> None:
        await exchange.respond(200, b"ok\n", b"text/plain")

    async def _ready(self, exchange: Exchange) -> None:
        if self.routes.known:
            await exchange.respond(200, b"ready\n", b"text/plain")
        else:
            text = b"no routing table: control was never reached, or not for too long\n"
            await exchange.respond(503, text, b"text/plain")

    async def _metrics(self, exchange: Exchange) -> None:
        if not shows_token(exchange.headers.get(b"authorization", b""), self._settings.metrics_token):
            (await self._principal(exchange)).require("platform-admin")
        page, content_type = self._page()
        if self._settings.gateway.workers > 1:
            others = (number for number in range(self._settings.gateway.workers) if number != self._worker)
            pages = await pages_of(spool_folder(self._settings, number) for number in others)
            page = merged([page, *pages])
        await exchange.respond(200, page, content_type.encode())

    def _page(self) -> tuple[bytes, str]:
        """What this process tells Prometheus, and its type."""
        waiting = segments(self.spool.folder)
        oldest_ms = min(
            (path.stat().st_mtime_ns // 1_000_000 for path in waiting), default=self._clock.now_ms()
        )
        metrics.SPOOL_SEGMENTS.set(len(waiting))
        metrics.USAGE_OVERDUE.set(len(self._books.overdue))
        metrics.SPOOL_REJECTED_BYTES.set(rejected_bytes(self.spool.folder.parent))
        metrics.SPOOL_OLDEST_SECONDS.set(max(0, self._clock.now_ms() - oldest_ms) / 1000)
        age = self.routes.age_seconds
        metrics.ROUTES_AGE_SECONDS.set(-1 if age is None else age)
        metrics.show_breakers(self._upstream.replicas.breakers(self.routes.index.routes))
        return render_metrics()

    def _routes_changed(self) -> None:
        routes = self.routes.index.routes
        metrics.MODELS.serve(route.model for route in routes)
        self._upstream.keep_only(routes)
        self._inference.routes_changed()


async def _not_stored(exchange: Exchange) -> None:
    raise NotFound(
        f"there is no stored response at {exchange.path}: a response is given once, in the answer to the "
        "request that makes it",
        code="response_not_stored",
    )


async def _no_such_route(exchange: Exchange) -> None:
    hint = _meant(exchange.path)
    raise NotFound(f"no such route: {exchange.method} {exchange.path}{hint}", code="unknown_url")


def _meant(path: str) -> str:
    """What whoever left out the ``/v1``, or wrote it twice, meant; empty for all else."""
    if path.startswith("/api/"):
        return "; resources are at control's address, not at the gateway's"
    whole = "/v1" + path.rpartition("/v1")[2]
    is_known = (
        whole in APIS or whole.startswith(f"{_MODELS_PATH}/") or whole in (_MODELS_PATH, *PROXIED_PREFIXES)
    )
    if path.rstrip("/") in ("", "/v1") or is_known:
        return "; the base URL of clients ends with /v1" + (f": {whole}" if is_known else "")
    return ""


def _wrong_method(allowed: tuple[str, ...]) -> Handler:
    async def refuse(exchange: Exchange) -> None:
        message = f"{exchange.path} does not take {exchange.method}, but {' and '.join(allowed)}"
        raise MethodNotAllowed(message, allowed=allowed)

    return refuse


def _model_object(route: Route) -> dict[str, object]:
    """The model in OpenAI's shape."""
    return {
        "id": route.model,
        "object": "model",
        "created": route.created_ms // 1000,
        "owned_by": route.tenant,
    }


def _log_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a background task died", error=repr(error))
