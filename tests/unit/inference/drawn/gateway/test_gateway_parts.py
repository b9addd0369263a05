"""Parts of the gateway that keep count, in drawn courses: what each knows, answers and asks for."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.auth import Principal
from common.clock import VirtualClock
from common.errors import ComputilityError
from common.settings import GatewaySettings, Settings
from common.wire import Route, RouteKey, RouteReplica, RouteWeights, RoutingTable
from inference.core.routing.report import EngineReport
from inference.gateway import metrics
from inference.gateway.admission import Admission, Ticket
from inference.gateway.books.bill import Job
from inference.gateway.control_link import demand
from inference.gateway.control_link.demand import DemandTeller, Held
from inference.gateway.control_link.table import RouteIndex, payer_of
from inference.gateway.engines import replicas, reports
from inference.gateway.engines.replicas import Replicas
from inference.gateway.engines.reports import Reports
from inference.gateway.engines.upstream import _engine_ids
from inference.gateway.waking import Place, WaitingRoom
from tests.fixtures import approving as approved
from tests.unit.inference.drawn.gateway.session import (
    Ended,
    Engines,
    Paused,
    Reply,
    Session,
    broken,
    broken_engine,
    pauses,
)

Patch = pytest.MonkeyPatch
ROLES = ("member", "tenant-admin", "platform-admin", "agent")
COUNTERS = (metrics.WAKING, metrics.WOKEN, metrics.ROUTED, metrics.ROUTED_BYTES)


def _said(error: ComputilityError) -> str:
    more = {name: value for name, value in sorted(vars(error).items()) if name not in ("args", "message")}
    return f"{type(error).__name__}: {error.message} {more}"


def _counts() -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for counter in COUNTERS
        for metric in counter.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def _news(before: dict[str, float]) -> str:
    """What has been counted since; whoever counted before leaves no trace."""
    news = {name: count - before.get(name, 0.0) for name, count in _counts().items()}
    return str({name: count for name, count in sorted(news.items()) if count})


def _route(rng: random.Random, **given: Any) -> Route:
    return Route(
        **{
            "model": rng.choice(("m", "n")),
            "backend_model": rng.choice(("m", "w")),
            "base_model": "m",
            "project": rng.choice(("p", "p", "q")),
            "tenant": rng.choice(("t", "t", "u")),
            "shared": rng.random() < 0.4,
            "elastic": rng.choice(((), ("p/a",), ("p/a",), ("q/b",), ("p/a", "q/b"))),
            **given,
        }
    )


def _key(rng: random.Random, digest: str) -> RouteKey:
    role = rng.choice(ROLES)
    tenant = None if role == "platform-admin" else rng.choice(("t", "u"))
    project = rng.choice((None, "p", "q")) if tenant else None
    models = rng.choice(((), (), ("m",)))
    expires_ms = rng.choice((None, None, 1_700_000_000_000, 1_700_000_005_000))
    return RouteKey(
        digest=digest,
        name=digest,
        role=role,
        tenant=tenant,
        project=project,
        models=models,
        expires_ms=expires_ms,
    )


class _Loop:
    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


async def _demand(rng: random.Random, patch: Patch) -> str:
    """What is told of who waits, while requests come and go."""
    loop, lines = _Loop(), []
    patch.setattr(demand, "asyncio", SimpleNamespace(Event=asyncio.Event, get_running_loop=lambda: loop))
    patch.setattr(demand, "MAX_DEMANDS", rng.choice((1, 5)))
    patch.setattr(demand, "new_id", lambda kind: f"{kind}-1")
    session: Any = Session(
        lambda *_: broken(rng) if rng.random() < 0.2 else Reply(rng.choice((200, 200, 204, 500)))
    )
    teller = DemandTeller(Settings(internal_token="i"), session)
    open_: list[tuple[Any, Held | None]] = []
    for _ in range(rng.choice((3, 12, 30))):
        loop.now += rng.choice((0.0, 0.0, 1.0, 5.0, 10.0))
        kind, route = rng.randrange(7), _route(rng)
        if kind < 2:
            entered = (teller.working, teller.holding)[kind](route)
            open_.append((entered, entered.__enter__()))
        elif kind == 2 and open_:
            open_.pop(rng.randrange(len(open_)))[0].__exit__(None, None, None)
        elif kind == 3:
            for held in [held for _, held in open_ if held is not None][:1]:
                teller.hold(held, route)
        elif kind == 4:
            teller.ask(route)
        else:
            try:
                await teller.tell()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                lines.append(f"{type(error).__name__}: {error}")
        news = teller._news.is_set()
        if rng.random() < 0.4:
            teller._news.clear()
        inside = (dict(teller._held), dict(teller._active), teller._asked_until, teller._told)
        lines.append(f"{news} {inside} {teller.report().model_dump_json()}")
    return "\n".join([*lines, *session.asked])


class _Room(WaitingRoom):
    """One whose pauses are what the course makes of them."""

    pause: Callable[[float], None]

    async def _pause(self, watch: Any, seconds: float) -> None:
        self.pause(seconds)


async def _waiting(rng: random.Random, _: Patch) -> str:
    """Who gets a place, and what becomes of those who wait."""
    clock, lines, before = VirtualClock(), [], _counts()
    settings = GatewaySettings(
        waking_timeout_seconds=rng.choice((5.0, 60.0)),
        waking_requests_per_endpoint=rng.choice((0, 2, 3)),
        waking_requests_per_tenant=rng.choice((0, 2, 3)),
        waking_body_bytes_per_endpoint=rng.choice((10, 25)),
        waking_body_bytes_per_tenant=rng.choice((10, 20)),
    )
    keys = [_key(rng, digest) for digest in "ab"]
    engine = RouteReplica(id="r", url="http://r", model_identity="p/w")

    def index() -> RouteIndex:
        at_work = (engine,) if rng.random() < 0.5 else ()
        routes = [_route(rng, replicas=at_work, project="p", tenant="t", shared=True) for _ in range(2)]
        return RouteIndex(RoutingTable(version="1", keys=keys[: rng.choice((2, 2, 2, 1))], routes=routes))

    routes, asks = SimpleNamespace(index=index()), Session(lambda *_: Reply())
    teller: Any = DemandTeller(Settings(), asks)  # type: ignore[arg-type]
    room = _Room(settings, routes, teller, clock)  # type: ignore[arg-type]
    watch = SimpleNamespace(gone=False)

    def pause(seconds: float) -> None:
        lines.append(f"pauses {seconds:g} s, {dict(teller._held)}")
        clock.advance(rng.choice((0.0, 1.0, seconds, 2 * seconds)))
        routes.index = index() if rng.random() < 0.6 else routes.index
        watch.gone = rng.random() < 0.1
        if rng.random() < 0.1:
            room.end()

    room.pause = pause
    with ExitStack() as stack:
        for _number in range(rng.choice((1, 3, 6))):
            size, key = rng.choice((0, 5, 10)), rng.choice(keys)
            route = _route(rng, elastic=rng.choice((("p/a",), ("q/b", "p/a"))), project="p", tenant="t")
            ticket: Any = SimpleNamespace(body_bytes=size, key=key, places=())
            request: Any = SimpleNamespace(model=route.model)
            tenant, project = rng.choice((("t", "p"), ("u", "q")))
            job = Job(None, ticket, request, key.principal, route, tenant, project, 0, 0.0)  # type: ignore[arg-type]
            try:
                place = stack.enter_context(room.place(job))
                lines.append(f"{place.until_seconds} {place.held.names}")
                lines.append(await _next(room, job, watch, place))
            except ComputilityError as error:
                lines.append(_said(error))
            crowds = {**room._endpoints, **room._tenants}
            lines.append(f"{crowds} {dict(teller._held)} {sorted(teller._asked_until)}")
    lines.append(f"{room._endpoints} {room._tenants} {dict(teller._held)}")
    return "\n".join([*lines, _news(before)])


async def _next(room: WaitingRoom, job: Job, watch: Any, place: Place) -> str:
    watch.gone = False
    found = await room.next_route(job, watch, place)
    return f"found {found and found.model_dump_json(exclude_defaults=True)}"


async def _admission(rng: random.Random, _: Patch) -> str:
    """What keys and tenants have open."""
    clock, lines, ended = VirtualClock(), list[str](), list[str]()
    settings = GatewaySettings(
        max_requests_per_key=2,
        max_requests_per_tenant=3,
        max_sequences_per_key=4,
        max_sequences_per_tenant=6,
        body_bytes_per_key=10,
        body_bytes_per_tenant=15,
        answer_bytes_per_tenant=rng.choice((8, 100)),
    )
    keys = [_key(rng, digest) for digest in "abcd"]
    index = RouteIndex(RoutingTable(version=rng.choice(("1", "1", "")), keys=keys[:3]))
    admission = Admission(settings, SimpleNamespace(index=index), clock)  # type: ignore[arg-type]
    open_: list[tuple[Any, Ticket]] = []
    for _number in range(rng.choice((4, 12, 30))):
        kind = rng.randrange(8)
        try:
            if kind < 3 or not open_:
                entered = admission.request(rng.choice(keys))
                ticket = entered.__enter__()
                ticket.end = rng.choice((None, lambda error: ended.append(_said(error))))
                open_.append((entered, ticket))
            elif kind == 3:
                open_.pop(rng.randrange(len(open_)))[0].__exit__(None, None, None)
            elif kind == 4:
                clock.advance(rng.choice((0.0, 5.0)))
                ended.clear()
                admission.end_what_may_not_go_on()
                lines.append(f"ends: {sorted(ended)}")
            else:
                ticket = rng.choice(open_)[1]
                size = rng.choice((0, 1, 4, 5, 6, 10))
                acts = (ticket.take_bytes, ticket.take_sequences, ticket.take_answer)
                lines.append(str(rng.choice(acts)(size)))
                if rng.random() < 0.2:
                    rng.choice((ticket.drop_bytes, ticket.drop_answer))()
                lines.append(f"{ticket.body_bytes} {ticket.turn() is ticket.turn()}")
        except ComputilityError as error:
            lines.append(_said(error))
        told = [
            (name, load.requests, load.sequences, load.body_bytes, load.answer_bytes)
            for name, load in sorted((admission._loads | admission._tenants).items())
        ]
        lines.append(f"{told} {len(admission._open)}")
    return "\n".join(lines)


async def _table(rng: random.Random, _: Patch) -> str:
    """Who sees what, and who pays."""
    clock, lines = VirtualClock(), []
    keys = [_key(rng, digest) for digest in "abc"]
    routes = [_route(rng) for _ in range(rng.choice((0, 2, 5)))]
    index = RouteIndex(RoutingTable(version=rng.choice(("1", "1", "1", "")), keys=keys, routes=routes))
    for key in keys:
        who: Principal = key.principal
        lines.append(str([route.model_dump_json() for route in index.visible(who)]))
        for name in ("m", "n"):
            try:
                found = index.find(who, name)
                lines.append(f"{found.model_dump_json()} {payer_of(who, found)}")
            except ComputilityError as error:
                lines.append(_said(error))
    for given in (b"", b"Bearer", b"Basic a", b"bearer a", b"BEARER  b ", b"Bearer c", b"Bearer zz"):
        try:
            lines.append(str(index.key_of(given, clock).principal))
        except ComputilityError as error:
            lines.append(_said(error))
    lines += [
        str(index.refusal(digest, 1_700_000_000_000 + more)) for digest in "abcz" for more in (-1, 0, 1)
    ]
    return "\n".join(lines)


async def _choice(rng: random.Random, patch: Patch) -> str:
    """Which engines are asked, as tables change and requests fail."""
    patch.setattr(replicas, "new_secret", lambda kind: f"{kind}-secret")
    clock, lines, before = VirtualClock(), [], _counts()
    known = Replicas(clock, 4000)

    def table() -> list[Route]:
        found = []
        for name in ("m", "n"):
            urls = rng.sample("rstu", rng.randrange(4))
            engines = tuple(
                RouteReplica(id=url, url=url, model_identity="p/w", adapter_slots=rng.choice((0, 1)))
                for url in urls
            )
            drawn = [rng.choice((0.0, 1.0, 2.0)) for _ in RouteWeights.model_fields]
            weights = RouteWeights(**dict(zip(RouteWeights.model_fields, drawn, strict=True)))
            found.append(_route(rng, model=name, replicas=engines, routing=weights))
        return found

    routes = table()
    known.keep_only(routes)
    for _number in range(rng.choice((2, 12, 24))):
        clock.advance(rng.choice((0.0, 0.5, 3.0, 20.0)))
        url, kind = rng.choice("rstu"), rng.randrange(10)
        if kind == 0:
            routes = table() if rng.random() < 0.5 else routes
            known.keep_only(rng.choice((routes, routes, routes[:1])))
        elif kind < 6:
            route = rng.choice(routes)
            request: Any = SimpleNamespace(
                task=rng.choice(("chat", "embeddings")),
                prompt=memoryview(b"word" * rng.choice((1, 100, 600))),
                session=rng.choice(("", "s")),
            )
            ask = known.ask(route, request, rng.choice("tu"))
            chosen = known.choose(route, route.replicas, ask, rng.sample("rstu", rng.choice((0, 0, 1))))
            lines.append(f"{ask.adapter} {ask.keys[:1]} {chosen and chosen[0].id}")
            if chosen and rng.random() < 0.7:
                chosen[1].end()
        elif kind == 6:
            known.failed(url, gone=rng.random() < 0.5)
        elif kind == 7:
            rng.choice((known.answered, known.rest))(url)
        else:
            report = EngineReport(rng.randrange(9), 0.5, 1000, "1") if rng.random() < 0.8 else None
            known.told(url, report)
        lines.append(f"{known.with_choice} {[approved.told(one) for one in known.router.views.values()]}")
    return "\n".join([*lines, _news(before)])


async def _reports(rng: random.Random, patch: Patch) -> str:
    """What engines are asked and tell, round after round."""
    patch.setattr(reports, "PAGE_LIMIT_BYTES", 160)
    lines: list[str] = []
    page = b"vllm:num_requests_running 3.0\nvllm:num_requests_waiting 1.0\nvllm:kv_cache_usage_perc 0.5\n"

    def draw(*_: Any) -> Reply | BaseException:
        if rng.random() < 0.15:
            return broken_engine(rng)
        parts: Any = rng.choice(
            ((page,), (page[:40], page[40:]), (page, b"#" * (160 - len(page))), (page, b"#" * 90))
        )
        parts = rng.choice((parts, parts, (page, broken_engine(rng)), (page * 3,), (b"\xff\n" + page,), ()))
        return Reply(rng.choice((200, 200, 200, 404, 204)), parts)

    class Known:
        with_choice = rng.choice(((), ("http://r",), ("http://r", "http://s"), ("http://r",) * 150))

        def told(self, url: str, report: Any) -> None:
            lines.append(f"{url}: {report}")

    session: Any = Engines(draw)
    known: Any = Known()
    patch.setattr(reports, "asyncio", Paused(pauses(lines, rng.choice((1, 3, 5)))))
    with pytest.raises(Ended):
        await Reports(session, known).follow()
    return "\n".join([*lines, *session.asked])


async def _ids(rng: random.Random, _: Patch) -> str:
    task = rng.choice(("chat", "completions", "embeddings"))
    request: Any = SimpleNamespace(task=task, api=task, prompts=rng.randrange(4))
    return str((request.task, _engine_ids(request, "req-1")))


World = Callable[[random.Random, Patch], Awaitable[str]]
WORLDS: dict[str, tuple[World, int, int]] = {
    "demand": (_demand, 200, 1),
    "waiting": (_waiting, 300, 1),
    "admission": (_admission, 150, 1),
    "table": (_table, 200, 1),
    "choice": (_choice, 120, 1),
    "reports": (_reports, 80, 2),
    "ids": (_ids, 20, 3),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_parts_of_the_gateway_do_what_was_approved(name: str, tmp_path: Path) -> None:
    ask, draws, read = WORLDS[name]
    answers = []
    for seed in range(draws):
        with pytest.MonkeyPatch.context() as patch:
            answers.append(await ask(random.Random(seed), patch))
    approved.check(Path(__file__).with_name("gateway_parts.txt"), {name: approved.kept(answers, read)})
