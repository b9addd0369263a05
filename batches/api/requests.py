"""The body of ``POST /v1/batches``: parsed strictly, every mistake named."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from common.errors import InvalidInput, Problem
from common.resources.batches import DEFAULT_WINDOW_HOURS, MAX_WINDOW_HOURS, BatchEndpoint
from common.resources.fields import Name
from common.resources.saying import problems_of
from common.resources.tuning import Tags
from common.strict_json import parse_json
from finetune.files.file_service import MAX_EXPIRY_SECONDS, MIN_EXPIRY_SECONDS

_WINDOW = re.compile(r"([1-9][0-9]{0,2})h")
_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ExpiryBody(_Body):
    """When the batch's files are removed."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_EXPIRY_SECONDS, le=MAX_EXPIRY_SECONDS)


class CreateBatchBody(_Body):
    """``completion_window`` is a whole number of hours; OpenAI has ``24h`` alone."""

    input_file_id: Name
    endpoint: BatchEndpoint
    completion_window: Annotated[str, StringConstraints(max_length=8)] = f"{DEFAULT_WINDOW_HOURS}h"
    metadata: Tags | None = None
    output_expires_after: ExpiryBody | None = None

    @property
    def expires_after_seconds(self) -> int | None:
        """After which its files are removed; None = they stay."""
        return self.output_expires_after.seconds if self.output_expires_after is not None else None

    @property
    def window_hours(self) -> int:
        """Raises ``InvalidInput``."""
        found = _WINDOW.fullmatch(self.completion_window)
        if found is None or int(found[1]) > MAX_WINDOW_HOURS:
            raise InvalidInput(
                f"completion_window: must be hours from 1h to {MAX_WINDOW_HOURS}h, such as 24h",
                param="completion_window",
            )
        return int(found[1])


def create_batch_schema() -> dict[str, Any]:
    """The body as the description of the API has it, without references."""
    schema = CreateBatchBody.model_json_schema()
    expiry = schema.pop("$defs")[ExpiryBody.__name__]
    schema["properties"]["output_expires_after"] = {"anyOf": [expiry, {"type": "null"}], "default": None}
    return schema


def parse_create_batch(content: bytes) -> CreateBatchBody:
    """Raises ``InvalidInput`` naming each wrong field."""
    parse_json(content or b"{}", code="invalid_json")
    try:
        body = CreateBatchBody.model_validate_json(content or b"{}")
    except ValidationError as error:
        problems = tuple(problems_of(error))
        text = "; ".join(f"{p.path}: {p.message}" for p in problems)
        first: Problem = problems[0]
        raise InvalidInput(text, _CODES.get(first.code, "invalid_value"), first.path, problems) from error
    _ = body.window_hours
    return body
