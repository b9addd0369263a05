"""Nothing that passes the gate raises in a command line, a route, the gateway's journal, a job or a bill."""

import asyncio
import json
from pathlib import Path
from typing import Any

from hypothesis import given

from billing.core.events import UsageEvent
from common.resources import Adapter, Endpoint, FineTune, Metadata, Model, load_stored, parse_resource
from common.resources.serving import ModelSpec
from common.settings import Settings
from finetune.core.job import parse_job
from finetune.jobs.trainer_workload import adapter_served_name, data_file, train_job, trainer_workload
from inference.engine_workload import engine_workload, served_name
from scheduler.translate.views import roles_digest
from tests.fixtures.extremes import PROJECT, documents
from tests.unit.gate.driving import (
    DEVICE_CLASS,
    EXTREME,
    TENANT,
    UID,
    accepted,
    inference_event,
    rated,
    routed,
    scheduled,
    served,
    through_the_journal,
)


def test_every_endpoint_is_started_routed_journaled_and_rated(runner: asyncio.Runner, tmp_path: Path) -> None:
    served_names: set[str] = set()

    @EXTREME
    @given(documents("Endpoint"), documents("Model"), documents("ApiKey"))
    def check(wanted: dict[str, Any], base: dict[str, Any], held: dict[str, Any]) -> None:
        base["metadata"]["name"] = wanted["spec"]["model"]
        wanted["spec"]["queue"] = "default"
        if not served_names:  # the longest comes in each run, whatever is drawn
            wanted["spec"]["servedName"] = "m" * 128
        endpoint, model, key = accepted(wanted), accepted(base), accepted(held)
        if endpoint is None or model is None or key is None:
            return
        assert isinstance(endpoint, Endpoint)
        assert isinstance(model, Model)
        endpoint.metadata.uid = UID
        workload = engine_workload(endpoint, model, 1023, Settings().engine)
        assert load_stored("Workload", json.dumps(workload.to_dict())) == workload
        roles_digest(workload.spec.roles)
        scene = runner.run(scheduled(model, workload))
        for event in scene.usage.events.values():
            rated(event, [])
        table = runner.run(routed(model, served(endpoint, model), key))
        [route] = table.routes
        assert route.model == served_name(endpoint)
        event = inference_event(route, key.name)
        rated(event, [])
        through_the_journal(event, tmp_path)
        served_names.add(route.model)

    check()
    assert any(len(name) == 128 for name in served_names)


def test_every_adapter_is_routed_and_journaled(runner: asyncio.Runner, tmp_path: Path) -> None:
    @EXTREME
    @given(documents("Adapter"), documents("Endpoint"))
    def check(made: dict[str, Any], host: dict[str, Any]) -> None:
        made["spec"]["model"] = host["spec"]["model"]
        made["spec"]["modelProject"] = PROJECT
        adapter, endpoint = accepted(made), accepted(host)
        if adapter is None or endpoint is None:
            return
        assert isinstance(adapter, Adapter)
        assert isinstance(endpoint, Endpoint)
        metadata = Metadata(name=endpoint.spec.model, project=PROJECT)
        endpoint = served(endpoint, Model(metadata=metadata, spec=ModelSpec(source="org/m")))
        endpoint.status.replicas[0].adapters = [adapter.spec.served_name]
        table = runner.run(routed(endpoint, adapter))
        for route in table.routes:
            through_the_journal(inference_event(route, "k" * 63), tmp_path)

    check()


def test_every_job_is_trained_named_and_rated(runner: asyncio.Runner, tmp_path: Path) -> None:
    @EXTREME
    @given(documents("FineTune"), documents("Model"), documents("File"))
    def check(wanted: dict[str, Any], base: dict[str, Any], data: dict[str, Any]) -> None:
        wanted["spec"]["queue"] = "default"
        job, model, file = accepted(wanted), accepted(base), accepted(data)
        if job is None or model is None or file is None:
            return
        assert isinstance(job, FineTune)
        assert isinstance(model, Model)
        job.metadata.uid = UID
        job.status.resolved = {"n_epochs": 50, "batch_size": 256, "learning_rate_multiplier": 1.0}
        training = data_file(file, tmp_path / "file")  # type: ignore[arg-type]
        orders = train_job(job, model, tmp_path, training, training, tmp_path / "adapter")
        parse_job(json.loads(json.dumps(orders.to_dict())))
        workload = trainer_workload(job, model, None, tmp_path / "job", orders, Settings(home=tmp_path))
        runner.run(scheduled(model, workload))
        name = adapter_served_name(job, TENANT)
        spec = {"model": job.spec.base, "servedName": name, "path": "/a"}
        if len(job.spec.model.encode()) <= 4 * 128 and len(job.spec.model) <= 128:
            metadata = {"name": "ft-1", "project": PROJECT}
            version = job.api_version
            parse_resource({"apiVersion": version, "kind": "Adapter", "metadata": metadata, "spec": spec})
        event = UsageEvent(
            id="use-" + "0" * 26,
            kind="training",
            tenant=TENANT,
            project=PROJECT,
            key=job.spec.api_key,
            model=job.spec.model,
            base_model=job.spec.model,
            model_identity=f"{job.spec.base_project}/{job.spec.base}",
            device_class=DEVICE_CLASS,
            resource=job.name,
            started_ms=0,
            ended_ms=10**14,
            quantities={"trained_tokens": 10**12},
        )
        rated(event, [])

    check()
