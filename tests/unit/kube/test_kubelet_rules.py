"""The test kubelet's rules that need no cluster: texts, quantities, names and judgements of probes."""

from typing import Any

import pytest

from tests.fixtures.kube.kubelet.environment import Unresolvable, environment, expanded, quantity, resource_of
from tests.fixtures.kube.kubelet.probes import Judged
from tests.fixtures.kube.kubelet.services import hosts_text, targets_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a $(A) b", "a 1 b"),
        ("$(NO)", "$(NO)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
    ],
)
def test_references_are_replaced_as_kubernetes_does(text: str, want: str) -> None:
    assert expanded(text, {"A": "1"}) == want


@pytest.mark.parametrize(
    ("text", "want"), [("100m", 0.1), ("64Mi", 64 * 2**20), ("2", 2), ("1e3", 1000), ("1G", 1e9)]
)
def test_quantities(text: str, want: float) -> None:
    assert quantity(text) == pytest.approx(want)


def test_resources_are_rounded_up_to_the_divisor() -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}
    assert resource_of({"resource": "limits.cpu"}, [container], container) == "2"
    assert resource_of({"resource": "limits.memory", "divisor": "1Mi"}, [container], container) == "1024"


def test_later_variables_see_earlier_ones_only() -> None:
    spec = {
        "env": [{"name": "B", "value": "$(A)"}, {"name": "A", "value": "1"}, {"name": "C", "value": "$(A)"}]
    }
    assert environment(spec, {}, lambda *_: None) == {"B": "$(A)", "A": "1", "C": "1"}


def test_what_is_missing_is_named_unless_it_is_optional() -> None:
    reference: dict[str, Any] = {"name": "s", "key": "k"}
    spec = {"env": [{"name": "A", "valueFrom": {"secretKeyRef": reference}}]}
    with pytest.raises(Unresolvable, match="'s'"):
        environment(spec, {}, lambda *_: None)
    reference["optional"] = True
    assert environment(spec, {}, lambda *_: None) == {}


def test_a_probe_holds_and_fails_after_as_many_in_a_row_as_it_says() -> None:
    probe = Judged({"failureThreshold": 2, "successThreshold": 2}, good=False, due_seconds=0)
    seen = []
    for number, held in enumerate((True, False, True, True, False, True, False, False)):
        probe.answer(held, float(number))
        seen.append((probe.good, probe.failed))
    assert [good for good, _ in seen] == [False, False, False, True, True, True, True, False]
    assert [failed for _, failed in seen] == [False] * 7 + [True]
    assert probe.due_seconds == 17


def test_names_of_services_and_of_pods_of_stateful_sets() -> None:
    services = [
        {"metadata": {"namespace": "a", "name": "web"}, "spec": {"clusterIP": "10.0.0.9"}},
        {"metadata": {"namespace": "b", "name": "db"}, "spec": {"clusterIP": "None"}},
    ]
    ready = {"addresses": [{"ip": "10.1.0.1", "hostname": "db-0"}], "notReadyAddresses": [{"ip": "10.1.0.2"}]}
    text = hosts_text("b", services, {("b", "db"): {"subsets": [ready]}})
    assert text.splitlines() == [
        "127.0.0.1 localhost",
        "10.0.0.9 web.a.svc.cluster.local web.a.svc web.a",
        "10.1.0.1 db.b.svc.cluster.local db.b.svc db.b db",
        "10.1.0.1 db-0.db.b.svc.cluster.local db-0.db.b.svc db-0.db.b db-0.db",
    ]


def test_a_port_leads_to_the_pods_port_of_its_name() -> None:
    subset = {
        "addresses": [{"ip": "10.1.0.1"}, {"ip": "10.1.0.2"}],
        "ports": [{"name": "http", "port": 8080}, {"name": "other", "port": 9}],
    }
    found = targets_of({"subsets": [subset]}, {"name": "http", "port": 80})
    assert found == [("10.1.0.1", 8080), ("10.1.0.2", 8080)]
    assert targets_of(None, {"name": "http"}) == []
