"""The schemas of the kinds as a file beside this one, because to load the kinds themselves takes longer than
to explain a field. ``make schemas`` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]
FILE = Path(__file__).with_suffix(".json")


@cache
def kind_schemas() -> dict[str, Schema]:
    """Kind -> its JSON schema."""
    schemas: dict[str, Schema] = json.loads(FILE.read_text())
    return schemas


def made() -> str:
    """What the file is to hold."""
    from common.resources import KINDS

    schemas = {kind: resource.model_json_schema(by_alias=True) for kind, resource in KINDS.items()}
    return json.dumps(schemas, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(made())
