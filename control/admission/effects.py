"""What a change does to engines that run, in words: told by an apply, and by its dry run."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import InvalidInput
from common.resources import Endpoint, Model, Resource, Workload
from common.settings import Settings
from common.store.kept import KeptList
from common.store.port import R
from control.admission.access import Caller
from control.admission.lookup import References
from inference.replacing import Replaced, in_words, replaced_engines

MOST_NAMED = 3
"""Endpoints that a change of their Model names."""


class Effects:
    """Of one request, made under the lock of writes. ``engines``: all Workloads of Endpoints."""

    def __init__(
        self, engines: KeptList[Workload], settings: Settings, references: References, caller: Caller
    ) -> None:
        self._engines, self._settings = engines, settings
        self._references, self._caller = references, caller
        self._of_owner: dict[str, list[Workload]] | None = None

    async def of(self, resource: Resource) -> str:
        """Empty where no engine is replaced."""
        if not isinstance(resource, Endpoint | Model):
            return ""
        stored = await self._references.stored(resource)
        if stored is None or stored.spec == resource.spec:
            return ""
        if isinstance(resource, Endpoint):
            return await self._of_endpoint(resource)
        return await self._of_model(resource)

    async def _of_endpoint(self, endpoint: Endpoint) -> str:
        then = await self._as_it_will_be(endpoint)
        try:
            return in_words(then, await self._replaced(then))
        except (InvalidInput, ValueError) as error:
            return f"its engines stay as they are: {error}"

    async def _of_model(self, model: Model) -> str:
        """Of all Endpoints that serve it; those of strangers are only counted."""
        told, others = list[str](), 0
        for endpoint in await self._references.list(Endpoint):
            if model.name not in endpoint.spec.models:
                continue
            served = await self._model(endpoint, model.name)
            text = await self._of_endpoint(endpoint) if served and served.project == model.project else ""
            if text and self._caller.sees(endpoint) and len(told) < MOST_NAMED:
                told.append(f"endpoint/{endpoint.name}: {text}")
            elif text:
                others += 1
        if others:
            told.append(f"{others} other {'endpoint' if others == 1 else 'endpoints'} of it likewise")
        return "; ".join(told)

    async def _replaced(self, endpoint: Endpoint) -> Sequence[Replaced]:
        model = None if endpoint.is_undecided else await self._model(endpoint, endpoint.spec.model)
        if model is None:
            return []
        name = endpoint.spec.canary.model if endpoint.spec.canary is not None else ""
        canary = await self._model(endpoint, name) if name else None
        engines = await self._engines_of(endpoint)
        return replaced_engines(endpoint, model, canary, engines, self._settings) if engines else []

    async def _engines_of(self, endpoint: Endpoint) -> Sequence[Workload]:
        """All are looked at once, however many Endpoints a Model has."""
        if self._of_owner is None:
            self._of_owner = {}
            for one in await self._engines.now():
                if one.metadata.owner is not None:
                    self._of_owner.setdefault(one.metadata.owner.uid, []).append(one)
        return self._of_owner.get(endpoint.metadata.uid, ())

    async def _model(self, endpoint: Endpoint, name: str) -> Model | None:
        """As it will be: the Model of the Endpoint's own project, or else the shared one of that name."""
        own = await self._references.find(Model, name, endpoint.project)
        found = own or next(iter(await self._references.shared_models(name)), None)
        return await self._as_it_will_be(found) if found is not None else None

    async def _as_it_will_be(self, resource: R) -> R:
        """What is stored, with the new spec; what is not there yet, as it is given."""
        stored = await self._references.stored(resource)
        if stored is None:
            return resource
        then = stored.copy_deep()
        then.spec = resource.spec
        return then
