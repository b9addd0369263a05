"""A hostile tenant on a real `up`: what the others notice of it.

``python -m bench.hostile --minutes 5 --json`` starts the platform with a real engine, lets one tenant chat
alone for a while, then lets a member of another tenant do all it can think of (``attacks.py``) for the given
time while the first goes on. In the end the ledger must equal the engine's counters."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.hostile import world as worlds
from bench.hostile.verdict import Counted, EngineCounter, longest_gap_of, unbilled_tokens
from bench.hostile.watching import Chats, Watched, chat, watch
from common.errors import ComputilityError, mapping_of

ALONE_PART = 0.25
"""Of the time of the attack, the other tenant is measured alone before it."""


def main() -> int:
    """Exit code 0, or that of the error."""
    options = _parser().parse_args()
    try:
        with worlds.running() as world:
            figures = asyncio.run(measure(world, options.minutes * 60, options.seed))
    except ComputilityError as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    if options.json:
        print(json.dumps(figures))
    else:
        _print_table(figures)
    return 0


async def measure(world: worlds.World, seconds: float, seed: int) -> dict[str, Any]:
    """Alone, then under attack, then the bill."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        step = progress.add_task("warming up", total=None)
        await chat(world, min(10.0, seconds * ALONE_PART))
        engine = EngineCounter(world)
        counted = await asyncio.to_thread(Counted.now, world, engine)
        progress.update(step, description="one tenant alone")
        alone = await chat(world, seconds * ALONE_PART)
        progress.update(step, description="the other one attacks")
        attacked, watched, told = await _under_attack(world, engine, seconds, seed)
        progress.update(step, description="the bill")
        unbilled = await asyncio.to_thread(unbilled_tokens, world, engine, counted)
    found = {"unbilled_tokens": unbilled, "engine_restarts": engine.restarts}
    return found | _figures(alone, attacked, watched, told)


async def _under_attack(
    world: worlds.World, engine: EngineCounter, seconds: float, seed: int
) -> tuple[Chats, Watched, dict[str, Any]]:
    ended = asyncio.Event()
    watching = asyncio.create_task(watch(world, ended, engine.look, lambda: longest_gap_of(world)))
    attacking = asyncio.create_task(asyncio.to_thread(_attack, world.target, seconds, seed))
    attacked = await chat(world, seconds)
    told = await attacking
    ended.set()
    return attacked, await watching, told


def _attack(target: worlds.Target, seconds: float, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.hostile.attacker", str(seconds), str(seed)]
    done = subprocess.run(
        command,
        input=target.to_json(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _figures(alone: Chats, attacked: Chats, watched: Watched, told: dict[str, Any]) -> dict[str, Any]:
    return {
        "chat_p99_ratio": round(attacked.p99_ms / alone.p99_ms, 2),
        "longest_pass_gap_seconds": round(watched.longest_pass_gap_seconds, 2),
        "control_rss_mib": round(watched.rss_mib["control"]),
        "gateway_rss_mib": round(watched.rss_mib["gateway"]),
        "foreign_names_seen": sum(told["foreign_names"].values()),
        "chat_p50_ratio": round(attacked.p50_ms / alone.p50_ms, 2),
        "chat_alone_p99_ms": round(alone.p99_ms, 1),
        "chat_attacked_p99_ms": round(attacked.p99_ms, 1),
        "chats": len(attacked.milliseconds),
        "chats_failed": attacked.failed,
        "restarts": watched.restarts,
        **told,
    }


def _print_table(figures: dict[str, Any]) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        if not isinstance(value, dict):
            table.add_row(name, str(value))
    Console().print(table)
    for name in ("server_errors", "foreign_names"):
        for what, count in figures[name].items():
            print(f"{name}: {count} x {what}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the attack goes on")
    parser.add_argument("--seed", type=int, default=1, help="of the attacker's dice")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
