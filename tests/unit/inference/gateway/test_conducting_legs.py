"""Two legs of a request: who is asked in which order, who is given the cache, and when it is given up."""

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from common.errors import ComputilityError, EngineFailed, InvalidInput, Unavailable
from common.settings import GatewaySettings
from common.wire import Route, RouteReplica
from inference.core.body import InferenceRequest, parse_request
from inference.core.two_legs import giving_up
from inference.core.usage import find_usage
from inference.gateway import metrics
from inference.gateway.engines.legs import RELEASE_SECONDS, Answering, Legs
from inference.gateway.engines.upstream import MAX_FAILED_ENGINES, Upstream
from inference.gateway.engines.whole_answer import WholeAnswer
from tests.unit.inference.gateway.test_two_legs import CHAT, PLACE, replica

MODEL = "two-legs"
NONE: Mapping[str, BaseException] = {}
BROKEN, AWAY = EngineFailed("it broke"), Unavailable("it is away")
WRONG = InvalidInput("the engine finds it wrong", "wrong", "temperature")
READ = json.dumps(
    {
        "kv_transfer_params": PLACE,
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }
).encode()


class Engines:
    """Stands in for ``Upstream``: engines that answer, but for those that fail, in the order of the route."""

    def __init__(
        self, *names: str, failing: Mapping[str, BaseException] = NONE, min_prompt_tokens: int = 0
    ) -> None:
        replicas = [
            replica(name).model_copy(update={"min_prompt_tokens": min_prompt_tokens}) for name in names
        ]
        self.route = Route(
            model=MODEL,
            backend_model="weights",
            base_model=MODEL,
            project="lab",
            tenant="acme",
            replicas=tuple(replicas),
        )
        self.failing = dict(failing)
        self.read: bytes | None = READ
        self.asked: list[tuple[str, Any]] = []
        self.begun: list[str] = []
        self.streams: list[bool] = []
        self.closed: list[str] = []
        self.rested: list[str] = []
        self.told: list[tuple[str, str, bytes, float]] = []
        self.dropped: list[list[str]] = []
        self.watch = SimpleNamespace(id="req-1", broken=0, gone=False, call=None, trace=None)
        self.legs = Legs(cast(Upstream, self), GatewaySettings())

    async def call(
        self,
        route: Route,
        request: InferenceRequest,
        tenant: str,
        body: Callable[[RouteReplica], bytes],
        watch: Any,
        begin: Callable[[RouteReplica], None],
        on_comments: Any = None,
        tried: set[str] | None = None,
    ) -> Any:
        tried = set() if tried is None else tried
        error: BaseException = AWAY
        for one in route.replicas:
            if one.url in tried or watch.gone or watch.broken >= MAX_FAILED_ENGINES:
                continue
            tried.add(one.url)
            begin(one)
            self.asked.append((one.id, json.loads(body(one)).get("kv_transfer_params")))
            self.streams.append(request.stream)
            usage = find_usage(self.read) if self.read is not None else None
            watch.call = SimpleNamespace(
                waited_seconds=0.5,
                replica=one,
                answer=WholeAnswer(self.read, usage),
                close=lambda name=one.id: self.closed.append(name),
            )
            if one.id not in self.failing:
                return watch.call
            error = self.failing[one.id]
            watch.broken += isinstance(error, EngineFailed)
            if not isinstance(error, EngineFailed | Unavailable):
                break
        raise error

    def rest(self, one: RouteReplica) -> None:
        self.rested.append(one.id)

    async def tell(self, one: RouteReplica, path: str, body: bytes, seconds: float) -> bool:
        self.told.append((one.id, path, body, seconds))
        return False

    async def serve(self, **change: Any) -> Answering:
        """The answer to a request; then all that was to be given up has been."""
        request = parse_request("chat", json.dumps({**CHAT, "stream": True, **change}).encode())
        try:
            return await self.legs.call(
                self.job(request), cast(Any, self.watch), lambda one: self.begun.append(one.id)
            )
        finally:
            await self.legs.close()

    def job(self, request: InferenceRequest) -> Any:
        """Its ticket notes who had been asked when the room for an answer was given back."""
        ticket = SimpleNamespace(drop_answer=lambda: self.dropped.append([name for name, _ in self.asked]))
        return SimpleNamespace(request=request, route=self.route, tenant="acme", ticket=ticket)

    @property
    def order(self) -> list[tuple[str, str]]:
        """Who was asked, and to do what."""
        return [(name, _work(told)) for name, told in self.asked]

    @property
    def given_up_by(self) -> list[str]:
        """Decode engines that were told to have the cache given up."""
        assert {one[1:] for one in self.told} <= {("/v1/completions", giving_up(PLACE), RELEASE_SECONDS)}
        return [name for name, *_ in self.told]


