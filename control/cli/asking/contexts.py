"""Contexts: several Computilities by name, kept in ``~/.config/computility/contexts.json`` (0600)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from common.durable import write_private
from common.environment import variable
from common.errors import InvalidInput, NotFound
from common.private import at_home


@dataclass(frozen=True)
class Context:
    """One Computility and who asks there. What is empty is not said by the context."""

    name: str
    home: str = ""
    control_url: str = ""
    gateway_url: str = ""
    api_key: str = ""
    tls_ca_file: str = ""
    project: str = ""


@dataclass(frozen=True)
class Contexts:
    """All contexts by name, and the one that is used where none is named (empty = none)."""

    current: str
    known: dict[str, Context]

    def named(self, name: str) -> Context:
        """The context; ``NotFound`` names the nearest one."""
        if name not in self.known:
            near = get_close_matches(name, self.known, n=1)
            meant = f"did you mean {near[0]}?" if near else "`computility config list` shows those there are"
            raise NotFound(f"there is no context {name!r}; {meant}", param="--context")
        return self.known[name]

    def with_context(self, context: Context) -> Contexts:
        """The same with this context, in place of one of that name."""
        return replace(self, known={**self.known, context.name: context})

    def without(self, name: str) -> Contexts:
        """The same without it; raises ``NotFound``."""
        self.named(name)
        rest = {other: one for other, one in self.known.items() if other != name}
        return Contexts("" if self.current == name else self.current, rest)

    def using(self, name: str) -> Contexts:
        """The same with that one as the current one; raises ``NotFound``."""
        return replace(self, current=self.named(name).name)


def contexts_file() -> Path:
    """Where contexts are kept."""
    return at_home(variable("XDG_CONFIG_HOME") or "~/.config") / "computility" / "contexts.json"


def read_contexts() -> Contexts:
    """All contexts. Raises ``InvalidInput`` for a file that is none."""
    path = contexts_file()
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return Contexts("", {})
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    try:
        known = {name: _context(name, values) for name, values in content["contexts"].items()}
        return Contexts(str(content.get("current", "")), known)
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} holds no contexts; remove it, or mend it by hand") from error


def write_contexts(contexts: Contexts) -> None:
    """Keep them, for the user alone."""
    path = contexts_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shown = {name: _values(context) for name, context in sorted(contexts.known.items())}
    content = {"current": contexts.current, "contexts": shown}
    write_private(path, json.dumps(content, indent=2) + "\n")


def current_context() -> Context | None:
    """The context in use; None where none is, or where the one that was is gone."""
    contexts = read_contexts()
    return contexts.known.get(contexts.current)


def context_named(name: str) -> Context:
    """The context of that name; raises ``NotFound``."""
    return read_contexts().named(name)


def _context(name: str, values: dict[str, Any]) -> Context:
    known = {field.name for field in fields(Context)} - {"name"}
    return Context(name, **{key: str(value) for key, value in values.items() if key in known})


def _values(context: Context) -> dict[str, str]:
    return {name: value for name, value in asdict(context).items() if value and name != "name"}
