"""Threads by purpose: what keeps the platform alive never waits behind work that tenants ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A few threads for one purpose, made when they are first needed."""

    def __init__(self, purpose: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=purpose)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns; like ``asyncio.to_thread``, but in these threads."""
        call = partial(copy_context().run, partial(function, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)
