"""The demo: eight steps with real parts, each of which has to hold."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import openai
from rich.console import Console

from common.errors import ComputilityError, SetupError
from common.private import at_home
from common.settings import Settings
from common.units import format_credits
from control.console import boundary
from control.console.display import Stage
from control.console.openai_errors import of_openai
from control.console.output import print_table
from control.demo import story
from control.demo.background import Platform
from control.demo.steps import STEPS, Scene
from control.supervisor.ports import free_ports, is_free

USAGE_INTERVAL_SECONDS = 5
LOG_LINES = 25


@dataclass(frozen=True)
class DemoOptions:
    """What `computility demo` was told. Ports that were not given are the usual ones if free, else any."""

    settings: Settings
    model: str = ""
    keep: bool = False
    home: Path | None = None
    gateway_port: int | None = None
    control_port: int | None = None


@dataclass(frozen=True)
class Done:
    """One line of the final table."""

    title: str
    seconds: float
    tokens: int
    microcredits: int
    held: bool


def play(out: Console, options: DemoOptions, stop: threading.Event) -> bool:
    """Play all steps, always tear down, print the table; whether everything held."""
    home = options.home or Path(tempfile.mkdtemp(prefix="computility-demo-"))
    settings = _settings(options, at_home(home).absolute())
    platform = Platform(settings, ("--no-examples",))
    done: list[Done] = []
    try:
        scene = Scene(out, settings, platform, options.model, stop)
        held = all(_step(scene, title, step, done) for title, step in STEPS)
    finally:
        torn_down = _tear_down(out, platform, done)
        if options.home is None and not options.keep and torn_down:
            shutil.rmtree(home, ignore_errors=True)
    _print_table(out, done)
    if options.keep or options.home:
        out.print(f"state and logs are in {home}", style="dim", soft_wrap=True)
    ok = held and torn_down
    out.print("[green]everything held[/green]" if ok else "[red]the demo failed; see above[/red]")
    return ok


def _settings(options: DemoOptions, home: Path) -> Settings:
    base, others = options.settings, free_ports(2)
    gateway = options.gateway_port or _usual_or(base.gateway.host, base.gateway.port, others[0])
    control = options.control_port or _usual_or(base.control.host, base.control.port, others[1])
    update = {
        "home": home,
        "gateway": base.gateway.model_copy(update={"port": gateway}),
        "control": base.control.model_copy(update={"port": control}),
        "scheduler": base.scheduler.model_copy(update={"usage_interval_seconds": USAGE_INTERVAL_SECONDS}),
        "store": base.store.model_copy(update={"url": ""}),
        "ray": base.ray.model_copy(update={"address": ""}),
    }
    return base.model_copy(update=update)


def _usual_or(host: str, port: int, other: int) -> int:
    return port if is_free(host, port) else other


def _step(scene: Scene, title: str, step: Callable[[Scene, Stage], None], done: list[Done]) -> bool:
    number = len(done) + 1
    scene.begin()
    stage = Stage(scene.out, f"{number}. {title}")
    error: ComputilityError | None = None
    try:
        with stage:
            scene.check_not_stopped()
            step(scene, stage)
    except openai.OpenAIError as raised:
        error = of_openai(raised)
    except ComputilityError as raised:
        error = raised
    done.append(Done(title, stage.seconds, scene.tokens, scene.microcredits, error is None))
    if error:
        boundary.show(error)
        _print_logs(scene)
    return error is None


def _print_logs(scene: Scene) -> None:
    """The ends of the logs that were written last."""
    files = [
        path for path in scene.settings.folder("logs").rglob("*") if path.is_file() and path.stat().st_size
    ]
    for path in sorted(files, key=lambda path: path.stat().st_mtime)[-4:]:
        scene.out.rule(str(path), style="dim")
        scene.out.print(story.tail(path.read_text(errors="replace"), LOG_LINES), markup=False, soft_wrap=True)


def _tear_down(out: Console, platform: Platform, done: list[Done]) -> bool:
    stage = Stage(out, f"{len(STEPS) + 1}. tear down")
    held = False
    try:
        with stage:
            ports = len(platform.note_ports())
            processes = len(platform.pids()) + (platform.process is not None)
            code = platform.stop()
            left = platform.leftovers()
            if left or code:
                what = ", ".join(left) or "nothing"
                raise SetupError(f"`up` left with code {code}; still there: {what}\n{platform.log_tail()}")
            stage.summary = f"{processes} processes and {ports} ports before, none left"
            held = True
    except ComputilityError as error:
        boundary.show(error)
    done.append(Done("tear down", stage.seconds, 0, 0, held))
    return held


def _print_table(out: Console, done: list[Done]) -> None:
    rows: list[list[object]] = [
        [
            number,
            "ok" if step.held else "failed",
            step.title,
            f"{step.seconds:6.1f}",
            step.tokens or "",
            format_credits(step.microcredits) if step.microcredits else "",
        ]
        for number, step in enumerate(done, 1)
    ]
    total = sum(step.microcredits for step in done)
    seconds, tokens = sum(step.seconds for step in done), sum(step.tokens for step in done)
    rows.append(["", "", "total", f"{seconds:6.1f}", tokens, format_credits(total)])
    out.print()
    print_table(["STEP", "", "WHAT", "SECONDS", "TOKENS", "CREDITS"], rows, out)
