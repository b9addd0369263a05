"""The process that speaks to one Ray cluster for control: a process can join one Ray only, and may end with
it.

Usage: python -m scheduler.adapters.ray.connector CLUSTER SOCKET_FD, with the settings in the environment. It
ends when the other end of the socket closes.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from common.errors import ComputilityError, Unavailable
from common.settings import load_settings
from common.telemetry import configure_logging, get_logger
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.adapters.ray.frames import Answer, Question, frame, read_frame
from scheduler.ports import Fabric

METHODS = frozenset(
    (
        "lead",
        "nodes",
        "news",
        "ensure_gang",
        "stop_gang",
        "forget_gang",
        "mark_metered",
        "read_log",
        "series",
        "dismiss_agents",
    )
)
_log = get_logger(__name__)


async def answer(fabric: Fabric, question: Question) -> Answer:
    """What the fabric says; every failure becomes a typed error."""
    number, method, arguments = question
    if method not in METHODS:
        return number, False, Unavailable(f"a connector does not know {method!r}")
    try:
        return number, True, await getattr(fabric, method)(*arguments)
    except ComputilityError as error:
        return number, False, error
    except Exception as error:  # noqa: BLE001 - the asker gets it, whatever it is
        _log.exception("connector failed", method=method)
        return number, False, Unavailable(f"the connector failed in {method}: {error}")


async def serve(fabric: Fabric, channel: socket.socket) -> None:
    """Answer questions, several at a time, until the other side is gone."""
    reader, writer = await asyncio.open_connection(sock=channel)
    answering: set[asyncio.Task[None]] = set()

    async def reply(question: Question) -> None:
        writer.write(frame(await answer(fabric, question)))
        await writer.drain()

    while True:
        try:
            question = await read_frame(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        task = asyncio.create_task(reply(question))  # type: ignore[arg-type]
        answering.add(task)
        task.add_done_callback(answering.discard)
    for task in answering:
        task.cancel()
    await fabric.close()


def main() -> int:
    """The exit code."""
    cluster, number = sys.argv[1], int(sys.argv[2])
    settings = load_settings()
    configure_logging(settings, f"connector-{cluster}" if cluster else "connector")
    channel = socket.socket(fileno=number)
    channel.setblocking(False)
    asyncio.run(serve(RayFabric(settings, cluster=cluster), channel))
    return 0


if __name__ == "__main__":
    sys.exit(main())
