"""How long a request waits that finds no engine: what of it is the engine's own start, and what is ours.

``python -m bench.wake --rounds 3`` asks an Endpoint that sleeps, lets it sleep again, and so on. Engines
serve the tiny model on the CPU and are children of control: there is no Ray.
``--stand-in``: engines that start at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from tests.fixtures.elastic_site import CONTROL, Site, engines, scaled, site

PARTS = ("to_process", "engine_start", "to_first_token", "whole", "warm_first_token")


async def first_token_seconds(on: Site) -> float:
    """From the request to its first token."""
    url = f"http://127.0.0.1:{on.settings.gateway.port}/v1"
    began = time.time()
    async with AsyncOpenAI(base_url=url, api_key=on.member, max_retries=0, timeout=600) as client:
        messages: Any = [{"role": "user", "content": "What is a watt?"}]
        stream = await client.chat.completions.create(
            model="tiny", messages=messages, max_tokens=8, stream=True
        )
        first = 0.0
        async for _ in stream:
            first = first or time.time() - began
    return first


def told(on: Site) -> dict[str, float]:
    """When the last engine was started, and when it answered, in seconds since the epoch."""
    lines = (on.settings.home / f"{CONTROL}.log").read_text(errors="replace").splitlines()
    notes = [json.loads(line) for line in lines if line.startswith('{"engine"')]
    return {note["engine"]: note["at_ms"] / 1000 for note in notes}


async def measure(rounds: int, stand_in: bool) -> list[dict[str, float]]:
    """Seconds of each part, round by round."""
    found = []
    with tempfile.TemporaryDirectory(prefix="computility-wake-") as home:
        async with site(Path(home), token_seconds=0.001 if stand_in else None) as on:
            await scaled(on, maxReplicas=1)
            for turn in range(rounds):
                await on.until(engines(0), 120)
                began = time.time()
                whole = await first_token_seconds(on)
                at = told(on)
                values = (
                    at["started"] - began,
                    at["answers"] - at["started"],
                    began + whole - at["answers"],
                    whole,
                    await first_token_seconds(on),
                )
                found.append({part: round(value, 2) for part, value in zip(PARTS, values, strict=True)})
                sys.stderr.write(f"round {turn}: {found[-1]}\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = asyncio.run(measure(options.rounds, options.stand_in))
    medians = {part: statistics.median(one[part] for one in rounds) for part in PARTS}
    if options.json:
        print(json.dumps({"rounds": rounds, "medians": medians}))
        return
    for part, seconds in medians.items():
        print(f"{part.replace('_', ' '):20}{seconds:8.2f} s")


if __name__ == "__main__":
    main()
