"""One thing that cannot be handled is set aside with its reason, tried again later, and harms no other."""

from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import REGISTRY

from common.clock import VirtualClock
from common.errors import DATABASE_UNAVAILABLE, Conflict, InvalidInput, Unavailable
from common.guard import MEETINGS_UNTIL_FAULT, Fault, Guard, ResourceGuard, fault_of, place_of
from common.resources import Metadata, Model
from common.resources.serving import ModelSpec
from common.store.memory import MemoryStore


def fails(guard: Guard, error: Exception, key: str = "a", version: int = 0) -> Fault | None:
    with guard.item("Thing", key, version) as tried:
        raise error
    return tried.fault


def set_aside(loop: str) -> float:
    return REGISTRY.get_sample_value("computility_items_aside", {"loop": loop}) or 0.0


def test_an_item_that_fails_is_tried_at_once_again_then_with_growing_pauses() -> None:
    clock = VirtualClock()
    guard, tries = Guard("pauses", clock), []
    for second in range(4000):
        if guard.may_try("a"):
            tries.append(second)
            assert fails(guard, ValueError("bug")) == Fault("InternalError", "ValueError: bug")
        clock.advance(1)
    assert tries[:8] == [0, 1, 2, 4, 8, 16, 32, 64]
    assert max(later - sooner for sooner, later in pairwise(tries)) == 300


def test_what_has_changed_is_tried_at_once_and_what_works_is_forgotten() -> None:
    guard = Guard("changes", VirtualClock())
    for _ in range(5):
        fails(guard, ValueError("bug"), version=1)
    assert not guard.may_try("a", 1)
    assert guard.may_try("a", 2)
    assert set_aside("changes") == 1
    with guard.item("Thing", "a", 2) as tried:
        pass
    assert tried.worked
    assert guard.fault_of("a") is None
    assert set_aside("changes") == 0


def test_one_that_changed_meanwhile_is_no_trouble_unless_it_is_so_all_the_time() -> None:
    guard = Guard("meetings", VirtualClock())
    faults = [fails(guard, Conflict("changed")) for _ in range(MEETINGS_UNTIL_FAULT)]
    assert faults[:-1] == [None] * (MEETINGS_UNTIL_FAULT - 1)
    assert faults[-1] == Fault("Conflict", "changed")


def test_a_database_that_is_away_is_no_trouble_of_one_item() -> None:
    guard = Guard("database", VirtualClock())
    with pytest.raises(Unavailable):
        fails(guard, Unavailable("the database is away", code=DATABASE_UNAVAILABLE))
    assert guard.may_try("a")


def test_a_fault_is_logged_with_its_traceback_once(capsys: pytest.CaptureFixture[str]) -> None:
    clock = VirtualClock()
    guard = Guard("logs", clock)
    for key in ("a", "b", "a", "b", "a"):
        clock.advance(1000)
        fails(guard, ValueError("bug"), key)
    out = "".join(capsys.readouterr())
    assert out.count("item set aside") == 2
    assert out.count("Traceback") == 1


def test_messages_are_one_printable_line() -> None:
    fault = fault_of(InvalidInput("a\tb\x1b[31m\n" + "x" * 5000))
    assert fault.message.isprintable()
    assert len(fault.message) <= 300
    with pytest.raises(InvalidInput) as found:
        raise InvalidInput("here")
    assert place_of(found.value).startswith("tests/unit/common/test_guard.py:")


async def test_the_resource_says_why_it_is_set_aside_and_when_it_is_no_more() -> None:
    clock = VirtualClock()
    store = MemoryStore(clock)
    guard = ResourceGuard("resources", store, clock)
    metadata = Metadata(name="m", project="p")
    await store.apply(Model(metadata=metadata, spec=ModelSpec(source="org/model")))
    broken: list[Exception] = [OverflowError("int too large")]

    async def work() -> Fault | None:
        if broken:
            raise broken[0]
        return None

    async def again() -> Any:
        clock.advance(1000)
        await guard.handle(await store.get(Model, "m", "p"), work)
        return (await store.get(Model, "m", "p")).status.condition("Handled")

    told = await again()
    assert (told.status, told.reason, told.message) == (
        "False",
        "InternalError",
        "OverflowError: int too large",
    )
    revision = await store.revision()
    assert (await again()).status == "False"
    assert await store.revision() == revision
    broken.clear()
    guard = ResourceGuard("resources", store, clock)  # as after a restart
    assert (await again()).status == "True"
