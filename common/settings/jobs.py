"""Tenants' own work."""

from __future__ import annotations

from pydantic import Field

from common.settings.section import Section
from common.units import GIB, MIB


class JobsSettings(Section):
    """What Jobs may, and how much one may take: see docs/design/jobs.md."""

    allow_unconfined: bool = Field(
        False,
        description="Jobs also run on nodes where no cell can be made (see docs/design/sandbox.md); there "
        "they are the platform's user and see all that it sees",
    )
    allow_network: bool = Field(
        False,
        description="Jobs may ask for the node's network, and have several replicas, which need it; they "
        "reach whatever their node reaches",
    )
    max_folder_bytes: int = Field(
        4 * GIB, ge=1, description="of one Job's folder with all that it writes there; more ends it"
    )
    max_folder_files: int = Field(100_000, ge=1, description="the same, in files and folders")
    max_processes: int = Field(
        16_384,
        ge=16,
        description="processes and threads of one rank of a Job; holds in cells only, and not where the "
        "platform runs as root",
    )
    max_chores: int = Field(
        2, ge=1, description="folders that are unpacked, measured or kept at once, one of a project"
    )
    chore_seconds: int = Field(300, ge=1, description="of CPU time for one of these")
    chore_memory_bytes: int = Field(512 * MIB, ge=128 * MIB, description="address space of one of these")
