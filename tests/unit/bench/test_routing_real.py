"""What is asked of real engines, and what is made of their answers."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.routing.__main__ import main
from bench.routing.real import BLOCK_WORDS, MOST_BLOCKS, Seen, chosen, figures, prompt_of
from bench.routing.trace import Request


def request(*blocks: int) -> Request:
    return Request(0.0, 0, blocks, 512 * len(blocks), 1)


def test_prompts_that_share_blocks_share_their_beginning() -> None:
    one, two = prompt_of(request(1, 2), "a").split(), prompt_of(request(1, 3), "a").split()
    assert len(one) == len(two) == 2 * BLOCK_WORDS
    assert one[:BLOCK_WORDS] == two[:BLOCK_WORDS]
    assert one[BLOCK_WORDS:] != two[BLOCK_WORDS:]
    assert prompt_of(request(1, 2), "b").split()[:BLOCK_WORDS] != one[:BLOCK_WORDS]


def test_whole_conversations_are_drawn_in_the_order_of_time() -> None:
    talks = [replace(request(0, talk, *range(turn)), at_seconds=turn) for talk in range(9) for turn in (0, 5)]
    long = [request(0, *range(100, 100 + MOST_BLOCKS))]
    found = chosen(talks + long, 8, seed=3)
    assert [one.at_seconds for one in found] == [0.0] * 4 + [5.0] * 4
    assert {one.blocks[1] for one in found[:4]} == {one.blocks[1] for one in found[4:]}
    assert len(chosen(talks + long, 100, seed=3)) == len(talks)


def test_refusals_count_and_tokens_of_all_make_the_hit_rate() -> None:
    seen = [Seen(100, 50, 10.0), Seen(300, 250, 30.0), Seen(), Seen(100, 0, 20.0)]
    found = figures(seen)
    assert (found["hit_rate"], found["rejects"], found["ttft_p50_ms"]) == (0.6, 1, 20.0)
    assert figures([Seen()])["rejects"] == 1


def test_a_router_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [1]}\n')
    assert main(["--real", "--trace", str(trace), "--router", "no-such-program", "--json"]) != 0
    assert "no-such-program is not there: pip install vllm-router" in capsys.readouterr().err