def _work(told: dict[str, Any] | None) -> str:
    if told is None:
        return "all"
    return "fetch" if told == PLACE else "read" if told["do_remote_decode"] else "?"


def counted(how: str) -> float:
    labels = {"model": metrics.MODELS.of(MODEL), "how": how}
    return REGISTRY.get_sample_value("computility_gateway_legs_total", labels) or 0.0


async def test_one_engine_reads_and_another_one_answers() -> None:
    on, before = Engines("d0", "m0", "p0"), counted("handed_over")
    answering = await on.serve()
    assert on.order == [("p0", "read"), ("d0", "fetch")]
    assert (answering.call.replica.id, answering.cached) == ("d0", 4)
    assert on.begun == ["p0", "d0"], "both are begun on the bill"
    assert on.streams == [False, True], "nobody waits for the first one's token"
    assert (on.closed, on.told, on.rested) == (["p0"], [], [])
    assert on.dropped == [["p0"]], "nobody is given what the first one answers"
    assert counted("handed_over") == before + 1


@pytest.mark.parametrize(
    ("failing", "order", "broken"),
    [
        ({"p0": AWAY}, ["p0 read", "p1 read", "d0 fetch"], 0),
        ({"p0": BROKEN}, ["p0 read", "p1 read", "d0 fetch"], 1),
        ({"p0": AWAY, "p1": AWAY}, ["p0 read", "p1 read", "d0 all"], 0),
        ({"p0": BROKEN, "p1": BROKEN}, ["p0 read", "p1 read", "d0 all"], 1),
        ({"p0": WRONG}, ["p0 read", "d0 all"], 0),
        ({"d0": BROKEN}, ["p0 read", "d0 fetch", "m0 all"], 1),
        ({"d0": AWAY}, ["p0 read", "d0 fetch", "m0 all"], 0),
        ({"p0": BROKEN, "d0": AWAY}, ["p0 read", "p1 read", "d0 fetch", "m0 all"], 1),
        ({"d0": AWAY, "m0": AWAY}, ["p0 read", "d0 fetch", "m0 all", "p0 all"], 0),
        (
            {"d0": AWAY, "m0": AWAY, "p0": AWAY},
            ["p0 read", "p1 read", "d0 fetch", "m0 all", "p0 all", "p1 all"],
            0,
        ),
    ],
)
async def test_whoever_fails_another_one_answers(
    failing: dict[str, ComputilityError], order: list[str], broken: int
) -> None:
    on = Engines("d0", "m0", "p0", "p1", failing=failing)
    answering = await on.serve()
    assert [" ".join(step) for step in on.order] == order
    assert answering.call.replica.id == order[-1].split()[0]
    assert on.watch.broken == broken
    assert answering.cached == (4 if order[-1].endswith("fetch") else None)
    assert on.dropped == [[step.split()[0] for step in order if step.endswith("read")]]


async def test_a_prompt_that_breaks_engines_is_not_tried_on_all_of_them() -> None:
    on = Engines("d0", "m0", "p0", "p1", failing={"d0": BROKEN, "p0": BROKEN, "p1": BROKEN})
    with pytest.raises(EngineFailed):
        await on.serve()
    assert on.order == [("p0", "read"), ("p1", "read"), ("d0", "all")]


