"""What every command needs: the settings in force, who asks, and the clients to ask with."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import DefaultHttpxClient, OpenAI

from common.client import Client
from common.errors import Unauthenticated
from common.settings import Settings, load_settings
from common.tls import trust_in, trust_of

CREDENTIALS_FILE = "cli.json"


@dataclass(frozen=True)
class Credentials:
    """Where Computility is and the key to it: as told, else as `up` kept it in ``home/cli.json``."""

    control_url: str
    gateway_url: str
    key: str


@dataclass
class Session:
    """The settings of one call of the command line."""

    settings: Settings

    @staticmethod
    def load(home: Path | None = None, url: str = "", gateway_url: str = "", key: str = "") -> Session:
        """Options over environment over ``home/computility.yaml``."""
        told = {"home": home, "control_base_url": url, "gateway_base_url": gateway_url, "api_key": key}
        return Session(load_settings(**{name: value for name, value in told.items() if value}))

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def credentials(self) -> Credentials:
        kept = self._kept()
        settings = self.settings
        return Credentials(
            settings.control_base_url or self._listed() or kept.get("control_url") or settings.control_url,
            settings.gateway_base_url or kept.get("gateway_url", "") or settings.gateway_url,
            settings.api_key or kept.get("api_key", ""),
        )

    def _listed(self) -> str:
        """The first of the control processes that settings name."""
        return next(iter(self.settings.control.urls), "")

    def _kept(self) -> dict[str, Any]:
        try:
            content = json.loads((self.home / CREDENTIALS_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def client(self) -> Client:
        """A client of control; raises ``Unauthenticated`` when no key is known."""
        credentials = self.credentials
        url = credentials.control_url
        return Client(url, self._require_key(credentials), verify=self._trust(url), others=self._others(url))

    def keyless(self, timeout_seconds: float) -> Client:
        """A client of control for what anybody may ask."""
        url = self.credentials.control_url
        return Client(url, timeout_seconds=timeout_seconds, verify=self._trust(url), others=self._others(url))

    def _others(self, url: str) -> list[str]:
        """The other control processes, where settings name ``url`` among several."""
        known = self.settings.control.urls
        return [other for other in known if other != url] if url in known else []

    def openai(self, credentials: Credentials | None = None) -> OpenAI:
        """The official client, pointed at the gateway."""
        credentials = credentials or self.credentials
        url = credentials.gateway_url
        return OpenAI(
            base_url=url,
            api_key=self._require_key(credentials),
            http_client=DefaultHttpxClient(verify=self._trust(url)),
            max_retries=1,
            timeout=600,
        )

    def _trust(self, url: str) -> ssl.SSLContext | bool:
        """Where `up` kept the URL, it kept the certificate of the server as well."""
        kept = self._kept()
        for server in ("control", "gateway"):
            certificate = kept.get(f"{server}_certificate_file")
            if certificate and url == kept.get(f"{server}_url"):
                return trust_in(Path(certificate))
        return trust_of(self.settings, url)

    def _require_key(self, credentials: Credentials) -> str:
        if not credentials.key:
            raise Unauthenticated(
                "no API key: give --key or COMPUTILITY_API_KEY, or name the folder of a running Computility "
                f"with --home ({self.home / CREDENTIALS_FILE} is not there; `computility up` writes it)"
            )
        return credentials.key
