"""One target in a process of its own, under libFuzzer: ``python -m tests.fuzz.child NAME OPTION…``.

The options are libFuzzer's. The process ends when its time is over, or at the first finding.
"""

from __future__ import annotations

import logging
import sys
from random import Random

import atheris
import structlog

_PACKAGES = ["common", "scheduler", "inference", "finetune", "billing", "control"]
_FORM_KEPT = 0.6
"""The part of the changes that know the form of the input; the others are libFuzzer's own."""


def main(name: str, options: list[str]) -> None:
    with atheris.instrument_imports(include=_PACKAGES):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.mutate import mutated
    from tests.fuzz.target import run

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    target = TARGETS[name]

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        chance = Random(seed)
        if chance.random() < _FORM_KEPT:
            return mutated(data, chance, target.words)[:max_size]
        changed: bytes = atheris.Mutate(data, max_size)
        return changed

    def check(data: bytes) -> None:
        run(target, data)

    atheris.Setup([sys.argv[0], *options], check, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
