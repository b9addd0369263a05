"""Labels and annotations of Workloads and Nodes that the platform itself writes and reads."""

from __future__ import annotations

MODEL_LABEL = "computility.io/model"
"""The name of the model that a workload serves or trains."""

IDENTITY_LABEL = "computility.io/model-identity"
"""Which model that is, whatever it is called later: bills go by it."""

KEY_LABEL = "computility.io/key"
"""The API key that asked for the workload; its device time is that key's."""

RESTARTED = "computility.io/restarted-ms"
"""An annotation: after which restart that people asked for (``rollout.restartedMs``) the engine was made."""

DRAINING = "computility.io/draining-since-ms"
"""An annotation: the engine gets no more requests, and goes when it has none."""

SANDBOX_LABEL = "computility.io/sandbox"
"""A label of nodes: ``works`` where cells can be made, else ``missing``."""

KUBERNETES_MARK = "computility.io/kubernetes"
"""An annotation: whose the resource is in Kubernetes, where it is made anew when it is gone here."""
