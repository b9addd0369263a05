"""The site of documentation: it builds without a network, and has every kind, command and setting."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.resources import KINDS
from common.settings.tree import Settings
from control.cli.commands import COMMANDS
from control.console.documents.field_reference import all_fields
from tools.docs.hook import made_pages

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_browser_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]*src="(https?:|//)|<link[^>]*rel="stylesheet"[^>]*href="(https?:|//)'
    )
    assert [page.name for page in pages if loaded.search(page.read_text())] == []


def test_every_page_of_the_navigation_is_there(site: Path) -> None:
    home = (site / "index.html").read_text()
    for name in (
        "quickstart",
        "concepts/queues",
        "reference/cli",
        "reference/kinds/endpoints",
        "design/billing",
    ):
        assert f'href="{name}.html"' in home, name


def test_each_kind_shows_all_its_fields() -> None:
    pages = made_pages()
    for kind in KINDS:
        text = next(text for text in pages.values() if text.startswith(f"# {kind}\n"))
        for field in all_fields(kind):
            assert f"`{field.path.partition('.')[2]}`" in text, f"{kind}.{field.path}"


def test_each_command_and_setting_has_its_place() -> None:
    pages = made_pages()
    for name in COMMANDS:
        assert f"### {name}\n" in pages["reference/cli.md"], name
    for name in Settings.model_fields:
        assert f"COMPUTILITY_{name.upper()}" in pages["reference/settings.md"], name
