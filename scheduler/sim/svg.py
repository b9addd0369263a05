"""Charts as SVG text: areas on one another, lines, cumulative distributions. Colours are the page's (CSS
classes)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 34
SERIES_COLOURS = 8
"""Classes ``s0`` to ``s7`` of the page."""


@dataclass(frozen=True)
class Curve:
    """One named series over the chart's common x values."""

    label: str
    values: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """A range of values with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def round(cls, high: float, low: float = 0.0, about: int = 5) -> Axis:
        """From ``low`` to at least ``high`` in about so many steps of 1, 2, 2.5 or 5 times a power of ten."""
        span = high - low
        if not span > 0:
            return cls(low, low + 1, (low, low + 1))
        raw = span / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
        count = math.ceil(span / step - 1e-9)
        return cls(low, low + step * count, tuple(low + step * n for n in range(count + 1)))

    @classmethod
    def powers(cls, low: float, high: float) -> Axis:
        """Powers of ten around positive values; positions are logarithms."""
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(max(high, low * 10)))
        return cls(first, last, tuple(float(n) for n in range(first, last + 1)))


def areas(x: Sequence[float], layers: Sequence[Curve], unit: str, line: Curve | None = None) -> str:
    """Layers on one another over hours; ``line`` (dashed) goes over them."""
    sums = [sum(layer.values[i] for layer in layers) for i in range(len(x))]
    top = max([*sums, *(line.values if line else ()), 0.0])
    frame = _Frame(_hours(x), Axis.round(top))
    base = [0.0] * len(x)
    parts = []
    for index, layer in enumerate(layers):
        upper = [low + value for low, value in zip(base, layer.values, strict=True)]
        outline = frame.points(x, upper) + " " + frame.points(list(reversed(x)), list(reversed(base)))
        parts.append(f'<polygon class="area s{index % SERIES_COLOURS}" points="{outline}"/>')
        base = upper
    if line:
        parts.append(f'<polyline class="limit" points="{frame.points(x, line.values)}"/>')
    named = [*reversed(layers), *([line] if line else [])]
    return frame.svg([*parts, *_hovers(frame, x, named, unit)], "hours", unit)


def lines(x: Sequence[float], curves: Sequence[Curve], unit: str, high: float | None = None) -> str:
    """Curves over hours; ``high``: the top of the scale where it is known (1.0 for indices)."""
    top = max([value for curve in curves for value in curve.values] or [0.0]) if high is None else high
    frame = _Frame(_hours(x), Axis.round(top))
    parts = [
        f'<polyline class="line s{n % SERIES_COLOURS}" points="{frame.points(x, curve.values)}"/>'
        for n, curve in enumerate(curves)
    ]
    return frame.svg([*parts, *_hovers(frame, x, curves, unit)], "hours", unit)


def distributions(groups: Sequence[tuple[str, Sequence[float]]], least: float, unit: str) -> str:
    """Per group the part of values up to x, on a logarithmic scale that begins at ``least``."""
    everything = [value for _, values in groups for value in values]
    axis = Axis.powers(least, max([*everything, least * 10]))
    frame = _Frame(axis, Axis.round(100.0), powers=True)
    parts = []
    for index, (label, values) in enumerate(groups):
        ordered = sorted(math.log10(max(value, least)) for value in values)
        x, y = _steps(ordered, axis)
        shape = f'class="line s{index % SERIES_COLOURS}" points="{frame.points(x, y)}"'
        parts.append(f"<polyline {shape}><title>{escape(label)}: {len(ordered)} jobs</title></polyline>")
    return frame.svg(parts, unit, "% of jobs")


def _steps(ordered: Sequence[float], axis: Axis, points: int = 240) -> tuple[list[float], list[float]]:
    """A cumulative distribution at even positions of the axis."""
    x = [axis.low + (axis.high - axis.low) * n / points for n in range(points + 1)]
    y, index = [], 0
    for position in x:
        while index < len(ordered) and ordered[index] <= position + 1e-9:
            index += 1
        y.append(100.0 * index / len(ordered) if ordered else 0.0)
    return x, y


def _hours(x: Sequence[float]) -> Axis:
    high = max([*x, 1.0])
    return Axis(0.0, high, tuple(tick for tick in Axis.round(high, about=8).ticks if tick <= high * 1.001))


def _hovers(frame: _Frame, x: Sequence[float], curves: Sequence[Curve], unit: str) -> list[str]:
    """An invisible strip per span that tells its values under the pointer."""
    parts = []
    for index, at in enumerate(x):
        after = x[index + 1] if index + 1 < len(x) else at
        told = "\n".join(f"{curve.label}: {number(curve.values[index])} {unit}" for curve in curves)
        left, width = frame.x(at), max(1.0, frame.x(after) - frame.x(at))
        title = escape(f"hour {at:.1f}\n{told}")
        shape = f'x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"'
        parts.append(f'<rect class="hover" {shape}><title>{title}</title></rect>')
    return parts


@dataclass(frozen=True)
class _Frame:
    """The axes of one chart."""

    across: Axis
    up: Axis
    powers: bool = False

    def x(self, value: float) -> float:
        part = (value - self.across.low) / (self.across.high - self.across.low)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        part = (value - self.up.low) / (self.up.high - self.up.low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))

    def svg(self, parts: Sequence[str], below: str, beside: str) -> str:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        told = f"{escape(beside)} over {escape(below)}"
        out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">']
        for tick in self.up.ticks:
            y = self.y(tick)
            out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
            out.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{number(tick)}</text>')
        for tick in self.across.ticks:
            label = number(10.0**tick) if self.powers else number(tick)
            out.append(f'<text class="tick mid" x="{self.x(tick):.1f}" y="{bottom + 16}">{label}</text>')
        out.extend(parts)
        out.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
        out.append(f'<text class="tick end" x="{right}" y="{HEIGHT - 4}">{escape(below)}</text>')
        return "".join([*out, "</svg>"])


def number(value: float) -> str:
    """For people: ``1234567`` → ``1.2M``, ``0.25`` → ``0.25``."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if limit != 1e4 else 1e3):.3g}{suffix}"
    return f"{value:.4g}"
