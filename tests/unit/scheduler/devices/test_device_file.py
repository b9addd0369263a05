"""A file that tells devices in place of probes: what is wrong with one is said."""

from pathlib import Path

import pytest

from common.errors import InvalidInput
from scheduler.adapters.devices.fake import probe_file

DEVICE = "{id: d, index: 0, vendor: amd, model: m, memoryBytes: 1}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("n: [", "device file {path}: while parsing"),
        ("[]", "device file {path}: must map node names to lists of devices"),
        ("7", "device file {path}: must map node names"),
        ("n: {}", "device file {path}: n must be a list of devices"),
        ("'*': 7", "device file {path}: n must be a list of devices"),
        ("n: [7]", "devices.yaml:n[0]"),
        (f"n: [{DEVICE}, {{}}]", "devices.yaml:n[1]"),
        (f"n: [{DEVICE}, {DEVICE}]", "device file {path}: n[1]: the id d is there twice"),
    ],
)
def test_what_is_wrong_with_a_device_file_is_said(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(content)
    with pytest.raises(InvalidInput) as refused:
        probe_file(path, "n")
    assert said.format(path=path) in refused.value.message


def test_a_device_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"device file .*none\.yaml: .*No such file"):
        probe_file(tmp_path / "none.yaml", "n")


def test_a_node_that_is_not_named_has_the_devices_of_all_others(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(f"a: []\n'*': [{DEVICE}]\n")
    assert (probe_file(path, "a"), [device.id for device in probe_file(path, "b")]) == ([], ["d"])
    path.write_text("a: []\n")
    assert probe_file(path, "b") == []
