"""The table of measurements that an installation keeps of its engines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from common.errors import InvalidInput
from common.resources.fields import DeviceModel, Source
from common.resources.meta import Model, parse_model
from common.resources.objectives import MAX_CONTEXT_TOKENS, Milliseconds
from inference.core.performance.device_figures import Layout
from inference.core.performance.measured import Measurement

MAX_ROWS = 10_000


class MeasurementRow(Model):
    """One engine under a steady load, as its clients saw it, e.g. with ``vllm bench serve``."""

    model: Source = Field(description="the Model as project/name, or its source")
    device_class: DeviceModel = Field(description="vendor/model, or a row of the device catalogue")
    tensor_parallel: int = Field(1, ge=1, le=1024)
    pipeline_parallel: int = Field(1, ge=1, le=1024)
    batch: float = Field(ge=1, le=100_000, description="requests at work at once, in the mean")
    prompt_tokens: int = Field(ge=1, le=MAX_CONTEXT_TOKENS)
    output_tokens: int = Field(ge=1, le=MAX_CONTEXT_TOKENS)
    ttft_milliseconds: Milliseconds
    inter_token_milliseconds: Milliseconds
    by: Annotated[str, Field(min_length=1, max_length=200, description="how, when, and by whom")]


def read_measurements(path: Path) -> Sequence[Measurement]:
    """The rows of a YAML list, which is read again when it has changed: 10,000 of them take seconds.

    Raises ``InvalidInput`` naming the file, the row and the field.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise InvalidInput(f"measurements {path.name}: {error}") from error
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, changed_ns: int, size_bytes: int) -> Sequence[Measurement]:
    """What the file holds in this state."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"measurements {path.name}: {error}") from error
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise InvalidInput(f"measurements {path.name}: must be a list of at most {MAX_ROWS} rows")
    return [_measurement(row, f"{path.name}:[{place}]") for place, row in enumerate(rows)]


def _measurement(row: object, where: str) -> Measurement:
    if not isinstance(row, dict):
        raise InvalidInput(f"measurements {where}: must be a mapping")
    parsed = parse_model(MeasurementRow, row, f"measurements {where}")
    return Measurement(
        model=parsed.model,
        device=parsed.device_class,
        layout=Layout(parsed.tensor_parallel, parsed.pipeline_parallel),
        batch=parsed.batch,
        prompt_tokens=parsed.prompt_tokens,
        output_tokens=parsed.output_tokens,
        ttft_ms=parsed.ttft_milliseconds,
        itl_ms=parsed.inter_token_milliseconds,
        by=parsed.by,
    )
