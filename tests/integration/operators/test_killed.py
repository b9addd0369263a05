"""The operator is killed at any moment, control is away, and nothing is lost or doubled."""

import random
import time
from collections.abc import Callable

import pytest

from operators.core.reconcile import FINALIZER
from tests.fixtures.kube.operator_process import Site, model

pytestmark = pytest.mark.integration
COUNT = 24
KILLS = 4


def killed_meanwhile(site: Site, what: Callable[[], None], seed: int) -> None:
    """Do it while the operator is killed and started again, at moments drawn by chance."""
    chance = random.Random(seed)
    what()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 0.4))
        site.kill()
        site.start(wait=chance.random() < 0.7)


def stored(site: Site, space: str) -> dict[str, str]:
    return {item["metadata"]["name"]: item["spec"]["source"] for item in site.client.list("models", space)}


def listed(site: Site, space: str) -> list[dict[str, object]]:
    items: list[dict[str, object]] = site.plane.get("models.computility.io", "-n", space)["items"]
    return items


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_in_the_midst_of_all(site: Site, seed: int) -> None:
    space = site.namespace(f"killed-{seed}")
    names = [f"m-{i}" for i in range(COUNT)]
    killed_meanwhile(site, lambda: site.apply(*(model(name, space, "a/b") for name in names)), seed)
    site.wait_until(lambda: stored(site, space) == dict.fromkeys(names, "a/b"))
    uids = {item["metadata"]["name"]: item["metadata"]["uid"] for item in site.client.list("models", space)}

    killed_meanwhile(site, lambda: site.apply(*(model(name, space, "c/d") for name in names)), seed + 10)
    site.wait_until(lambda: stored(site, space) == dict.fromkeys(names, "c/d"))
    for name in names:
        site.wait_synced("models", name, space)
    now = {item["metadata"]["name"]: item["metadata"]["uid"] for item in site.client.list("models", space)}
    assert now == uids, "a document was made twice"

    def leave() -> None:
        site.plane.kubectl("delete", "-n", space, "models.computility.io", "--all", "--wait=false")

    killed_meanwhile(site, leave, seed + 20)
    site.wait_until(lambda: not listed(site, space))
    assert stored(site, space) == {}


def test_what_changed_while_nobody_was_there_is_caught_up(site: Site) -> None:
    space = site.namespace("caught-up")
    site.apply(*(model(name, space, "a/b") for name in ("stays", "goes", "drifts")))
    for name in ("stays", "goes", "drifts"):
        site.wait_synced("models", name, space)
    assert site.stop() == 0
    site.apply(model("new", space, "a/b"), model("stays", space, "c/d"))
    site.plane.kubectl("delete", "-n", space, "models.computility.io/goes", "--wait=false")
    site.client.delete("models", "drifts", space)
    body = site.find("models", "goes", space)
    assert body is not None
    assert FINALIZER in body["metadata"]["finalizers"]
    site.start()
    site.wait_until(lambda: stored(site, space) == {"new": "a/b", "stays": "c/d", "drifts": "a/b"})
    site.wait_until(lambda: site.find("models", "goes", space) is None)


def test_control_is_away_for_a_while(site: Site) -> None:
    space = site.namespace("away")
    site.apply(model("old", space, "a/b"))
    site.wait_synced("models", "old", space)
    site.control.kill()
    site.apply(model("new", space, "a/b"))
    site.wait_until(lambda: site.synced("models", "new", space).get("reason") == "Unavailable")
    site.plane.kubectl("delete", "-n", space, "models.computility.io/old", "--wait=false")
    time.sleep(1)
    assert site.find("models", "old", space) is not None, "let go without control's word"
    site.restart_control()
    site.wait_until(lambda: stored(site, space) == {"new": "a/b"})
    site.wait_until(lambda: site.find("models", "old", space) is None)
    site.wait_synced("models", "new", space)


def test_a_second_operator_stands_by_until_the_first_is_dead(site: Site) -> None:
    space = site.namespace("lease")
    site.stop()
    first, second = (Site(site.plane, site.control, site.log.parent) for _ in range(2))
    for one in (first, second):
        one.settings = {"LEASE_NAMESPACE": space, "LEASE_SECONDS": "2"}
        one.start()
    try:
        roles = [one.told()["role"] for one in (first, second)]
        assert roles == ["leader", "standby"]
        site.apply(model("m", space))
        site.wait_synced("models", "m", space)
        first.kill()
        site.apply(model("n", space))
        assert site.wait_synced("models", "n", space) < 10
        assert second.told()["role"] == "leader"
        assert second.stop() == 0
    finally:
        first.kill()
        second.kill()
        site.start()


def test_it_ends_in_order(site: Site) -> None:
    began = time.monotonic()
    assert site.stop() == 0
    assert time.monotonic() - began < 5
    site.start()
