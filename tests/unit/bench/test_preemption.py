"""The bench that plays many random worlds."""

import pytest

from bench.preemption import main, play


def test_a_world_is_played_from_its_seed() -> None:
    seed, tally, wrong = play(7)
    assert (seed, wrong, tally.worlds, tally.worlds_ended) == (7, "", 1, 1)
    assert tally.is_good


def test_no_worlds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--worlds", "0"])
    assert "--worlds: must be 1 or more" in capsys.readouterr().err
