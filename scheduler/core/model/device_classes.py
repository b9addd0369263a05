"""Classes of devices that quotas, budgets and fair shares speak of: ``vendor/model``, ``vendor`` or ``*``."""

from __future__ import annotations

ModelKey = tuple[str, str]
"""Vendor and model of a device."""

ACCELERATORS = "*"
"""All devices but CPUs."""

CPU = "cpu"


def is_class(device_class: str) -> bool:
    """Whether the text names a class: ``*``, ``nvidia``, ``nvidia/H100``."""
    return device_class == ACCELERATORS or all(device_class.split("/", 1))


def classes_of(model: ModelKey) -> tuple[str, ...]:
    """The classes that cover a model, the narrowest first, in lower case. CPUs are not in ``*``.

    >>> classes_of(("nvidia", "H100"))
    ('nvidia/h100', 'nvidia', '*')
    """
    vendor, name = model[0].lower(), model[1].lower()
    own = (f"{vendor}/{name}", vendor)
    return own if vendor == CPU else (*own, ACCELERATORS)
