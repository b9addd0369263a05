"""The chart as Helm renders it, as Python values."""

from collections.abc import Iterator, Mapping
from functools import cache, reduce
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tools.chart.images import laid_over

CHART = Path(__file__).resolve().parents[3] / "deploy" / "helm" / "computility"
PRESETS = sorted(path.stem for path in (CHART / "values").glob("*.yaml"))
Document = dict[str, Any]


def preset(name: str) -> Document:
    """The values of a preset; those of vendors are laid over those of production."""
    return _file(name) if name == "evaluation" else laid_over(_file("production"), _file(name))


def _file(name: str) -> Document:
    found: Document = yaml.safe_load((CHART / "values" / f"{name}.yaml").read_text())
    return found


@cache
def _chart() -> Any:
    return helm_python.Chart.load(str(CHART))


def texts(values: Mapping[str, Any], release: str = "test") -> dict[str, str]:
    """What each template gives, by its path. Raises ``helm_python.HelmError``."""
    rendered: dict[str, str] = _chart().render(dict(values), name=release, namespace="ai")
    return rendered


def render(*layers: Mapping[str, Any], release: str = "test") -> list[Document]:
    """All objects. Raises ``helm_python.HelmError`` for values that the chart does not take."""
    found = []
    for path, text in texts(reduce(laid_over, layers), release).items():
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
