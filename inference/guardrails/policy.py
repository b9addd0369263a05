"""Guards as a policy names them, made into rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from common.errors import InvalidInput
from inference.guardrails.detecting import Detector
from inference.guardrails.injection import injection_detector
from inference.guardrails.personal import (
    IDENTITIES,
    card_detector,
    email_detector,
    iban_detector,
    identity_detector,
    phone_detector,
)
from inference.guardrails.rules import SEVERITY, Rule
from inference.guardrails.secrets import secret_detectors
from inference.guardrails.terms import terms_detector

Direction = Literal["input", "output"]
Settings = Mapping[str, Any]
_PERSONAL: Mapping[str, Callable[[Sequence[str]], Detector]] = {
    "email": lambda countries: email_detector(),
    "card": lambda countries: card_detector(),
    "iban": lambda countries: iban_detector(),
    "phone": phone_detector,
    "identity": lambda countries: identity_detector([one for one in countries if one in IDENTITIES]),
}
_KINDS: Mapping[str, Callable[[Settings], Sequence[Detector]]] = {
    "terms": lambda s: [terms_detector(s["terms"], s.get("wholeWords", True))],
    "personal": lambda s: [_PERSONAL[one](s.get("countries") or ()) for one in s.get("find") or _PERSONAL],
    "secrets": lambda s: secret_detectors(),
    "injection": lambda s: [injection_detector()],
}
"""Each kind of guard -> what it looks for."""


def rules_of(guardrail: str, guards: Sequence[Settings], direction: Direction) -> list[Rule]:
    """The rules of a guardrail for what goes in, or what comes out. Raises ``InvalidInput`` for one that is
    not known here."""
    text = json.dumps([one for one in guards if one.get("direction", "both") in ("both", direction)])
    return list(_made(guardrail, text))


@lru_cache(maxsize=512)
def _made(guardrail: str, text: str) -> tuple[Rule, ...]:
    """Tables change often, and policies seldom."""
    return tuple(
        Rule(guardrail, guard.get("name") or guard["kind"], guard["action"], detector)
        for guard in json.loads(text)
        for detector in _detectors(guard)
    )


def _detectors(guard: Settings) -> Sequence[Detector]:
    make = _KINDS.get(guard.get("kind", ""))
    if make is None or guard.get("action") not in SEVERITY:
        raise InvalidInput("a guard that is not known here", "guard_unknown")
    try:
        return make(guard)
    except (LookupError, TypeError) as error:
        raise InvalidInput("a guard with settings that are not known here", "guard_unknown") from error
