"""What answers tell: usage, the names that they bear, and what a Route looks at."""

from __future__ import annotations

import json

from inference.core.apis.wires import WIRES
from inference.core.usage import TokenCounts, UsageMember, with_cached
from inference.gateway.books.bill import Job
from inference.gateway.engines.legs import Answering
from inference.gateway.one_door.passage import AnswerFailed


def counts_of(usage: UsageMember, answering: Answering) -> TokenCounts:
    """What is billed of an answer in one piece."""
    return usage.counts if answering.cached is None else usage.counts.with_cached(answering.cached)


def told_of(answering: Answering) -> bytes | None:
    """The answer in one piece, whose usage tells what is billed."""
    content, usage = answering.call.answer.content, answering.call.answer.usage
    if content is None or usage is None or answering.cached is None:
        return content
    return with_cached(content, usage, answering.cached)


def looked_at(job: Job, content: bytes | None) -> AnswerFailed | None:
    """What a Route finds wrong with the answer in one piece; None for nothing."""
    if job.passage is None or content is None:
        return None
    return job.passage.look_at(WIRES[job.request.api].edited(content, rename(job)))


def rename(job: Job) -> tuple[bytes, bytes] | None:
    """The engine's model member and the client's, where they differ."""
    model = job.passage.model if job.passage is not None else job.route.model
    if job.route.backend_model == model:
        return None
    return _model_member(job.route.backend_model), _model_member(model)


def _model_member(name: str) -> bytes:
    return f'"model":{json.dumps(name, ensure_ascii=False)}'.encode()
