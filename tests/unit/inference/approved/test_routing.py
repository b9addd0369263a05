"""Which replica gets a request, and why, in drawn courses of a gateway is what was approved."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.core.routing.blocks import KIB, block_keys, partition, session_key
from inference.core.routing.breaker import Breaker
from inference.core.routing.index import PrefixIndex
from inference.core.routing.report import EngineReport, read_report
from inference.core.routing.router import Decision, Router, Sent
from inference.core.routing.views import EVEN, Ask, Group, Weights
from tests.fixtures import approving as approved

TEXT = random.Random(1).randbytes(64 * KIB)
LENGTHS = (0, 1, 255, 256, 257, 1000, 4 * KIB, 5 * KIB, 16 * KIB, 21 * KIB, 40 * KIB)
STEPS = 40


def _ask(rng: random.Random) -> Ask:
    """Prompts that begin alike, or not, of two tenants."""
    common = rng.choice((0, 0, 256, 1024, 6 * KIB, 30 * KIB))
    rest = rng.choice(LENGTHS)
    prompt = TEXT[:common] + bytes([rng.randrange(3)]) * rest
    start = b"" if rng.random() < 0.1 else partition(b"secret", rng.choice(("acme", "bots")), "m")
    return Ask(memoryview(prompt), start, rng.choice(("", "", "a", "b", "c")), rng.choice(("", "", "s", "t")))


def _weights(rng: random.Random) -> Weights:
    drawn = (rng.choice((0.0, 1.0, 1.0, 2.0)) for _ in range(6))
    return EVEN if rng.random() < 0.7 else Weights(*drawn)


def _report(rng: random.Random) -> EngineReport | None:
    if rng.random() < 0.15:
        return None
    tokens = rng.choice((None, None, 100, 2000, 20_000))
    return EngineReport(
        rng.randrange(12), rng.choice((0.0, 0.5, 0.9, 0.95, 1.0)), tokens, rng.choice("11112")
    )


def _said(decision: Decision, read: bool) -> str:
    """The choice; ``read`` shows what all that were looked at would cost."""
    row = decision.row
    told = f"{decision.view.name} {decision.reason} {row.cached_bytes} {approved.told(row.total)}"
    rows = [f"{one.view.name} {one.cached_bytes} {approved.told(one.parts)}" for one in decision.rows]
    return f"{told} of {'; '.join(rows) if read else approved.digest(str(rows))}"


class Course:
    """A gateway's life with some replicas."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = [f"r{number}" for number in range(rng.choice((1, 2, 3, 4, 6, 40)))]
        self.router = Router(rng.choice((60, 600, 256 * KIB)))
        self.open: list[Sent] = []
        self.now = 0.0
        self.lines: list[str] = []
        self.group = self._group()

    def _group(self) -> Group:
        group = self.router.group([*self.names, self.names[0]])
        for view in group.members:
            view.adapter_slots = self.rng.choice((0, 1, 2))
        return group

    def play(self) -> list[str]:
        for _ in range(STEPS):
            self.now += self.rng.choice((0.0, 0.5, 1.0, 5.0))
            self.rng.choice(
                (self._choose, self._choose, self._choose, self._go_on, self._tell, self._trouble)
            )()
            if self.rng.random() < 0.03:
                self._change()
        self.lines += [approved.told(view) for view in self.group.members]
        self.lines.append(f"known {sorted(self.router.views)}")
        return self.lines

    def _choose(self) -> None:
        rng, ask = self.rng, _ask(self.rng)
        tried = rng.sample(self.names, rng.randrange(len(self.names) + 1)) if rng.random() < 0.15 else []
        decision = self.router.choose(self.group, ask, self.now, _weights(rng), (*tried, "unknown"))
        if decision is None:
            self.lines.append("nobody")
            return
        self.lines.append(_said(decision, len(self.names) < 4))
        self.open.append(self.router.send(self.group, ask, decision))

    def _go_on(self) -> None:
        for sent in self.rng.sample(self.open, min(len(self.open), 2)):
            (sent.answering if self.rng.random() < 0.4 else sent.end)()
        if self.rng.random() < 0.3 and self.open:
            self.open.pop(0).end()

    def _tell(self) -> None:
        self.router.told(self.router.view(self.rng.choice(self.names)), _report(self.rng))

    def _trouble(self) -> None:
        view = self.router.view(self.rng.choice(self.names))
        kind = self.rng.random()
        if kind < 0.5:
            for _ in range(self.rng.choice((1, 3, 5))):
                self.router.failed(view, self.now)
        elif kind < 0.7:
            self.router.succeeded(view)
        elif kind < 0.8:
            self.router.rest(view, self.now)
        elif kind < 0.9:
            self.router.lost(view)

    def _change(self) -> None:
        """Some replicas are there no more, others are new."""
        self.names = [name for name in self.names if self.rng.random() < 0.8] or ["r0"]
        self.names += [f"n{self.rng.randrange(3)}"]
        self.router.keep_only(self.names)
        self.group = self._group()


