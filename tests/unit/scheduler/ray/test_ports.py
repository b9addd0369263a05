"""Ports of ranks: whatever the system's range is, they are outside of it, free, and given once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Unavailable
from scheduler.adapters.ray.ports import candidates, free_port, system_range

PORTS = st.integers(1, 65_535)


@given(PORTS, PORTS)
def test_no_candidate_is_in_the_systems_range_unless_that_leaves_none(one: int, other: int) -> None:
    first, last = sorted((one, other))
    found = candidates(first, last)
    assert found == sorted(set(found))
    assert 20_000 <= found[0] <= found[-1] <= 65_535
    if first > 20_000 or last < 65_535:
        assert not any(first <= port <= last for port in found)
    else:
        assert len(found) == 45_536


@given(st.sets(PORTS, min_size=1, max_size=20), st.sets(PORTS), st.data())
def test_a_port_is_free_and_not_taken_or_the_want_is_told(
    ports: set[int], others: set[int], data: st.DataObject
) -> None:
    taken = data.draw(st.sets(st.sampled_from(sorted(ports)))) | others
    busy = data.draw(st.sets(st.sampled_from(sorted(ports))))
    left = ports - taken - busy
    if left:
        assert free_port(taken, ports, lambda port: port not in busy) in left
    else:
        with pytest.raises(Unavailable, match="is free"):
            free_port(taken, ports, lambda port: port not in busy)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("32768\t60999\n", (32768, 60999)),
        ("1024 65000", (1024, 65000)),
        ("", (32768, 60999)),
        ("a b", (32768, 60999)),
    ],
)
def test_the_systems_range_is_what_it_says(tmp_path: Path, text: str, found: tuple[int, int]) -> None:
    file = tmp_path / "range"
    file.write_text(text)
    assert system_range(file) == found
    assert system_range(tmp_path / "none") == (32768, 60999)
