"""What settings of the scheduler mean for its policy."""

import pytest

from common.errors import InvalidInput
from common.settings import PolicySettings, TideSettings
from scheduler.core.types import Policy, Tide
from scheduler.policy import PolicyMaker

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
