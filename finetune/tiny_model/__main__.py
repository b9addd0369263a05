"""The command line of the tiny model.

python -m finetune.tiny_model --out DIR [--steps N] [--seconds 60] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from finetune.tiny_model.make import LIMIT_SECONDS, Recipe, build_tiny_model


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="finetune.tiny_model", description="Make a tiny Llama chat model.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps")
    parser.add_argument("--seconds", type=float, default=LIMIT_SECONDS, help="the longest that it may train")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads to train with")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.threads < 1 or options.steps < 1:
        parser.error("--seconds must be above 0, --steps and --threads at least 1")
    recipe = Recipe(steps=options.steps, seed=options.seed)
    try:
        made = build_tiny_model(
            options.out, recipe, options.seconds, options.threads, progress=sys.stderr.isatty()
        )
    except FileExistsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'made' if made else 'reused'} {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
