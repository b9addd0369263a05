"""How the overview of the pool is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from common.units import format_bytes
from control.console.output import PHASE_STYLES
from control.console.tables.bars import bar, devices, sparkline
from control.console.tables.tide_table import tide_table
from control.console.told.load_history import LoadHistory, of_model, of_node
from control.console.told.moments import clock_time, span

Row = Mapping[str, Any]
STATE_STYLES = {
    "Lost": "red",
    "Silent": "yellow",
    "Cordoned": "yellow",
    "Draining": "yellow",
    "Probation": "yellow",
}


class PoolView:
    """Draws one overview after the other, and how the load went over the last hour."""

    def __init__(self) -> None:
        self.history = LoadHistory()

    def draw(self, overview: Row) -> RenderableType:
        """The whole screen; parts that the key may not see are not there."""
        self.history.see(overview)
        parts: list[RenderableType] = []
        if overview.get("pool") is not None:
            parts += [self._title(overview), self._pool(overview["pool"], overview["atMs"])]
        if overview.get("tides"):
            parts += [_heading("Tides"), tide_table(overview["tides"])]
        if overview.get("queues") is not None:
            parts += [_heading("Queues"), _queues(overview["queues"], overview["atMs"])]
        if overview.get("nodes") is not None:
            parts += [_nodes_heading(overview), self._nodes(overview["nodes"], overview["atMs"])]
        parts += [_heading("Workloads"), _workloads(overview.get("workloads") or (), overview["atMs"])]
        return Group(*parts)

    def _title(self, overview: Row) -> Text:
        pool = overview["pool"]
        count = sum(row["devices"] for row in pool)
        whole = sum(row["capacityMillis"] for row in pool)
        held = sum(row["allocatedMillis"] for row in pool)
        bad, off = (sum(row[key] for row in pool) for key in ("unhealthy", "unavailable"))
        percent = round(100 * held / whole) if whole else 0
        text = Text(f"Pool at {clock_time(overview['atMs'], overview['atMs'])}", style="bold")
        plural = "device" if count == 1 else "devices"
        text.append(f"  {count:,} {plural}, {percent} % allocated", style="not bold")
        if bad:
            text.append(f", {bad:,} unhealthy", style="not bold red")
        if off:
            text.append(f", {off:,} on nodes that are not in use", style="not bold yellow")
        return text

    def _pool(self, rows: Sequence[Row], now_ms: int) -> Table:
        titles = ("DEVICE", "NODES", "USED", "IDLE", "BAD", "OFF", "ALLOCATED", "LOAD", "MEMORY", "POWER")
        table = _table(titles, numeric=(1, 2, 3, 4, 5, 8, 9))
        for row in rows:
            load, history = row.get("utilisationPercent"), self.history.last(of_model(row), now_ms)
            table.add_row(
                f"{row['vendor']}/{row['model']}",
                f"{row['nodes']:,}",
                f"{devices(row['allocatedMillis'])}/{devices(row['capacityMillis'])}",
                devices(row["idleMillis"]),
                Text(str(row["unhealthy"]), style="red" if row["unhealthy"] else ""),
                Text(str(row["unavailable"]), style="yellow" if row["unavailable"] else ""),
                bar(row["allocatedMillis"], row["capacityMillis"]),
                "-" if load is None else f"{sparkline(history)} {load}%",
                _memory(row),
                _power(row),
            )
        return table

    def _nodes(self, rows: Sequence[Row], now_ms: int) -> Table:
        titles = ("NODE", "STATE", "DEVICES", "FREE", "STRANDED", "HELD", "LOAD", "LAST HOUR")
        table = _table(titles, numeric=(3, 4))
        for row in rows:
            held, load = Text(), Text()
            for device in row["devices"]:
                style = "" if device["healthy"] else "red"
                held.append(sparkline([device["heldPercent"]]) if device["healthy"] else "✗", style=style)
                load.append(sparkline([device.get("utilisationPercent")]), style=style)
            stranded = row["strandedMillis"]
            table.add_row(
                row["name"],
                Text(row["state"], style=STATE_STYLES.get(row["state"], "green")),
                ", ".join(row["models"]),
                devices(row["freeMillis"]),
                Text(devices(stranded), style="yellow" if stranded else ""),
                held,
                load,
                sparkline(self.history.last(of_node(row["name"]), now_ms)),
            )
        return table


def _memory(row: Row) -> str:
    total, used = row["memoryBytes"], row.get("memoryUsedBytes")
    return format_bytes(total) if used is None else f"{100 * used // (total or 1)}% of {format_bytes(total)}"


def _power(row: Row) -> str:
    watts = row.get("powerWatts")
    if watts is None:
        return "-"
    return f"{watts} W" if watts < 10_000 else f"{watts / 1000:.1f} kW"


def _queues(rows: Sequence[Row], now_ms: int) -> Table:
    titles = ("QUEUE", "NOMINAL", "USED", "BORROWED", "OF NOMINAL", "PENDING", "RUNNING", "SHARE", "BUDGET")
    table = _table(titles, numeric=(1, 2, 3, 5, 6, 7))
    depths = _depths(rows)
    for row in sorted(rows, key=lambda row: _path(row, rows)):
        name = Text("  " * depths[row["name"]] + row["name"], style="dim" if row["cohort"] else "")
        nominal = row.get("nominalMillis")
        limit = row.get("maxDevices") if nominal is None else None
        pending = f"{row['pending']} ({devices(row['pendingMillis'])})" if row["pending"] else "0"
        table.add_row(
            name,
            devices(nominal) if nominal is not None else f"max {limit}" if limit is not None else "-",
            devices(row["usedMillis"]),
            Text(devices(row["borrowedMillis"]), style="yellow" if row["borrowedMillis"] else ""),
            _of_nominal(row) or "-",
            pending,
            str(row["running"]),
            "-" if row.get("share") is None else f"{row['share']:.3f}",
            ", ".join(_budget(budget, now_ms) for budget in row.get("budgets", ())) or "-",
        )
    return table


def _of_nominal(row: Row) -> str:
    """What of its quotas is used, of a queue without any: of its limit."""
    nominal = row.get("nominalMillis")
    if nominal is None:
        return bar(row["usedMillis"], 1000 * (row.get("maxDevices") or 0))
    return bar(row.get("coveredMillis", row["usedMillis"]), nominal)


def _path(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    """The names of its cohorts from the top, then its own: children follow their cohort."""
    known = {other["name"]: other for other in rows}
    path = [row["name"]]
    while (parent := known.get(known[path[-1]]["parent"])) is not None and parent["name"] not in path:
        path.append(parent["name"])
    return tuple(reversed(path))


def _depths(rows: Sequence[Row]) -> dict[str, int]:
    return {row["name"]: len(_path(row, rows)) - 1 for row in rows}


def _budget(budget: Row, now_ms: int) -> str:
    spent, limit = (budget[key] / 3600 for key in ("spentDeviceSeconds", "limitDeviceSeconds"))
    renews = span((budget["renewsMs"] - now_ms) / 1000)
    return f"{spent:.0f}/{limit:.0f} h, new in {renews}"


def _nodes_heading(overview: Row) -> Text:
    totals, shown = overview["totals"], len(overview["nodes"])
    text = _heading("Nodes")
    text.append(f"  {totals['ready']:,} of {totals['nodes']:,} in use", style="not bold")
    if totals["freeMillis"]:
        stranded, free = devices(totals["strandedMillis"]), devices(totals["freeMillis"])
        text.append(f", {stranded} of {free} free devices of no use for what usually comes", style="not bold")
    if shown < totals["nodes"]:
        text.append(f" ({shown} shown)", style="not bold dim")
    return text


def _workloads(rows: Sequence[Row], now_ms: int) -> RenderableType:
    if not rows:
        return Text("none runs", style="dim")
    titles = ("PROJECT", "NAME", "QUEUE", "PHASE", "DEVICES", "MODEL", "RANKS", "NODES", "FOR", "ENDS IN")
    table = _table(titles, numeric=(4, 6, 7, 8, 9))
    for row in rows:
        end_ms, about = row.get("expectedEndMs"), "~" if row.get("endPredicted") else ""
        table.add_row(
            row["project"],
            row["name"],
            row["queue"],
            Text(row["phase"], style=PHASE_STYLES.get(row["phase"], "")),
            devices(row["millis"]),
            ", ".join(row["models"]),
            str(row["ranks"]),
            str(row["nodes"]),
            span((now_ms - row["sinceMs"]) / 1000),
            "-" if end_ms is None else f"{about}{span(max(0, end_ms - now_ms) / 1000)}",
        )
    return table


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _table(titles: Sequence[str], numeric: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    for position, title in enumerate(titles):
        table.add_column(title, justify="right" if position in numeric else "left", overflow="fold")
    return table
