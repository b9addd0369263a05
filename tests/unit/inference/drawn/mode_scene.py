"""Engines whose passes take simple times, fleets and requests, drawn so that equal values are common."""

import random
from collections.abc import Sequence
from typing import Any

from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage
from inference.core.mode.traffic import Profile, ServedRequest
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.options import Slo
from inference.core.performance.steps import Engine, NotKnown, PerformanceSource
from inference.core.performance.supply import Supply
from tests.fixtures.performance_scene import LLAMA_8B, shape, supply

FAST, SLOW = supply("H100-SXM", 8, price=10**6), supply("L40S", 8, price=4 * 10**5)
UNPRICED = supply("A100-SXM4-80GB", 8)
STRANGE = Supply(DeviceFigures("cpu/Xeon", "Xeon"), "cpu", (8,), connector="NixlConnector")
DEAF = Supply(FAST.figures, "nvidia", (8,))
SUPPLIES = (FAST, FAST, SLOW, SLOW, UNPRICED, DEAF, STRANGE)
LAYOUTS = (Layout(), Layout(), Layout(2), Layout(1, 2))


class Simple:
    """Passes in whole milliseconds. ``asked``: all that it was asked."""

    source = "simple"

    def __init__(self, slower: float, asked: list[tuple[Any, ...]]) -> None:
        self._slower, self._asked = slower, asked

    def prefill_ms(self, prompts: int, prompt_tokens: int) -> float:
        self._asked.append(("prefill", prompts, prompt_tokens))
        return self._slower * (4 + prompts * prompt_tokens // 16)

    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        self._asked.append(("decode", sequences, context_tokens))
        return self._slower * (8 + sequences // 4 + context_tokens // 512)

    def mixed_ms(self, prefill_tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        self._asked.append(("mixed", prefill_tokens, prompt_tokens, sequences, context_tokens))
        return self._slower * (16 + prefill_tokens // 16 + sequences // 4 + context_tokens // 512)


class Source:
    """Knows what has figures. ``asked`` has the engines and what was asked of each."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def steps(self, engine: Engine) -> Simple:
        self.asked.append((engine.device.name, str(engine.layout)))
        if engine.device.missing:
            raise NotKnown(f"{engine.device.name} has no {engine.device.missing}")
        return Simple(2.0 if engine.device.name == "L40S" else 1.0, self.asked)


class Ignorant:
    """Asked first, knows one layout only, and of that not every pass."""

    def steps(self, engine: Engine) -> Simple:
        if engine.layout.tensor == 1:
            raise NotKnown("nothing is known of one device")
        return _Rough(3.0, [])


class _Rough(Simple):
    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        if context_tokens > 1:
            raise NotKnown("nothing is known of long contexts")
        return super().decode_ms(sequences, context_tokens)


def stage(source: Source, rng: random.Random) -> Stage:
    """Most know all that has figures."""
    usual: list[PerformanceSource] = [source]
    ignorant: list[PerformanceSource] = [Ignorant(), source]
    sources = [usual] * 6 + [ignorant] * 2 + [[]]
    return Stage(shape(LLAMA_8B), rng.choice(sources))


def group(rng: random.Random, of: Sequence[Supply] = SUPPLIES) -> EngineGroup:
    engines = rng.choice((1, 2, 2, 3, 4, 8))
    readers = min(engines, rng.choice((0, 0, 0, 1, 2)))
    return EngineGroup(rng.choice(of), rng.choice(LAYOUTS), engines, readers)


def fleet(rng: random.Random, of: Sequence[Supply] = SUPPLIES) -> Fleet:
    """Of one or two groups, seldom more."""
    groups = tuple(group(rng, of) for _ in range(rng.choice((1, 1, 2, 3))))
    return Fleet(groups, rng.choice((0, 512, 1024, 2048)))


def served(rng: random.Random, most: int) -> list[ServedRequest]:
    """In the order in which they began; some together."""
    found, at = [], rng.choice((0.0, 100.0))
    lengths = rng.choice(((1, 8), (100, 512, 1024, 2048), (511, 512, 513), (9000, 20_000)))
    for _ in range(rng.randrange(most + 1)):
        at += rng.choice((0.0, 0.0, 0.125, 0.5, 2.0))
        prompt = rng.choice(lengths)
        cached = rng.choice((0, 0, prompt // 2, prompt - 1, prompt))
        found.append(ServedRequest(at, at + rng.choice((0.0, 1.0)), prompt, rng.choice((1, 2, 30)), cached))
    return found


def profile(rng: random.Random) -> Profile:
    return Profile(
        rng.choice((0.0, 1e-7, 0.5, 2.0, 8.0)),
        rng.choice((1, 100, 1000, 4096)),
        rng.choice((1, 2, 100, 333)),
        rng.choice((0.0, 0.0049, 0.005, 0.25, 0.9999)),
        rng.choice((1, 40)),
    )


def slo(rng: random.Random) -> Slo:
    return Slo(rng.choice((None, 0.0, 250.0, 1000.0)), rng.choice((None, 8.0, 10.8, 20.0, 40.0)))
