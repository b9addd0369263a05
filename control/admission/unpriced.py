"""What is sold and would have no price after a price book is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from billing.core.events import UsageEvent
from billing.core.rating import PriceBook, Rates
from billing.store.books import book_of
from common.clock import rfc3339
from common.resources import Endpoint, Model, Price, Project
from common.resources.serving import model_identity
from control.admission.lookup import References
from control.admission.prices import begin_ms, end_ms

MAX_NAMED = 5
"""Models that a warning names."""
_METERS = {
    "prompt_tokens": ("chat", "completions", "embeddings"),
    "completion_tokens": ("chat", "completions"),
}


@dataclass(frozen=True)
class Sold:
    """A Model that an Endpoint serves to a tenant; ``tenant`` empty = to all."""

    tenant: str
    identity: str
    shared: bool
    meters: tuple[str, ...]


async def unpriced_after(price: Price, references: References) -> list[str]:
    """A warning for the book's beginning and its end, where something sold has no price from then on."""
    sold = await _sold(references)
    books = [book_of(one) for one in await references.list(Price)]
    moments = [max(begin_ms(price), references.now_ms)]
    end = end_ms(price)
    if end is not None and end > references.now_ms:
        moments.append(end)
    told = []
    for at_ms in moments:
        names = list(dict.fromkeys(_without_price(sold, books, at_ms)))
        if names:
            more = f" and {len(names) - MAX_NAMED} others" if len(names) > MAX_NAMED else ""
            path = "spec.effectiveUntil" if at_ms == end else "spec.items"
            told.append(
                f"{path}: from {rfc3339(at_ms)} on there is no price for "
                f"{', '.join(names[:MAX_NAMED])}{more}; what is used is recorded, and costs nothing"
            )
    return told


async def _sold(references: References) -> list[Sold]:
    tenants = {project.name: project.spec.tenant for project in await references.list(Project)}
    models = {(model.project, model.name): model for model in await references.list(Model)}
    shared = {model.name: model for model in models.values() if model.spec.shared}
    found: dict[Sold, None] = {}
    for endpoint in await references.list(Endpoint):
        for name in endpoint.spec.models:
            model = models.get((endpoint.project, name)) or shared.get(name)
            if model is not None:
                tenant = "" if endpoint.spec.shared else tenants.get(endpoint.project or "", "")
                meters = tuple(
                    m for m, tasks in _METERS.items() if not set(tasks).isdisjoint(model.spec.tasks)
                )
                identity = model_identity((model.project, model.name))
                found[Sold(tenant, identity, model.spec.shared, meters)] = None
    return list(found)


def _without_price(sold: Sequence[Sold], books: Sequence[PriceBook], at_ms: int) -> Iterator[str]:
    """``meter of model`` of what no book in force has. An item for some device class, adapter, tier or hours
    counts as a price."""
    rates = Rates(books)
    has = {id(book): {(item.meter, item.model) for item in book.items} for book in books}
    for one in sold:
        event = UsageEvent(
            "-", "inference", one.tenant or "-", "-", at_ms, at_ms, {}, model_identity=one.identity
        )
        priced = set().union(*(has[id(book)] for book in rates.books_for(event)))
        names = {"*", one.identity, *([one.identity.rpartition("/")[2]] if one.shared else [])}
        for meter in one.meters:
            if priced.isdisjoint((meter, name) for name in names):
                yield f"{meter} of {one.identity}"
