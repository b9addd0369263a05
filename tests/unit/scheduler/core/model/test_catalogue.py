"""Rows of the device catalogue are found by what drivers say, and islands follow links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.catalogue import Catalogue, DeviceSpec
from scheduler.core.model.islands import CLOSE_LINKS, IslandMember, islands_of

SMALL = Catalogue(
    (
        DeviceSpec("A10", "nvidia", ("A10",)),
        DeviceSpec("A100-40", "nvidia", ("A100", "A100-SXM4-40GB")),
        DeviceSpec("A100-80", "nvidia", ("A100-SXM4-80GB",)),
        DeviceSpec("other", "amd", ("A100",)),
        DeviceSpec("late", "nvidia", ("A10", "")),
    )
)


@pytest.mark.parametrize(
    ("vendor", "model", "name"),
    [
        ("nvidia", "A10", "A10"),
        ("nvidia", "a100-sxm4-80gb", "A100-80"),
        ("nvidia", "NVIDIA A100 SXM4 80GB", "A100-80"),
        ("nvidia", "A100-PCIE-40GB", "A100-40"),
        ("amd", "A100-SXM4-80GB", "other"),
        ("nvidia", "RTX A1000", None),
        ("nvidia", "", None),
        ("ascend", "A10", None),
    ],
)
def test_the_longest_pattern_of_whole_words_wins(vendor: str, model: str, name: str | None) -> None:
    for _ in range(2):
        found = SMALL.find(vendor, model)
        assert (found.name if found else None) == name


def test_what_the_driver_reports_wins() -> None:
    spec = DeviceSpec("x", "amd", tflops=(("bf16", 100.0), ("fp8", 200.0)), memory_bytes=7)
    assert spec.observed(0, {}).memory_bytes == 7
    seen = spec.observed(9, {"bf16": 90.0})
    assert (seen.memory_bytes, seen.tflops_of("bf16"), seen.tflops_of("fp8")) == (9, 90.0, 200.0)
    assert seen.tflops_of("int4") == 0.0


def ring(ids: range, kind: str = "HCCS", size: int = 0) -> list[IslandMember]:
    return [IslandMember(str(i), i, tuple((str(j), kind) for j in ids if i != j), size) for i in ids]


@pytest.mark.parametrize(
    ("devices", "islands"),
    [
        ([], []),
        ([*ring(range(4)), *ring(range(4, 8))], [0, 0, 0, 0, 1, 1, 1, 1]),
        (ring(range(3), "PCIe"), [0, 1, 2]),
        ([IslandMember(str(i), i, (), 4) for i in (0, 1, 3, 4, 7)], [0, 0, 0, 1, 1]),
        ([IslandMember("a", 0, (("c", "NVLink"),)), IslandMember("b", 1), IslandMember("c", 2)], [0, 1, 0]),
        ([IslandMember("a", 0, (("gone", "NVLink"),))], [0]),
        ([*ring(range(3), size=4), IslandMember("3", 3, (), 4)], [0, 0, 0, 1]),
    ],
)
def test_islands_follow_links_else_the_models_rule(devices: list[IslandMember], islands: list[int]) -> None:
    assert islands_of(devices) == islands


LINKS = st.tuples(st.sampled_from("abcdefgx"), st.sampled_from([*sorted(CLOSE_LINKS), "PCIe", "System"]))
MEMBERS = st.lists(
    st.builds(
        IslandMember,
        st.sampled_from("abcdefg"),
        st.integers(0, 15),
        st.lists(LINKS, max_size=4).map(tuple),
        st.sampled_from([0, 4]),
    ),
    unique_by=lambda member: member.id,
    max_size=7,
)


@given(MEMBERS)
def test_islands_are_dense_and_hold_what_is_linked(devices: list[IslandMember]) -> None:
    islands = dict(zip((device.id for device in devices), islands_of(devices), strict=True))
    assert list(dict.fromkeys(islands.values())) == list(range(len(set(islands.values()))))
    for device in devices:
        for peer, kind in device.links:
            if kind in CLOSE_LINKS and peer in islands and peer != device.id:
                assert islands[peer] == islands[device.id]
