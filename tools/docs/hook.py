"""What mkdocs asks for while it builds the site: the pages that are made, and where they stand."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.docs.commands import command_page
from tools.docs.kinds import kind_pages
from tools.docs.settings import settings_page

_FOLDERS = {"reference/kinds/": "index.md", "design/": "architecture.md"}
"""Folders that the navigation names as a whole, and the page of each that comes first."""
_OUTSIDE = re.compile(
    r"\]\((?:\.\./)+((?:common|control|scheduler|inference|finetune|billing|operators|deploy|"
    r"bench|tests|tools|examples)[^)\s]*|README\.md|Makefile)\)"
)


def made_pages() -> dict[str, str]:
    """Path below ``docs`` to text, for all that nobody writes by hand."""
    pages = {f"reference/kinds/{name}": text for name, text in kind_pages().items()}
    return {**pages, "reference/cli.md": command_page(), "reference/settings.md": settings_page()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, text in made_pages().items():
        files.append(File.generated(config, path, content=text))
    config.nav = [_entry(entry, files) for entry in config.nav or []]
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to sources, which are no part of the site, become what they say."""
    return re.sub(r"\[([^\]]+)" + _OUTSIDE.pattern, r"\1", markdown)


def _entry(entry: Any, files: Files) -> Any:
    """The entry of the navigation, with a folder's pages in place of its name."""
    if not isinstance(entry, dict):
        return entry
    return {title: _listed(value, files) for title, value in entry.items()}


def _listed(value: Any, files: Files) -> Any:
    if isinstance(value, list):
        return [_entry(one, files) for one in value]
    if value not in _FOLDERS:
        return value
    first = value + _FOLDERS[value]
    paths = sorted(path for path in files.src_uris if path.startswith(value) and path.endswith(".md"))
    return [first, *(path for path in paths if path != first)]
