"""Charts of the benches, as PNG files in ``bench/out/``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent / "out"


@dataclass(frozen=True)
class Axes:
    """What a chart shows; ``y_range`` cuts it to what matters."""

    title: str
    x: str
    y: str
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """Points of one curve."""

    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True)
class Bar:
    """A figure and its standard deviation."""

    mean: float
    deviation: float = 0.0


def lines(name: str, axes: Axes, curves: Mapping[str, Line]) -> Path:
    """Curves over one axis; returns the file."""
    with _chart(name, axes) as plot:
        for label, line in curves.items():
            plot.plot(line.xs, line.ys, label=label, linewidth=1.6)
        plot.legend(frameon=False, fontsize=9)
    return OUT / f"{name}.png"


def bars(
    name: str, axes: Axes, figures: Mapping[str, Bar], limits: Mapping[str, float] | None = None
) -> Path:
    """Bars with their deviations; ``limits`` are drawn across. Returns the file."""
    with _chart(name, axes) as plot:
        means = [bar.mean for bar in figures.values()]
        drawn = plot.bar(list(figures), means, yerr=[bar.deviation for bar in figures.values()], capsize=3)
        plot.bar_label(drawn, labels=[f"{mean:.2f}" for mean in means], padding=3, fontsize=9)
        for label, value in (limits or {}).items():
            plot.axhline(value, linestyle="--", linewidth=1, color="black", label=f"{label}: {value:.2f}")
        if limits:
            plot.legend(frameon=False, fontsize=9)
    return OUT / f"{name}.png"


@contextmanager
def _chart(name: str, axes: Axes) -> Iterator[Any]:
    """Matplotlib is loaded here: it takes a second, and tables do not need it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    plot.set(title=axes.title, xlabel=axes.x, ylabel=axes.y)
    plot.grid(axis="y", alpha=0.3)
    yield plot
    if axes.y_range:
        plot.set_ylim(axes.y_range)
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / f"{name}.png", dpi=120)
