"""Requests with prompts that share beginnings, from a Mooncake trace: as many copies as a pool needs."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Literal

from common.errors import InvalidInput
from scheduler.sim.tables import open_text

BLOCK_TOKENS = 512
"""Of a block that an id of the trace stands for."""
TOKEN_BYTES = 4
BATCH_SECONDS = 3.0
"""Between two batches of the trace: requests of one time stamp are spread so far."""
Part = Literal["first", "second", "all"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``blocks``: ids of the blocks of its prompt, each standing for all before it, too."""

    at_seconds: float
    tenant: int
    blocks: tuple[int, ...]
    prompt_tokens: int
    answer_tokens: int

    @property
    def prompt(self) -> bytes:
        """A text for it as the gateway has it: equal ids are equal texts."""
        texts = b"".join(_text(self.tenant, block) for block in self.blocks)
        return b'{"messages":[{"role":"user","content":"' + texts[: self.prompt_tokens * TOKEN_BYTES] + b'"}]'


def _text(tenant: int, block: int) -> bytes:
    digest = blake2b(b"%d/%d" % (tenant, block), digest_size=64).hexdigest().encode()
    return digest * (BLOCK_TOKENS * TOKEN_BYTES // len(digest))


def read_trace(path: Path, part: Part = "all", seconds: float = float("inf")) -> list[Request]:
    """The first ``seconds`` of a part of a trace, by time: JSONL with ``timestamp`` (ms), ``input_length``,
    ``output_length`` and ``hash_ids``.

    ``InvalidInput`` that names the line where it is none.
    """
    found: list[Request] = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                one = json.loads(line)
                ids, prompt = tuple(int(id_) for id_ in one["hash_ids"]), int(one["input_length"])
                request = Request(one["timestamp"] / 1000, 0, ids, prompt, int(one["output_length"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInput(f"{path.name}, line {number}: {error!r}", param=f"line {number}") from None
            if len(ids) != -(-prompt // BLOCK_TOKENS):
                raise InvalidInput(
                    f"{path.name}, line {number}: hash_ids do not fit input_length", param="hash_ids"
                )
            found.append(request)
    if not found:
        raise InvalidInput(f"{path.name} has no requests", param="trace")
    found.sort(key=lambda request: request.at_seconds)
    middle = (found[0].at_seconds + found[-1].at_seconds) / 2
    if part != "all":
        found = [one for one in found if (one.at_seconds < middle) == (part == "first")]
    return [one for one in _spread(found) if one.at_seconds < seconds]


def prompt_tokens_per_second(requests: Sequence[Request]) -> float:
    return sum(one.prompt_tokens for one in requests) / max(1.0, requests[-1].at_seconds)


def _spread(requests: Sequence[Request]) -> list[Request]:
    """Requests of one time stamp follow each other evenly until the next batch; time begins at 0."""
    found: list[Request] = []
    for at, batch in groupby(requests, key=lambda request: request.at_seconds):
        same = list(batch)
        for number, one in enumerate(same):
            when = at - requests[0].at_seconds + BATCH_SECONDS * number / len(same)
            found.append(_moved(one, when, 0))
    return sorted(found, key=lambda request: request.at_seconds)


def copies(requests: Sequence[Request], factor: float, seed: int) -> list[Request]:
    """``factor`` times the load: so many tenants ask the same at other times, each with texts of its own."""
    count = max(1, math.ceil(factor))
    pace, draw = factor / count, random.Random(seed)
    found = [
        _moved(one, one.at_seconds / pace + late, tenant)
        for tenant in range(count)
        for late in [draw.uniform(0, 60)]
        for one in requests
    ]
    return sorted(found, key=lambda request: (request.at_seconds, request.tenant))


def _moved(one: Request, at_seconds: float, tenant: int) -> Request:
    return Request(at_seconds, tenant, one.blocks, one.prompt_tokens, one.answer_tokens)