@pytest.mark.parametrize(
    ("failing", "kind"),
    [
        ({"d0": AWAY, "m0": BROKEN, "p0": AWAY}, EngineFailed),
        ({"d0": AWAY, "m0": AWAY, "p0": BROKEN}, EngineFailed),
        ({"d0": AWAY, "m0": AWAY, "p0": AWAY}, Unavailable),
    ],
)
async def test_of_failures_the_client_is_told_that_an_engine_broke(
    failing: dict[str, ComputilityError], kind: type[Exception]
) -> None:
    with pytest.raises(Unavailable) as caught:
        await Engines("d0", "m0", "p0", failing=failing).serve()
    assert type(caught.value) is kind


async def test_what_an_engine_finds_wrong_is_tried_on_no_other() -> None:
    on = Engines("d0", "m0", "p0", failing={"d0": WRONG})
    with pytest.raises(InvalidInput, match="finds it wrong"):
        await on.serve()
    assert on.order == [("p0", "read"), ("d0", "fetch")]


async def test_a_cache_is_given_to_one_engine_and_given_up_by_the_next() -> None:
    on = Engines("d0", "d1", "p0", failing={"d0": BROKEN})
    answering = await on.serve()
    assert on.order == [("p0", "read"), ("d0", "fetch"), ("d1", "all")]
    assert (answering.call.replica.id, answering.cached) == ("d1", None), "it read the prompt itself"
    assert on.given_up_by == ["d1"]


async def test_a_cache_that_nobody_came_to_fetch_is_given_up() -> None:
    on = Engines("d0", "m0", "p0")

    def away(one: RouteReplica) -> None:
        if one.id == "d0":
            raise AWAY

    request = parse_request("chat", json.dumps(CHAT).encode())
    answering = await on.legs.call(on.job(request), cast(Any, on.watch), away)
    await on.legs.close()
    assert on.order == [("p0", "read"), ("m0", "all")]
    assert (answering.call.replica.id, answering.cached) == ("m0", None)
    assert on.given_up_by == ["d0"]


@pytest.mark.parametrize("read", [None, b"{}", b'{"kv_transfer_params": null}'])
async def test_an_engine_that_tells_no_cache_is_done_without(read: bytes | None) -> None:
    on, before = Engines("d0", "p0"), counted("failed")
    on.read = read
    answering = await on.serve()
    assert on.order == [("p0", "read"), ("d0", "all")]
    assert (answering.cached, on.closed, on.told) == (None, ["p0"], [])
    assert counted("failed") == before + 1


async def test_a_cache_of_a_prompt_that_was_not_counted_had_nothing_cached() -> None:
    on = Engines("d0", "p0")
    on.read = json.dumps({"kv_transfer_params": PLACE}).encode()
    assert (await on.serve()).cached == 0


