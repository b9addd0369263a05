"""What gateways have learned of prompts read apart is told to those who may see the Endpoint."""

from typing import Any

import pytest

from tests.integration.control.conftest import TOKEN, World, document

pytestmark = pytest.mark.integration

ROLE = {"replicas": 1, "devices": {"vendors": ["nvidia"]}}
LEG = {"name": "leg", "base_ms": 20, "per_thousand_tokens_ms": 100, "times": 40}
REPORT = {
    "gateway": "gw-1",
    "thresholds": [{"endpoint": "search/chat", "min_prompt_tokens": 700, "beside": 2.5, "legs": [LEG]}],
}


def pair(**spec: Any) -> dict[str, Any]:
    roles = {"mode": "disaggregated", "prefill": ROLE, "decode": ROLE}
    return document("Endpoint", "chat", "search", **{"model": "v1", **roles, **spec})


async def tell(world: World, report: Any) -> int:
    """As a gateway does; the status."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = await world.request(None, "POST", "/internal/v1/thresholds", json=report, headers=headers)
    return answer.status_code


async def explained(world: World, who: str = "search-member") -> Any:
    answer = await world.request(who, "GET", "/api/v1/endpoints/chat/explain?project=search")
    assert answer.status_code == 200, answer.text
    return answer.json().get("twoLegs")


async def test_it_is_told_with_its_reasons_and_what_the_endpoint_says_wins(world: World) -> None:
    await world.apply(document("Model", "v1", "search", source="org/v1"), pair())
    assert (await explained(world))["minPromptTokens"] == 512
    assert await tell(world, REPORT) == 204
    told = await explained(world)
    assert (told["minPromptTokens"], told["learned"], told["gateways"]) == (700, True, 1)
    assert told["legs"] == [
        {"name": "leg", "baseMilliseconds": 20, "perThousandTokensMilliseconds": 100, "times": 40}
    ]
    await world.apply(pair(minPromptTokens=64))
    told = await explained(world)
    assert (told["minPromptTokens"], told["learned"], told["gateways"]) == (64, False, 0)


async def test_it_is_no_entry_of_the_audit_log_and_only_gateways_tell_it(world: World) -> None:
    assert await tell(world, REPORT) == 204
    await world.apply(document("Model", "v1", "search", source="org/v1"))
    audited = str((await world.request("admin", "GET", "/api/v1/audit")).json())
    assert ("/api/v1/apply" in audited, "thresholds" in audited) == (True, False)
    for who in ("admin", "search-member"):
        answer = await world.request(who, "POST", "/internal/v1/thresholds", json=REPORT)
        assert answer.status_code in (401, 403)


@pytest.mark.parametrize("odd", [{"base_ms": -1}, {"name": "other"}, {"times": 1.5}, {"base_ms": "x"}])
async def test_odd_reports_are_refused(world: World, odd: dict[str, Any]) -> None:
    threshold = {"endpoint": "search/chat", "min_prompt_tokens": 700, "legs": [{**LEG, **odd}]}
    assert await tell(world, {"gateway": "gw-1", "thresholds": [threshold]}) == 400
