"""The boundary of a loop: whatever one pass meets, the next one comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter

from common.errors import ComputilityError
from common.telemetry import get_logger

TROUBLES = Counter("computility_operator_troubles", "Passes of a loop that failed", ("loop", "outcome"))
_log = get_logger("operator")


@contextmanager
def guarded(loop: str, about: str = "") -> Iterator[None]:
    """Whatever is raised within ends here: logged and counted. ``about``: what the pass was about."""
    try:
        yield
    except ComputilityError as error:
        TROUBLES.labels(loop, error.code).inc()
        _log.warning("a pass failed", loop=loop, about=about, error=error.message)
    except Exception:  # noqa: BLE001 - the loop's boundary
        TROUBLES.labels(loop, "bug").inc()
        _log.exception("a pass failed", loop=loop, about=about)
