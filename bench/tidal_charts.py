"""The chart of the tidal bench: who holds the devices over time, in the silos and in the tidal pool."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from bench.tidal_worlds import World
from common.errors import InvalidInput
from scheduler.sim import svg
from scheduler.sim.books import INFERENCE, TRAINING
from scheduler.sim.svg import Curve

HOUR_MS = 3_600_000
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 32px auto; padding: 0 16px;
  color-scheme: light dark; background: Canvas; color: CanvasText; }
svg { width: 100%; height: auto; } .tick { font-size: 11.5px; fill: GrayText; }
.mid { text-anchor: middle; } .end { text-anchor: end; } .grid { stroke: GrayText; stroke-opacity: 0.25; }
.axis { stroke: GrayText; } .s0 { fill: #2a78d6; color: #2a78d6; } .s1 { fill: #1aa783; color: #1aa783; }
.limit { fill: none; stroke: CanvasText; stroke-dasharray: 5 4; } .hover { fill: transparent; }
"""


def draw(folder: Path, silo: World, tidal: World) -> Path:
    """Writes ``tidal.html``; ``InvalidInput`` where it cannot be written."""
    parts = [
        _part("Silos: serving always holds its part", silo, silo_serving=True),
        _part("One pool with a tide", tidal, silo_serving=False),
    ]
    legend = '<p><b class="s0">■</b> serving <b class="s1">■</b> training, dashed: all devices</p>'
    title = "Devices held by serving and training"
    page = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    target = folder / "tidal.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{page}<h1>{title}</h1>{legend}{''.join(parts)}", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {target}: {error.strerror}", param="charts") from error
    return target


def _part(title: str, world: World, silo_serving: bool) -> str:
    series = world.result.series
    training = series.values[TRAINING]
    serving_devices = world.served.held_device_seconds / world.result.horizon_seconds
    serving = np.full(len(training), serving_devices) if silo_serving else series.values[INFERENCE]
    hours = [series.step_ms / HOUR_MS * index for index in range(len(training))]
    layers = [Curve("serving", serving.tolist()), Curve("training", training.tolist())]
    limit = Curve("all devices", [float(world.devices)] * len(hours))
    used = f"{100 * world.utilisation:.1f} % of the device time was useful"
    return f"<h2>{escape(title)}</h2><p>{used}</p>{svg.areas(hours, layers, 'devices', limit)}"
