"""Values of options as they are typed, where nothing has to be made of them: what typer makes others with is
pydantic, and that takes longer to load than most commands run."""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args, get_origin

_UNCHECKED = (str, bool)
"""Of these, every value of the type is taken."""


def taken_as_typed(command: Any) -> Any:
    """The command, each of whose parameters takes a value as it is where that is enough, and asks typer where
    it is not. With those of its own commands."""
    of_typer = command.get_params
    command.get_params = lambda context: [_eased(parameter) for parameter in of_typer(context)]
    for inner in getattr(command, "commands", {}).values():
        taken_as_typed(inner)
    return command


def _eased(parameter: Any) -> Any:
    if not isinstance(parameter.get_runtime_param, _Value):
        parameter.get_runtime_param = _Value(parameter.get_runtime_param, parameter.type_descriptor)
    return parameter


class _Value:
    """What typer asks for a value: itself, so that its own is not made before it is needed."""

    def __init__(self, of_typer: Any, descriptor: Any) -> None:
        self._of_typer = of_typer
        self._descriptor = descriptor

    def __call__(self) -> _Value:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value, or typer's error."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        annotation = self._descriptor.annotation
        if self._descriptor.parameter_info.parser is None:
            if annotation in _UNCHECKED and type(value) is annotation:
                return value
            if (
                isinstance(annotation, type)
                and issubclass(annotation, Enum)
                and isinstance(value, annotation)
            ):
                return value
            if _is_list_of_texts(annotation) and isinstance(value, (list, tuple)):
                return list(value)
        if value == param.default and type(value) is annotation:
            return value
        return self._of_typer().coerce(value, param=param, ctx=ctx)


def _is_list_of_texts(annotation: Any) -> bool:
    return get_origin(annotation) is list and get_args(annotation) == (str,)
