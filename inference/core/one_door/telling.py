"""How the way of a request through a Route is told: in a header, in the log and on its bill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.core.one_door.choose import Refused

_TOLD_BYTES = 1024
"""Of the header; what is beyond is left out, from its end."""

_TRIED_CHARACTERS = 256


@dataclass
class Way:
    """``door`` is the name of the Route, empty without one. ``tried``: candidates that did not answer well,
    each with a word why, in their order."""

    door: str
    refused: Sequence[Refused] = ()
    tried: list[tuple[str, str]] = field(default_factory=list)

    def header(self, model: str) -> bytes:
        """What the client is told: who answers, who was asked before, and who could not be."""
        parts = [f"route={self.door}"] if self.door else []
        parts.append(f"model={model}")
        parts += [f"tried={name}:{why}" for name, why in self.tried]
        parts += [f"refused={one.model}:{one.reason}" for one in self.refused]
        told = "; ".join(parts)
        while len(told) > _TOLD_BYTES and len(parts) > 2:
            parts.pop()
            told = "; ".join([*parts, "..."])
        return told.encode("ascii", "replace")

    def names(self) -> dict[str, str]:
        """What a usage event is told from its beginning; nothing where there is no Route."""
        return {"route": self.door} if self.door else {}

    def tried_in_words(self) -> str:
        """Who did not answer, and why; empty where nobody failed."""
        return " ".join(f"{name}:{why}" for name, why in self.tried)[:_TRIED_CHARACTERS]
