"""Which mutants are tried: drawn by a seed, so that a change elsewhere hardly alters the draw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.mutants.operators import Mutant, mutants_of

EQUIVALENT_FILE = Path(__file__).with_name("equivalent.txt")


def mutants_in(root: Path, wanted: Iterable[str]) -> Iterator[Mutant]:
    """All mutants of the Python files at or under these paths."""
    for name in wanted:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield from mutants_of(file.relative_to(root).as_posix(), file.read_bytes())


def drawn(root: Path, mutants: Iterable[Mutant], size: int, seed: int, left_out: set[str]) -> list[Mutant]:
    """So many of them (all of them for 0), none that is left out or that is no Python any more."""

    def rank(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.key}".encode()).digest()

    chosen: list[Mutant] = []
    sources: dict[str, bytes] = {}
    for mutant in sorted(mutants, key=rank):
        source = sources.setdefault(mutant.path, (root / mutant.path).read_bytes())
        if mutant.key not in left_out and mutant.compiles(source):
            chosen.append(mutant)
            if len(chosen) == size:
                break
    return chosen


def equivalents(file: Path = EQUIVALENT_FILE) -> dict[str, str]:
    """Mutants that change no behaviour, with the reason: a line each, ``key -- reason``; # starts a comment.

    Raises ``ValueError`` for a line without a reason.
    """
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            key, divider, reason = line.partition(" -- ")
            if not divider or not reason.strip():
                raise ValueError(f"{file.name}: give the reason after ' -- ': {line}")
            found[key.strip()] = reason.strip()
    return found


def gone(mutants: Iterable[Mutant], listed: Iterable[str]) -> list[str]:
    """The listed keys that no mutant has any more."""
    return sorted(set(listed) - {mutant.key for mutant in mutants})
