"""Bodies of the fine-tuning API: parsed strictly, every mistake named."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import InvalidInput, Problem
from common.resources.fields import AdapterName, Name, Priority, Seed, Suffix, Text
from common.resources.pool import DeviceRequest
from common.resources.saying import problems_of
from common.resources.tuning import Tags
from common.strict_json import parse_json

AdapterRank = Literal[1, 8, 16, 32, 64, 128]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class HyperparametersBody(_Body):
    """Values are checked where they are resolved, with the number of examples at hand."""

    n_epochs: Any = "auto"
    batch_size: Any = "auto"
    learning_rate_multiplier: Any = "auto"


class SupervisedBody(_Body):
    hyperparameters: HyperparametersBody | None = None


class MethodBody(_Body):
    type: Literal["supervised"]
    supervised: SupervisedBody | None = None


class PlacementBody(_Body):
    """What only this service knows (``extra_body={"computility": …}``): where and how the job runs."""

    queue: Name = "default"
    priority: Priority | None = None
    adapter_rank: AdapterRank | None = None
    devices: DeviceRequest = Field(default_factory=DeviceRequest)


class CreateJobBody(_Body):
    """``hyperparameters`` is the older place for what ``method.supervised.hyperparameters`` holds."""

    model: AdapterName
    training_file: Text = Field(min_length=1)
    validation_file: Text | None = None
    suffix: Suffix | None = None
    seed: Seed | None = None
    metadata: Tags | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None
    method: MethodBody | None = None
    hyperparameters: HyperparametersBody | None = None
    computility: PlacementBody = Field(default_factory=PlacementBody)

    @property
    def chosen_hyperparameters(self) -> HyperparametersBody:
        """Those of the method, else the older ones, else ``auto``."""
        of_method = self.method.supervised if self.method else None
        if of_method is not None and of_method.hyperparameters is not None:
            return of_method.hyperparameters
        return self.hyperparameters or HyperparametersBody()


def parse_create_job(content: bytes) -> CreateJobBody:
    """The body of ``POST /v1/fine_tuning/jobs``. Raises ``InvalidInput`` naming each wrong field."""
    parse_json(content or b"{}", code="invalid_json")
    try:
        return CreateJobBody.model_validate_json(content or b"{}")
    except ValidationError as error:
        problems = tuple(map(_plainer, problems_of(error)))
        text = "; ".join(f"{p.path}: {p.message}" for p in problems)
        raise InvalidInput(text, _code_of(problems[0]), problems[0].path, problems) from error


def _plainer(problem: Problem) -> Problem:
    if problem.path == "integrations":
        return Problem("integrations", "integrations are not supported; leave it empty", "unsupported_value")
    if problem.path == "method.type":
        return Problem("method.type", "only 'supervised' is supported", "unsupported_value")
    return problem


def _code_of(problem: Problem) -> str:
    codes = {
        "missing": "missing_required_parameter",
        "extra_forbidden": "unknown_parameter",
        "json_invalid": "invalid_json",
        "unsupported_value": "unsupported_value",
    }
    return codes.get(problem.code, "invalid_value")
