"""The gateway process: ``python -m inference.gateway.main``."""

from __future__ import annotations

import argparse
import gc
import signal
import socket
import sys
from collections.abc import Sequence

import uvicorn

from common.errors import ComputilityError, mapping_of
from common.http_server.door import Door
from common.http_server.tls_gate import guarded_by_tls
from common.settings import Settings, load_settings
from common.telemetry import configure_logging, get_logger
from common.tls import LOOK_SECONDS, ServerTls, require_guarded
from inference.gateway.app import Gateway
from inference.gateway.workers.shares import divided, require_shares
from inference.gateway.workers.supervisor import Place, listen, supervise

GARBAGE_THRESHOLDS = 20_000, 50, 100
"""Objects made since the last look for cycles, and such looks between those at what is older. Requests leave
next to no cycles; Python's own thresholds had half of the gateway's time go into looking for them."""


class GatewayServer(uvicorn.Server):
    """Tells the gateway that it is to end before what is in flight is waited for."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.leave()
        await super().shutdown(sockets)


def serve(
    settings: Settings,
    worker: int = 0,
    sockets: list[socket.socket] | None = None,
    limits: int | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what an engine has begun. ``worker``: which of several that
    share the port, with its sockets, and ``limits``, the file of the table of limits that they share."""
    require_guarded(settings.gateway, "gateway")
    tls, gateway = ServerTls(settings.gateway), Gateway(settings, worker=worker, limits=limits)
    if sockets is None:
        sockets = [listen(host, settings.gateway.port) for host in settings.gateway.hosts]

    async def look() -> None:
        tls.look()
        gateway.trust.look()

    config = uvicorn.Config(
        gateway,
        loop="uvloop",
        http=guarded_by_tls(Door(settings.gateway), tls.context, gateway.direct),
        ws="none",
        lifespan="on",
        log_config=None,
        proxy_headers=False,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.gateway.drain_seconds,
        callback_notify=look,
        timeout_notify=LOOK_SECONDS,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server raises the signal again when it has finished: an ordered stop is no failure.
        signal.signal(number, lambda *_: sys.exit(0))
    get_logger("gateway").info("gateway listens", url=settings.gateway_url)
    GatewayServer(config, gateway).run(sockets=sockets)


def spare_the_search_for_garbage() -> None:
    """What is there now stays, and is not looked at again; the rest is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def main(arguments: Sequence[str] = ()) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=Place.of, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    try:
        settings = load_settings()
        configure_logging(settings, "gateway")
        if told.worker is not None:
            own = settings.model_copy(update={"gateway": divided(settings.gateway, told.worker.worker)})
            place: Place = told.worker
            serve(own, place.worker, place.take(told.parent), place.limits)
        elif settings.gateway.workers > 1:
            require_guarded(settings.gateway, "gateway")
            require_shares(settings.gateway)
            return supervise(settings)
        else:
            serve(settings)
    except ComputilityError as error:
        sys.stderr.write(f"error: {error}\n")
        return mapping_of(error).exit_code
    return 0


if __name__ == "__main__":
    spare_the_search_for_garbage()
    sys.exit(main(sys.argv[1:]))
