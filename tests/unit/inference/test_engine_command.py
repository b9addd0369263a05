"""The command line of an engine is what vLLM needs to serve this endpoint and nothing else."""

from importlib import import_module

from inference.core.engine_command import ENGINE_KEY, EngineOptions, engine_command


def _value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_a_local_model_with_adapters() -> None:
    options = EngineOptions(
        "/models/tiny", "tiny", local=True, max_adapters=4, max_adapter_rank=16, omp_threads=2
    )
    started = engine_command(options)
    assert started.command[:3] == ["$(PYTHON)", "-m", "vllm.entrypoints.openai.api_server"]
    assert _value(started.command, "--host") == "$(ADDRESS)"
    assert _value(started.command, "--port") == "$(PORT:http)"
    assert _value(started.command, "--model") == "/models/tiny"
    assert _value(started.command, "--served-model-name") == "tiny"
    assert _value(started.command, "--max-loras") == "4"
    assert _value(started.command, "--max-lora-rank") == "16"
    assert "--enable-prompt-tokens-details" in started.command
    assert started.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert started.env["HF_HUB_OFFLINE"] == "1"
    assert started.env["OMP_NUM_THREADS"] == "2"
    assert started.env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert started.env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_a_hub_model_may_be_downloaded() -> None:
    started = engine_command(EngineOptions("organisation/model", "model"))
    assert "HF_HUB_OFFLINE" not in started.env


def test_without_adapters_nobody_can_load_one_at_run_time() -> None:
    started = engine_command(EngineOptions("/m", "m", max_adapters=0))
    assert "--enable-lora" not in started.command
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in started.env


def test_as_many_accelerators_share_the_model_as_the_engine_is_given() -> None:
    sharded = engine_command(EngineOptions("/m", "m", shards=True)).command
    assert _value(sharded, "--tensor-parallel-size") == "$(DEVICES)"
    assert "--tensor-parallel-size" not in engine_command(EngineOptions("/m", "m")).command
    on_cpu = engine_command(EngineOptions("/m", "m", shards=True, cpu_only=True)).command
    assert "--tensor-parallel-size" not in on_cpu


def test_what_the_endpoint_says_itself_wins() -> None:
    options = EngineOptions(
        "/m", "m", max_context_tokens=512, args=("--max-num-seqs", "8"), env={"OMP_NUM_THREADS": "7"}
    )
    started = engine_command(options)
    assert _value(started.command, "--max-model-len") == "512"
    assert started.command[-2:] == ["--max-num-seqs", "8"]
    assert started.env["OMP_NUM_THREADS"] == "7"


def test_only_who_has_the_key_is_answered_whatever_the_endpoint_says() -> None:
    options = EngineOptions("/m", "m", env={"VLLM_API_KEY": "mine", "OMP_NUM_THREADS": "7"})
    started = engine_command(options)
    assert started.env["VLLM_API_KEY"] == ENGINE_KEY
    assert ENGINE_KEY not in started.command


def test_media_are_fetched_from_named_hosts_only() -> None:
    closed = engine_command(EngineOptions("/m", "m"))
    assert _value(closed.command, "--allowed-media-domains") == "none.invalid"
    assert closed.env["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"
    opened = engine_command(EngineOptions("/m", "m", media_domains=("images.example",)))
    assert _value(opened.command, "--allowed-media-domains") == "images.example"


def test_the_door_of_the_engine_is_guarded() -> None:
    started = engine_command(EngineOptions("/m", "m"))
    module, _, name = _value(started.command, "--middleware").rpartition(".")
    assert hasattr(import_module(module), name)


def test_an_engine_that_sends_spans_is_told_where_to_and_in_which_protocol() -> None:
    started = engine_command(EngineOptions("/m", "m", traces_url="http://collector:4318/v1/traces"))
    assert _value(started.command, "--otlp-traces-endpoint") == "http://collector:4318/v1/traces"
    assert started.env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert started.env["OTEL_SERVICE_NAME"] == "computility-engine"
    silent = engine_command(EngineOptions("/m", "m"))
    assert "--otlp-traces-endpoint" not in silent.command
    assert not [name for name in silent.env if name.startswith("OTEL_")]
