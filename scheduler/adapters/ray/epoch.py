"""Which control process a node obeys: the one of the highest epoch that it has heard of."""

from __future__ import annotations

from pathlib import Path

from common.durable import put_in_place
from common.errors import NOT_LEADING, Unavailable
from common.telemetry import get_logger

_log = get_logger(__name__)


class Epoch:
    """Kept on file, so that it outlives the agent. Where it cannot be kept it holds for the agent's life."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _read(file)

    def require(self, epoch: int) -> None:
        """Raise ``Unavailable`` for an epoch before the highest that was ever required."""
        if epoch < self._known:
            raise Unavailable(
                f"another control process leads by now, under epoch {self._known}: an order of epoch {epoch} "
                "counts no more",
                code=NOT_LEADING,
            )
        if epoch > self._known:
            self._known = epoch
            self._keep()

    def _keep(self) -> None:
        draft = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(str(self._known))
            put_in_place(draft, self._file)
        except OSError as error:
            _log.warning("the leader's epoch is not kept", file=str(self._file), error=str(error))


def _read(file: Path) -> int:
    try:
        text = file.read_text(errors="replace").strip()
    except OSError:
        return 0
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
