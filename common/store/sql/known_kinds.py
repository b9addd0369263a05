"""Of which kinds the latest changes were, as far as they were made here."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from common.store.sql.history import Noted


class KnownKinds:
    """A part of ``SqlStore``. Of each change after ``_floor`` it knows the kind, as this process has made it:
    who looks for changes of other kinds need not read the database. What others have written moves the floor
    up. ``end`` is the last revision that was seen."""

    def __init__(self) -> None:
        self._floor = self.end = 0
        self._last: dict[str, int] = {}

    def saw(self, revision: int) -> None:
        """The revision was the last one given, whoever gave it."""
        if revision > self.end:
            self._floor = self.end = revision

    def wrote(self, before: int, revision: int, noted: Iterable[Noted]) -> None:
        """A transaction of this process gave the revisions after ``before`` up to ``revision``, to these
        changes."""
        self.saw(before)
        self.end = max(self.end, revision)
        for change in noted:
            self._last[change.kind] = max(change.revision, self._last.get(change.kind, 0))

    def may_have_changed(self, since: int, kinds: Collection[str]) -> bool:
        """Whether one of those kinds (any where none is named) may have changed after ``since``, as far as
        revisions were seen."""
        if since >= self.end:
            return False
        return not kinds or since < self._floor or any(self._last.get(kind, 0) > since for kind in kinds)
