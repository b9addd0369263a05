"""Names are as long as Kubernetes takes them, whatever release and pools are called."""

import helm_python
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.chart.rendering import Document, preset, render

EVALUATION = preset("evaluation")
BARE = {"crds": {"install": False}}
MOST = {"StatefulSet": 52, "Service": 63, "Job": 63, "Pod": 63, "Deployment": 63}
"""Characters: a StatefulSet's name is in a label of its pods, with a hash."""
NAME = r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
RELEASE = r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?"


def long_pools(length: int) -> list[Document]:
    """Two that differ in their last letter alone."""
    return [{"name": f"{'p' * (length - 1)}{end}"} for end in "ab"]


@given(
    release=st.from_regex(RELEASE, fullmatch=True),
    pools=st.lists(st.from_regex(NAME, fullmatch=True), unique=True, max_size=3),
)
@example(release="r" * 53, pools=[each["name"] for each in long_pools(40)])
@example(release="a.b", pools=["0"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_names_have_room(release: str, pools: list[str]) -> None:
    documents = render(EVALUATION, BARE, {"nodePools": [{"name": name} for name in pools]}, release=release)
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(set(names)) == len(names)
    for kind, name in names:
        assert len(name) <= MOST.get(kind, 253), (kind, name)
        assert name[0].isalpha(), name
        assert name[-1].isalnum(), name
        assert "." not in name or kind not in MOST, name
    services = {name for kind, name in names if kind == "Service"}
    for each in documents:
        if each["kind"] == "StatefulSet":
            assert each["spec"]["serviceName"] in services
        for value in each["metadata"].get("labels", {}).values():
            assert len(value) <= 63


def test_long_releases_that_differ_at_the_end_have_names_of_their_own() -> None:
    first, second = (render(EVALUATION, BARE, release=f"{'r' * 52}{end}") for end in "ab")
    mine = {each["metadata"]["name"] for each in first}
    assert not mine & {each["metadata"]["name"] for each in second}


def test_a_release_that_begins_with_a_digit_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        helm_python.HelmError, match="fullnameOverride: names of Services begin with a letter"
    ):
        render(EVALUATION, BARE, release="9lives")
    assert render(EVALUATION, BARE, {"fullnameOverride": "nine"}, release="9lives")
