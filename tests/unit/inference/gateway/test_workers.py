"""What workers of one gateway share: limits that add up, and one page of metrics."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from common.errors import SetupError
from common.settings import GatewaySettings, Settings
from inference.gateway.workers.pages import PageServer, merged, pages_of
from inference.gateway.workers.shares import DIVIDED, divided, require_shares, share_of, spool_folder
from inference.gateway.workers.supervisor import Place


@given(st.integers(0, 10**12), st.integers(1, 64))
def test_shares_add_up_to_the_limit_and_differ_by_one_at_most(limit: int, workers: int) -> None:
    shares = [share_of(limit, worker, workers) for worker in range(workers)]
    assert sum(shares) == limit
    assert max(shares) - min(shares) <= 1


@given(st.integers(1, 64))
def test_every_limit_of_all_is_divided_and_no_other(workers: int) -> None:
    settings = GatewaySettings(workers=workers)
    parts = [divided(settings, worker).model_dump() for worker in range(workers)]
    for name, whole in settings.model_dump().items():
        told = [part[name] for part in parts]
        assert sum(told) == whole if name in DIVIDED else told == [whole] * workers


def test_what_holds_for_all_requests_of_a_gateway_is_divided() -> None:
    of_all = ("_per_key", "_per_tenant", "_per_endpoint", "_per_address")
    assert {name for name in GatewaySettings.model_fields if name.endswith(of_all)} <= set(DIVIDED)


@pytest.mark.parametrize(
    "told",
    [
        {"workers": 4, "max_requests_per_key": 3},
        {"workers": 5},  # of 64 MiB of bodies nobody has room for one of 16
        {"workers": 2, "max_sequences_per_key": 200},
    ],
)
def test_limits_that_leave_a_worker_without_room_are_refused(told: dict[str, int]) -> None:
    with pytest.raises(SetupError, match=r"gateway\.workers"):
        require_shares(GatewaySettings(**told))
    require_shares(GatewaySettings(**{**told, "workers": 1}))


def test_each_worker_has_a_spool_of_its_own_and_the_first_one_that_of_a_single_gateway(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path, gateway=GatewaySettings(port=8000))
    names = [spool_folder(settings, worker).name for worker in range(3)]
    assert names == ["gateway-8000", "gateway-8000-1", "gateway-8000-2"]


@given(st.integers(0, 63), st.lists(st.integers(0, 10**6), min_size=1, max_size=3))
def test_a_place_is_told_in_words(worker: int, sockets: list[int]) -> None:
    place = Place(worker, 7, tuple(sockets))
    assert Place.of(str(place)) == place


def page_of(count: int, age: float, waits: float) -> bytes:
    registry = CollectorRegistry()
    counter = Counter("computility_gateway_requests", "Requests", ("path",), registry=registry)
    counter.labels('a"b\\c').inc(count)
    Gauge("computility_gateway_routes_age_seconds", "Age", registry=registry).set(age)
    Gauge("computility_gateway_in_flight", "Open", registry=registry).set(count)
    Histogram("computility_waits", "Waits", buckets=(1, 2), registry=registry).observe(waits)
    return generate_latest(registry)


def values(page: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_pages_are_summed_up_and_of_ages_the_largest_is_told() -> None:
    told = values(merged([page_of(3, 1.0, 0.5), page_of(4, 9.0, 1.5)]))
    assert told["computility_gateway_requests_total", ('a"b\\c',)] == 7
    assert told["computility_gateway_in_flight", ()] == 7
    assert told["computility_gateway_routes_age_seconds", ()] == 9
    buckets = [told["computility_waits_bucket", (bound,)] for bound in ("1.0", "2.0", "+Inf")]
    assert buckets == [1, 2, 2]
    assert (told["computility_waits_sum", ()], told["computility_waits_count", ()]) == (2, 2)


def test_one_page_stays_what_it_is() -> None:
    page = page_of(3, 1.0, 0.5)
    assert values(merged([page])) == values(page)


async def test_a_page_is_told_over_a_path_of_any_length_and_who_is_away_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 120)
    folder.mkdir()
    server = PageServer(folder, lambda: b"page" * 100_000)
    await server.start()
    async with asyncio.timeout(10):
        assert await pages_of([folder, tmp_path / "nowhere", tmp_path]) == [b"page" * 100_000]
    await server.close()
    assert await pages_of([folder]) == []
    assert list(folder.iterdir()) == []
