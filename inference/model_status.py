"""Keeps the status of Models: whether they can be served, their digest and their context length."""

from __future__ import annotations

import asyncio
from pathlib import Path

from common.clock import Clock
from common.resources import Model
from common.settings import Settings
from common.store.port import Store
from common.store.transitions import write_status
from inference.model_files import ModelFiles, inspect_model, model_digest, within_project
from inference.parsers.choose import reasoning_for, tools_for
from inference.parsers.signs import signs_of

_WAIT_SECONDS = 0.5


class ModelStatusKeeper:
    """Condition ``Ready`` of a Model: its source can be served.

    Digests are made in the background, once per state of the files: a large model does not hold up the pass.
    """

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._digests: dict[str, asyncio.Task[str]] = {}

    async def observe(self, model: Model) -> ModelFiles:
        """Look at the model's source and write what was found into its status."""
        before = model.status.model_copy(deep=True)
        files = await asyncio.to_thread(_look, model, self._settings.home)
        model.status.set_condition(
            "Ready",
            files.usable,
            files.reason,
            files.message,
            now_ms=self._clock.now_ms(),
            generation=model.metadata.generation,
        )
        await self._choose_parsers(model, files)
        model.status.observed_generation = model.metadata.generation
        model.status.context_tokens = files.context_tokens
        model.status.digest = await self._digest(files) if files.usable else ""
        if model.status != before:
            await write_status(self._store, model, before, "Ready")
        return files

    async def _choose_parsers(self, model: Model, files: ModelFiles) -> None:
        """Note which parsers suit the model. For one of the hub once for what it says: what an engine fetches
        later replaces no engine. What was found stays while its files cannot be read."""
        status = model.status
        is_known = status.tools is not None and status.observed_generation == model.metadata.generation
        if not files.usable or (is_known and files.path is None):
            return
        signs = await asyncio.to_thread(signs_of, model.spec.source, files.path)
        status.tools, status.reasoning = tools_for(signs), reasoning_for(signs)

    async def _digest(self, files: ModelFiles) -> str:
        """The digest, or an empty text while it is being made (or the files vanished meanwhile)."""
        if files.path is None:
            return ""
        task = self._digests.get(files.fingerprint)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(model_digest, files.path))
            self._digests[files.fingerprint] = task
        await asyncio.wait({task}, timeout=_WAIT_SECONDS)
        if not task.done():
            return ""
        if task.cancelled() or task.exception() is not None:
            del self._digests[files.fingerprint]
            return ""
        return task.result()

    async def close(self) -> None:
        """Stop waiting for digests."""
        for task in self._digests.values():
            task.cancel()
        await asyncio.gather(*self._digests.values(), return_exceptions=True)


def _look(model: Model, home: Path) -> ModelFiles:
    source = model.spec.source
    return within_project(inspect_model(source, home), source, model.project, home)
