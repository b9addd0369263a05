"""The check of the file of one batch, in a process of its own:

    python -m batches.check_file ORDERS

``ORDERS`` is a ``CheckOrders`` as JSON. Writes the verdict as JSON and ends with 0; with 3 where the memory
does not suffice. Whatever a tenant's file makes of it, it takes no more than it was given, and nothing from
the process that asks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from batches.core.line import LineChecks, LineProblem
from common.niceness import bind_process
from finetune.core.lines import numbered_lines
from inference.core.apis.parsing import parse_body
from inference.core.apis.wires import APIS
from inference.core.body import BodyLimits

EXIT_NO_MEMORY = 3
MAX_PROBLEMS = 100
_CHUNK_BYTES = 1024**2


@dataclass(frozen=True)
class CheckOrders:
    """What is to be checked, and what the check may take. ``media_hosts`` and the like are as the gateway has
    them."""

    path: str
    endpoint: str
    max_lines: int
    max_line_bytes: int
    cpu_seconds: float
    memory_bytes: int
    sequences: int
    inputs: int
    values: int
    media_hosts: Sequence[str] = ()


@dataclass(frozen=True)
class Verdict:
    """``problems`` are the first of ``problem_count``; ``model`` is that of the first line."""

    lines: int
    model: str = ""
    problems: Sequence[LineProblem] = field(default=())
    problem_count: int = 0


def verdict_of(content: bytes) -> Verdict:
    """What the process wrote. Raises ``ValueError``."""
    told = json.loads(content)
    problems = [LineProblem(**one) for one in told["problems"]]
    return Verdict(int(told["lines"]), str(told["model"]), problems, int(told["problem_count"]))


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, not all at once."""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def check(chunks: Iterable[bytes], orders: CheckOrders) -> Verdict:
    """All that is wrong with the lines of a file, however many there are."""
    limits = BodyLimits(orders.sequences, orders.inputs, orders.values, tuple(orders.media_hosts))
    api = APIS[orders.endpoint]

    def model_of(raw: bytes) -> str:
        return parse_body(api, raw, limits).model

    checks = LineChecks(orders.endpoint, model_of, MAX_PROBLEMS)
    for line in numbered_lines(chunks, orders.max_line_bytes):
        if line.is_blank:
            continue
        if checks.lines >= orders.max_lines:
            text = f"has more than {orders.max_lines} lines; split it into several batches"
            checks.found(LineProblem("too_many_lines", text))
            break
        checks.look(line.number, line.content, orders.max_line_bytes)
    if not checks.lines:
        checks.found(LineProblem("empty_file", "the file has no line with a request"))
    return Verdict(checks.lines, checks.model, checks.problems, checks.problem_count)


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    orders = CheckOrders(**json.loads(arguments[0]))
    bind_process(orders.cpu_seconds, orders.memory_bytes)
    try:
        verdict = check(read_chunks(Path(orders.path)), orders)
    except MemoryError:
        return EXIT_NO_MEMORY
    print(json.dumps(asdict(verdict)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
