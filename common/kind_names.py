"""The names of the kinds, without the kinds: a command line that only asks has no need to load them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

API_VERSION = "computility.io/v1alpha1"
"""The same as ``common.resources.API_VERSION``."""


@dataclass(frozen=True)
class KindName:
    """A kind as people and URLs name it. ``short`` is empty where there is none."""

    kind: str
    plural: str
    scope: Literal["cluster", "project"]
    short: str = ""


KIND_NAMES = (
    KindName("Tenant", "tenants", "cluster"),
    KindName("Project", "projects", "cluster", "proj"),
    KindName("ApiKey", "apikeys", "cluster", "key"),
    KindName("Node", "nodes", "cluster", "no"),
    KindName("Queue", "queues", "cluster", "q"),
    KindName("Workload", "workloads", "project", "wl"),
    KindName("Model", "models", "project", "mo"),
    KindName("Adapter", "adapters", "project", "ad"),
    KindName("Endpoint", "endpoints", "project", "ep"),
    KindName("ExternalModel", "externalmodels", "project", "xm"),
    KindName("Route", "routes", "project", "rt"),
    KindName("Job", "jobs", "project"),
    KindName("FineTune", "finetunes", "project", "ft"),
    KindName("File", "files", "project"),
    KindName("Batch", "batches", "project"),
    KindName("Price", "prices", "cluster"),
    KindName("Budget", "budgets", "cluster", "bu"),
    KindName("Guardrail", "guardrails", "cluster", "gr"),
)
"""In the order of ``common.resources.KINDS``."""
