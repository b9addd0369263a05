"""What pydantic finds wrong, in plain words: of documents, of bodies and queries of the API, of settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from common.errors import Problem
from common.resources.fields import explain_pattern
from common.vocabulary import harmless, shortened

MAX_PROBLEMS = 100
"""As many mistakes of one document are named."""
_SHOWN_CHARACTERS = 80
_QUOTED = re.compile(r"'([^']*)'")
_BRANCH = re.compile(
    r"(?:constrained-\w+|literal|function-\w+|lax-or-strict|nullable|list|dict|int|float|str|bool)(?:\[.*\])?",
    re.DOTALL,
)
"""What pydantic calls one of several types that a field may have; it stands behind the field."""
_MUST = "must be "
_BOOLEAN, _WHOLE, _NUMBER = "must be true or false", "must be a whole number", "must be a number"
_LIST, _MAPPING, _TEXT = "must be a list", "must be a mapping", "must be a text"
_SAID: Mapping[str, str] = {
    "extra_forbidden": "unknown field",
    "missing": "required, but missing",
    "none_required": "must be left out",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "must be a number of fewer digits",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a number that is not infinite",
    "string_type": _TEXT,
    "string_unicode": "holds half of a surrogate pair, which is no character",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "path_type": "must be a path",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} entries, not {actual_length}",
    "too_long": "must have at most {max_length} entries, not {actual_length}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}
"""Sort of error -> words, with what the error tells beside."""


def problems_of(error: ValidationError, prefix: str = "") -> tuple[Problem, ...]:
    """A pydantic error as problems with paths like ``spec.roles[0].replicas``; the first hundred."""
    return problems_in(error.errors(include_url=False), prefix)


def problems_in(errors: Sequence[ErrorDetails], prefix: str = "") -> tuple[Problem, ...]:
    """Errors as pydantic lists them as problems; one for a field that may be of several types."""
    errors = errors[:MAX_PROBLEMS]
    branches = Counter(error["loc"][:-1] for error in errors if _names_a_branch(error["loc"]))
    found: dict[object, list[Problem]] = {}
    for number, error in enumerate(errors):
        loc = error["loc"]
        is_branch = _names_a_branch(loc) and branches[loc[:-1]] > 1
        path = path_of(prefix, loc[:-1] if is_branch else loc)
        found.setdefault(loc[:-1] if is_branch else number, []).append(
            Problem(path, say(error), error["type"])
        )
    return tuple(_joined(problems) for problems in found.values())


def _names_a_branch(loc: tuple[int | str, ...]) -> bool:
    """Whether the last part may name no field, but one of the types that the field before it may have."""
    return len(loc) > 1 and isinstance(loc[-1], str) and _BRANCH.fullmatch(loc[-1]) is not None


def _joined(problems: Sequence[Problem]) -> Problem:
    """What is wrong at one place: where it may be of several types, any of them would do."""
    first, *others = problems
    messages = list(dict.fromkeys(problem.message for problem in problems))
    if others and all(message.startswith(_MUST) for message in messages):
        either = " or ".join(message.removeprefix(_MUST) for message in messages)
        return Problem(first.path, f"{_MUST}{either}", first.code)
    return first


def path_of(prefix: str, loc: tuple[int | str, ...]) -> str:
    """A place as pydantic tells it, like ``spec.roles[0].name``; names that are long or odd are shown so that
    they do no harm."""
    text = prefix
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":  # pydantic's word for "the key itself"; the key stands before it
            name = shortened(part, _SHOWN_CHARACTERS)
            text += f".{name}" if text else name
    return text or "."


def say(error: ErrorDetails) -> str:
    """What one error of pydantic means."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return explain_pattern(context["pattern"])
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters, not {len(error['input'])}"
    if kind == "string_too_short" and context["min_length"] == 1:
        return "must not be empty"
    if kind == "too_short" and context["min_length"] == 1:
        return "must have at least one entry"
    if kind == "json_invalid":
        return f"is not JSON: {context['error']}"
    said = _SAID.get(kind)
    if said is not None:
        told = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
        return said.format(**told) + _meant(error["input"], str(context.get("expected", "")))
    message: str = error["msg"]
    return harmless(message.removeprefix("Value error, ").replace("Input should be", "must be"))


def _meant(given: object, expected: str) -> str:
    """The nearest of the words that are expected, like ``'nvidia', 'amd' or 'cpu'``."""
    words = _QUOTED.findall(expected)
    near = get_close_matches(given[:_SHOWN_CHARACTERS], words, n=1) if isinstance(given, str) else []
    return f"; did you mean {near[0]}?" if near else ""
