"""Progress: a spinner on a terminal, one line per change elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from common.clock import SYSTEM_CLOCK


class Stage:
    """One step that takes a while. Leaving it prints ✓ or ✗ with its seconds; ``tell`` shows where it is."""

    def __init__(self, out: Console, title: str) -> None:
        self._out = out
        self._title = title
        self._last = ""
        self._start = SYSTEM_CLOCK.monotonic_seconds()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._task = self._progress.add_task(title)
        self.summary = ""
        self.seconds = 0.0

    def tell(self, text: str) -> None:
        """Show what is going on now."""
        if text == self._last:
            return
        self._last = text
        self._progress.update(self._task, description=f"{self._title}: {text}")
        if not self._out.is_terminal:
            self._out.print(f"  … {text}", markup=False, style="dim")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._out.print(f"    {text}", markup=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self.seconds = SYSTEM_CLOCK.monotonic_seconds() - self._start
        mark = "[green]✓[/green]" if kind is None else "[red]✗[/red]"
        summary = f": {self.summary}" if self.summary else ""
        self._out.print(f"{mark} ", end="")
        self._out.print(f"{self._title}{summary} ({self.seconds:.1f} s)", markup=False)
