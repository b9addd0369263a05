"""What a price book may hold."""

import pytest

from common.errors import InvalidInput
from common.resources.money import Meter, PriceItem, PriceSpec
from control.api.prices import check_prices

START = "2026-01-01T00:00:00Z"


def spec(model: str, meter: Meter = "prompt_tokens") -> PriceSpec:
    item = PriceItem(meter=meter, model=model, microcredits_per_million=1)
    return PriceSpec(effective_from=START, items=[item])


@pytest.mark.parametrize("model", ["*", "tiny", "qwen2.5-7b", "platform/tiny"])
def test_an_item_names_a_model_by_its_project_or_as_a_shared_one(model: str) -> None:
    check_prices(spec(model), None, 0)


@pytest.mark.parametrize("model", ["Tiny", "ft:tiny:acme::1", "a/b/c", "/tiny", "platform/"])
def test_an_item_that_could_never_match_is_refused(model: str) -> None:
    with pytest.raises(InvalidInput, match="project/name") as refused:
        check_prices(spec(model), None, 0)
    assert refused.value.param == "spec.items[0].model"


def test_device_time_has_no_price_by_model() -> None:
    check_prices(spec("*", "device_seconds"), None, 0)
    with pytest.raises(InvalidInput, match="deviceClass"):
        check_prices(spec("tiny", "device_seconds"), None, 0)


def test_a_book_with_an_odd_name_of_before_stays_as_it_is() -> None:
    check_prices(spec("My Model"), spec("My Model"), 0)
