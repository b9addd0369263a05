"""The ledger beside the engines' own counters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from common.auth import engine_headers
from common.client import Client
from common.errors import EngineFailed, Unavailable
from common.settings import Settings
from common.tls import trust_of
from control.supervisor.instance import RunFolder

PROMPT, GENERATION = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
DRAIN_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Tokens:
    """Prompt and completion tokens as one side counts them."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


def engine_tokens(endpoint: Mapping[str, Any], settings: Settings) -> Tokens:
    """What the engines of an endpoint of this instance have counted since they started."""
    prompt = completion = 0
    for replica in endpoint["status"]["replicas"]:
        counters = _counters(engine_metrics(replica["url"], settings))
        prompt += counters[PROMPT]
        completion += counters[GENERATION]
    return Tokens(prompt, completion)


def engine_metrics(url: str, settings: Settings) -> str:
    """What the engine tells Prometheus; ``EngineFailed`` when it does not."""
    headers = engine_headers(RunFolder(settings).token())
    try:
        answer = httpx.get(f"{url}/metrics", timeout=10, trust_env=False, headers=headers)
        return answer.raise_for_status().text
    except httpx.HTTPError as error:
        raise EngineFailed(f"the engine at {url} does not tell its counters: {error}") from error


def _counters(text: str) -> dict[str, int]:
    sums = {PROMPT: 0, GENERATION: 0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += int(sample.value)
    return sums


def ledger_tokens(client: Client, key: str) -> Tokens:
    """Prompt and completion tokens in the ledger that were used with this key."""
    total = client.usage(key=key)["total"]
    return Tokens(total["prompt_tokens"], total["completion_tokens"])


def metrics_of(url: str, settings: Settings) -> str:
    """What gateway or control at ``url`` tells Prometheus. Raises httpx's errors."""
    headers = {"Authorization": f"Bearer {RunFolder(settings).metrics_token()}"}
    trust = trust_of(settings, url)
    answer = httpx.get(f"{url}/metrics", timeout=10, trust_env=False, headers=headers, verify=trust)
    return answer.raise_for_status().text


def spooled_segments(settings: Settings) -> int:
    """How many segments of usage events the gateway still has to hand to control."""
    url = settings.gateway.base_url
    text = metrics_of(url, settings)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "computility_gateway_spool_segments":
                return int(sample.value)
    raise Unavailable(f"{url} does not tell its spool")


def wait_posted(settings: Settings) -> None:
    """Return when the gateway's spool is empty: then the ledger has every request that was answered."""
    deadline = time.monotonic() + DRAIN_TIMEOUT_SECONDS
    while spooled_segments(settings):
        if time.monotonic() > deadline:
            raise Unavailable("the gateway's usage events were not taken over by control in time")
        time.sleep(0.2)


def by_kind(client: Client, key: str | None = None) -> dict[str, dict[str, int]]:
    """Sums by kind of usage: inference, training, device."""
    filters = {"key": key} if key else {}
    return {row["kind"]: row for row in client.usage(group_by="kind", **filters)["rows"]}
