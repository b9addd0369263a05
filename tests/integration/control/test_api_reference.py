"""The page on which the API is read: for anyone, whole, and with nothing from elsewhere."""

import re

import pytest

from tests.integration.control.conftest import World

pytestmark = pytest.mark.integration


async def test_the_page_and_all_that_it_names_are_there_without_a_key(world: World) -> None:
    page = await world.request(None, "GET", "/docs")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 4
    for path in named:
        assert path.startswith("/docs/")
        answer = await world.request(None, "GET", path)
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff"), path
        assert len(answer.content) > 100
    assert (await world.request(None, "GET", "/docs/")).text == page.text


async def test_a_browser_is_told_to_load_nothing_from_elsewhere(world: World) -> None:
    headers = (await world.request(None, "GET", "/docs")).headers
    allowed = re.findall(r"(?:https?:|\*)\S*", headers["content-security-policy"])
    assert (allowed, headers["content-type"]) == ([], "text/html; charset=utf-8")


@pytest.mark.parametrize("name", ["nothing.js", "..%2f..%2fapp.py", "swagger-ui.css.map"])
async def test_no_other_file_is_served(world: World, name: str) -> None:
    assert (await world.request(None, "GET", f"/docs/{name}")).status_code == 401
    assert (await world.request("admin", "GET", f"/docs/{name}")).status_code == 404
