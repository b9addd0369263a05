"""Devices that each role may have: what is shared is counted once, and nobody is paired who cannot talk."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.core.performance.choice import choose
from inference.core.performance.options import Option, Refusal, Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Traffic
from inference.core.performance.sizing import Sizing
from inference.core.performance.supply import Supply
from tests.fixtures.performance_scene import LLAMA_8B, QWEN_32B, shape, supply

CHAT = Traffic(4000, 500)


def sized(
    pool: Sequence[Supply], traffic: Traffic = CHAT, model: str = LLAMA_8B, slo: Slo | None = None
) -> tuple[list[Option], list[Refusal]]:
    return Sizing(shape(model), pool, [Roofline()], traffic, slo or Slo()).options()


def parted(options: Sequence[Option]) -> list[Option]:
    return [one for one in options if one.mode == "disaggregated"]


def test_each_role_has_the_devices_that_it_may_have() -> None:
    pool = [
        replace(supply("H100-SXM"), prefill_nodes=(8,)),
        replace(supply("A100-SXM4-80GB"), decode_nodes=(8,)),
    ]
    options, refused = sized(pool)
    classes = {tuple(leg.supply.figures.name for leg in one.legs) for one in parted(options)}
    assert classes == {("H100-SXM", "A100-SXM4-80GB")}
    assert not [one for one in refused if one.mode == "disaggregated"]


def test_devices_that_both_roles_may_have_are_counted_once() -> None:
    """Eight H100 for both, and two more nodes for decode alone."""
    pool = [replace(supply("H100-SXM", 8), decode_nodes=(2,))]
    (best,) = parted(sized(pool)[0])
    reading, writing = best.legs
    assert reading.devices + writing.devices <= 10
    assert writing.devices >= 2
    assert not replace(pool[0], nodes=(8,)).holds((4, 2), (3, 2))
    assert pool[0].holds((4, 2), (1, 2))


def test_each_role_is_on_what_is_its_own_before_it_takes_what_is_shared() -> None:
    one = replace(supply("H100-SXM", 4), prefill_nodes=(2,), decode_nodes=(1, 1))
    assert one.holds((6, 1), (2, 1))
    assert one.holds((2, 1), (6, 1))
    assert not one.holds((5, 1), (4, 1))
    assert not one.holds((2, 2), (2, 4))


def test_caches_go_only_to_whom_understands_them() -> None:
    mute = replace(supply("A100-SXM4-80GB"), connector="", decode_nodes=(8,))
    other = replace(supply("A100-SXM4-80GB"), connector="MooncakeConnector", decode_nodes=(8,))
    reader = replace(supply("H100-SXM"), prefill_nodes=(8,))
    options, refused = sized([reader, mute])
    assert not parted(options)
    assert "it does not hand KV caches over" in {one.why for one in refused}
    options, refused = sized([reader, other])
    assert not parted(options)
    why = {one.device_class: one.why for one in refused if one.mode == "disaggregated"}
    assert why == {
        "nvidia/H100-SXM": "prefill: nothing that is left for decode takes KV caches of nvidia by "
        "NixlConnector",
        "nvidia/A100-SXM4-80GB": "decode: nothing that is left for prefill takes KV caches of nvidia by "
        "MooncakeConnector",
    }


def test_a_role_says_why_devices_do_not_do_for_it() -> None:
    pool = [replace(supply("H100-SXM"), prefill_nodes=(8,)), replace(supply("L4"), decode_nodes=(8,))]
    _, refused = sized(pool, slo=Slo(5000, 5))
    why = {one.device_class: one.why for one in refused if one.mode == "disaggregated"}
    assert why["nvidia/L4"].startswith("decode: ")
    assert "between tokens > 5.0 ms" in why["nvidia/L4"]


def test_the_advice_says_why_each_role_is_where_it_is() -> None:
    pool = [supply("H100-SXM", 4), replace(supply("A100-SXM4-80GB"), decode_nodes=(8,))]
    choice = choose(parted(sized(pool, QWEN)[0]))
    assert choice.taken is not None
    legs = choice.options[choice.taken].legs
    told = next(one for one in choice.reasons if one.startswith("decode on "))
    assert told.startswith(f"decode on {legs[1].supply.device_class}: ")
    assert "requests/s a device (" in told
    assert not [one for one in choice.reasons if one.startswith("prefill on ")], "nothing else may read"


QWEN = Traffic(3000, 300)
NODES = st.lists(st.integers(0, 9), max_size=3).map(tuple)
SUPPLIES = st.lists(
    st.builds(
        lambda name, vendor, nodes, read, write, connector: replace(
            supply(name, *nodes, vendor=vendor),
            connector=connector,
            prefill_nodes=read,
            decode_nodes=write,
        ),
        st.sampled_from(("H100-SXM", "A100-SXM4-80GB", "L40S", "T4")),
        st.sampled_from(("nvidia", "nvidia", "amd")),
        NODES,
        NODES,
        NODES,
        st.sampled_from(("NixlConnector", "NixlConnector", "MooncakeConnector", "")),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one.device_class,
)


@settings(max_examples=80)
@given(
    model=st.sampled_from((LLAMA_8B, QWEN_32B)),
    pool=SUPPLIES,
    lengths=st.tuples(st.integers(1, 8000), st.integers(1, 2000)),
    rate=st.none() | st.floats(0.01, 50),
)
def test_no_option_has_devices_that_are_not_there_or_not_allowed_or_do_not_understand_each_other(
    model: str, pool: list[Supply], lengths: tuple[int, int], rate: float | None
) -> None:
    options, refused = sized(pool, Traffic(*lengths, rate), model)
    for option in options:
        vendors = {(leg.supply.vendor, leg.supply.connector) for leg in option.legs}
        assert len(option.legs) == 1 or (len(vendors) == 1 and "" not in {one[1] for one in vendors})
        for one in pool:
            wanted = {leg.role: leg for leg in option.legs if leg.supply is one}
            own = {"prefill": one.prefill_nodes, "decode": one.decode_nodes}
            shared = [*one.nodes, *one.prefill_nodes, *one.decode_nodes] if "serve" in wanted else one.nodes
            left = {role: leg.engines for role, leg in wanted.items()}
            for role, nodes in own.items():
                if role in wanted:
                    room = sum(size // wanted[role].layout.devices for size in nodes)
                    left[role] = max(0, left[role] - room)
            demands = [(left[role], leg.layout.devices) for role, leg in wanted.items()]
            assert _placed(shared, demands)
    readers = [one for one in pool if one.devices_for("prefill")]
    if not parted(options) and readers and rate is None:
        assert refused


def _placed(nodes: Sequence[int], demands: Sequence[tuple[int, int]]) -> bool:
    """One by one, the largest first: exact where sizes are powers of two."""
    free = list(nodes)
    for engines, size in sorted(demands, key=lambda demand: -demand[1]):
        for _ in range(engines):
            room = next((at for at, devices in enumerate(free) if devices >= size), None)
            if room is None:
                return False
            free[room] -= size
    return True


@settings(max_examples=40)
@given(
    nodes=st.tuples(*[st.lists(st.integers(0, 8), max_size=2).map(tuple)] * 3),
    lengths=st.tuples(st.integers(1, 16_000), st.integers(1, 2000)),
)
def test_no_other_numbers_of_engines_of_one_device_each_serve_more(
    nodes: tuple[tuple[int, ...], ...], lengths: tuple[int, int]
) -> None:
    """Whatever is shared between the roles, and whatever is not."""
    one = replace(
        supply("H100-SXM", *nodes[0]), prefill_nodes=nodes[1], decode_nodes=nodes[2], legal_counts=(1,)
    )
    options = parted(sized([one], Traffic(*lengths))[0])
    shared, read, write = (sum(some) for some in nodes)
    if not options:
        assert shared + read < 1 or shared + write < 1 or shared + read + write < 2
        return
    (best,) = options
    for m in range(1, shared + read + 1):
        for n in range(1, shared + write + 1):
            if max(0, m - read) + max(0, n - write) <= shared:
                legs = (replace(best.legs[0], engines=m), replace(best.legs[1], engines=n))
                other = replace(best, legs=legs)
                assert round(other.capacity, 6) <= round(best.capacity, 6) + 1e-6
