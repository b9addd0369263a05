"""How fast the operator mirrors many documents, how soon status is back, and what it costs when idle.

``python -m bench.operator --objects 1000`` runs a real API server, a control process and an operator, makes
Models through the API server, and waits until all are in control with their status back. Exit code 1 where
they took more than 60 s for 1,000, a change's status was back after more than 2 s in the median, or the idle
operator takes 5 % of a core or more. ``KUBEBUILDER_ASSETS`` names the folder of the API server's programs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

from operators.crds.manifests import FOLDER
from tests.fixtures.control_process import ControlProcess
from tests.fixtures.kube.operator_process import Site, model
from tests.fixtures.kube.plane import running_plane

SECONDS_PER_THOUSAND = 60.0
BACK_SECONDS = 2.0
IDLE_PERCENT = 5.0
SPACE = "bench"
MODELS = f"/apis/computility.io/v1alpha1/namespaces/{SPACE}/models"


def measure(objects: int, changes: int, idle_seconds: float) -> dict[str, Any]:
    """All figures."""
    with running_plane(controllers=()) as plane, tempfile.TemporaryDirectory() as folder:
        plane.kubectl("apply", "--validate=false", "-f", str(FOLDER))
        control = ControlProcess(Path(folder) / "control")
        asyncio.run(_start(control))
        site = Site(plane, control, Path(folder))
        try:
            site.settings = {"NAMESPACES": json.dumps([])}
            site.start()
            site.namespace(SPACE)
            site.client.apply(_limits())
            with plane.client() as client:
                return _figures(site, client, objects, changes, idle_seconds)
        finally:
            site.kill()
            control.kill()


async def _start(control: ControlProcess) -> None:
    await control.start()
    await control.populate()


def _limits() -> dict[str, Any]:
    spec = {"tenant": "acme", "limits": {"maxModels": 10**6, "maxDocumentBytes": 10**12}}
    return {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Project",
        "metadata": {"name": SPACE},
        "spec": spec,
    }


def _figures(
    site: Site, client: httpx.Client, objects: int, changes: int, idle_seconds: float
) -> dict[str, Any]:
    process = psutil.Process(site.pid)
    began, cpu = time.monotonic(), _cpu_seconds(process)
    names = [f"m-{i:05}" for i in range(objects)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: client.post(MODELS, json=model(name, SPACE)).raise_for_status(), names))
    made_seconds = time.monotonic() - began
    site.wait_until(lambda: _synced(client) == objects, 600)
    mirrored_seconds = time.monotonic() - began
    spent = _cpu_seconds(process) - cpu
    back = [_change(client, names[i % objects], i) for i in range(changes)]
    time.sleep(5)
    cpu, began = _cpu_seconds(process), time.monotonic()
    time.sleep(idle_seconds)
    idle_percent = 100 * (_cpu_seconds(process) - cpu) / (time.monotonic() - began)
    return {
        "objects": objects,
        "made_seconds": round(made_seconds, 1),
        "mirrored_seconds": round(mirrored_seconds, 1),
        "cpu_milliseconds_per_object": round(1000 * spent / objects, 1),
        "status_back_seconds": {
            "median": round(statistics.median(back), 2),
            "most": round(max(back), 2),
        },
        "idle_percent_of_a_core": round(idle_percent, 2),
        "rss_mib": round(process.memory_info().rss / 2**20),
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _synced(client: httpx.Client) -> int:
    time.sleep(0.5)
    statuses = [item.get("status", {}) for item in client.get(MODELS).json()["items"]]
    conditions = [{c["type"]: c["status"] for c in status.get("conditions", ())} for status in statuses]
    return sum(found.get("Synced") == "True" for found in conditions)


def _change(client: httpx.Client, name: str, turn: int) -> float:
    """Seconds from a change of the spec until its status is back."""
    patch = {"spec": {"source": f"org/model-{turn}"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = client.patch(f"{MODELS}/{name}", content=json.dumps(patch), headers=headers)
    answer.raise_for_status()
    generation, began = answer.json()["metadata"]["generation"], time.monotonic()
    while client.get(f"{MODELS}/{name}").json()["status"].get("observedGeneration") != generation:
        time.sleep(0.01)
        if time.monotonic() - began > 60:
            raise TimeoutError(name)
    return time.monotonic() - began


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args = parser.parse_args()
    found = measure(args.objects, args.changes, args.idle_seconds)
    print(json.dumps(found) if args.json else json.dumps(found, indent=1))
    limit = SECONDS_PER_THOUSAND * max(1.0, args.objects / 1000)
    is_good = (
        found["mirrored_seconds"] <= limit
        and found["status_back_seconds"]["median"] <= BACK_SECONDS
        and found["idle_percent_of_a_core"] < IDLE_PERCENT
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
