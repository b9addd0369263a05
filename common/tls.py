"""TLS of the platform's servers, and whom its own clients trust.

On the machine that has a server's certificate, clients trust that certificate and no other, whatever name it
was made out for. Elsewhere they trust the authorities of ``tls_ca_file``, else those of the system.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from common.client import Client
from common.errors import SetupError
from common.settings import Settings
from common.settings.address import AddressSettings
from common.telemetry import get_logger
from common.trusted import add_trust, authorities, trust_in

LOOK_SECONDS = 30
"""Between looks at the files of a server that runs."""
_log = get_logger("tls")


def require_guarded(address: AddressSettings, section: str) -> None:
    """Raise ``SetupError`` where keys and prompts would cross a network in clear unless that is wanted."""
    if address.is_loopback or address.tls_certificate_file or address.allow_clear_text:
        return
    prefix = f"COMPUTILITY_{section.upper()}__"
    raise SetupError(
        f"{section}.host is {address.host}, which other machines reach, and there is no TLS: keys and "
        f"prompts would cross the network in clear. Set {prefix}TLS_CERTIFICATE_FILE and "
        f"{prefix}TLS_KEY_FILE; or, where nobody else is on the network or a proxy of yours has the TLS, "
        f"{prefix}ALLOW_CLEAR_TEXT=true (allow_clear_text: true in computility.yaml)",
        code="clear_text_refused",
        param=f"{section}.host",
    )


def trust_of(settings: Settings, url: str) -> ssl.SSLContext | bool:
    """What a client of ``url`` passes as ``verify`` (httpx) or ``ssl`` (aiohttp). Raises ``SetupError``."""
    if not url.startswith("https:"):
        return True
    for server in (settings.control, settings.gateway):
        if server.tls_certificate_file and f"{url}/".startswith(f"{server.base_url}/"):
            return trust_in(Path(server.tls_certificate_file))
    return authorities(settings.tls_ca_file)


def control_client(settings: Settings, key: str = "", *, timeout_seconds: float = 30.0) -> Client:
    """A client of this instance's control, whether it speaks TLS or not."""
    url = settings.control_url
    return Client(url, key, timeout_seconds=timeout_seconds, verify=trust_of(settings, url))


class ServerTls:
    """The TLS of a server that runs; ``context`` is None where it speaks in clear. Raises ``SetupError``."""

    def __init__(self, address: AddressSettings) -> None:
        self._files = (Path(address.tls_certificate_file), Path(address.tls_key_file))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if address.tls_certificate_file else None
        self._loaded: tuple[int, ...] = ()
        if self.context is not None:
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._load(self.context)

    def look(self) -> None:
        """Take up files that have changed. What cannot be used is logged, and the old one stays."""
        if self.context is None:
            return
        try:
            if _versions(self._files) != self._loaded:
                self._load(self.context)
                _log.info("a new certificate is in use", file=str(self._files[0]))
        except (OSError, SetupError) as error:
            _log.error("the new certificate cannot be used", error=str(error))

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = self._files
        try:
            versions = _versions(self._files)
            # Tried apart: a certificate that is not the key's must not take the place of one that is.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise SetupError(
                f"TLS cannot be set up with {certificate} and {key}: {error}; give a certificate and its key "
                "as PEM files, without a passphrase",
                code="tls_files",
            ) from error
        self._loaded = versions


class ClientTrust:
    """``trust_of`` for clients that live long: a certificate that is renewed is trusted as well."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.verify = trust_of(settings, url)
        server = next((s for s in (settings.control, settings.gateway) if s.base_url in url), None)
        self._file = Path(server.tls_certificate_file) if server and server.tls_certificate_file else None
        self._seen = _versions((self._file,)) if self._file else ()

    def look(self) -> None:
        """Take up a certificate that has changed."""
        if self._file is None or isinstance(self.verify, bool):
            return
        try:
            now = _versions((self._file,))
            if now != self._seen:
                add_trust(self.verify, self._file)
                self._seen = now
        except (OSError, SetupError) as error:
            _log.error("the new certificate of a server cannot be read", error=str(error))


def _versions(files: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(file.stat().st_mtime_ns for file in files)
