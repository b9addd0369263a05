"""A vendor is one row: whatever deals with vendors knows each of them."""

from typing import get_args

import pytest

from common.resources.pool import Device
from common.vendors import VENDORS, Vendor, VendorRow
from scheduler.adapters.devices.probe import PROBES

ACCELERATORS = {vendor: row for vendor, row in VENDORS.items() if vendor != "cpu"}


def test_the_api_takes_exactly_the_vendors_that_have_a_row() -> None:
    assert tuple(VENDORS) == get_args(Vendor)
    assert Device.model_json_schema()["properties"]["vendor"]["enum"] == list(VENDORS)


@pytest.mark.parametrize("row", ACCELERATORS.values(), ids=list(ACCELERATORS))
def test_processes_on_devices_of_every_vendor_see_them_in_ray_in_kubernetes_and_in_a_sandbox(
    row: VendorRow,
) -> None:
    assert row.visible_devices
    assert row.kubernetes_resources
    assert row.ray_resource
    assert all(pattern.startswith("/dev/") for pattern in row.device_files)
    assert row.device_files


def test_whoever_is_probed_tells_the_version_of_its_driver() -> None:
    assert {vendor for vendor, row in VENDORS.items() if row.driver_version} == set(PROBES)
