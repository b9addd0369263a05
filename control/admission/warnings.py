"""What may be written and is hardly meant: told beside the answer, and refused nowhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from common.resources import Adapter, Endpoint, Queue, Resource
from common.store.port import Store
from control.admission.lookup import References

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
    for other in await references.list(Endpoint):
        if other.project == endpoint.project and other.name != endpoint.name and other.served_name == name:
            odd.append(f"spec.servedName: {other.key} has the name too, and clients reach only one of them")
            break
    return odd


_CHECKS: Mapping[type[Resource], Callable[[Resource, References], Awaitable[list[str]]]] = {
    Queue: _of_queue,
    Endpoint: _of_endpoint,
}


async def unknown_models(models: Sequence[str], store: Store) -> list[str]:
    """A warning where a key is for models that nobody serves now; they may come later."""
    if not models:
        return []
    served = {endpoint.served_name for endpoint in await store.list(Endpoint)}
    served |= {adapter.spec.served_name for adapter in await store.list(Adapter)}
    missing = [model for model in models if model not in served]
    if not missing:
        return []
    others = f" and {len(missing) - MAX_NAMED} others" if len(missing) > MAX_NAMED else ""
    return [f"models: nobody serves {', '.join(missing[:MAX_NAMED])}{others} now"]
