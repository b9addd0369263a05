"""What is known about one request and its answer while it is served."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from control.admission.access import Caller
from control.audit import ANONYMOUS

_KEY = "exchange"


@dataclass
class Exchange:
    """``actor`` is who the audit log names."""

    request_id: str
    actor: str = ANONYMOUS
    caller: Caller | None = None
    error_code: str = ""

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
