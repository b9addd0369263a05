"""What is known about one request and its answer while it is served."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from common.store.authorship import Author
from control.admission.access import Caller
from control.audit import ANONYMOUS

_KEY = "exchange"


@dataclass
class Exchange:
    """``actor`` is who the audit log names; ``author`` the same as the author of what is written.
    ``in_session``: a piece of what was begun before, so that a success is not in the audit log again;
    ``asked`` names what an apply is about, like ``Queue/research``, for the entry of one that is refused."""

    request_id: str
    actor: str = ANONYMOUS
    caller: Caller | None = None
    error_code: str = ""
    in_session: bool = False
    asked: str = ""
    author: Author = field(default_factory=lambda: Author(ANONYMOUS))

    def identify(self, actor: str, caller: Caller | None = None) -> None:
        """Say who asks."""
        self.actor, self.caller = actor, caller
        self.author.name = actor
        if caller is None:
            self.author.sort = "control"
        else:
            self.author.tenant = caller.tenant_uid

    @property
    def denied(self) -> bool:
        """Whether something was refused to the caller or hidden from it."""
        return self.caller is not None and self.caller.denied


def start_exchange(scope: MutableMapping[str, Any], request_id: str) -> Exchange:
    """Attach a fresh exchange to an ASGI scope."""
    scope["state"] = dict(scope.get("state") or {})
    exchange = scope["state"][_KEY] = Exchange(request_id)
    return exchange


def exchange_of(scope: MutableMapping[str, Any]) -> Exchange:
    """The exchange of an ASGI scope."""
    exchange: Exchange = scope["state"][_KEY]
    return exchange
