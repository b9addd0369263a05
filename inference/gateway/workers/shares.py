"""What each worker may hold of what one gateway may: shares add up to the limit, which is never passed.

Connections are spread over workers by the system; a client with one connection meets one worker, and so the
share of that one.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import SetupError
from common.settings import GatewaySettings, Settings

DIVIDED = (
    "answer_bytes_per_tenant",
    "body_bytes_per_key",
    "body_bytes_per_tenant",
    "max_connections",
    "max_connections_per_address",
    "max_requests_per_key",
    "max_requests_per_tenant",
    "max_sequences_per_key",
    "max_sequences_per_tenant",
    "prefix_entries",
    "queued_requests_per_tenant",
    "shadow_body_bytes",
    "shadow_requests",
    "waking_body_bytes_per_endpoint",
    "waking_body_bytes_per_tenant",
    "waking_requests_per_endpoint",
    "waking_requests_per_tenant",
)
"""Settings that say what all of a gateway's requests may have together."""


def share_of(limit: int, worker: int, workers: int) -> int:
    """The part of one worker; those of all add up to the limit."""
    return limit // workers + (worker < limit % workers)


def divided(settings: GatewaySettings, worker: int) -> GatewaySettings:
    """The settings of one worker."""
    shares = {name: share_of(getattr(settings, name), worker, settings.workers) for name in DIVIDED}
    return settings.model_copy(update=shares)


def require_shares(settings: GatewaySettings) -> None:
    """Raise ``SetupError`` where a worker would have nothing, or could not take what one request may be."""
    workers = settings.workers
    for name in DIVIDED:
        limit = getattr(settings, name)
        if 0 < limit < workers:
            raise SetupError(
                f"gateway.{name} is {limit}, which {workers} workers cannot share: raise it to at least "
                f"{workers}, or lower gateway.workers"
            )
    for name, whole in (
        ("body_bytes_per_key", "body_limit_bytes"),
        ("max_sequences_per_key", "max_sequences_per_request"),
    ):
        limit, least = getattr(settings, name), getattr(settings, whole)
        if least <= limit < workers * least:
            raise SetupError(
                f"gateway.{name} is {limit}, of which a share of {workers} workers has no room for a request "
                f"(gateway.{whole} is {least}): raise it to {workers * least}, or lower gateway.workers"
            )


def spool_folder(settings: Settings, worker: int) -> Path:
    """Where one worker keeps usage; what others left, with another number of workers, is shipped by any."""
    name = f"gateway-{settings.gateway.port}"
    return settings.folder("spool") / (f"{name}-{worker}" if worker else name)
