"""What control has, as its watch stream tells: read from here, so that looking costs control nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import Gauge

from common.errors import ComputilityError, Conflict
from common.resources import KINDS
from common.telemetry import get_logger
from operators.control.link import ControlLink, Document
from operators.guard import TROUBLES

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
CONNECTED = Gauge("computility_operator_connected", "Whether changes of control are followed now")
_log = get_logger("operator.control")


class Item(NamedTuple):
    """A resource of control; ``project`` is empty where the kind has none."""

    kind: str
    project: str
    name: str


def item_of(document: Document) -> Item:
    """The key of a document of control."""
    metadata = document["metadata"]
    return Item(document["kind"], metadata.get("project") or "", metadata["name"])


class ControlView:
    """All resources of the kinds. ``told`` is called for each that changed, after it is known here, and with
    whether more than its status did; ``back`` each time that control is followed (again)."""

    def __init__(self, link: ControlLink, kinds: Sequence[str]) -> None:
        self._link, self._kinds = link, kinds
        self.told: Callable[[Item, bool], None] = lambda _, __: None
        self.back: Callable[[], None] = lambda: None
        self._known: dict[str, dict[Item, Document]] = {}
        self._wanted: dict[Item, tuple[str, int]] = {}
        self._revision: int | None = None
        self.synced = asyncio.Event()
        self.trouble = "control was not asked yet"

    def find(self, item: Item) -> Document | None:
        """The resource as it is known."""
        return self._known.get(item.kind, {}).get(item)

    def all_of(self, kind: str) -> Iterator[Document]:
        """All of a kind."""
        return iter(self._known.get(kind, {}).values())

    def learn(self, document: Document) -> None:
        """What an answer showed: known before the stream tells, unless that was faster."""
        item = item_of(document)
        old = self.find(item)
        version = document["metadata"].get("resourceVersion", 0)
        if old is None or old["metadata"].get("resourceVersion", 0) <= version:
            self._known.setdefault(item.kind, {})[item] = document

    def forget(self, item: Item) -> None:
        """It was deleted."""
        self._known.get(item.kind, {}).pop(item, None)

    async def follow(self) -> None:
        """List and watch until cancelled. What is known stays known while control is away."""
        failures = 0
        while True:
            try:
                if self._revision is None:
                    await self._list()
                async for change in self._link.watch(self._kinds, self._revision or 0):
                    failures = 0
                    self._connected()
                    self._take(change)
                self._away("the stream ended")
            except Conflict as error:
                if error.code == "gone":
                    self._revision = None
                self._away(error.message)
            except ComputilityError as error:
                self._away(error.message)
            except Exception as error:  # noqa: BLE001 - the loop's boundary: what cannot be read is listed anew
                TROUBLES.labels("control", "bug").inc()
                _log.exception("control cannot be followed")
                self._revision = None
                self._away(repr(error))
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1

    async def _list(self) -> None:
        """Everything anew; what is gone is told too."""
        found: dict[Item, Document] = {}
        revisions = []
        for kind in self._kinds:
            documents, revision = await self._link.list_all(KINDS[kind].PLURAL)
            revisions.append(revision)
            found.update((item_of(document), document) for document in documents)
        known = {item for items in self._known.values() for item in items}
        changed = [item for item in known | found.keys() if self.find(item) != found.get(item)]
        self._known, self._revision = {}, min(revisions)
        for item, document in found.items():
            self._known.setdefault(item.kind, {})[item] = document
        self._wanted = {item: _wanted(document) for item, document in found.items()}
        for item in changed:
            self.told(item, True)

    def _connected(self) -> None:
        if self.trouble:
            _log.info("control is followed", revision=self._revision)
            self.trouble = ""
            CONNECTED.set(1)
            self.synced.set()
            self.back()

    def _away(self, trouble: str) -> None:
        if not self.trouble:
            _log.warning("control is not followed", error=trouble)
        self.trouble = trouble
        CONNECTED.set(0)

    def _take(self, change: Document) -> None:
        self._revision = max(self._revision or 0, change["revision"])
        if change["type"] == "heartbeat":
            return
        document = change["resource"]
        item = item_of(document)
        if change["type"] == "delete":
            self._wanted.pop(item, None)
            known = self.find(item)
            if known is not None and known["metadata"].get("uid") == document["metadata"].get("uid"):
                self.forget(item)
            self.told(item, True)
            return
        self.learn(document)
        before, self._wanted[item] = self._wanted.get(item), _wanted(document)
        self.told(item, before != self._wanted[item])


def _wanted(document: Document) -> tuple[str, int]:
    """What changes with the spec, and not with the status."""
    metadata = document["metadata"]
    return metadata.get("uid", ""), metadata.get("generation", 0)
