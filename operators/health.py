"""/healthz, /readyz and /metrics of the operator."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from common.telemetry import render_metrics

State = Callable[[], tuple[bool, dict[str, Any]]]


async def serve_health(host: str, port: int, state: State) -> web.AppRunner:
    """Serve until the runner is cleaned up. ``state`` says whether it is ready, and how it is."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def ready(_: web.Request) -> web.Response:
        is_ready, told = state()
        return web.Response(
            text=json.dumps(told), status=200 if is_ready else 503, content_type="application/json"
        )

    async def metrics(_: web.Request) -> web.Response:
        body, content_type = render_metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", alive), web.get("/readyz", ready), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
