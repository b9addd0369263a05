"""Where a server listens, in clear or with TLS, and which web pages may call it."""

from __future__ import annotations

import ipaddress
import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from common.settings.section import Section

_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:.]+\](:\d{1,5})?")
LOOPBACK = "127.0.0.1"
_ALL_INTERFACES = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}
"""Where a server that listens everywhere is reached on its own machine."""


class AddressSettings(Section):
    """The address of one server."""

    host: str = LOOPBACK
    port: int = Field(8000, ge=1, le=65535)
    tls_certificate_file: str = Field(
        "",
        description="PEM, with the chain; with tls_key_file the server speaks TLS and nothing else. "
        "Changed files are taken up within half a minute",
    )
    tls_key_file: str = Field("", description="PEM, without a passphrase")
    allow_clear_text: bool = Field(
        False,
        description="listen beyond loopback without TLS, which is refused otherwise: for networks that "
        "nobody else is on, or where a proxy of yours has the TLS",
    )
    loopback_too: bool = Field(
        False,
        description="listen on 127.0.0.1 as well as at host, with the same port: for whoever is let onto the "
        "machine or into the pod, such as by kubectl port-forward",
    )
    cors_origins: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="web pages that may call the server from a browser, like https://chat.example.com; "
        "* = all, empty = none. Cookies are never allowed",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin[:100]!r} is no origin; write scheme://host or scheme://host:port, or *"
                )
        return value

    @model_validator(mode="after")
    def _key_goes_with_certificate(self) -> Self:
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("tls_certificate_file and tls_key_file go together: set both or neither")
        return self

    @property
    def base_url(self) -> str:
        """Where clients on this machine reach the server."""
        host = _ALL_INTERFACES.get(self.host, self.host)
        scheme = "https" if self.tls_certificate_file else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where the server listens: at its host, and on loopback where that is wanted and not in it."""
        is_there = self.is_loopback or self.host in _ALL_INTERFACES
        return (self.host, LOOPBACK) if self.loopback_too and not is_there else (self.host,)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