@pytest.mark.parametrize("asked", [True, False])
async def test_an_engine_that_reads_too_long_is_left_alone_for_a_while(
    asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = Engines("d0", "p0", failing={"p0": TimeoutError()})
    if not asked:
        on.failing = {}

        async def late(*_: Any) -> Any:
            raise TimeoutError

        answers, calls = on.call, iter([late, on.call])

        async def call(*arguments: Any) -> Any:
            return await next(calls, answers)(*arguments)

        monkeypatch.setattr(on, "call", call)
    answering = await on.serve()
    assert answering.call.replica.id == "d0"
    assert on.rested == (["p0"] if asked else [])


async def test_a_client_that_goes_while_its_prompt_is_read_ends_the_request() -> None:
    on = Engines("d0", "p0", failing={"p0": AWAY})

    def gone(_: RouteReplica) -> None:
        on.watch.gone = True

    request = parse_request("chat", json.dumps(CHAT).encode())
    with pytest.raises(Unavailable, match="it is away"):
        await on.legs.call(on.job(request), cast(Any, on.watch), gone)
    assert on.order == [("p0", "read")]


@pytest.mark.parametrize(
    ("names", "change", "least", "how"),
    [
        (("d0", "p0"), {"n": 2}, 0, "choices"),
        (("d0", "p0"), {}, 10_000, "short"),
        (("m0", "p0"), {}, 0, "no_pair"),
        (("d0", "p0"), {"n": 2}, 10_000, "choices"),
        (("m0", "p0"), {"n": 2}, 10_000, "choices"),
    ],
)
async def test_where_one_engine_does_all_it_is_counted_why(
    names: tuple[str, ...], change: dict[str, Any], least: int, how: str
) -> None:
    on, before = Engines(*names, min_prompt_tokens=least), counted(how)
    answering = await on.serve(**change)
    assert on.order == [(names[0], "all")]
    assert (answering.cached, on.told, on.dropped) == (None, [], [])
    assert counted(how) == before + 1


@pytest.mark.parametrize(
    ("failing", "how"),
    [({}, "handed_over"), ({"p0": BROKEN}, "failed"), ({"p0": AWAY}, "failed"), ({"p0": WRONG}, "refused")],
)
async def test_what_became_of_a_first_leg_is_counted_and_a_wrong_request_is_no_failure(
    failing: dict[str, ComputilityError], how: str
) -> None:
    before = {name: counted(name) for name in ("handed_over", "failed", "refused")}
    await Engines("d0", "p0", failing=failing).serve()
    assert {name: counted(name) - count for name, count in before.items()} == {
        name: float(name == how) for name in before
    }


async def test_a_prompt_of_just_the_length_is_read_by_another_engine() -> None:
    about = _about()
    for least, first in ((about, ("p0", "read")), (about + 1, ("d0", "all"))):
        on = Engines("d0", "p0", min_prompt_tokens=least)
        await on.serve()
        assert on.order[0] == first


def _about() -> int:
    request: InferenceRequest = parse_request("chat", json.dumps({**CHAT, "stream": True}).encode())
    return request.prompt_tokens_about


async def test_where_no_engine_has_a_role_nothing_is_counted() -> None:
    on = Engines("m0", "m1", failing={"m0": AWAY})
    found = {how: counted(how) for how in ("no_pair", "failed", "handed_over", "short")}
    answering = await on.serve()
    assert on.order == [("m0", "all"), ("m1", "all")]
    assert (answering.call.replica.id, answering.cached) == ("m1", None)
    assert {how: counted(how) for how in found} == found


async def test_routes_are_parted_once_until_the_table_changes() -> None:
    on, routes = Engines("d0", "p0"), [Engines("d0", "p0").route for _ in range(2)]
    known = [on.legs._sides_of(route) for route in routes]
    assert [on.legs._sides_of(route) is sides for route, sides in zip(routes, known, strict=True)] == [
        True
    ] * 2
    on.legs._sides[id(routes[0])] = known[1]
    assert on.legs._sides_of(routes[0]).route is routes[0], "another one may lie where a former one lay"
    on.legs.routes_changed()
    assert not on.legs._sides
    assert on.legs._sides_of(routes[1]) is not known[1]


async def test_no_cache_goes_between_engines_of_two_models() -> None:
    on = Engines("d0", "d1", "p0")
    other = on.route.replicas[0].model_copy(update={"model_identity": "lab/other"})
    on.route = on.route.model_copy(update={"replicas": (other, *on.route.replicas[1:])})
    answering = await on.serve()
    assert on.order == [("p0", "read"), ("d1", "fetch")]
    assert answering.cached == 4
    on.route = on.route.model_copy(update={"replicas": (other, on.route.replicas[2])})
    on.asked.clear()
    assert (await on.serve()).cached is None
    assert on.order == [("d0", "all")]


async def test_a_cache_that_cannot_be_given_up_ends_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(*_: Any) -> bool:
        raise RuntimeError

    on = Engines("d0", "d1", "p0", failing={"d0": BROKEN})
    monkeypatch.setattr(on, "tell", tell)
    assert (await on.serve()).call.replica.id == "d1"
    assert not on.legs._releases
