"""How answers may be asked for; without what it takes to show them."""

from __future__ import annotations

from enum import StrEnum


class Output(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    WIDE = "wide"
    YAML = "yaml"
    JSON = "json"
