"""What settings of the scheduler mean for its policy."""

from dataclasses import replace

import pytest

from common.errors import InvalidInput
from common.settings import LoadTideSettings, PolicySettings, TideSettings
from scheduler.core.model.types import Policy, Tide
from scheduler.insight.tides import tide_rows
from scheduler.policy import PolicyMaker
from scheduler.serving_need import Need, rule_of

MONDAY_NOON_MS = 1_795_392_000_000 + 12 * 3_600_000
NIGHT_MS = MONDAY_NOON_MS + 12 * 3_600_000


def test_without_settings_the_defaults_hold() -> None:
    assert PolicyMaker(PolicySettings()).at(0) == Policy()


def test_weights_are_changed_one_by_one() -> None:
    policy = PolicyMaker(PolicySettings(weights={"energy": 3.0, "data": 9.0}, reserve=2)).at(0)
    assert dict(policy.weights) == {**dict(Policy().weights), "energy": 3.0}
    assert (policy.data_weight, policy.near_weight, policy.reserve) == (9.0, Policy().near_weight, 2)


def test_tides_follow_the_clock_of_the_place() -> None:
    day = TideSettings(device_class="nvidia", inference_devices=6, window="Mon-Fri 08:00-20:00")
    policies = PolicyMaker(PolicySettings(tides=[day]))
    assert policies.at(MONDAY_NOON_MS).tides == (Tide("nvidia", 6000),)
    assert policies.at(NIGHT_MS).tides == ()
    east = PolicyMaker(PolicySettings(tides=[day], utc_offset_minutes=600))
    assert east.at(MONDAY_NOON_MS).tides == ()


def test_tides_by_load_are_as_they_are_known_at_the_time() -> None:
    needs: dict[str, Need] = {}
    rule = LoadTideSettings(device_class="nvidia", devices_per_replica=2)
    policies = PolicyMaker(PolicySettings(load_tides=[rule]), needs)
    assert policies.at(0) == Policy()
    needs["nvidia"] = Need(rule_of(rule), 3, 4.2, 5.5, heard_ms=0)
    assert policies.at(0).tides == (Tide("nvidia", 6000),)
    (row,) = tide_rows(policies, 60_000)
    assert row.reason == "4.2 devices' worth of work, 5.5 expected within 15 min"
    (row,) = tide_rows(policies, 600_000)
    assert (row.inference_millis, row.heard_ms) == (6000, 0)
    assert "what was known last goes on" in row.reason
    needs["nvidia"] = Need(rule_of(rule))
    assert policies.at(0).tides == ()
    assert tide_rows(policies, 0)[0].reason == "no engine has told its load yet"


def test_of_calendar_and_load_the_larger_counts() -> None:
    rule = LoadTideSettings(device_class="nvidia")
    day = TideSettings(device_class="nvidia", inference_devices=6, window="Mon-Fri 08:00-20:00")
    amd = TideSettings(device_class="amd", inference_devices=2, window="Mon-Fri 08:00-20:00")
    needs = {"nvidia": Need(rule_of(rule), 4, heard_ms=NIGHT_MS)}
    policies = PolicyMaker(PolicySettings(tides=[day, amd], load_tides=[rule]), needs)
    assert policies.at(MONDAY_NOON_MS).tides == (Tide("amd", 2000), Tide("nvidia", 6000))
    assert policies.at(NIGHT_MS).tides == (Tide("nvidia", 4000),)
    rows = {row.device_class: row for row in tide_rows(policies, NIGHT_MS)}
    assert (rows["amd"].inference_millis, rows["amd"].reason) == (0, "no window is open")
    assert (rows["nvidia"].calendar_millis, rows["nvidia"].load_millis) == (0, 4000)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (PolicySettings(weights={"luck": 1.0}), "luck is unknown; known: accelerator"),
        (PolicySettings(tides=[TideSettings(inference_devices=1, window="at noon")]), "at noon"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: PolicySettings, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        PolicyMaker(settings)


PASSED_ON = {
    "min_run_seconds": 7,
    "reserve": 3,
    "preempt": False,
    "defragment": False,
    "max_moves": 2,
    "max_delay_seconds": 5,
    "topology": ["rack", "hall"],
}


def test_every_setting_of_the_policy_reaches_the_cycle() -> None:
    others = {"weights", "tides", "load_tides", "utc_offset_minutes"}
    assert PASSED_ON.keys() == PolicySettings.model_fields.keys() - others
    policy = PolicyMaker(PolicySettings.model_validate(PASSED_ON)).at(0)
    for name, value in PASSED_ON.items():
        found = getattr(policy, name)
        assert (list(found) if name == "topology" else found) == value != getattr(Policy(), name), name


def test_every_setting_of_the_policy_arrives_in_it() -> None:
    """Each is another one than it is by default."""
    weights = {name: number + 0.5 for number, (name, _) in enumerate(Policy().weights)}
    given = {
        "min_run_seconds": 7,
        "reserve": 3,
        "preempt": False,
        "defragment": False,
        "max_moves": 2,
        "max_delay_seconds": 9,
    }
    for name, value in given.items():
        assert getattr(Policy(), name) != value, name
    settings = PolicySettings(weights={**weights, "data": 3.5, "near": 4.5}, topology=["a", "b"], **given)
    rest = {"data_weight": 3.5, "near_weight": 4.5, "topology": ("a", "b")}
    expected = replace(Policy(), weights=tuple(weights.items()), **given, **rest)  # type: ignore[arg-type]
    assert PolicyMaker(settings).at(0) == expected
