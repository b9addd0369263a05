"""The life of a release: chat, the chart's own test, upgrade under load, a lost leader, rollback, end.

The tests stand in the order of that life, on one release.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from openai import OpenAI, OpenAIError

from common.errors import ComputilityError
from tests.fixtures.kube.installed import PROJECT, RELEASE, SERVED, Installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
LEADER_SECONDS = 20.0
PODS_GONE_SECONDS = 90.0
PAUSE_SECONDS = 0.2


def ask(client: OpenAI) -> Any:
    messages: Any = [{"role": "user", "content": "What is a watt?"}]
    return client.chat.completions.create(model=SERVED, messages=messages, max_tokens=8, temperature=0)


@dataclass
class Load:
    """What requests in the background came to."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def load_on(installed: Installed) -> Iterator[Load]:
    """Two clients that chat without end while entered, each over connections that it keeps."""
    load, ended = Load(), threading.Event()

    def chat(client: OpenAI) -> None:
        while not ended.wait(PAUSE_SECONDS):
            try:
                ask(client)
                load.answered += 1
            except OpenAIError as error:
                load.failed.append(f"{time.strftime('%X')} {error!r}")

    threads = [threading.Thread(target=chat, args=(installed.openai(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_the_official_client_chats_through_the_service(installed: Installed) -> None:
    with installed.openai() as client:
        assert ask(client).usage.completion_tokens > 0
        assert SERVED in [model.id for model in client.models.list()]


def test_nodes_are_mirrored_with_the_names_of_their_pods(installed: Installed) -> None:
    with installed.control() as client:
        names = [node["metadata"]["name"] for node in client.list("nodes")]
    assert names == [f"{RELEASE}-computility-pool-cpu-0"]


def test_the_charts_own_test_passes(installed: Installed) -> None:
    installed.helm.test(RELEASE, 90)


def test_an_upgrade_under_load_loses_no_request(installed: Installed) -> None:
    with load_on(installed) as load:
        installed.upgrade(settings={"retention": {"log_days": 7}})
    assert load.failed == []
    assert load.answered > 0
    assert installed.helm.revision(RELEASE) == 2


def test_a_lost_leader_is_followed_by_another(installed: Installed) -> None:
    with load_on(installed) as load:
        leader = installed.leader()
        installed.kubectl("delete", "pod", leader, "--wait=false")
        began = time.monotonic()
        while not _writes(installed):
            assert time.monotonic() - began < LEADER_SECONDS
    assert load.failed == []


def _writes(installed: Installed) -> bool:
    """Whether control takes a write."""
    try:
        with installed.control() as client:
            client.create_key(f"after-{time.monotonic_ns()}", "agent", project=PROJECT)
    except (ComputilityError, OSError):
        time.sleep(PAUSE_SECONDS)
        return False
    return True


def test_the_old_version_comes_back(installed: Installed) -> None:
    with load_on(installed) as load:
        installed.helm.rollback(RELEASE, 1, 150)
    assert load.failed == []
    assert installed.helm.revision(RELEASE) == 3


def test_nothing_stays_but_what_is_to_be_kept(installed: Installed) -> None:
    installed.cluster.plane.kubectl("delete", "namespace", PROJECT, "--timeout=60s")
    installed.helm.uninstall(RELEASE, 120)
    _wait_for_pods_to_go(installed)
    kinds = "deployments,statefulsets,services,jobs,configmaps,serviceaccounts,roles,rolebindings,leases"
    mine = f"-lapp.kubernetes.io/instance={RELEASE}"
    assert [_name(one) for one in installed.get(kinds, mine)["items"]] == []
    kept = [_name(one) for one in installed.get("secrets,persistentvolumeclaims", mine)["items"]]
    volumes = [f"PersistentVolumeClaim/spool-{RELEASE}-computility-gateway-{n}" for n in (0, 1)]
    database = f"{RELEASE}-computility-database"
    assert sorted(kept) == [
        f"PersistentVolumeClaim/data-{database}-0",
        *volumes,
        f"Secret/{database}",
    ]
    cluster = "clusterroles,clusterrolebindings,validatingwebhookconfigurations"
    assert installed.cluster.plane.get(cluster, mine)["items"] == []
    crds = installed.cluster.plane.get("crds", "-lapp.kubernetes.io/part-of=computility")
    assert crds["items"] != []


def _name(item: dict[str, Any]) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def _wait_for_pods_to_go(installed: Installed) -> None:
    deadline = time.monotonic() + PODS_GONE_SECONDS
    while left := installed.get("pods")["items"]:
        assert time.monotonic() < deadline, [_name(pod) for pod in left]
        time.sleep(PAUSE_SECONDS)
