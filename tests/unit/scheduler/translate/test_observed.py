"""What has moved since the last look is what a comparison of the two looks, field by field, finds."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DATABASE_UNAVAILABLE, ComputilityError, Unavailable
from common.resources.pool import Device
from scheduler.journal import write_all
from scheduler.ports import Billing, GangRecord, NodeObservation, RankRecord
from scheduler.translate.observed import Observed

Look = dict[str, NodeObservation]
Changed = tuple[set[str], set[str], set[str]]
DEVICE = Device(id="d", index=0, vendor="nvidia", model="H100", memory_bytes=1)


def changed_look(rng: random.Random, look: Look) -> Look:
    """Nodes that come, go, and are otherwise; the others are the very same objects."""
    found = dict(look)
    for name in ("a", "b", "c"):
        node, what = found.get(name), rng.random()
        if node is None:
            if what < 0.5:
                found[name] = NodeObservation(name, f"ray-{name}", "10.0.0.1", "Alive", devices=(DEVICE,))
        elif what < 0.15:
            del found[name]
        elif what < 0.7:
            found[name] = _otherwise(rng, node)
    return found


def _otherwise(rng: random.Random, node: NodeObservation) -> NodeObservation:
    gangs = [gang for gang in node.gangs if rng.random() < 0.8]
    gangs = [_gang_otherwise(rng, gang) if rng.random() < 0.5 else gang for gang in gangs]
    uid = rng.choice("uvw")
    if not any(gang.uid == uid for gang in gangs):
        rank = RankRecord(0, "main", 0, "Running", "10.0.0.1", 5)
        gangs.append(GangRecord(uid, 1, "digest", Billing("t", "p", "w"), (rank,)))
    changes = rng.choice(
        (
            {},
            {},
            {"state": rng.choice(("Alive", "Silent", "Lost"))},
            {"devices": (DEVICE.model_copy(update={"healthy": rng.random() < 0.5}),)},
            {"devices": (DEVICE.model_copy(update={"fault": rng.choice(("", "XID 79"))}),)},
            {"devices": (DEVICE.model_copy(update={"utilisation_percent": rng.randrange(9)}),)},
            {"labels": {"rack": rng.choice("xy")}},
        )
    )
    return replace(node, gangs=tuple(gangs), **changes)


def _gang_otherwise(rng: random.Random, gang: GangRecord) -> GangRecord:
    """Its mark of posted time, its state, or all of it."""
    (rank,) = gang.ranks
    return rng.choice(
        (
            replace(gang, ranks=(replace(rank, metered_spans=rank.metered_spans + 1),)),
            replace(gang, ranks=(replace(rank, state="Exited", exit_code=rng.randrange(2)),)),
            replace(gang, stopping=True),
            replace(gang, ranks=(replace(rank),)),
        )
    )


def compared(before: Look, now: Look) -> Changed:
    """The slow and obvious answer."""
    nodes, places, uids = set[str](), set[str](), set[str]()
    for name in before.keys() | now.keys():
        old, new = before.get(name), now.get(name)
        mine, its = _gangs(old), _gangs(new)
        other = {uid for uid in mine.keys() | its.keys() if mine.get(uid) != its.get(uid)}
        uids |= other
        if old is None or new is None or other or replace(old, gangs=()) != replace(new, gangs=()):
            nodes.add(name)
        if old is None or new is None or _use(old) != _use(new):
            places.add(name)
    return nodes, places, uids


def _gangs(node: NodeObservation | None) -> dict[str, GangRecord]:
    """Without marks of posted time."""
    return {
        gang.uid: replace(gang, ranks=tuple(replace(rank, metered_spans=0) for rank in gang.ranks))
        for gang in (node.gangs if node else ())
    }


def _use(node: NodeObservation) -> object:
    return node.state, [(device.id, device.healthy, device.fault) for device in node.devices]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_has_moved_is_what_a_comparison_finds(seed: int) -> None:
    rng = random.Random(seed)
    observed, before = Observed(), Look()
    for _ in range(8):
        now = changed_look(rng, before)
        moved = observed.follow(list(now.values()))
        assert (moved.nodes, moved.places, moved.uids) == compared(before, now)
        assert observed.nodes == now
        assert observed.silent == {name for name, node in now.items() if node.state == "Silent"}
        alive = {name: node for name, node in now.items() if node.state == "Alive"}
        gangs = {(name, gang.uid): gang for name, node in alive.items() for gang in node.gangs}
        assert {(node.name, gang.uid): gang for node, gang in observed.gangs()} == gangs
        before = now
    everything = observed.follow(list(before.values()), everything=True)
    assert everything.nodes == everything.places == before.keys()
    assert everything.uids == {gang.uid for node in before.values() for gang in node.gangs}


class Store:
    """Refuses to write more than one status at a time, or one of them."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.written: list[object] = []

    async def set_statuses(self, writes: list[object]) -> list[object]:
        if len(writes) > 1 or "bad" in writes:
            raise self.error
        self.written += writes
        return writes


async def test_statuses_that_break_a_write_of_all_are_written_one_by_one() -> None:
    store, error = Store(OverflowError("too large")), ["a", "bad", "b"]
    written = await write_all(store, error)  # type: ignore[arg-type]
    assert [type(one) for one in written] == [str, OverflowError, str]
    assert store.written == ["a", "b"]


@pytest.mark.parametrize(
    "error", [Unavailable("no route"), ComputilityError("no database", code=DATABASE_UNAVAILABLE)]
)
async def test_where_nothing_can_be_written_nothing_is_tried(error: Exception) -> None:
    store = Store(error)
    with pytest.raises(type(error)):
        await write_all(store, ["a", "b"])  # type: ignore[arg-type, list-item]
    assert store.written == []
