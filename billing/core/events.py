"""The usage event: the only thing that is billed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Any, Literal, cast, get_args

from billing.core.event_text import sorted_json
from billing.core.tags import check_tags, check_tags_size, check_user
from common.errors import InvalidInput
from common.vocabulary import (
    EVENT_BYTES,
    LONG_NAME_CHARACTERS,
    MAX_TIME_MS,
    odd_character,
    quoted,
    shortened,
)

UsageKind = Literal["inference", "training", "device"]
METERS = ("prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "device_seconds")
"""``prompt_tokens`` counts the whole prompt, ``cached_tokens`` its part that came from a cache."""
MAX_QUANTITY = 10**12
"""Of one meter of one event: keeps every amount within 64 bits at any price."""

_TEXTS = (
    "id",
    "kind",
    "tenant",
    "project",
    "key",
    "model",
    "base_model",
    "model_identity",
    "device_class",
    "resource",
    "outcome",
    "endpoint",
    "adapter_identity",
    "service_tier",
)
_KINDS = get_args(UsageKind)
_names_of = attrgetter(*_TEXTS[1:])
_KNOWN_NAMES = 4096
_MAPPINGS = ("quantities", "labels", "tags")
_SINCE_TIERS = ("adapter_identity", "service_tier", "admitted_ms")
_TIMES = ("started_ms", "ended_ms")


_NAMES = (*(name for name in _TEXTS if name not in ("id", "outcome")), "model_shared")
_OF_ALL = ("_digest", "_canonical")
_OF_ALL_OR_BEGINNING = (*_OF_ALL, "beginning")
_UNSORTED = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True)
class UsageEvent:
    """What one request, job or span of device time used.

    ``id`` is made by whoever observed the usage; the ledger posts an id once. ``quantities`` holds only
    meters above zero. ``device_class`` is ``vendor/model``. Times are milliseconds since the epoch.

    ``model`` is the name that the client used, for reports; no price follows from it. ``model_identity`` is
    ``project/name`` of the Model that did the work (an adapter's base), ``model_shared`` whether all tenants
    may use it. Both are unset on events that are older than these fields; such an event is the only one that
    is rated by ``model`` and ``base_model``.

    ``endpoint`` is ``project/name`` of the Endpoint that answered. ``user`` (whom the client served) and
    ``tags`` are the client's own words, for reports.

    ``adapter_identity`` is ``project/name`` of the Adapter that was asked, ``service_tier`` what was promised
    of the work (``batch``), empty = nothing else than usual. ``admitted_ms`` is when the work was taken: its
    price is that of then; 0 on device time and on older events, which have the price of their end.
    """

    id: str
    kind: UsageKind
    tenant: str
    project: str
    started_ms: int
    ended_ms: int
    quantities: Mapping[str, int]
    key: str = ""
    model: str = ""
    base_model: str = ""
    device_class: str = ""
    resource: str = ""
    outcome: str = "completed"
    labels: Mapping[str, str] = field(default_factory=dict)
    model_identity: str = ""
    model_shared: bool = False
    endpoint: str = ""
    user: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    adapter_identity: str = ""
    service_tier: str = ""
    admitted_ms: int = 0

    def __post_init__(self) -> None:
        self._check(_checked_texts(self))

    def _check(self, size: int) -> None:
        """Raise ``InvalidInput`` for what is wrong. ``size``: of all texts, which were looked at."""
        if not (self.id and self.tenant and self.project):
            name = next(name for name in ("id", "tenant", "project") if not getattr(self, name))
            raise InvalidInput(f"{name}: required, but empty", param=name)
        if self.kind not in _KINDS:
            raise InvalidInput("kind: must be one of inference, training, device", param="kind")
        if not isinstance(self.model_shared, bool):
            raise InvalidInput("model_shared: must be true or false", param="model_shared")
        self._check_numbers()
        size += _checked_labels(self.labels)
        _check_ids(self.id, self.tenant, self.project)
        if self.user != "" or self.tags:
            size += self._checked_tags()
        # No character has more than four bytes, so most events need no look at each.
        if 4 * size > EVENT_BYTES:
            labels = (*self.labels, *self.labels.values(), self.user, *self.tags, *self.tags.values())
            _check_size([*(getattr(self, name) for name in _TEXTS), *labels])

    def _check_numbers(self) -> None:
        _check_whole("started_ms", self.started_ms, MAX_TIME_MS)
        _check_whole("ended_ms", self.ended_ms, MAX_TIME_MS)
        if self.ended_ms < self.started_ms:
            raise InvalidInput("ended_ms: before started_ms", param="ended_ms")
        if self.admitted_ms != 0 or isinstance(self.admitted_ms, bool):
            _check_whole("admitted_ms", self.admitted_ms, self.ended_ms)
        _check_quantities(self.quantities)

    def _checked_tags(self) -> int:
        """The length of user and tags. Raises ``InvalidInput``."""
        check_user(self.user)
        check_tags(self.tags)
        check_tags_size(self.user, self.tags)
        return len(self.user) + sum(len(name) + len(value) for name, value in self.tags.items())

    @property
    def adapter(self) -> str:
        """The name that the client used, where that is an adapter's; empty otherwise."""
        return self.model if self.kind == "inference" and self.base_model not in ("", self.model) else ""

    @property
    def priced_ms(self) -> int:
        """The moment whose prices count, in milliseconds since the epoch."""
        return self.admitted_ms or self.ended_ms

    def quantity(self, meter: str) -> int:
        """How much of the meter was used; 0 when the event does not name it."""
        return self.quantities.get(meter, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without what is younger than most readers and not used."""
        content = {
            "id": self.id,
            "kind": self.kind,
            "tenant": self.tenant,
            "project": self.project,
            "started_ms": self.started_ms,
            "ended_ms": self.ended_ms,
            "quantities": dict(self.quantities),
            "key": self.key,
            "model": self.model,
            "base_model": self.base_model,
            "device_class": self.device_class,
            "resource": self.resource,
            "outcome": self.outcome,
            "labels": dict(self.labels),
            "model_identity": self.model_identity,
            "model_shared": self.model_shared,
        }
        if self.endpoint:
            content["endpoint"] = self.endpoint
        if self.user:
            content["user"] = self.user
        if self.tags:
            content["tags"] = dict(self.tags)
        for name in _SINCE_TIERS:
            if value := getattr(self, name):
                content[name] = value
        return content

    def begun(
        self, id_: str, at_ms: int, labels: Mapping[str, str], user: str, tags: Mapping[str, str]
    ) -> UsageEvent:
        """One that has begun and been admitted at that time, whose names are those of this one, which are not
        looked at again. Raises ``InvalidInput``."""
        _ = self._names, self._names_characters  # made once for all
        event = self._with(
            id=id_, started_ms=at_ms, ended_ms=at_ms, admitted_ms=at_ms, labels=labels, user=user, tags=tags
        )
        _check_text("id", id_)
        event._check(self._names_characters + len(id_))
        event.__dict__["beginning"] = event._beginning()
        return event

    def ended(self, outcome: str, ended_ms: int, quantities: Mapping[str, int]) -> UsageEvent:
        """The same thing at its end. Raises ``InvalidInput``."""
        event = self._with(outcome=outcome, ended_ms=ended_ms, quantities=quantities)
        if 4 * len(self.beginning) + 6 * len(outcome) > EVENT_BYTES:
            event._check(_checked_texts(event))
        else:  # the beginning has all other texts, which are known to be sound
            _check_text("outcome", outcome)
            event._check_numbers()
        return event

    def _with(self, **changes: Any) -> UsageEvent:
        """One that is not checked yet."""
        event = object.__new__(UsageEvent)
        own = event.__dict__
        own.update(self.__dict__, **changes)
        for name in _OF_ALL if "outcome" in changes else _OF_ALL_OR_BEGINNING:
            own.pop(name, None)
        return event

    @cached_property
    def beginning(self) -> str:
        """``to_dict`` as JSON, less what is known at its end (outcome, time and quantities) and the last
        brace."""
        return self._beginning()

    def _beginning(self) -> str:
        own = f',"labels":{_texts_json(self.labels)}'
        if self.user:
            own += f',"user":{encode_basestring(self.user)}'
        if self.tags:
            own += f',"tags":{_texts_json(self.tags)}'
        if self.admitted_ms:
            own += f',"admitted_ms":{self.admitted_ms}'
        return f'{{"id":{encode_basestring(self.id)},{self._names},"started_ms":{self.started_ms}{own}'

    def text(self) -> str:
        """``to_dict`` as JSON, which begins with the id."""
        quantities = ",".join(
            [f"{encode_basestring(name)}:{amount}" for name, amount in self.quantities.items()]
        )
        outcome = encode_basestring(self.outcome)
        return (
            f'{self.beginning},"ended_ms":{self.ended_ms},"outcome":{outcome},"quantities":{{{quantities}}}}}'
        )

    @cached_property
    def _names(self) -> str:
        """The members that events of one key, model and engine have in common."""
        content = self.to_dict()
        return _UNSORTED({name: content[name] for name in _NAMES if name in content})[1:-1]

    @cached_property
    def _names_characters(self) -> int:
        return sum(map(len, _names_of(self)))

    def digest(self) -> str:
        """The same for events that say the same, also for those posted before they could name a Model."""
        return self._digest

    def canonical(self) -> str:
        """The JSON that the digest is of; ``from_dict`` makes the same event of it."""
        return self._canonical

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self._canonical.encode()).hexdigest()

    @cached_property
    def _canonical(self) -> str:
        return sorted_json(self)

    @staticmethod
    def from_dict(content: object) -> UsageEvent:
        """Raises ``InvalidInput`` naming the field that is wrong, missing or unknown."""
        if not isinstance(content, Mapping):
            raise InvalidInput("a usage event must be a mapping")
        if not _REQUIRED <= content.keys() <= _KNOWN:
            _refuse_names(content)
        for name in _MAPPINGS:
            if name in content and not isinstance(content[name], Mapping):
                raise InvalidInput(f"{name}: must be a mapping", param=name)
        return UsageEvent(**cast(dict[str, Any], content))


_KNOWN = frozenset(one.name for one in fields(UsageEvent))
_REQUIRED = dict.fromkeys(("id", "kind", "tenant", "project", *_TIMES, "quantities")).keys()


def _refuse_names(content: Mapping[Any, Any]) -> None:
    for name in content:
        if name not in _KNOWN:
            short = shortened(str(name), 80)
            raise InvalidInput(f"{short}: unknown field", param=short)
    for name in _REQUIRED:
        if name not in content:
            raise InvalidInput(f"{name}: required, but missing", param=name)


def _checked_texts(event: UsageEvent) -> int:
    """The length of all texts but labels. Raises ``InvalidInput``."""
    try:
        size = _length_of_sound(_names_of(event))
    except (_NotSound, TypeError):
        for name in _TEXTS:
            _check_text(name, getattr(event, name))
        return sum(len(getattr(event, name)) for name in _TEXTS)
    _check_text("id", event.id)
    return size + len(event.id)


class _NotSound(Exception):
    """Not known to be sound."""


@lru_cache(maxsize=_KNOWN_NAMES)
def _length_of_sound(names: tuple[object, ...]) -> int:
    """Events of one key and model have the same names: they are looked at once. Raises ``_NotSound`` also for
    those too long to be kept."""
    size = 0
    for name in names:
        if not isinstance(name, str) or odd_character(name):
            raise _NotSound
        size += len(name)
    if size > EVENT_BYTES:
        raise _NotSound
    return size


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{name}: must be text, not {type(value).__name__}", param=name)
    odd = odd_character(value)
    if odd:
        raise InvalidInput(f"{name}: holds the character {odd}, which cannot be seen", param=name)


def _checked_labels(labels: Mapping[str, str]) -> int:
    """The length of all labels. Raises ``InvalidInput``."""
    try:
        joined = "".join([*labels, *labels.values()])
    except TypeError:
        joined = None
    if joined is None or odd_character(joined):
        for label, value in labels.items():
            _check_text("labels", label)
            _check_text(f"labels.{label}", value)
    return len(joined or "")


def _texts_json(texts: Mapping[str, str]) -> str:
    pairs = [f"{encode_basestring(name)}:{encode_basestring(text)}" for name, text in texts.items()]
    return f"{{{','.join(pairs)}}}"


def _check_ids(*texts: str) -> None:
    """Texts that the ledger's indexes hold side by side."""
    if max(map(len, texts)) > LONG_NAME_CHARACTERS:
        raise InvalidInput(
            f"id: id, tenant and project have at most {LONG_NAME_CHARACTERS} characters", param="id"
        )


def _check_size(texts: list[str]) -> None:
    size = sum(len(json.dumps(text, ensure_ascii=False).encode()) - 2 for text in texts)
    if size > EVENT_BYTES:
        raise InvalidInput(
            f"model: the names of an event have at most {EVENT_BYTES} bytes, not {size}", param="model"
        )


def _check_whole(name: str, value: object, maximum: int) -> None:
    if type(value) is int and 0 <= value <= maximum:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise InvalidInput(
            f"{name}: must be a whole number from 0 to {maximum}, not {quoted(value)}", param=name
        )


def _check_quantities(quantities: Mapping[str, int]) -> None:
    for meter, amount in quantities.items():
        if type(amount) is int and 0 <= amount <= MAX_QUANTITY and meter in METERS:
            continue
        if meter not in METERS:
            path = f"quantities.{shortened(str(meter), 80)}"
            raise InvalidInput(f"{path}: unknown meter", param=path)
        _check_whole(f"quantities.{meter}", amount, MAX_QUANTITY)
    if quantities.get("cached_tokens", 0) > quantities.get("prompt_tokens", 0):
        raise InvalidInput(
            "quantities.cached_tokens: more than prompt_tokens", param="quantities.cached_tokens"
        )
