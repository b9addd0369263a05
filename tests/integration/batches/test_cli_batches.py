"""Batches from the command line, on control, a gateway and a stand-in for the engine."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.budget_site import BudgetSite, budget_site
from tests.fixtures.control_process import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def line(number: int, **body: object) -> str:
    said = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, **body}
    told = {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": said}
    return json.dumps(told) + "\n"


async def say(site: BudgetSite, folder: Path, *arguments: str, code: int = 0) -> str:
    around = {name: text for name, text in os.environ.items() if not name.startswith("COMPUTILITY_")}
    environment = {
        **around,
        "PYTHONPATH": str(ROOT),
        "COMPUTILITY_HOME": str(folder / "client"),
        "COMPUTILITY_CONTROL_BASE_URL": site.control.settings.control_url,
        "COMPUTILITY_GATEWAY_BASE_URL": site.control.settings.gateway_url,
        "COMPUTILITY_API_KEY": site.keys["member"],
    }
    command = [sys.executable, "-m", "control.cli.main", "batches", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if not code else done.stdout + done.stderr


async def test_a_batch_is_made_watched_and_read_from_the_command_line(tmp_path: Path) -> None:
    async with budget_site(tmp_path, workers=1) as site:
        file = tmp_path / "lines.jsonl"
        file.write_text(line(1) + line(2) + line(3, model="none"))
        made = (await say(site, tmp_path, "create", str(file), "--watch")).splitlines()
        id_ = made[0]
        assert made[-1] == f"{id_} completed: 2 answered, 1 failed; computility batches results {id_}"
        listed = await say(site, tmp_path, "list")
        assert "3/3, 1 failed" in listed
        assert "request_counts:" in await say(site, tmp_path, "get", id_)
        answers = (await say(site, tmp_path, "results", id_)).splitlines()
        assert [json.loads(one)["custom_id"] for one in answers] == ["n1", "n2"]
        target = tmp_path / "errors.jsonl"
        await say(site, tmp_path, "results", id_, "--errors", "--to", str(target))
        assert json.loads(target.read_text())["custom_id"] == "n3"
        file.write_text(line(1) + line(1))
        told = await say(site, tmp_path, "create", str(file), "--watch", code=1)
        assert "line 2: custom_id" in told
        assert "--endpoint" in await say(site, tmp_path, "create", "file-none", code=2)
