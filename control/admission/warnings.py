"""What may be written and is hardly meant: told beside the answer, and refused nowhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from common.resources import Adapter, Endpoint, Price, Queue, Resource
from common.store.port import Store
from control.admission.access import Caller
from control.admission.lookup import References
from control.admission.unpriced import unpriced_after

MAX_NAMED = 5
"""Names that a warning quotes."""


async def warnings_of(resource: Resource, references: References) -> list[str]:
    """What is odd about the resource, each with its path; empty where nothing is."""
    check = _CHECKS.get(type(resource))
    return await check(resource, references) if check is not None else []


async def _of_queue(resource: Resource, references: References) -> list[str]:
    queue = cast(Queue, resource)
    if queue.spec.parent is None:
        return []
    parent = await references.find(Queue, queue.spec.parent)
    if parent is None:
        return [f"spec.parent: there is no Queue {queue.spec.parent}; it counts as a cohort without quotas"]
    if not parent.spec.cohort:
        return [f"spec.parent: {parent.name} has no spec.cohort: true, and has workloads of its own too"]
    return []


async def _of_endpoint(resource: Resource, references: References) -> list[str]:
    endpoint = cast(Endpoint, resource)
    name, odd = endpoint.served_name, []
    if len(name.split()) > 1:
        odd.append(f"spec.servedName: {name!r} holds a space, so people have to put it in quotes")
    named = (await references.served()).get((endpoint.project, name), ())
    other = next((one for one in named if one != endpoint.name), None)
    if other is not None:
        key = f"{endpoint.kind}/{endpoint.project}/{other}"
        odd.append(f"spec.servedName: {key} has the name too, and clients reach only one of them")
    return odd


async def _of_price(resource: Resource, references: References) -> list[str]:
    return await unpriced_after(cast(Price, resource), references)


_CHECKS: Mapping[type[Resource], Callable[[Resource, References], Awaitable[list[str]]]] = {
    Queue: _of_queue,
    Endpoint: _of_endpoint,
    Price: _of_price,
}


async def unknown_models(models: Sequence[str], caller: Caller, store: Store) -> list[str]:
    """A warning where a key is for models that nobody serves now, as far as the caller may see; they may come
    later."""
    if not models:
        return []
    endpoints = (one for one in await store.list(Endpoint) if one.spec.shared or caller.sees(one))
    served = {endpoint.served_name for endpoint in endpoints}
    served |= {one.spec.served_name for one in await store.list(Adapter) if caller.sees(one)}
    missing = [model for model in models if model not in served]
    if not missing:
        return []
    others = f" and {len(missing) - MAX_NAMED} others" if len(missing) > MAX_NAMED else ""
    return [f"models: nobody serves {', '.join(missing[:MAX_NAMED])}{others} now"]
