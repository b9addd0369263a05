"""Types of fields over ``common.vocabulary``: what they refuse is refused where a document enters, with its
path, and the schema of the API shows the same limits.

What controllers observe (a status) is of plain types, so that what is stored can always be read; texts of
others in it are ``Message``, which is made harmless and short instead of refused.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from common import vocabulary as v

_C = TypeVar("_C")


def _within(content: _C, size: int, limit: int) -> _C:
    if size > limit:
        raise ValueError(f"has {size} bytes in all, but may have at most {limit}")
    return content


def _check_bytes(name: str) -> str:
    return _within(name, len(name.encode()), v.ADAPTER_NAME_BYTES)


Name = Annotated[str, StringConstraints(max_length=v.NAME_CHARACTERS, pattern=f"^{v.NAME_PATTERN}$")]
OptionalName = Annotated[
    str, StringConstraints(max_length=v.NAME_CHARACTERS, pattern=f"^({v.NAME_PATTERN})?$")
]
"""A name, or empty."""
LongName = Annotated[
    str, StringConstraints(max_length=v.LONG_NAME_CHARACTERS, pattern=f"^{v.LONG_NAME_PATTERN}$")
]
ServedName = Annotated[
    str, StringConstraints(max_length=v.SERVED_NAME_CHARACTERS, pattern=f"^{v.SERVED_NAME_PATTERN}$")
]
"""What clients put in ``model`` to reach an Endpoint."""
AdapterName = Annotated[
    str,
    StringConstraints(max_length=v.ADAPTER_NAME_CHARACTERS, pattern=f"^{v.SERVED_NAME_PATTERN}$"),
    AfterValidator(_check_bytes),
]
"""What clients put in ``model``: a served name or a ``ft:…`` name."""
ModelNames = Annotated[list[AdapterName], Field(max_length=256)]
Suffix = Annotated[str, StringConstraints(max_length=v.SUFFIX_CHARACTERS, pattern=f"^{v.SUFFIX_PATTERN}$")]
Word = Annotated[str, StringConstraints(max_length=v.NAME_CHARACTERS, pattern=f"^{v.WORD_PATTERN}$")]
"""A short identifier: a dtype, a capability, a hyper-parameter."""
Text = Annotated[str, StringConstraints(max_length=v.TEXT_CHARACTERS, pattern=f"^{v.TEXT_PATTERN}$")]
"""One line for people, or a path."""
Source = Annotated[
    str, StringConstraints(min_length=1, max_length=v.SOURCE_CHARACTERS, pattern=f"^{v.TEXT_PATTERN}$")
]
DeviceModel = Annotated[
    str, StringConstraints(max_length=v.SERVED_NAME_CHARACTERS, pattern=f"^{v.TEXT_PATTERN}$", min_length=1)
]
LabelKey = Annotated[
    str, StringConstraints(max_length=v.LABEL_KEY_CHARACTERS, pattern=f"^{v.LABEL_KEY_PATTERN}$")
]
OptionalLabelKey = Annotated[
    str, StringConstraints(max_length=v.LABEL_KEY_CHARACTERS, pattern=f"^({v.LABEL_KEY_PATTERN})?$")
]
LabelValue = Annotated[
    str, StringConstraints(max_length=v.ADAPTER_NAME_CHARACTERS, pattern=f"^{v.TEXT_PATTERN}$")
]
"""Long enough for the name of a served model, which is a label of the workload that serves it."""
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=v.MAX_LIST)]


def _file_name(name: str) -> str:
    return v.shortened(name, v.FILE_NAME_CHARACTERS)


FileName = Annotated[str, Field(max_length=v.TEXT_CHARACTERS), AfterValidator(_file_name)]
"""Made harmless, not refused: uploads of before may have odd ones."""
Message = Annotated[str, AfterValidator(v.shortened)]
"""What a controller or a process said: made harmless and short, never refused."""


def _seen_name(name: str) -> str:
    return v.shortened(name, v.SERVED_NAME_CHARACTERS)


SeenName = Annotated[str, AfterValidator(_seen_name)]
"""What a driver calls a device: made harmless and short, because it is billed under this name."""
Whole = Annotated[int, Field(ge=0, le=v.MAX_NUMBER)]
Number = Annotated[float, Field(ge=0, le=v.MAX_NUMBER)]
Seconds = Annotated[float, Field(ge=0, le=v.MAX_SECONDS)]
WholeSeconds = Annotated[int, Field(gt=0, le=v.MAX_SECONDS)]
TimeMs = Annotated[int, Field(ge=0, le=v.MAX_TIME_MS)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Priority = Annotated[int, Field(ge=-v.MAX_PRIORITY, le=v.MAX_PRIORITY)]
Metric = Annotated[float, Field(ge=-v.MAX_FLOAT, le=v.MAX_FLOAT)]
"""What was measured: any number but infinity."""
Scalar = Metric | Annotated[int, Field(ge=-v.MAX_NUMBER, le=v.MAX_NUMBER)] | Text


def _check_annotations(annotations: dict[str, str]) -> dict[str, str]:
    return _within(annotations, _bytes_of(annotations), v.ANNOTATION_BYTES)


def _check_command(words: list[str]) -> list[str]:
    return _within(words, sum(map(_size_bytes, words)), v.COMMAND_BYTES)


def _check_variables(env: dict[str, str]) -> dict[str, str]:
    return _within(env, _bytes_of(env), v.COMMAND_BYTES)


def _check_engine_args(words: list[str]) -> list[str]:
    return _within(words, sum(map(_size_bytes, words)), v.ENGINE_BYTES)


def _check_engine_variables(env: dict[str, str]) -> dict[str, str]:
    return _within(env, _bytes_of(env), v.ENGINE_BYTES)


def _bytes_of(mapping: dict[str, str]) -> int:
    return sum(_size_bytes(key) + _size_bytes(value) for key, value in mapping.items())


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


_Word = Annotated[str, StringConstraints(max_length=v.COMMAND_BYTES, pattern=f"^{v.LINES_PATTERN}$")]
Variable = Annotated[str, StringConstraints(max_length=128, pattern=f"^{v.VARIABLE_PATTERN}$")]
Command = Annotated[
    list[_Word],
    Field(max_length=256, description=f"at most {v.COMMAND_BYTES} bytes in all"),
    AfterValidator(_check_command),
]
"""Words of a command line."""
Variables = Annotated[
    dict[Variable, _Word],
    Field(max_length=256, description=f"at most {v.COMMAND_BYTES} bytes in all"),
    AfterValidator(_check_variables),
]
"""An environment."""
EngineArgs = Annotated[
    list[_Word],
    Field(max_length=128, description=f"at most {v.ENGINE_BYTES} bytes in all"),
    AfterValidator(_check_engine_args),
]
"""What is added to the command line of an engine, so that the whole is a command line."""
EngineVariables = Annotated[
    dict[Variable, _Word],
    Field(max_length=128, description=f"at most {v.ENGINE_BYTES} bytes in all"),
    AfterValidator(_check_engine_variables),
]
_Note = Annotated[str, StringConstraints(max_length=v.ANNOTATION_BYTES, pattern=f"^{v.LINES_PATTERN}$")]
Annotations = Annotated[
    dict[LabelKey, _Note],
    Field(max_length=v.MAX_LIST, description=f"at most {v.ANNOTATION_BYTES} bytes in all"),
    AfterValidator(_check_annotations),
]

_ENDS = "starting and ending with a letter or digit"
_LETTERS = "A-Z, a-z, 0-9, '-', '_' and '.'"
_EXPLAINED = {
    v.NAME_PATTERN: f"must be 1-{v.NAME_CHARACTERS} characters of a-z, 0-9, '-' and '.', {_ENDS}",
    v.LONG_NAME_PATTERN: f"must be 1-{v.LONG_NAME_CHARACTERS} characters of a-z, 0-9, '-' and '.', {_ENDS}",
    v.SUFFIX_PATTERN: f"must be 1-{v.SUFFIX_CHARACTERS} characters of {_LETTERS}, {_ENDS}",
    v.WORD_PATTERN: f"must be 1-{v.NAME_CHARACTERS} characters of {_LETTERS}, {_ENDS}",
    v.LABEL_KEY_PATTERN: f"must be 1-{v.NAME_CHARACTERS} characters of {_LETTERS}, {_ENDS}; "
    "a DNS name and '/' may stand before it",
    v.VARIABLE_PATTERN: "must be letters, digits and '_', and not begin with a digit",
    v.SERVED_NAME_PATTERN: "must not be empty, begin or end with a space, or hold control or invisible "
    "characters",
    v.TEXT_PATTERN: "must be one line without control or invisible characters",
    v.LINES_PATTERN: "must not hold control characters",
}


def explain_pattern(pattern: str) -> str:
    """What a text must be to match the pattern of a field, in words."""
    inner = pattern.removeprefix("^").removesuffix("$")
    if inner.startswith("(") and inner.endswith(")?") and inner not in _EXPLAINED:
        inner = inner[1:-2]
    return _EXPLAINED.get(inner, f"must match {pattern}")
