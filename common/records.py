"""Records that are made for each request: type checkers hold them frozen, at run time they are not.

A frozen dataclass sets each of its fields through ``object.__setattr__``, which makes it five times as dear
to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

_T = TypeVar("_T")

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool) -> Callable[[type[_T]], type[_T]]:
        """A dataclass with slots; with a hash where it is ``frozen``."""
        return dataclass(slots=True, unsafe_hash=frozen)


__all__ = ["record"]
