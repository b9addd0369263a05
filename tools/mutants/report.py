"""What a run found, as a table or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.mutants.judging import KILLS, Judged


def to_json(found: Sequence[Judged], seed: int, seconds: float) -> dict[str, Any]:
    """``mutants``, ``killed``, ``killed_percent``, the same by package and by operator, and the survivors."""
    return {
        "seed": seed,
        **_counts(found),
        "seconds": round(seconds, 1),
        "packages": _by(found, [judged.mutant.path.partition("/")[0] for judged in found]),
        "operators": _by(found, [judged.mutant.operator for judged in found]),
        "verdicts": dict(Counter(judged.verdict for judged in found)),
        "survivors": [
            {
                "key": judged.mutant.key,
                "place": f"{judged.mutant.path}:{judged.mutant.line}",
                "verdict": judged.verdict,
                "tests": judged.tests,
                "seconds": round(judged.seconds, 1),
            }
            for judged in found
            if judged.verdict not in KILLS
        ],
    }


def show(result: dict[str, Any], *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    console = Console()
    for survivor in result["survivors"]:
        console.print(f"[yellow]{survivor['verdict']}[/] {survivor['place']}", highlight=False)
        console.print(f"    {survivor['key']}", markup=False, highlight=False, soft_wrap=True)
    table = Table("", "mutants", "killed", "%")
    for name, counts in [*result["packages"].items(), ("all", result)]:
        table.add_row(name, *(str(counts[key]) for key in ("mutants", "killed", "killed_percent")))
    console.print(table)


def _counts(found: Sequence[Judged]) -> dict[str, Any]:
    killed = sum(judged.verdict in KILLS for judged in found)
    return {
        "mutants": len(found),
        "killed": killed,
        "killed_percent": round(100 * killed / len(found), 1) if found else 100.0,
    }


def _by(found: Sequence[Judged], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        name: _counts([judged for judged, of in zip(found, names, strict=True) if of == name])
        for name in sorted(set(names))
    }
