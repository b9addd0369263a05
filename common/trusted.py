"""Whom a client of a server with TLS trusts, by files. It knows no settings, so that a command line that only
asks need not load them."""

from __future__ import annotations

import ssl
from pathlib import Path

from common.errors import SetupError

_PEM_END = "-----END CERTIFICATE-----"


def authorities(file: str) -> ssl.SSLContext:
    """Trust in the authorities of the PEM file; where it is empty, in those of the system. Raises
    ``SetupError``."""
    try:
        return ssl.create_default_context(cafile=file or None)
    except OSError as error:
        raise SetupError(f"tls_ca_file: {file}: {error}", param="tls_ca_file") from error


def trust_in(certificate: Path) -> ssl.SSLContext:
    """Trust in the first certificate of the file alone. Its name is not compared: it is known itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    add_trust(context, certificate)
    return context


def add_trust(context: ssl.SSLContext, certificate: Path) -> None:
    """Trust in the first certificate of the file besides. Raises ``SetupError``."""
    try:
        first, end, _ = certificate.read_text().partition(_PEM_END)
        context.load_verify_locations(cadata=first + end)
    except (OSError, ValueError, ssl.SSLError) as error:
        raise SetupError(f"the certificate {certificate} cannot be used: {error}") from error
