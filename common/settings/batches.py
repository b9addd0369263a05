"""Batches of requests."""

from __future__ import annotations

from pydantic import Field

from common.settings.section import Section
from common.units import MIB


class BatchSettings(Section):
    """What a batch may be, and how many of its lines are answered at a time: see docs/design/batches.md."""

    gateway_url: str = Field(
        "",
        pattern=r"^(?:https?://[^\s/]{1,260})?$",
        description="where control reaches a gateway, without a path; empty = at gateway.host. Of a gateway "
        "that speaks TLS the certificate has to be made out for this name",
    )
    max_lines: int = Field(50_000, ge=1, le=1_000_000, description="of one batch")
    max_bytes: int = Field(200 * MIB, ge=1, description="of the file of one batch")
    max_line_bytes: int = Field(MIB, ge=1024, le=16 * MIB, description="of one line")
    lines_at_once: int = Field(
        64, ge=1, le=1024, description="lines of all batches that are under way; projects have equal shares"
    )
    lines_at_once_per_batch: int = Field(32, ge=1, le=1024)
    batches_at_once_per_project: int = Field(2, ge=1, description="that are worked on; others wait for them")
    line_timeout_seconds: float = Field(
        1200.0, gt=0, description="longest wait for the answer to a line, its wait for a turn included"
    )
    max_answer_bytes: int = Field(8 * MIB, ge=1024, le=256 * MIB, description="of the answer to one line")
    tries_per_line: int = Field(
        3, ge=1, le=100, description="answers that engines broke; a line that is told to wait waits on"
    )
    keep_days: float = Field(30.0, gt=0, description="a batch that has ended is listed for so long")
