"""Fine-tuning."""

from __future__ import annotations

from pydantic import Field

from common.settings.section import Section


class TuningSettings(Section):
    """How training files are checked: each in a process of its own, few at a time."""

    max_checks: int = Field(2, ge=1, description="files that are checked at once, one of a project")
    max_waiting_checks: int = Field(
        32, ge=0, description="checks that wait for one that runs; more are refused with 503"
    )
    max_waiting_checks_per_project: int = Field(
        8, ge=0, description="of one project's; more are refused with 429"
    )
    check_timeout_seconds: float = Field(
        120, gt=0, description="of CPU time for one check; by the clock twice as long and 30 s"
    )
    check_memory_bytes: int = Field(512 * 1024**2, ge=128 * 1024**2, description="address space of one check")
    remembered_checks: int = Field(1000, ge=0, description="verdicts kept in memory, by the file's SHA-256")
