"""Look for bytes that break a reader: ``python -m tests.fuzz.run bodies -max_total_time=60``.

What follows the target's name goes to libFuzzer (``-help=1`` lists it). Needs the extra ``fuzz``.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

with atheris.instrument_imports(include=["inference", "billing", "common"]):
    from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.run <{'|'.join(TARGETS)}> [options of libFuzzer]")
    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS[name]):
            text = json.dumps(seed, separators=(",", ":"))
            content = f"data: {text}\n\n" if name == "stream" else text
            (Path(folder) / str(number)).write_text(content)
        atheris.Setup([sys.argv[0], *sys.argv[2:], folder], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
