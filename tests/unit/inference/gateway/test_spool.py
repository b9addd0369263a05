"""The spool: nothing that was confirmed is lost, nothing is confirmed before it is on disk."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from billing.core.events import UsageEvent
from common.errors import SetupError, Unavailable
from inference.gateway.books.spool import Spool, read_segment, segments


def usage(number: int) -> UsageEvent:
    return UsageEvent(
        id=f"use-{number:04d}",
        kind="inference",
        tenant="acme",
        project="bots",
        started_ms=1,
        ended_ms=2,
        quantities={"prompt_tokens": number + 1},
    )


def ids(folder: Path) -> list[str]:
    return [event["id"] for path in segments(folder) for event in read_segment(path).events]


async def test_what_is_confirmed_is_on_disk_and_comes_back_as_it_was(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.append(usage(7))
    [path] = segments(tmp_path)
    assert read_segment(path).events == [usage(7).to_dict()]
    await spool.close()


async def test_many_at_once_share_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    spool = Spool(tmp_path)
    await asyncio.gather(*(spool.append(usage(n)) for n in range(200)))
    assert len(syncs) == spool.commits <= 3
    assert ids(tmp_path) == [usage(n).id for n in range(200)]
    await spool.close()


async def test_an_append_is_not_confirmed_before_its_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: order.append("synced"))
    spool = Spool(tmp_path)
    await spool.append(usage(1))
    order.append("confirmed")
    assert order == ["synced", "confirmed"]
    await spool.close()


async def test_segments_roll_over_and_only_sealed_ones_are_offered(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=300)
    for n in range(6):
        await spool.append(usage(n))
    assert len(segments(tmp_path)) > 1
    assert spool.sealed() == segments(tmp_path)[:-1]
    await spool.seal()
    assert spool.sealed() == segments(tmp_path)
    assert ids(tmp_path) == [usage(n).id for n in range(6)]
    await spool.close()


async def test_what_nobody_waits_for_any_more_is_sealed_with_the_rest(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = asyncio.create_task(spool.append(usage(0)))
    while not spool._batch:
        await asyncio.sleep(0)
    second = asyncio.create_task(spool.append(usage(1)))  # waits for the write of the first
    await asyncio.sleep(0)
    second.cancel()
    await spool.seal()
    await first
    found = [event["id"] for path in spool.sealed() for event in read_segment(path).events]
    assert found == [usage(0).id, usage(1).id]
    await spool.close()


async def test_a_torn_tail_is_left_out_and_a_new_run_starts_a_new_segment(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.append(usage(1))
    await spool.close()
    [path] = segments(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"id": "use-torn", "kin')
    again = Spool(tmp_path)
    assert again.sealed() == [path]
    await again.append(usage(2))
    assert ids(tmp_path) == ["use-0001", "use-0002"]
    await again.close()


async def test_a_disk_that_refuses_is_told_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    await spool.append(usage(1))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        with pytest.raises(Unavailable, match="cannot be recorded"):
            await spool.append(usage(2))
    await spool.append(usage(3))
    assert ids(tmp_path) == ["use-0001", "use-0003"]
    await spool.close()


async def test_two_gateways_never_share_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SetupError, match="another gateway"):
        Spool(tmp_path)
    await spool.close()
    await Spool(tmp_path).close()
