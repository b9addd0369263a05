"""The chart as Helm renders it, as Python values."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).resolve().parents[3] / "deploy" / "helm" / "computility"
PRESETS = sorted(path.stem for path in (CHART / "values").glob("*.yaml"))
Document = dict[str, Any]


def preset(name: str) -> Document:
    """The values of a preset."""
    found: Document = yaml.safe_load((CHART / "values" / f"{name}.yaml").read_text())
    return found


def merged(*layers: Mapping[str, Any]) -> Document:
    """Values as Helm merges them: later ones win, mappings are merged."""
    result: Document = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, dict) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both and isinstance(old, dict) else value
    return result


@cache
def _chart() -> Any:
    return helm_python.Chart.load(str(CHART))


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """What each template gives, by its path. Raises ``helm_python.HelmError``."""
    rendered: dict[str, str] = _chart().render(dict(values), name="test", namespace="ai")
    return rendered


def render(*layers: Mapping[str, Any]) -> list[Document]:
    """All objects. Raises ``helm_python.HelmError`` for values that the chart does not take."""
    found = []
    for path, text in texts(merged(*layers)).items():
        if path.endswith(".yaml"):
            found += [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]
    return found


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """(kind/name, spec) of each pod that the objects describe."""
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "Pod":
            yield name, document["spec"]
        elif "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]["spec"]


def containers(spec: Document) -> list[Document]:
    """Of a pod, those that initialise among them."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def one(documents: list[Document], kind: str, name: str) -> Document:
    """The object of this kind and name."""
    found = [each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, (kind, name, [(each["kind"], each["metadata"]["name"]) for each in documents])
    return found[0]
