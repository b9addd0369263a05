"""Documents as a hostile or careless member would write them: some right, some spoiled, some huge."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from common.resources.meta import API_VERSION

Document = dict[str, Any]

ODD_TEXTS = (
    "",
    " ",
    "a\tb",
    "nl\n",
    "nul\0",
    "\x1b[2J",
    "\u202etxt.exe",
    "x" * 64,
    "x" * 5_000,
    "../../etc/passwd",
    "$(HOME_DIR)/../x",
    "--config",
    "日本語",
    "{{7*7}}",
    "';--",
)
ODD_NUMBERS: tuple[Any, ...] = (-1, 0, 2**31, 2**63, 10**30, 10**400, 1.5, "1", True, None, [], {})
LARGE_CHARACTERS = 1_000_000


def endpoint(dice: random.Random, project: str) -> Document:
    """An Endpoint with a few fields at random."""
    spec: Document = {"model": f"model-{dice.randrange(30)}"}
    fields: dict[str, Callable[[], Any]] = {
        "servedName": lambda: _text(dice),
        "replicas": lambda: dice.choice((0, 1, 2, 1024, 10**9)),
        "queue": lambda: dice.choice(("default", "hostile", "no-such-queue")),
        "priority": lambda: dice.choice((0, 5, 10**6, 10**9, -(10**9))),
        "shared": lambda: dice.random() < 0.3,
        "engine": lambda: dice.choice(({"args": ["--trust-remote-code"]}, {"maxContextTokens": 16})),
        "devices": lambda: _devices(dice),
    }
    for name in dice.sample(sorted(fields), dice.randint(0, 4)):
        spec[name] = fields[name]()
    return _resource("Endpoint", _name(dice, "endpoint"), project, spec)


def model(dice: random.Random, project: str) -> Document:
    """A Model whose source leads nowhere, to a folder of others, or out of the home."""
    sources = (
        "nobody/none",
        "$(HOME_DIR)/models/tiny-llama",
        f"$(HOME_DIR)/models/{project}/mine",
        "$(HOME_DIR)/models/../state.db",
        "/etc/passwd",
        _text(dice),
    )
    spec = {"source": dice.choice(sources), "shared": dice.random() < 0.2}
    return _resource("Model", _name(dice, "model"), project, spec)


def of_another_kind(dice: random.Random, project: str) -> Document:
    """A kind that members do not write, or a project of their tenant."""
    kind, spec = dice.choice(
        (
            ("Queue", {"defaultPriority": 10**6}),
            ("Tenant", {}),
            ("Price", {"effectiveFrom": "2020-01-01T00:00:00Z", "items": []}),
            ("Workload", {"roles": [{"name": "main", "command": ["id"]}]}),
            ("Adapter", {"model": "tiny", "servedName": "ft:tiny", "path": "/"}),
            ("Node", {"cordoned": True}),
        )
    )
    found = _resource(kind, _name(dice, kind.lower()), project, dict(spec))
    if kind in ("Queue", "Tenant", "Price", "Node"):
        del found["metadata"]["project"]
    return found


def large(dice: random.Random, project: str) -> Document:
    """A Model with a long annotation, many labels or a long list."""
    found = model(dice, project)
    shape = dice.randrange(3)
    if shape == 0:
        found["metadata"]["annotations"] = {"note": "x" * LARGE_CHARACTERS}
    elif shape == 1:
        found["metadata"]["labels"] = {f"label-{number}": "x" for number in range(20_000)}
    else:
        found = endpoint(dice, project)
        found["spec"]["devices"] = {"models": [f"M{number}" for number in range(50_000)]}
    return found


def spoiled(dice: random.Random, document: Document) -> Document:
    """The document with one leaf, or the place of one, replaced by something odd."""
    place: Any = document
    while True:
        key = dice.choice(sorted(place)) if isinstance(place, dict) and place else None
        if key is None:
            return document
        below = place[key]
        if not isinstance(below, dict) or not below or dice.random() < 0.3:
            place[key] = dice.choice((*ODD_NUMBERS, *ODD_TEXTS))
            return document
        place = below


def _resource(kind: str, name: str, project: str, spec: Document) -> Document:
    metadata = {"name": name, "project": project}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _name(dice: random.Random, stem: str) -> str:
    return f"{stem}-{dice.randrange(30)}" if dice.random() < 0.8 else _text(dice)


def _text(dice: random.Random) -> str:
    return dice.choice(ODD_TEXTS) if dice.random() < 0.5 else f"name-{dice.randrange(30)}"


def _devices(dice: random.Random) -> Document:
    name = dice.choice(("count", "memoryBytes", "cpuMillis", "hostMemoryBytes", "tflops", "shareMillis"))
    return {"vendors": ["cpu"], name: dice.choice((1, 2, *ODD_NUMBERS))}
