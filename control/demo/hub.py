"""Whether a model can come from the hub, asked before anything is started for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import httpx

from common.environment import variables
from common.private import at_home

ANSWER_SECONDS = 5.0
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB = "https://huggingface.co"
_TRUE = frozenset(("1", "ON", "YES", "TRUE"))


def lack_on_hub(
    model: str,
    environment: Mapping[str, str] | None = None,
    transport: httpx.BaseTransport | None = None,
) -> str:
    """Why no engine on this machine can have the model, in words; empty where one can. Engines ask the hub
    without a token. ``transport`` replaces the network."""
    told = variables() if environment is None else environment
    if not _NAME.fullmatch(model):
        return f"{model} is neither a folder nor the name of a model on a hub"
    if _is_cached(model, told):
        return ""
    missing = "and this machine's cache of the hub has no copy"
    if told.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        return f"HF_HUB_OFFLINE says that the hub is not to be asked about {model}, {missing}"
    hub = told.get("HF_ENDPOINT", "").rstrip("/") or _HUB
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, transport=transport, follow_redirects=True) as client:
            answer = client.get(f"{hub}/api/models/{model}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        return f"the hub {hub} cannot be asked about {model} ({reason}), {missing}"
    return _lack_of(answer, model, hub)


def _lack_of(answer: httpx.Response, model: str, hub: str) -> str:
    if answer.status_code in (401, 403, 404):
        return f"the hub {hub} has no model {model} that can be fetched without a token"
    if answer.is_error:
        return ""  # of the hub itself: an engine may have better luck
    try:
        found = answer.json()
    except ValueError:
        return ""
    is_gated = isinstance(found, dict) and bool(found.get("gated"))
    return f"{model} is given by the hub {hub} only to those who agreed to its terms" if is_gated else ""


def _is_cached(model: str, told: Mapping[str, str]) -> bool:
    home = told.get("HF_HOME") or "~/.cache/huggingface"
    cache: Path = at_home(told.get("HF_HUB_CACHE") or f"{home}/hub")
    snapshots = cache / f"models--{model.replace('/', '--')}" / "snapshots"
    return any(snapshots.glob("*/config.json"))
