"""Record what commands print as an SVG picture of their terminal.

    python tools/record_terminal.py docs/images/demo.svg 'computility demo'
    python tools/record_terminal.py docs/images/tour.svg 'computility top --once' 'computility explain tiny-0'

The commands run for real under a pseudo terminal of 110 columns. Progress lines are kept as they end,
secrets are masked and the folders of this machine are left out. Nothing is written when a command fails.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 110, 50
ROOT = Path(__file__).resolve().parents[1]
SECRET = re.compile(r"\b([a-z]+-)[\w-]{40,}")
CURSOR = re.compile(r"\x1b\[(\??\d*)([A-Za-z])")


def typed(line: str) -> str:
    """What a line of a shell writes to its terminal, shown on ours too. Exits when it fails."""
    main_side, child_side = pty.openpty()
    fcntl.ioctl(child_side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    ran = subprocess.Popen(
        ["bash", "-c", line],
        cwd=ROOT,
        env=environment,
        stdin=child_side,
        stdout=child_side,
        stderr=child_side,
    )
    os.close(child_side)
    written = bytearray()
    while True:
        try:
            part = os.read(main_side, 65536)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        written += part
        os.write(sys.stdout.fileno(), part)
    if ran.wait():
        sys.exit(f"`{line}` failed with code {ran.returncode}; nothing is recorded")
    return written.decode(errors="replace")


def final_lines(written: str) -> list[str]:
    """The lines as they stand at the end: the cursor's way up and erased lines are followed."""
    lines, row = [""], 0
    for token in re.split(r"(\r?\n|\r|\x1b\[\??\d*[A-Za-ln-z])", written):
        move = CURSOR.fullmatch(token)
        if token.endswith("\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif move and move[2] == "A":
            row = max(0, row - int(move[1] or 1))
        elif move and move[2] == "K":
            lines[row] = ""
        elif token and token != "\r" and not move:
            lines[row] += token
    return lines


def masked(line: str) -> str:
    """``line`` without secrets and without the folders of this machine."""
    line = SECRET.sub(lambda found: found[1] + "•" * 8, line)
    return line.replace(f"{ROOT}/", "").replace(str(Path.home()), "~")


def picture(lines: list[str], title: str) -> str:
    """An SVG of a terminal that shows ``lines``."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=False)
    return console.export_svg(title=title)


def main() -> None:
    """Record one run of each line."""
    parser = argparse.ArgumentParser(description="Record what commands print as an SVG picture.")
    parser.add_argument("out", type=Path, help="where the picture goes")
    parser.add_argument("lines", nargs="+", metavar="LINE", help="typed one after the other")
    options = parser.parse_args()
    lines: list[str] = []
    for line in options.lines:
        printed = [masked(one) for one in final_lines(typed(line))]
        lines += [*([""] if lines else []), f"\x1b[1m$ {line}\x1b[0m", *printed]
    options.out.write_text(picture(lines, "computility"), encoding="utf-8")
    print(f"{options.out}: {len(lines)} lines, {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
