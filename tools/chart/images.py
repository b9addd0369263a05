"""All images that the presets run, for sites that have to fetch them beforehand."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

_IMAGE = re.compile(r"^\s*(?:- )?image: [\"']?([^\s\"']+)", re.MULTILINE)
_ANNOTATION = re.compile(r"  artifacthub\.io/images: \|\n(?:    .*\n)*")


def images_of(chart: Path) -> list[str]:
    """Sorted names of all images that the presets run."""
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        # Without the schema, which may be an old one.
        copy = shutil.copytree(
            chart, Path(folder) / chart.name, ignore=shutil.ignore_patterns("values.schema.json")
        )
        loaded = helm_python.Chart.load(str(copy))
    production = yaml.safe_load((chart / "values" / "production.yaml").read_text())
    with loaded:
        for preset in sorted((chart / "values").glob("*.yaml")):
            values = laid_over(production, yaml.safe_load(preset.read_text()))
            registry = values.get("global", {}).get("imageRegistry", "")
            rendered = loaded.render(values, name="computility", namespace="computility")
            for text in rendered.values():
                found |= {name.removeprefix(f"{registry}/") for name in _IMAGE.findall(text)}
    return sorted(found)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Helm lays one file over another: mappings are merged, all else is replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = laid_over(old, value) if both and isinstance(old, Mapping) else value
    return result


def listed(images: list[str]) -> str:
    """The text of images.txt."""
    return "".join(f"{image}\n" for image in images)


def annotated(chart_file: str, images: list[str]) -> str:
    """Chart.yaml with the images in its annotation. Raises ``ValueError`` where that is missing."""
    lines = "".join(f"    - name: {_short(image)}\n      image: {image}\n" for image in images)
    text, count = _ANNOTATION.subn(f"  artifacthub.io/images: |\n{lines}", chart_file)
    if count != 1:
        raise ValueError("Chart.yaml lacks the annotation artifacthub.io/images")
    return text


def _short(image: str) -> str:
    return re.split("[:@]", image.rsplit("/", 1)[-1])[0]
