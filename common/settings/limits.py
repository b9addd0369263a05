"""What one project may hold and ask for, where neither it nor its tenant has limits of its own."""

from __future__ import annotations

from pydantic import Field

from common.settings.section import Section
from common.units import GIB, MIB
from common.vocabulary import MAX_PRIORITY


class LimitsSettings(Section):
    """Limits of each project, in the names of ``Project.spec.limits``. They bind all but platform-admins, who
    set others in ``Project.spec.limits`` and ``Tenant.spec.limits``."""

    max_priority: int = Field(
        0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="highest priority of an endpoint or job; the default of its queue passes always",
    )
    max_replicas: int = Field(
        32, ge=0, description="of one endpoint or Job; an engine on several nodes is one on each"
    )
    max_total_replicas: int = Field(
        128, ge=0, description="of all endpoints together, counted in the same way: every pass looks at each"
    )
    max_endpoints: int = Field(200, ge=0)
    max_models: int = Field(1000, ge=0)
    max_adapters: int = Field(
        500, ge=0, description="adapters, and jobs that will make one; a job above it is refused"
    )
    max_jobs: int = Field(50, ge=0, description="Jobs that have not ended, and as many fine-tune jobs")
    max_batches: int = Field(20, ge=0, description="batches that have not ended")
    max_files: int = Field(2000, ge=0)
    max_file_bytes: int = Field(20 * GIB, ge=0, description="of all files together")
    max_document_bytes: int = Field(
        32 * MIB, ge=0, description="of all stored resources together, with what controllers make of them"
    )
    max_keys: int = Field(
        200, ge=0, description="keys in force; of a tenant's: those of its admins, which belong to no project"
    )
    max_projects: int = Field(100, ge=0, description="of one tenant, while its admins make them")