def _course(rng: random.Random) -> str:
    return "\n".join(Course(rng).play())


def _index(rng: random.Random) -> str:
    """What an index of bounded memory still has of prompts and sessions."""
    index = PrefixIndex(rng.choice((8, 40, 400)))
    prompts = [tuple(rng.randrange(50) for _ in range(rng.choice((1, 3, 12, 60)))) for _ in range(4)]
    lines = []
    for _ in range(30):
        replica, keys = rng.randrange(5), tuple(dict.fromkeys(rng.choice(prompts)[: rng.choice((1, 5, 60))]))
        kind = rng.random()
        if kind < 0.8:
            index.note(replica, keys, rng.choice((None, None, 900, 901)))
        elif kind < 0.9:
            index.limit(replica, rng.choice((None, 0, 256, 2560, 10_000)))
        else:
            index.forget(replica)
        levels = [(depth, f"{mask:b}") for depth, mask in index.levels(keys, rng.choice((31, 31, 6)))]
        read = [index.read_bytes(one) for one in range(5)]
        lines.append(f"{len(index)} {levels} {read} {index.holders(900):b} {index.holders(keys[0]):b}")
    return "\n".join(lines)


def _keys(rng: random.Random) -> str:
    """The keys of a prompt, and of a session."""
    start = partition(rng.choice((b"one", b"two")), *rng.choice((("a", "bc"), ("ab", "c"), ("é", ""))))
    size = rng.choice((*LENGTHS, 64 * KIB, 17 * 64 * KIB))
    keys = block_keys(memoryview((TEXT * 17)[:size]), start)
    ask = Ask(memoryview(TEXT[:1000]), start, "", rng.choice(("", "s")))
    return f"{start.hex()} {keys} {session_key(rng.choice('st'), start)} {ask.keys} {ask.session}"


PAGE = (
    "# HELP vllm:num_requests_running Number of requests in model execution batches.",
    'vllm:num_requests_running{engine="0",model_name="m"} 3.0',
    'vllm:num_requests_running{engine="1",model_name="m"} 2.0',
    'vllm:num_requests_waiting{engine="0",model_name="m"} 1.0',
    'vllm:num_requests_waiting_by_reason{reason="capacity"} 7.0',
    "vllm:num_requests_waiting 4e1",
    'vllm:kv_cache_usage_perc{engine="0"} 0.25',
    'vllm:kv_cache_usage_perc{engine="1"} 0.5',
    "vllm:kv_cache_usage_perc{} 1.5",
    "vllm:kv_cache_usage_perc -0.5",
    "vllm:num_requests_running -9e9",
    "vllm:num_requests_running 1e999",
    "vllm:num_requests_running e",
    "vllm:kv_cache_usage_perc .",
    "process_start_time_seconds 1.7e+09",
    "process_start_time_seconds{} 5",
    'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0',
    'vllm:cache_config_info{engine="1",num_gpu_blocks="50",block_size="16"} 1.0',
    'vllm:cache_config_info{block_size="None",num_gpu_blocks="100"} 1.0',
    'vllm:cache_config_info{block_size="16",cpu_num_gpu_blocks="9"} 1.0',
)


def _page(rng: random.Random) -> str:
    """What an engine's page tells."""
    likely = [PAGE[1], PAGE[3], PAGE[6]] if rng.random() < 0.7 else []
    lines = likely + rng.sample(PAGE, rng.randrange(6))
    return approved.told(read_report("\n".join(lines) + rng.choice(("", "\n"))))


def _breaker(rng: random.Random) -> str:
    """Until when a replica is left alone."""
    breaker, told, now = Breaker(), [], 0.0
    for _ in range(rng.randrange(1, 20)):
        now += rng.choice((0.0, 0.5, 1.0, 20.0))
        what = rng.choice((breaker.failed, breaker.failed, breaker.failed, breaker.rest))
        breaker.succeeded() if rng.random() < 0.1 else what(now)
        told.append(
            (breaker.failures, breaker.open_until_seconds, breaker.allows(now), breaker.allows(now + 1))
        )
    return str(told)


RULES: dict[str, tuple[Callable[[random.Random], str], int, int]] = {
    "courses": (_course, 150, 1),
    "indexes": (_index, 200, 1),
    "keys": (_keys, 60, 2),
    "reports": (_page, 1000, 6),
    "breakers": (_breaker, 100, 2),
}


@pytest.mark.parametrize("name", RULES)
def test_requests_are_routed_as_approved(name: str) -> None:
    ask, draws, read = RULES[name]
    answers = [ask(random.Random(seed)) for seed in range(draws)]
    approved.check(Path(__file__).with_name("routing.txt"), {name: approved.kept(answers, read)})
