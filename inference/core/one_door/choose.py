"""The candidates of a Route that may answer a request, in the order in which they are asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from common.data_class import DataClass, is_within
from common.weekly import parse_weekly
from inference.core.one_door.asked import Asked

_WHOLE = 2**64


@dataclass(frozen=True)
class When:
    """Which requests a candidate is for; unset = all. ``hours`` are of the Route's clocks."""

    min_prompt_tokens: int | None = None
    max_prompt_tokens: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    data_classes: Collection[DataClass] = ()
    hours: str = ""


@dataclass(frozen=True)
class Outside:
    """That a candidate is a model of others: where, what may go there, and what it can do."""

    region: str
    data_class: DataClass
    tools: bool = True
    vision: bool = False


@dataclass(frozen=True)
class Candidate:
    """One of the models that a Route names. ``known``: there is one, and the Route's project sees it.
    ``apis``: those that it serves. ``outside``: None where engines of the platform serve it. ``price``: of a
    million tokens at most, in micro-credits; None where nobody knows."""

    model: str
    order: int = 0
    weight: int = 1
    when: When = When()
    known: bool = True
    paused: bool = False
    apis: Collection[str] = ("chat",)
    context_tokens: int | None = None
    outside: Outside | None = None
    price: int | None = None
    max_price: int | None = None


@dataclass(frozen=True)
class Refused:
    """A candidate that does not get the request. ``reason``: a word of ``FILTERS``; ``words`` for people."""

    model: str
    reason: str
    words: str


@dataclass(frozen=True)
class Decision:
    """``asked``: candidates in the order in which they are asked until one answers."""

    asked: tuple[Candidate, ...]
    refused: tuple[Refused, ...]


def _known(asked: Asked, one: Candidate, _: int) -> str:
    return "" if one.known else "no such model, or the project of the Route does not see it"


def _paused(asked: Asked, one: Candidate, _: int) -> str:
    return "its Model is paused" if one.paused else ""


def _data_class(asked: Asked, one: Candidate, _: int) -> str:
    if one.outside is None or is_within(asked.data_class, one.outside.data_class):
        return ""
    return f"{asked.data_class} data may not go there, where {one.outside.data_class} is the highest"


def _region(asked: Asked, one: Candidate, _: int) -> str:
    if one.outside is None or asked.regions is None or one.outside.region in asked.regions:
        return ""
    return f"it is in {one.outside.region}, and data may go to {', '.join(sorted(asked.regions)) or 'none'}"


def _api(asked: Asked, one: Candidate, _: int) -> str:
    return "" if asked.api in one.apis else f"it does not serve {asked.api}"


def _tools(asked: Asked, one: Candidate, _: int) -> str:
    if asked.tools and one.outside is not None and not one.outside.tools:
        return "it calls no tools"
    wanted = one.when.tools
    return "" if wanted is None or wanted == asked.tools else f"it is for requests with tools: {_yes(wanted)}"


def _vision(asked: Asked, one: Candidate, _: int) -> str:
    if asked.vision and one.outside is not None and not one.outside.vision:
        return "it takes no images"
    wanted = one.when.vision
    return (
        "" if wanted is None or wanted == asked.vision else f"it is for requests with images: {_yes(wanted)}"
    )


def _context(asked: Asked, one: Candidate, _: int) -> str:
    if one.context_tokens is None or asked.answer_tokens <= one.context_tokens:
        return ""
    return f"its context holds {one.context_tokens} tokens, fewer than the answer may have"


def _length(asked: Asked, one: Candidate, _: int) -> str:
    least, most = one.when.min_prompt_tokens, one.when.max_prompt_tokens
    if least is not None and asked.prompt_tokens < least:
        return f"it is for prompts from {least} tokens on, and this has about {asked.prompt_tokens}"
    if most is not None and asked.prompt_tokens > most:
        return f"it is for prompts of {most} tokens at most, and this has about {asked.prompt_tokens}"
    return ""


def _tags(asked: Asked, one: Candidate, _: int) -> str:
    told = asked.tags or {}
    lacks = [name for name, value in one.when.tags.items() if told.get(name) != value]
    return f"it is for requests with another {lacks[0]}" if lacks else ""


def _classes(asked: Asked, one: Candidate, _: int) -> str:
    classes = one.when.data_classes
    return "" if not classes or asked.data_class in classes else f"it is for {', '.join(classes)} data"


def _hours(asked: Asked, one: Candidate, local_ms: int) -> str:
    hours = one.when.hours
    return "" if not hours or parse_weekly(hours).open_at(local_ms) else f"it is for {hours}"


def _price(asked: Asked, one: Candidate, _: int) -> str:
    if one.max_price is None:
        return ""
    if one.price is None:
        return "it has a highest price, and no price is known"
    if one.price <= one.max_price:
        return ""
    return f"a million of its tokens cost up to {one.price} micro-credits, over {one.max_price}"


Filter = Callable[[Asked, Candidate, int], str]
FILTERS: Mapping[str, Filter] = {
    "unknown": _known,
    "data_class": _data_class,
    "region": _region,
    "paused": _paused,
    "api": _api,
    "tools": _tools,
    "vision": _vision,
    "context": _context,
    "length": _length,
    "tags": _tags,
    "classes": _classes,
    "hours": _hours,
    "price": _price,
}
"""Why a candidate does not get a request, by the word for it: what each says, empty where it may have it. The
first one that says something counts."""
ON_DATA = frozenset({"data_class", "region"})
"""Those that protect data."""


def decide(
    asked: Asked, candidates: Sequence[Candidate], places: Mapping[str, float], local_ms: int
) -> Decision:
    """Filter, then order. ``places``: of each model a number between 0 and 1, as ``place_of`` makes it.
    ``local_ms``: the time on the Route's clocks."""
    refused: list[Refused] = []
    may: list[Candidate] = []
    for one in candidates:
        found = _refusal(asked, one, local_ms)
        if found is None:
            may.append(one)
        else:
            refused.append(found)
    may.sort(key=lambda one: (not _fits(asked, one), one.order, _rank(one, places[one.model]), one.model))
    return Decision(tuple(may), tuple(refused))


def place_of(secret: bytes, door: str, model: str, unit: str) -> float:
    """A number between 0 and 1 that nobody can foretell without the secret: of a ``unit``, which is what
    stays together, at one candidate of a Route."""
    word = f"{door}\0{model}\0{unit}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(word, digest_size=8, key=hashlib.sha256(secret).digest()).digest()
    return (int.from_bytes(digest) + 1) / (_WHOLE + 1)


def _refusal(asked: Asked, one: Candidate, local_ms: int) -> Refused | None:
    for reason, check in FILTERS.items():
        if words := check(asked, one, local_ms):
            return Refused(one.model, reason, words)
    return None


def _rank(one: Candidate, place: float) -> float:
    """Of candidates with equal order the one with the lowest is asked first: each is first as often as its
    weight says, and one unit stays at one of them while their weights are unchanged."""
    return math.inf if not one.weight else -math.log(place) / one.weight


def _fits(asked: Asked, one: Candidate) -> bool:
    """Whether its context holds what is asked, as far as that is known. Where it is a guess that it does not,
    others are asked first."""
    about = 0 if asked.vision else asked.prompt_tokens
    return one.context_tokens is None or about + asked.answer_tokens <= one.context_tokens


def _yes(wanted: bool) -> str:
    return "yes" if wanted else "no"
