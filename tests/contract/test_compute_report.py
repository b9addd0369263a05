"""Usage in card-hours, beside money: each group's device time, and all of it."""

from fractions import Fraction

import pytest

from billing.core.compute_units import ComputeUnits
from billing.reports import compute_report, usage_report
from billing.store import Ledger, UsageFilter
from tests.contract.test_ledger import chat, ledger, prices

__all__ = ["ledger", "prices"]

UNITS = ComputeUnits("nvidia/A100", {"nvidia/A100": Fraction(312), "nvidia/H100": Fraction(989)}.get)


@pytest.mark.parametrize(
    ("groups", "rows"),
    [
        (["project"], {("web",): (4170, 0), ("lab",): (1000, 60)}),
        (
            ["project", "kind"],
            {("web", "device"): (4170, 0), ("web", "inference"): (0, 0), ("lab", "device"): (1000, 60)},
        ),
        (
            ["device_class"],
            {("nvidia/A100",): (2000, 0), ("nvidia/H100",): (3170, 0), ("amd/X",): (0, 60), ("",): (0, 0)},
        ),
    ],
)
async def test_rows_have_their_card_hours(
    ledger: Ledger, groups: list[str], rows: dict[tuple[str, ...], tuple[int, int]]
) -> None:
    device = {"kind": "device", "model": "", "model_identity": ""}
    held = [("web", "nvidia/A100", 3600), ("web", "nvidia/H100", 3600)]
    held += [("lab", "nvidia/A100", 3600), ("lab", "amd/X", 60)]
    await ledger.post(
        [
            chat(),
            *(
                chat(
                    f"held-{number}",
                    project=project,
                    device_class=name,
                    quantities={"device_seconds": seconds},
                    **device,
                )
                for number, (project, name, seconds) in enumerate(held)
            ),
        ]
    )
    where = UsageFilter(tenant="acme")
    report = await usage_report(ledger, groups, where)
    content = await compute_report(ledger, report, where, UNITS)
    assert content["compute_unit"] == "nvidia/A100"
    assert (content["total"]["compute_unit_millis"], content["total"]["uncounted_device_seconds"]) == (
        5170,
        60,
    )
    found = {
        tuple(row[name] for name in groups): (row["compute_unit_millis"], row["uncounted_device_seconds"])
        for row in content["rows"]
    }
    assert found == rows
