"""The kinds that Kubernetes knows, in one visible table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from common.resources import KINDS, Resource
from common.resources.meta import Model
from operators.crds.specs import ApiKeyManifest, FineTuneManifest


class Column(NamedTuple):
    """What ``kubectl get`` shows; ``wide``: only with ``-o wide``."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    wide: bool = False


class Rule(NamedTuple):
    """A rule of CEL over the whole document, and what it says to whom it refuses."""

    rule: str
    message: str


@dataclass(frozen=True)
class Crd:
    """A kind as Kubernetes knows it. ``spec`` takes the place of the kind's own; ``rules`` are checked by
    servers from 1.25 on, and by control everywhere."""

    kind: str
    short: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    rules: tuple[Rule, ...] = ()
    spec: type[Model] | None = None
    is_namespaced: bool | None = None
    scales: bool = False
    is_observed: bool = False
    """Made by the operator for what joins by itself; its spec says only what somebody wrote into it."""

    @property
    def resource(self) -> type[Resource]:
        return KINDS[self.kind]

    @property
    def plural(self) -> str:
        return self.resource.PLURAL

    @property
    def namespaced(self) -> bool:
        """Whether it lies in a namespace, which stands for a project."""
        if self.is_namespaced is not None:
            return self.is_namespaced
        return self.resource.SCOPE == "project"

    @property
    def spec_type(self) -> type[Model]:
        """What its spec is."""
        found = self.spec or self.resource.model_fields["spec"].annotation
        if not isinstance(found, type) or not issubclass(found, Model):
            raise TypeError(f"the spec of {self.kind} is no model")
        return found


_SCALING = "self.spec.autoscaling.minReplicas <= self.spec.autoscaling.maxReplicas"

CRDS: tuple[Crd, ...] = (
    Crd("Tenant", ("cten",), (Column("Display", ".spec.displayName"),)),
    Crd(
        "Project",
        ("cproj",),
        (Column("Tenant", ".spec.tenant"),),
        (
            Rule(
                "self.spec.tenant == oldSelf.spec.tenant",
                "spec.tenant: a project cannot move to another tenant",
            ),
        ),
    ),
    Crd(
        "Queue",
        ("cq",),
        (
            Column("Parent", ".spec.parent"),
            Column("Weight", ".spec.weight", "integer"),
            Column("Pending", ".status.pending", "integer"),
            Column("Running", ".status.running", "integer"),
            Column("Devices", ".status.devicesInUse", "integer"),
        ),
    ),
    Crd("Price", ("cprice",), (Column("Tenant", ".spec.tenant"), Column("From", ".spec.effectiveFrom"))),
    Crd(
        "Budget",
        ("cbudget",),
        (
            Column("Tenant", ".spec.scope.tenant"),
            Column("Project", ".spec.scope.project"),
            Column("Period", ".spec.period"),
            Column("Enforcement", ".spec.enforcement"),
            Column("Spent", ".status.spentPercent", "integer"),
        ),
    ),
    Crd(
        "Guardrail",
        ("cguardrail",),
        (
            Column("Tenant", ".spec.scope.tenant"),
            Column("Project", ".spec.scope.project"),
            Column("Model", ".spec.scope.model"),
            Column("Mandatory", ".spec.mandatory", "boolean"),
        ),
    ),
    Crd(
        "ExternalModel",
        ("cexternal",),
        (
            Column("Provider", ".spec.provider"),
            Column("Region", ".spec.region"),
            Column("Data", ".spec.dataClass"),
            Column("URL", ".spec.url", wide=True),
        ),
    ),
    Crd("Route", ("croute",), (Column("First", ".spec.candidates[0].model"),)),
    Crd(
        "Node",
        ("cnode",),
        (
            Column("Cordoned", ".spec.cordoned", "boolean"),
            Column("Address", ".status.address"),
            Column("Cores", ".status.cpuCores", "integer", wide=True),
            Column("Cluster", ".status.cluster", wide=True),
        ),
        is_observed=True,
    ),
    Crd(
        "Model",
        ("cmodel",),
        (
            Column("Source", ".spec.source"),
            Column("Shared", ".spec.shared", "boolean", wide=True),
            Column("Context", ".status.contextTokens", "integer", wide=True),
        ),
    ),
    Crd(
        "Adapter",
        ("cadapter",),
        (
            Column("Model", ".spec.model"),
            Column("Served", ".spec.servedName"),
            Column("Replicas", ".status.replicas", "integer"),
        ),
    ),
    Crd(
        "Endpoint",
        ("cep",),
        (
            Column("Model", ".spec.model"),
            Column("Serves", ".status.servedName"),
            Column("Mode", ".spec.mode", wide=True),
            Column("Engines", ".status.currentReplicas", "integer"),
            Column("Up", ".status.readyReplicas", "integer"),
        ),
        (
            Rule(
                "!has(self.spec.mode) || self.spec.mode != 'single' || self.spec.replicas <= 1",
                "spec.replicas: mode single has one engine; use replicated",
            ),
            Rule(
                "!has(self.spec.adapters) || self.spec.adapters != 'all' || self.spec.shared",
                "spec.adapters: all needs shared",
            ),
            Rule(
                "!(has(self.spec.prefill) || has(self.spec.decode)) || "
                "(has(self.spec.mode) && self.spec.mode == 'disaggregated')",
                "spec.prefill, spec.decode: need mode: disaggregated",
            ),
            Rule(
                f"!has(self.spec.autoscaling) || {_SCALING}",
                "spec.autoscaling.minReplicas: must not be above maxReplicas",
            ),
        ),
        scales=True,
    ),
    Crd(
        "Workload",
        ("cwl",),
        (
            Column("Queue", ".spec.queue"),
            Column("Phase", ".status.phase"),
            Column("Restarts", ".status.restarts", "integer", wide=True),
            Column("Message", ".status.message", wide=True),
        ),
        (
            Rule(
                "self.spec.roles.all(r, !has(r.minReplicas) || r.minReplicas <= r.replicas)",
                "spec.roles: minReplicas must not be above replicas",
            ),
        ),
    ),
    Crd(
        "Job",
        ("cjob",),
        (
            Column("Phase", ".status.phase"),
            Column("Attempts", ".status.attempts", "integer"),
            Column("Exit", ".status.exitCode", "integer"),
            Column("Message", ".status.message", wide=True),
            Column("Artefacts", ".status.artefacts", wide=True),
        ),
    ),
    Crd(
        "ApiKey",
        ("ckey",),
        (
            Column("Role", ".spec.role"),
            Column("Secret", ".status.secretName"),
            Column("Hint", ".status.hint", wide=True),
        ),
        spec=ApiKeyManifest,
        is_namespaced=True,
    ),
    Crd(
        "FineTune",
        ("cft",),
        (
            Column("Model", ".spec.model"),
            Column("State", ".status.state"),
            Column("Step", ".status.step", "integer"),
            Column("Of", ".status.totalSteps", "integer"),
            Column("Made", ".status.fineTunedModel"),
            Column("Job", ".status.job", wide=True),
        ),
        (
            Rule(
                "has(self.spec.trainingFile) != has(self.spec.trainingData)",
                "spec.trainingFile, spec.trainingData: set one of them",
            ),
            Rule("self.spec == oldSelf.spec", "spec: a job is made once; make another one"),
        ),
        spec=FineTuneManifest,
    ),
)
"""In the order in which documents of several kinds are best applied."""

BY_KIND = {crd.kind: crd for crd in CRDS}
