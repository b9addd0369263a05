"""What every command needs: the settings in force, who asks, and the clients to ask with.

A command that only asks control or the gateway does not load the tree of settings where nothing but addresses
and a key is told: that is most of the time that such a command would take.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.environment import PREFIX, variables
from common.errors import Unauthenticated
from common.private import at_home
from control.cli.asking.contexts import Context, context_named, current_context
from control.cli.asking.misspelt import is_setting

if TYPE_CHECKING:
    import ssl

    from openai import OpenAI

    from common.client import Client
    from common.client_chat import ChatClient
    from common.settings import Settings

CREDENTIALS_FILE = "cli.json"
_CONFIG_FILE = "computility.yaml"
_PLAIN = {
    "COMPUTILITY_HOME": "home",
    "COMPUTILITY_CONTROL_BASE_URL": "control_base_url",
    "COMPUTILITY_GATEWAY_BASE_URL": "gateway_base_url",
    "COMPUTILITY_API_KEY": "api_key",
    "COMPUTILITY_TLS_CA_FILE": "tls_ca_file",
}
"""What a command has to know that only asks. Other settings are no matter to it."""
_OF_THE_TREE = frozenset(
    (
        "COMPUTILITY_CONTROL__URLS",
        "COMPUTILITY_CONTROL__TLS_CERTIFICATE_FILE",
        "COMPUTILITY_GATEWAY__TLS_CERTIFICATE_FILE",
    )
)
"""Whom to ask and to trust by these, only the whole tree can tell."""


@dataclass(frozen=True)
class Credentials:
    """Where Computility is and the key to it: as told, else as `up` kept it in ``home/cli.json``."""

    control_url: str
    gateway_url: str
    key: str


class Session:
    """The settings of one call of the command line, loaded when they are first asked for."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        told: dict[str, Any] | None = None,
        context: Context | None = None,
        chosen: bool = False,
    ) -> None:
        self._settings = settings
        self._told = told or {}
        self._context = context or Context("")
        self._chosen = chosen

    @staticmethod
    def load(
        home: Path | None = None, url: str = "", gateway_url: str = "", key: str = "", context: str = ""
    ) -> Session:
        """Options over a context that is named over environment over the current context over
        ``home/computility.yaml``. Where a home is told, no context is current."""
        told = {"home": home, "control_base_url": url, "gateway_base_url": gateway_url, "api_key": key}
        given = {name: value for name, value in told.items() if value}
        if context:
            return Session(told=given, context=context_named(context), chosen=True)
        has_home = home is not None or bool(variables().get("COMPUTILITY_HOME"))
        return Session(told=given, context=None if has_home else current_context())

    @cached_property
    def settings(self) -> Settings:
        """The whole tree; of a context, its home. Raises ``InvalidInput`` for settings that are wrong."""
        if self._settings is not None:
            return self._settings
        from common.settings import load_settings

        given = {"home": self._context.home or None, **self._told}
        return load_settings(**given)

    @cached_property
    def _plain(self) -> dict[str, Any] | None:
        """What the settings would say of addresses and key; None where only the whole tree can tell."""
        if self._settings is not None:
            return None
        surroundings = {name: value for name, value in variables().items() if name.upper().startswith(PREFIX)}
        said = surroundings.get("COMPUTILITY_HOME", "")
        folder = at_home(
            str(self._told.get("home") or self._context.home or said or "~/.computility")
        ).absolute()
        in_file = _of_file(folder / _CONFIG_FILE)
        settings = {**in_file, **surroundings}
        is_odd = any(not isinstance(value, str) or not value for value in settings.values())
        if is_odd or "COMPUTILITY_HOME" in in_file or not all(map(_is_plain, settings)):
            return None
        plain = {field: settings[name] for name, field in _PLAIN.items() if name in settings}
        return {**plain, **self._told, "home": folder}

    def _of(self, name: str) -> Any:
        plain = self._plain
        return getattr(self.settings, name) if plain is None else plain.get(name, "")

    @property
    def home(self) -> Path:
        """The folder of all state."""
        home: Path = self._of("home")
        return home

    @property
    def project(self) -> str | None:
        """The project that commands are about where none is told; None = all that the key sees."""
        return self._context.project or None

    @property
    def credentials(self) -> Credentials:
        """Addresses and key, from the nearest place that says them."""
        gateway = self._first("gateway_url", "gateway_base_url", self._context.gateway_url)
        return Credentials(self._control_url, gateway or self.settings.gateway_url, self._key)

    @property
    def _control_url(self) -> str:
        control = self._context.control_url or self._listed()
        return self._first("control_url", "control_base_url", control) or self.settings.control_url

    @property
    def _key(self) -> str:
        return self._first("api_key", "api_key", self._context.api_key)

    def _first(self, name: str, field: str, of_context: str) -> str:
        told = str(self._told.get(field, ""))
        others = (of_context, self._of(field)) if self._chosen else (self._of(field), of_context)
        return told or next((str(one) for one in others if one), "") or str(self._kept().get(name, ""))

    def _listed(self) -> str:
        """The first of the control processes that settings name."""
        return "" if self._plain is not None else next(iter(self.settings.control.urls), "")

    def _kept(self) -> dict[str, Any]:
        try:
            content = json.loads((self.home / CREDENTIALS_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def client(self, timeout_seconds: float = 30.0) -> Client:
        """A client of control; raises ``Unauthenticated`` when no key is known."""
        from common.client import Client

        url, key = self._control_url, self._require_key(self._key)
        return Client(
            url, key, timeout_seconds=timeout_seconds, verify=self._trust(url), others=self._others(url)
        )

    def keyless(self, timeout_seconds: float) -> Client:
        """A client of control for what anybody may ask."""
        from common.client import Client

        url = self._control_url
        return Client(url, timeout_seconds=timeout_seconds, verify=self._trust(url), others=self._others(url))

    def _others(self, url: str) -> list[str]:
        """The other control processes, where settings name ``url`` among several."""
        known = [] if self._plain is not None else self.settings.control.urls
        return [other for other in known if other != url] if url in known else []

    def chat(self) -> ChatClient:
        """A client of the models at the gateway; raises ``Unauthenticated`` when no key is known."""
        from common.client_chat import ChatClient

        url = self.credentials.gateway_url
        return ChatClient(url, self._require_key(self._key), verify=self._trust(url))

    def openai(self, credentials: Credentials | None = None) -> OpenAI:
        """The official client, pointed at the gateway."""
        from openai import DefaultHttpxClient, OpenAI

        credentials = credentials or self.credentials
        url = credentials.gateway_url
        return OpenAI(
            base_url=url,
            api_key=self._require_key(credentials.key),
            http_client=DefaultHttpxClient(verify=self._trust(url)),
            max_retries=1,
            timeout=600,
        )

    def _trust(self, url: str) -> ssl.SSLContext | bool:
        """Where `up` kept the URL, it kept the certificate of the server as well."""
        if not url.startswith("https:"):
            return True
        from common.trusted import authorities, trust_in

        kept = self._kept()
        for server in ("control", "gateway"):
            certificate = kept.get(f"{server}_certificate_file")
            if certificate and url == kept.get(f"{server}_url"):
                return trust_in(Path(certificate))
        if self._plain is not None:
            return authorities(str(self._plain.get("tls_ca_file") or self._context.tls_ca_file))
        from common.tls import trust_of

        settings = self.settings
        if self._context.tls_ca_file and not settings.tls_ca_file:
            settings = settings.model_copy(update={"tls_ca_file": self._context.tls_ca_file})
        return trust_of(settings, url)

    def _require_key(self, key: str) -> str:
        if not key:
            raise Unauthenticated(
                "no API key: give --key or COMPUTILITY_API_KEY, or name the folder of a running Computility "
                f"with --home ({self.home / CREDENTIALS_FILE} is not there; `computility up` writes it)"
            )
        return key


def _is_plain(name: str) -> bool:
    return name not in _OF_THE_TREE and is_setting(name)


def _of_file(path: Path) -> dict[str, Any]:
    """What the file of settings says, by the variables of the same settings; an empty name where it is not as
    it should be."""
    if not path.exists():
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {"": ""}
    return _by_variable(content, PREFIX) if isinstance(content, dict) else {"": ""}


def _by_variable(section: dict[Any, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in section.items():
        variable = f"{prefix}{name}".upper()
        if isinstance(value, dict):
            found |= _by_variable(value, f"{variable}__")
        else:
            found[variable] = "said" if variable not in _PLAIN else value
    return found
