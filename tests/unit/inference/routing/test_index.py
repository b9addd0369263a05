"""What was sent where, as far as it is remembered."""

import tracemalloc
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from inference.core.routing.blocks import ENDS, SIZES, block_keys, partition, session_key
from inference.core.routing.index import PrefixIndex

START = partition(b"secret", "acme", "tiny")
TEXT = b"".join(b"%07d," % number for number in range(300_000))


def keys(text: bytes, start: bytes = START) -> Sequence[int]:
    return block_keys(memoryview(text), start)


def test_prompts_that_begin_alike_have_the_same_first_keys_and_no_more() -> None:
    whole = keys(TEXT[:100_000])
    assert len(set(whole)) == len(whole)
    for same in (255, 256, 5000, 66_000):
        other = keys(TEXT[:same] + b"!" + TEXT[same + 1 : 100_000])
        blocks = sum(end <= same for end in ENDS)
        assert other[:blocks] == whole[:blocks]
        assert not set(other[blocks:]) & set(whole)
    assert keys(TEXT[:255]) == ()


def test_a_prompt_of_any_length_has_few_blocks() -> None:
    assert len(keys(TEXT)) == len(ENDS) == len(SIZES) < 350
    assert sum(SIZES) == ENDS[-1] == 1024**2


def test_no_tenant_and_no_model_meets_the_keys_of_another() -> None:
    starts = [
        START,
        partition(b"secret", "other", "tiny"),
        partition(b"secret", "acme", "tiny-2"),
        partition(b"secret", "acmet", "iny"),
        partition(b"another secret", "acme", "tiny"),
    ]
    found = [set(keys(TEXT[:50_000], start)) for start in starts]
    assert len(set().union(*found)) == sum(len(one) for one in found)
    assert len({session_key("s", start) for start in starts}) == len(starts)


def test_levels_tell_who_has_most_of_the_prompt_first() -> None:
    index, chain = PrefixIndex(), keys(TEXT[:2048])
    index.note(0, chain[:2])
    index.note(1, chain)
    index.note(2, chain[:5])
    index.note(2, keys(TEXT[1:2000]))
    assert index.levels(chain, 0b111) == [(8, 0b010), (5, 0b110), (2, 0b111)]
    assert index.levels(chain, 0b101) == [(5, 0b100), (2, 0b101)]
    assert index.levels(chain, 0) == index.levels((), 0b111) == []
    assert index.levels(keys(TEXT[2:2000]), 0b111) == []


def test_the_end_of_what_was_used_least_of_late_goes_first() -> None:
    index = PrefixIndex()
    old, new, last = (keys(TEXT[at : at + 2048]) for at in (1, 2, 3))
    index.limit(0, 5 * 1024)
    index.note(0, old)
    index.note(0, new)
    index.note(0, old)
    index.note(0, last)
    assert index.levels(old, 1) == [(8, 1)]
    assert index.levels(new, 1) == [(4, 1)]
    assert index._bytes.get(0, 0) == 5 * 1024
    index.limit(0, 0)
    assert len(index) == index._bytes.get(0, 0) == 0
    index.limit(0, None)
    index.note(0, old)
    assert index._bytes.get(0, 0) == 2048


def test_a_replica_that_starts_anew_has_nothing() -> None:
    index, chain = PrefixIndex(), keys(TEXT[:2048])
    for replica in (0, 1):
        index.note(replica, chain, session=7)
    index.forget(0)
    index.forget(5)
    assert index.levels(chain, 0b11) == [(8, 0b10)]
    assert index.holders(7) == 0b10
    index.forget(1)
    assert (len(index), index._holders) == (0, {})


steps = st.tuples(
    st.integers(0, 5), st.sampled_from(["note", "note", "note", "forget", "limit"]), st.integers(0, 9)
)


@given(st.lists(steps, max_size=60), st.integers(0, 40))
def test_it_never_holds_more_than_its_bound_and_both_its_sides_agree(
    story: list[tuple[int, str, int]], entries: int
) -> None:
    index = PrefixIndex(entries)
    for replica, what, number in story:
        if what == "note":
            index.note(replica, keys(TEXT[number : number + 300 * (1 + number)]), number % 3 or None)
        elif what == "forget":
            index.forget(replica)
        else:
            index.limit(replica, 500 * number if number < 9 else None)
        assert len(index) <= entries
        pairs = {(key, replica) for replica, held in index._held.items() for key in held}
        told = {(key, bit) for key, mask in index._holders.items() for bit in range(6) if mask >> bit & 1}
        assert pairs == told
        assert 0 not in index._holders.values()
        for replica, held in index._held.items():
            assert index._bytes.get(replica, 0) == sum(held.values()) <= index._limits.get(replica, 10**9)


def test_a_pair_takes_no_more_room_where_replicas_are_many() -> None:
    """A set of replicas with the 20,000th in it is an int of 2.5 KB."""

    def taken_bytes(first: int) -> int:
        tracemalloc.start()
        try:
            index = PrefixIndex(1 << 17)
            for prompt in range(40):
                keys = [prompt << 32 | block for block in range(1, 81)]
                for replica in (first, first + 1 + prompt % 3):
                    index.note(replica, keys)
            assert len(index) == 6400
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert taken_bytes(20_000) < 1.5 * taken_bytes(0)
