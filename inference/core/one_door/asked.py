"""What of a request decides where it goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from common.data_class import DATA_CLASSES, DataClass, class_of
from common.errors import InvalidInput
from inference.core.body import Api, InferenceRequest
from inference.core.reported import CLASS_TAG
from inference.core.usage import find_member

_TOOLS = (b'"tools"', re.compile(rb'"tools"\s*:\s*\[\s*\{'))
_MEDIA = re.compile(
    rb'"type"\s*:\s*"(?:image_url|input_image|image|video_url|input_video|input_file|file|document)"'
)
_TYPE = b'"type"'


@dataclass(frozen=True)
class Asked:
    """``prompt_tokens`` is about how many, ``answer_tokens`` what it says that an answer may have, 0 where it
    says nothing. ``regions``: where its data may go; None = anywhere."""

    api: Api
    prompt_tokens: int = 0
    answer_tokens: int = 0
    tools: bool = False
    vision: bool = False
    tags: Mapping[str, str] | None = None
    data_class: DataClass = "internal"
    regions: frozenset[str] | None = None


def asked_of(request: InferenceRequest, data_class: DataClass, regions: frozenset[str] | None) -> Asked:
    """What a request that passed its checks says. No text of a prompt is taken for a member."""
    return Asked(
        request.api,
        request.prompt_tokens_about,
        max((limit for _, limit in request.token_limits), default=0),
        find_member(request.rest, *_TOOLS) is not None,
        find_member(request.rest, _TYPE, _MEDIA) is not None,
        request.tags,
        data_class,
        regions,
    )


def class_in(request: InferenceRequest) -> DataClass | None:
    """The class that the metadata of a request say; None where they say none. Raises ``InvalidInput``."""
    return class_said(request.data_class, f"metadata.{CLASS_TAG}")


def class_said(text: str, where: str) -> DataClass | None:
    """The class of that name, None for no text. Raises ``InvalidInput`` naming ``where`` for any other."""
    text = text.strip().lower()
    if not text:
        return None
    found = class_of(text)
    if found is None:
        raise InvalidInput(f"{where}: must be one of {', '.join(DATA_CLASSES)}", param=where)
    return found
