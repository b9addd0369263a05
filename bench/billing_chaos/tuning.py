"""Fine-tuning jobs, one after the other, for as long as the run goes on."""

from __future__ import annotations

import asyncio
from typing import Any

from openai import APIError, AsyncOpenAI

from bench.billing_chaos.records import Trained
from control.demo.story import DATASET

ENDED = ("succeeded", "failed", "cancelled")
PAUSE_SECONDS = 1.0
END_SECONDS = 240.0
"""For jobs that are under way when the run ends."""
HYPERPARAMETERS: Any = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 2}


class Tuner:
    """Uploads a file, makes a job of it, waits for its end, and begins anew. A call that fails is made again:
    it may have made a job, which counts like all others in the end."""

    def __init__(self, url: str, key: str, model: str) -> None:
        self._client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)
        self._model = model

    async def run(self, ends: asyncio.Event) -> None:
        while not ends.is_set():
            try:
                await self._one(ends)
            except APIError:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _one(self, ends: asyncio.Event) -> None:
        file = await self._client.files.create(file=DATASET, purpose="fine-tune")
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}}
        job = await self._client.fine_tuning.jobs.create(
            model=self._model, training_file=file.id, suffix="chaos", seed=7, method=method
        )
        while job.status not in ENDED and not ends.is_set():
            await asyncio.sleep(PAUSE_SECONDS)
            job = await self._client.fine_tuning.jobs.retrieve(job.id)

    async def results(self) -> list[Trained]:
        """All jobs once they have ended; those that do not end in time are told as they are."""
        deadline = asyncio.get_running_loop().time() + END_SECONDS
        while True:
            jobs = [job async for job in self._client.fine_tuning.jobs.list(limit=100)]
            late = asyncio.get_running_loop().time() > deadline
            if late or all(job.status in ENDED for job in jobs):
                return [Trained(job.id, job.status, job.trained_tokens) for job in jobs]
            await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        await self._client.close()
