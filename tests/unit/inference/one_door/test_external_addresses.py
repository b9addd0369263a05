"""Which addresses an external model may have."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.gateway.one_door.addresses import is_public

INSIDE = [
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "0.0.0.0/8",
    )
]
INSIDE_ADDRESSES = st.sampled_from(INSIDE).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
)


@given(INSIDE_ADDRESSES)
def test_no_address_of_the_inside_is_public_however_it_is_written(address: IPv4Address) -> None:
    number = int(address)
    forms = [
        str(address),
        f"::ffff:{address}",
        str(IPv6Address((0x0064FF9B << 96) | number)),
        str(IPv6Address((0x2002 << 112) | (number << 80))),
    ]
    assert [is_public(form) for form in forms] == [False] * 4


@pytest.mark.parametrize(
    "text",
    ["::1", "::", "fe80::1%eth0", "fec0::1", "fc00::1", "ff02::1", "224.0.0.1", "240.0.0.1", "100.64.0.1"],
)
def test_what_else_is_not(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"])
def test_what_is(text: str) -> None:
    assert is_public(text)
