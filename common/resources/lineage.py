"""What an adapter was made from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.resources.fields import Metric, OptionalName, Scalar, Text, Whole, Word
from common.resources.meta import Model as Part
from common.vocabulary import MAX_LIST


class Lineage(Part):
    """What an adapter was made from."""

    job: OptionalName = ""
    training_file: OptionalName = ""
    training_file_sha256: Text = ""
    base_digest: Text = ""
    template_sha256: Text = ""
    seed: Whole = 0
    hyperparameters: Annotated[dict[Word, Scalar], Field(max_length=MAX_LIST)] = Field(default_factory=dict)
    trained_tokens: Whole = 0
    metrics: Annotated[dict[Word, Metric], Field(max_length=MAX_LIST)] = Field(default_factory=dict)
