"""The check of one training file, in a process of its own:

    python -m finetune.files.check_file PATH CPU_SECONDS MEMORY_BYTES

Writes the verdict as JSON and ends with 0; with 3 where the memory does not suffice. Whatever a tenant's file
makes of it, it takes no more than it was given, and nothing from the process that asks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from common.errors import Problem
from common.niceness import bind_process
from finetune.core.validate import Validation, check_rows

EXIT_NO_MEMORY = 3
_CHUNK_BYTES = 1024**2


def verdict_of(content: bytes) -> Validation:
    """What the process wrote. Raises ``ValueError``."""
    told = json.loads(content)
    problems = tuple(Problem(**problem) for problem in told["problems"])
    return Validation(int(told["examples"]), problems, int(told["problem_count"]))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    path, cpu_seconds, memory_bytes = arguments
    bind_process(float(cpu_seconds), int(memory_bytes))
    try:
        verdict = check_rows(_chunks(Path(path)))
    except MemoryError:
        return EXIT_NO_MEMORY
    print(json.dumps(asdict(verdict)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
