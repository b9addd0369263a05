"""How the load of devices went over the last hour: what agents remember, and what was seen since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from common.errors import ComputilityError

if TYPE_CHECKING:
    from common.client import Client

STEP_SECONDS = 300
STEPS = 12
"""An hour is drawn."""
MOST_NODES = 64
"""At most so many nodes are asked what they remember; of a larger pool those that are shown."""
AT_A_TIME = 8

Document = Mapping[str, Any]
Key = tuple[str, str]


class LoadHistory:
    """Means over steps that begin at multiples of their length, of devices by model and by node."""

    def __init__(self) -> None:
        self._steps: dict[Key, dict[int, tuple[int, int]]] = {}
        self._asked: set[str] = set()

    def recall(self, client: Client, overview: Document) -> None:
        """Ask the nodes that are new here for their last hour. Models get theirs when all nodes of the pool
        can be asked at first: some nodes would not stand for the others."""
        shown = [row["name"] for row in overview.get("nodes") or ()]
        count, names = (overview.get("totals") or {}).get("nodes", 0), shown
        first = not self._asked
        whole = first and count <= MOST_NODES
        if whole and count > len(shown):
            names = [row["name"] for row in client.overview(MOST_NODES).get("nodes") or ()]
        new = [name for name in names if name not in self._asked][:MOST_NODES]
        self._asked.update(new)
        for series in _ask(client, new):
            self._take(series, whole)

    def see(self, overview: Document) -> None:
        """The load at this moment."""
        now_ms = overview["atMs"]
        for row in overview.get("pool") or ():
            self._add(of_model(row), now_ms, row.get("utilisationPercent"), row["devices"])
        for node in overview.get("nodes") or ():
            for device in node["devices"]:
                self._add(of_node(node["name"]), now_ms, device.get("utilisationPercent"), 1)

    def last(self, key: Key, now_ms: int) -> list[int | None]:
        """Percent of each step of the last hour, the oldest first; None = nothing known."""
        steps, now = self._steps.get(key, {}), _step(now_ms)
        found = (steps.get(step) for step in range(now - STEPS + 1, now + 1))
        return [round(sums[0] / sums[1]) if sums else None for sums in found]

    def _take(self, series: Document, whole: bool) -> None:
        for device in series["devices"]:
            for point in device["points"]:
                percent, count = point.get("utilisationPercent"), point["samples"]
                self._add(of_node(series["node"]), point["timeMs"], percent, count)
                if whole:
                    self._add(of_model(device), point["timeMs"], percent, count)

    def _add(self, key: Key, time_ms: int, percent: int | None, count: int) -> None:
        if percent is None or count < 1:
            return
        steps, step = self._steps.setdefault(key, {}), _step(time_ms)
        total, known = steps.get(step, (0, 0))
        steps[step] = (total + percent * count, known + count)
        if len(steps) > 2 * STEPS:
            del steps[min(steps)]


def of_model(row: Document) -> Key:
    """The key of a model of devices."""
    return "model", f"{row['vendor']}/{row['model']}"


def of_node(name: str) -> Key:
    """The key of a node."""
    return "node", name


def _step(time_ms: int) -> int:
    return time_ms // (STEP_SECONDS * 1000)


def _ask(client: Client, names: Sequence[str]) -> Iterable[Document]:
    """What these nodes remember; nothing of those that do not answer."""

    def one(name: str) -> Document | None:
        try:
            return client.series(name, step_seconds=STEP_SECONDS)
        except ComputilityError:
            return None

    if not names:
        return []
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return [series for series in threads.map(one, names) if series is not None]
