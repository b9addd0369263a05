"""How much harm it does when data get out, and where data of a class may go."""

from __future__ import annotations

from typing import Literal, cast, get_args

DataClass = Literal["public", "internal", "confidential", "regulated"]
"""From what everybody may know to what a law protects."""
DATA_CLASSES: tuple[DataClass, ...] = get_args(DataClass)
"""The least first."""
UNCLASSIFIED: DataClass = "internal"
"""What data are whose class nobody has told."""
_RANKS: dict[str, int] = {name: rank for rank, name in enumerate(DATA_CLASSES)}


def class_of(text: str) -> DataClass | None:
    """The class of that name; None where there is none."""
    return cast(DataClass, text) if text in _RANKS else None


def highest(*classes: DataClass | None) -> DataClass:
    """The class that binds where several were told; ``UNCLASSIFIED`` where none was."""
    told = [one for one in classes if one is not None]
    return max(told, key=_RANKS.__getitem__) if told else UNCLASSIFIED


def is_within(data: DataClass, most: DataClass) -> bool:
    """Whether data of the class may go where ``most`` is the highest class that may."""
    return _RANKS[data] <= _RANKS[most]
