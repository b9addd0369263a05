"""The actor that holds accelerators in Ray. Imports nothing else, so that its process stays small."""

from __future__ import annotations

import ray


class Holder:
    """Only exists: what it was given in Ray nobody else gets."""

    async def held(self) -> dict[str, list[str]]:
        """Resource -> ids of the devices that Ray has given to it (where Ray counts ids)."""
        ids: dict[str, list[str]] = ray.get_runtime_context().get_accelerator_ids()
        return ids
