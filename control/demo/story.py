"""The example resources, the small model behind them, and waiting until the endpoint answers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.client import Client
from common.clock import SYSTEM_CLOCK
from common.errors import InvalidInput, NotFound, SetupError, Unavailable
from common.private import at_home
from common.settings import Settings
from control.console.documents.manifests import Manifest, read_manifests
from control.console.tables.tables import condition
from control.console.told.settling import progress_of
from control.demo.hub import lack_on_hub
from control.supervisor.parts import answers, environment

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DATASET = EXAMPLES / "data" / "support.jsonl"
TINY_MODEL = "$(HOME_DIR)/models/tiny-llama"
BUILD_TIMEOUT_SECONDS = 900.0
READY_TIMEOUT_SECONDS = 900.0
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt")

Tell = Callable[[str], None]


def check_source(model: str) -> None:
    """Raise ``InvalidInput`` where no engine can have the model: there is no such folder, or the hub does not
    give it. Nothing is to be started for one."""
    check_model(model)
    if model and not _is_path(model):
        _refuse(lack_on_hub(model))


def _refuse(lack: str) -> None:
    if lack:
        raise InvalidInput(f"--model: {lack}; name a folder with a model, or one on the hub", param="--model")


def _is_path(model: str) -> bool:
    return model.startswith(("/", ".", "~")) or model.count("/") > 1 or at_home(model).exists()


def check_model(model: str) -> None:
    """Raise ``InvalidInput`` where a folder is named that holds no model, or is not there."""
    folder = at_home(model)
    if not model or not _is_path(model):
        return
    lack = ""
    if not folder.is_dir():
        lack = f"there is no folder {model}"
    elif not (folder / "config.json").is_file():
        lack = f"{model} holds no config.json"
    elif not any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        lack = f"{model} holds no weights (*.safetensors)"
    _refuse(lack)


def example_manifests(model: str = "") -> list[Manifest]:
    """The documents in `examples/`; ``model`` (a path or a hub name) takes the place of the small model."""
    if not EXAMPLES.is_dir():
        raise SetupError(f"the examples are not at {EXAMPLES}; run from a clone, or use --no-examples")
    manifests = read_manifests([str(EXAMPLES)])
    if not model:
        return manifests
    check_model(model)
    folder = at_home(model)
    return [
        _with_source(manifest, str(folder.absolute()) if folder.exists() else model) for manifest in manifests
    ]


def _with_source(manifest: Manifest, source: str) -> Manifest:
    if manifest.content["kind"] != "Model":
        return manifest
    content: dict[str, Any] = deepcopy(manifest.content)
    content["spec"]["source"] = source
    return replace(manifest, content=content)


def the_endpoint(manifests: Sequence[Manifest]) -> tuple[str, str]:
    """Project and name of the first endpoint."""
    for manifest in manifests:
        if manifest.content["kind"] == "Endpoint":
            return manifest.project, manifest.content["metadata"]["name"]
    raise NotFound("the examples hold no Endpoint")


def needs_tiny_model(manifests: Sequence[Manifest]) -> bool:
    """Whether one of the models is the small one that is made on this machine."""
    return any(m.content["kind"] == "Model" and m.content["spec"]["source"] == TINY_MODEL for m in manifests)


def tiny_model_folder(settings: Settings) -> Path:
    """Where the small base model lies."""
    return settings.home / "models" / "tiny-llama"


def build_tiny_model(settings: Settings) -> list[str]:
    """Train the small base model, unless it is there; returns the warnings that the user should see.

    ``SetupError`` holds the end of its output.
    """
    out = tiny_model_folder(settings)
    out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "finetune.tiny_model", "--out", str(out)]
    try:
        done = subprocess.run(
            command,
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"building the base model took more than {BUILD_TIMEOUT_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise SetupError(f"building the base model failed:\n{tail(done.stderr or done.stdout)}")
    return [line for line in done.stderr.splitlines() if line.startswith("warning: ")]


def tail(text: str, lines: int = 15) -> str:
    """The last lines."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def wait_ready(
    client: Client, project: str, name: str, tell: Tell, stop: threading.Event | None = None
) -> Mapping[str, Any] | None:
    """The endpoint once it is ready, or None when ``stop`` was set; ``tell`` hears what it waits for.

    Raises ``Unavailable`` with the reason when it is not ready in time, ``EngineFailed`` as soon as it is
    known that it will not be.
    """
    stop = stop or threading.Event()
    start = SYSTEM_CLOCK.monotonic_seconds()
    text = ""
    while SYSTEM_CLOCK.monotonic_seconds() - start < READY_TIMEOUT_SECONDS:
        try:
            endpoint = client.get("endpoints", name, project)
            found = condition(endpoint, "Ready")
            if found and found["status"] == "True" and _engines_answer(endpoint):
                return endpoint
            progress_of(endpoint)
            text = progress_text(client, endpoint)
            tell(text)
        except (NotFound, Unavailable) as error:
            tell(error.message)
        if stop.wait(0.5):
            return None
    raise Unavailable(f"endpoint {name} is not ready after {READY_TIMEOUT_SECONDS:.0f} s: {text}")


def _engines_answer(endpoint: Mapping[str, Any]) -> bool:
    """Just after a restart the stored status may still tell of engines that are gone."""
    urls = [replica["url"] for replica in endpoint["status"].get("replicas", []) if replica.get("ready")]
    return bool(urls) and all(answers(f"{url}/health") for url in urls)


def progress_text(client: Client, endpoint: Mapping[str, Any]) -> str:
    """What the endpoint's workloads are doing, in one line."""
    replicas = endpoint.get("status", {}).get("replicas", [])
    if not replicas:
        return "waiting for the endpoint controller"
    parts = []
    for replica in replicas:
        name = replica["workload"]
        try:
            status = client.get("workloads", name, endpoint["metadata"]["project"]).get("status", {})
        except NotFound:
            continue
        why = status.get("message") or "; ".join(p["message"] for p in status.get("pending", []))
        parts.append(f"{name} {status.get('phase', 'Pending')}{f' ({why})' if why else ''}")
    return ", ".join(parts)
