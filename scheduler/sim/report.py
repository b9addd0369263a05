"""A simulation as one HTML file that needs nothing else: figures, charts, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

from common.errors import InvalidInput
from scheduler.sim import svg
from scheduler.sim.books import (
    FAIRNESS,
    PENDING,
    PENDING_DEVICES,
    STRANDED,
    model_series,
    queue_series,
)
from scheduler.sim.jobs import JobOutcome
from scheduler.sim.result import SimResult, spread, waits
from scheduler.sim.svg import Curve

HOUR_MS = 3_600_000
MOST_QUEUES = svg.SERIES_COLOURS - 1
MOST_WAITERS = 10


@dataclass(frozen=True)
class Card:
    label: str
    value: str


@dataclass(frozen=True)
class Chart:
    title: str
    caption: str
    svg: str
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


def html_report(result: SimResult, title: str) -> str:
    """The whole page of one simulation."""
    return html_page(title, _lead(result), _cards(result), _charts(result), _tables(result))


def html_page(
    title: str,
    lead: str,
    cards: Sequence[Card] = (),
    charts: Sequence[Chart] = (),
    tables: Sequence[Table] = (),
) -> str:
    """One page that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("scheduler.sim", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja")
    return page.render(title=title, lead=lead, cards=cards, charts=charts, tables=tables)


def write_page(path: Path, page: str, param: str) -> None:
    """Write it there; ``InvalidInput`` that names ``param`` where that cannot be."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", param=param) from error


def _lead(result: SimResult) -> str:
    kinds = ", ".join(f"{count} {vendor} {model}" for (vendor, model), count in result.devices.items())
    jobs = sum(outcome.seconds is not None for outcome in result.outcomes)
    hours = result.horizon_seconds / 3600
    return f"{jobs} jobs in {hours:.0f} hours on {kinds}. {result.cycles} cycles, all invariants held."


def _cards(result: SimResult) -> list[Card]:
    figures = result.summary()
    jobs, waits, times = figures["jobs"], figures["wait_seconds"], figures["completion_seconds"]
    cards = [
        Card("of all devices held", f"{figures['utilisation_percent']:.1f} %"),
        Card("jobs completed", f"{jobs['completed']} of {jobs['submitted']}"),
        Card("median wait", duration(waits.get("p50"))),
        Card("90 % wait at most", duration(waits.get("p90"))),
        Card("mean completion time", duration(times.get("mean"))),
        Card("devices stranded", svg.number(figures["stranded_devices_mean"])),
        Card("fairness (Jain)", f"{figures['fairness_jain_mean']:.3f}"),
        Card("preemptions for nothing", str(figures["useless_preemptions"])),
        Card("preemptions voided from outside", str(figures["voided_preemptions"])),
        Card("lost to preemption", f"{svg.number(figures['device_hours']['lost'])} device-hours"),
    ]
    error = figures["eta"]["median_relative_error_percent"]
    if error is not None:
        cards.append(Card("median error of the ETA", f"{error:.1f} %"))
    return cards


def _charts(result: SimResult) -> list[Chart]:
    values, x = result.series.values, _hours(result)
    models = list(result.devices)
    held = [_curve(f"{vendor} {model}", values[model_series(vendor, model)]) for vendor, model in models]
    total = float(sum(result.devices.values()))
    queues = _queue_curves(result)
    waiting = [_curve("workloads", values[PENDING]), _curve("devices asked for", values[PENDING_DEVICES])]
    index = [_curve("Jain's index", values[FAIRNESS])]
    stranded = [_curve("stranded", values[STRANDED])]
    return [
        Chart(
            "Utilisation",
            "Devices held, by model; dashed: all devices.",
            svg.areas(x, held, "devices", Curve("all", [total] * len(x))),
            tuple(curve.label for curve in held),
        ),
        Chart(
            "Queue",
            "Workloads that wait, and the devices that they ask for.",
            svg.lines(x, waiting, ""),
            tuple(curve.label for curve in waiting),
        ),
        Chart(
            "Who holds what",
            "Devices held, by queue.",
            svg.areas(x, queues, "devices"),
            tuple(curve.label for curve in queues),
        ),
        Chart(
            "Fairness",
            "Jain's index of devices held per weight, over queues that have somebody waiting; 1 = equal.",
            svg.lines(x, index, "", 1.0),
        ),
        _distribution(result),
        Chart(
            "Fragmentation",
            "Free parts of devices that are partly taken: of no use to who needs whole ones.",
            svg.lines(x, stranded, "devices"),
        ),
    ]


def _hours(result: SimResult) -> list[float]:
    step = result.series.step_ms / HOUR_MS
    count = len(next(iter(result.series.values.values())))
    return [step * index for index in range(count)]


def _curve(label: str, values: npt.NDArray[np.float64]) -> Curve:
    return Curve(label, values.tolist())


def _queue_curves(result: SimResult) -> list[Curve]:
    """The queues that held most, the others together."""
    names = {outcome.queue for outcome in result.outcomes}
    known = [name for name in names if queue_series(name) in result.series.values]
    ranked = sorted(known, key=lambda name: (-result.series.mean(queue_series(name)), name))
    curves = [_curve(name, result.series.values[queue_series(name)]) for name in ranked[:MOST_QUEUES]]
    rest = [result.series.values[queue_series(name)] for name in ranked[MOST_QUEUES:]]
    return [*curves, _curve(f"{len(rest)} others", sum(rest[1:], rest[0]))] if rest else curves


def _distribution(result: SimResult) -> Chart:
    jobs = _ended(result)
    started = [outcome for outcome in result.outcomes if outcome.first_start_ms is not None]
    groups = [
        ("wait", [outcome.waited_seconds for outcome in started if outcome.seconds is not None]),
        ("completion time", [outcome.completion_seconds or 0.0 for outcome in jobs]),
    ]
    return Chart(
        "Waiting and completion time",
        "Part of jobs that waited (were done) within so many seconds; logarithmic.",
        svg.distributions(groups, 1.0, "seconds"),
        tuple(label for label, _ in groups),
    )


def _ended(result: SimResult) -> list[JobOutcome]:
    return [o for o in result.outcomes if o.seconds is not None and o.ended_ms is not None]


def _tables(result: SimResult) -> list[Table]:
    tables = [_queue_table(result), _size_table(result), _vendor_table(result)]
    waiters = [o for o in result.outcomes if o.first_start_ms is None and o.ended_ms is None]
    if waiters:
        tables.append(_waiter_table(waiters, result.end_ms))
    return tables


def _queue_table(result: SimResult) -> Table:
    rows = []
    for name in sorted({outcome.queue for outcome in result.outcomes}):
        mine = [outcome for outcome in result.outcomes if outcome.queue == name]
        waited = waits(mine)
        times = spread(
            [outcome.completion_seconds for outcome in mine if outcome.completion_seconds is not None]
        )
        hours = sum(outcome.useful_device_seconds for outcome in mine) / 3600
        rows.append(
            (
                name,
                str(len(mine)),
                str(sum(outcome.ended_ms is not None for outcome in mine)),
                f"{hours:,.0f}",
                duration(waited.get("p50")),
                duration(waited.get("p90")),
                duration(times.get("mean")),
                str(sum(outcome.preemptions for outcome in mine)),
                str(sum(outcome.resizes for outcome in mine)),
            )
        )
    columns = ("queue", "jobs", "ended", "useful device-hours", "wait, median", "wait, 90 %")
    more = ("completion, mean", "preempted", "resized")
    return Table("Queues", "All of the simulated time.", (*columns, *more), rows)


def _size_table(result: SimResult) -> Table:
    rows = []
    for size, jobs in result.jobs_by_size().items():
        waited = waits(jobs)
        rows.append(
            (
                size,
                str(len(jobs)),
                str(sum(outcome.ended_ms is not None for outcome in jobs)),
                *(duration(waited.get(figure)) for figure in ("mean", "p50", "p90", "p99")),
                str(sum(outcome.preemptions for outcome in jobs)),
            )
        )
    figures = ("wait, mean", "wait, median", "wait, 90 %", "wait, 99 %", "preempted")
    return Table(
        "Sizes",
        "Jobs by the devices that they ask for; waits of those that started.",
        ("devices", "jobs", "ended", *figures),
        rows,
    )


def _vendor_table(result: SimResult) -> Table:
    rows = []
    for vendor, part in result.utilisation_by_vendor().items():
        numbers = {model: number for (of, model), number in result.devices.items() if of == vendor}
        rows.append((vendor, str(sum(numbers.values())), ", ".join(numbers), f"{100 * part:.1f} %"))
    caption = "Devices held on average over all of the simulated time."
    return Table("Vendors", caption, ("vendor", "devices", "models", "held"), rows)


def _waiter_table(waiters: list[JobOutcome], now_ms: int) -> Table:
    longest = sorted(waiters, key=lambda outcome: (outcome.submitted_ms, outcome.uid))[:MOST_WAITERS]
    rows = [
        (o.name, o.queue, f"{o.devices:g}", duration(max(0, now_ms - o.submitted_ms) / 1000), o.reason)
        for o in longest
    ]
    caption = f"Of {len(waiters)} that never started, those that were submitted first; last reason given."
    return Table("Still waiting", caption, ("job", "queue", "devices", "waited", "reason"), rows)


def duration(seconds: float | None) -> str:
    """For people: ``None`` → ``–``, ``75`` → ``75 s``, ``5400`` → ``90 min``, ``36000`` → ``10 h``."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours < 100 else f"{hours / 24:.0f} days"
