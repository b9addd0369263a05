"""Step times of measured kernels, from ``aiconfigurator-core``: the optional extra ``performance``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from common.telemetry import get_logger
from inference.core.performance.steps import Engine, NotKnown, StepTimes

PACKAGE = "aiconfigurator_core"
BACKEND = "vllm"
SYSTEMS: Mapping[str, str] = {
    "A100-SXM4-80GB": "a100_sxm",
    "H100-SXM": "h100_sxm",
    "H200-SXM": "h200_sxm",
    "B200": "b200_sxm",
    "GB200": "gb200",
    "L40S": "l40s",
    "RTX-PRO-6000": "rtx_pro_6000_server",
    "B300": "b300_sxm",
}
"""Row of the device catalogue -> system of which it has vLLM's kernels."""
_KEPT_ENGINES = 64

_log = get_logger(__name__)


def installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def known_config_file(source: str) -> Path | None:
    """The ``config.json`` of a model of this hub name that comes with the library; None where none does."""
    if not installed():
        return None
    folder = Path(str(files(PACKAGE))) / "model_configs"
    file = folder / f"{source.replace('/', '--')}_config.json"
    return file if file.is_file() else None


class MeasuredKernels:
    """Implements ``PerformanceSource`` for one model; its ``config`` is handed over as a folder, so that
    nothing is asked of a model hub."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = json.dumps(config, sort_keys=True)

    def steps(self, engine: Engine) -> StepTimes:
        system = SYSTEMS.get(engine.device.name)
        if system is None or not installed():
            raise NotKnown(f"{PACKAGE} has no kernels of {engine.device.name}")
        layout = engine.layout
        shared = engine.shape.experts is not None
        return KernelSteps(_compiled(self._config, system, layout.tensor, layout.pipeline, shared))


class KernelSteps:
    """Implements ``StepTimes``."""

    source = "aiconfigurator"

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def prefill_ms(self, prompts: int, prompt_tokens: int) -> float:
        return _asked(lambda: self._handle.predict_prefill_latency(prompts, prompt_tokens))

    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        return _asked(lambda: self._handle.decode_step_latency(sequences, context_tokens, 2))

    def mixed_ms(self, prefill_tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        output_tokens = max(2, 2 * (context_tokens - prompt_tokens))
        return _asked(
            lambda: self._handle.mixed_step_latency(prefill_tokens, sequences, prompt_tokens, output_tokens)
        )


def _asked(question: Callable[[], float]) -> float:
    """Its answer in milliseconds. Raises ``NotKnown`` where it has none, for whatever reason."""
    try:
        value = float(question())
    except Exception as error:
        raise NotKnown(f"{PACKAGE}: {error}") from error
    if not 0.0 < value < float("inf"):
        raise NotKnown(f"{PACKAGE}: {value} ms is no time of a pass")
    return value


@lru_cache(maxsize=_KEPT_ENGINES)
def _compiled(config: str, system: str, tensor: int, pipeline: int, experts: bool) -> Any:
    """The library's engine for a model on a system. Raises ``NotKnown`` where it cannot make one."""
    with _folder(config) as folder, _quiet():
        try:
            sdk = importlib.import_module(f"{PACKAGE}.sdk")
            return sdk.EngineHandle.compile(
                str(folder),
                system,
                BACKEND,
                tp_size=tensor,
                pp_size=pipeline,
                moe_tp_size=tensor if experts else None,
                moe_ep_size=1 if experts else None,
            )
        except Exception as error:
            _log.info("no measured kernels", system=system, tensor=tensor, error=str(error)[:300])
            raise NotKnown(f"{PACKAGE}: {error}") from error


@contextlib.contextmanager
def _folder(config: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="computility-model-") as folder:
        (Path(folder) / "config.json").write_text(config, encoding="utf-8")
        yield Path(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what it says of each table that it reads."""
    loggers = [logging.getLogger(name) for name in (PACKAGE, f"{PACKAGE}.sdk")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
