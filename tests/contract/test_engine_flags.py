"""What engines are started with is what the installed vLLM takes: its own parser and connectors say so."""

import json
import logging
from pkgutil import resolve_name
from typing import Any

import pytest

from common.units import GIB
from inference.core.engine_command import NOT_LOGGED, EngineOptions, engine_command

pytestmark = pytest.mark.integration


def parsed(options: EngineOptions) -> Any:
    """The command line as vLLM's server reads it, from the module on."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    command = engine_command(options).command
    words = [word.replace("$(ADDRESS)", "127.0.0.1").replace("$(PORT:http)", "8000") for word in command[3:]]
    found = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    validate_parsed_serve_args(found)
    return found


def connectors(options: EngineOptions) -> dict[str, Any]:
    """The connector classes that vLLM makes of it, with what each is told."""
    from vllm.config import KVTransferConfig
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    config = parsed(options).kv_transfer_config
    config = config if isinstance(config, KVTransferConfig) else KVTransferConfig(**json.loads(config))
    assert (config.kv_role, config.kv_load_failure_policy) == ("kv_both", "recompute")
    all_of_them = [config]
    if config.kv_connector == "MultiConnector":
        inner = config.kv_connector_extra_config["connectors"]
        all_of_them += [KVTransferConfig(**one, engine_id=config.engine_id) for one in inner]
    return {
        KVConnectorFactory.get_connector_class(one).__name__: one.kv_connector_extra_config
        for one in all_of_them
    }


def test_what_is_asked_again_and_again_is_not_logged() -> None:
    from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config

    config = get_uvicorn_log_config(parsed(EngineOptions("org/m", "m")))
    assert config is not None
    (log_filter,) = config["filters"].values()
    made = log_filter.pop("()")
    asks = resolve_name(made)(**log_filter) if isinstance(made, str) else made(**log_filter)

    def is_logged(method: str, path: str) -> bool:
        args = ("127.0.0.1:1", method, path, "1.1", 200)
        return bool(asks.filter(logging.LogRecord("uvicorn.access", 20, "", 0, "%s %s %s %s %s", args, None)))

    assert not any(is_logged("GET", path) for path in NOT_LOGGED)
    assert is_logged("POST", "/v1/chat/completions")


def test_without_anything_to_hand_over_there_is_no_connector() -> None:
    assert parsed(EngineOptions("org/m", "m")).kv_transfer_config is None


def test_caches_are_kept_in_host_memory_as_by_vllms_own_flag() -> None:
    from vllm.config import CacheConfig, VllmConfig

    found = connectors(EngineOptions("org/m", "m", kv_host_bytes=3 * GIB))
    assert found == {"OffloadingConnector": {"cpu_bytes_to_use": 3 * GIB}}
    config: Any = VllmConfig.__new__(VllmConfig)
    config.cache_config, config.kv_transfer_config = CacheConfig(kv_offloading_size=3), None
    config._post_init_kv_transfer_config()
    meant = config.kv_transfer_config
    assert found == {meant.kv_connector: meant.kv_connector_extra_config}


def test_caches_are_handed_over_and_kept_by_one_engine() -> None:
    from vllm.v1.kv_offload.factory import OffloadingSpecFactory

    options = EngineOptions("org/m", "m", kv_host_bytes=GIB, kv_connector="NixlConnector")
    found = connectors(options)
    assert list(found) == ["MultiConnector", "NixlPullConnector", "OffloadingConnector"]
    size = found["OffloadingConnector"]
    assert size == {"cpu_bytes_to_use": GIB}
    assert OffloadingSpecFactory.get_spec_cls(size).__name__ == "CPUOffloadingSpec"


def test_only_to_hand_over_needs_one_connector() -> None:
    found = connectors(EngineOptions("org/m", "m", kv_connector="NixlConnector"))
    assert list(found) == ["NixlPullConnector"]


def test_spans_are_sent_by_the_protocol_that_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.tracing import extract_trace_headers, otel

    options = EngineOptions("org/m", "m", traces_url="http://127.0.0.1:4318/v1/traces")
    assert parsed(options).otlp_traces_endpoint == options.traces_url
    for name, value in engine_command(options).env.items():
        if name.startswith("OTEL_"):
            monkeypatch.setenv(name, value)
    exporter: Any = otel.get_span_exporter(options.traces_url)
    assert isinstance(exporter, otel.OTLPHttpExporter)
    assert exporter._endpoint == options.traces_url
    headers = {"traceparent": "00-1-2-01", "tracestate": "a=b", "x-request-id": "req-1"}
    assert set(extract_trace_headers(headers)) == {"traceparent", "tracestate"}
