"""What comes free when, kept from cycle to cycle, is what it would be if it were made anew."""

from scheduler.core.backfill.releases import Releases
from scheduler.core.model.types import RunningView
from scheduler.core.placement.snapshot import take_snapshot
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node

A = node("a", *(gpu(i) for i in range(4)), *(gpu(i, model="H200") for i in range(4, 8)))


def runs(name: str, *positions: int, seconds: int | None = 100) -> RunningView:
    return holding(name, A, *positions, started_ms=NOW_MS, expected_seconds=seconds)


def rows(releases: Releases) -> list[tuple[object, ...]]:
    models = {number: model for model, number in releases.known.items()}
    columns = zip(
        releases.holders,
        releases.places,
        releases.ends_ms.tolist(),
        releases.nodes.tolist(),
        releases.models.tolist(),
        releases.millis.tolist(),
        releases.devices_millis.tolist(),
        strict=True,
    )
    return sorted(
        (one.workload.uid, place, ends, where, models[model], millis, whole)
        for one, place, ends, where, model, millis, whole in columns
    )


def test_some_go_others_come_and_one_ends_at_another_time() -> None:
    first = [runs("x", 0, 1), runs("endless", 2, seconds=None), runs("y", 4), runs("z", 3)]
    pool = take_snapshot([A], [], [], first).pool
    releases = Releases(first, pool, NOW_MS)
    longer, new = runs("z", 3, seconds=700), runs("new", 5, 6)
    followed = releases.follow(["uid-x", "uid-z", "nobody"], [longer, new], pool, NOW_MS)
    assert rows(followed) == rows(Releases([first[1], first[2], longer, new], pool, NOW_MS))
    again = followed.follow(["uid-new", "uid-y"], [runs("x", 0, 1)], pool, NOW_MS)
    assert rows(again) == rows(Releases([longer, runs("x", 0, 1)], pool, NOW_MS))
    assert rows(releases) == rows(Releases(first, pool, NOW_MS)), "the one before is as it was"
