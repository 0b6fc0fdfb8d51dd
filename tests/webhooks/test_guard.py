"""Which addresses may be dialled."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks import guard

EDGES = [(network[0], what) for network, what in guard.RANGES] + [(network[-1], what) for network, what in guard.RANGES]
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0",
    "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.15", "168.63.129.17", "2606:4700:4700::1111",
    "2001:4860:4860::8888", "2a00:1450:4001:801::200e", "2400:cb00::1", "2001:200::1", "::ffff:8.8.8.8",
]  # fmt: skip
HOSTILE = [
    "169.254.169.254", "127.0.0.1", "0.0.0.0", "10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "168.63.129.16",
    "192.0.0.192", "100.100.100.200", "224.0.1.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.88.99.1", "::1", "::",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::a9fe:a9fe", "::127.0.0.1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "2002:a9fe:a9fe::1", "2002:7f00:1::", "2001:0:1::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fd00:ec2::254",
    "fc00::1", "ff02::1", "2001:db8::1", "3fff::1", "5f00::1", "100::1", "4000::1", "e000::1", "::ffff:0:7f00:1",
]  # fmt: skip


@pytest.mark.parametrize(("address", "what"), EDGES)
def test_first_and_last_address_of_every_range(address: IPv4Address | IPv6Address, what: str) -> None:
    """Both ends of every range in the table are refused."""
    assert guard.classify(address) is not None
    assert guard.objection(str(address), allow_private=False) is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    """The neighbours of the ranges, and well-known public addresses, are not refused."""
    assert guard.objection(address, allow_private=False) is None
    assert "allow_http" in (guard.objection(address, allow_private=True, plain=True) or "")


@pytest.mark.parametrize("address", HOSTILE)
def test_hostile_addresses_are_refused(address: str) -> None:
    """Every known way to write an inside address is refused."""
    assert guard.objection(address, allow_private=False) is not None


@given(st.integers(0, 2**32 - 1))
def test_mapped_address_is_what_it_maps(number: int) -> None:
    """An IPv4-mapped IPv6 address is judged as the IPv4 address that is dialled."""
    assert guard.classify(IPv6Address(f"::ffff:{IPv4Address(number)}")) == guard.classify(IPv4Address(number))


#: What the standard library calls global (in some Python versions) and is refused all the same, written down a second time.
STRICTER = [
    ip_network(prefix)
    for prefix in (
        "168.63.129.16/32", "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24",
        "224.0.0.0/4", "240.0.0.0/4", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
        "2001::/23", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fec0::/10", "ff00::/8",
    )
]  # fmt: skip
GIVEN_OUT = ip_network("2000::/3")


@st.composite
def near_edges(draw: st.DrawFn) -> IPv4Address | IPv6Address:
    """An address within a few of the first or the last of a range, where mistakes live."""
    network = draw(st.sampled_from([network for network, _ in guard.RANGES] + STRICTER + [GIVEN_OUT]))
    number = int(draw(st.sampled_from([network[0], network[-1]]))) + draw(st.integers(-3, 3))
    return type(network[0])(min(max(number, 0), 2**network.max_prefixlen - 1))


@given(st.one_of(st.ip_addresses(), near_edges()))
def test_table_against_the_standard_library(address: IPv4Address | IPv6Address) -> None:
    """Refused is what the standard library calls not global, and beyond that what is written down above: nothing else."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    stricter = any(address.version == network.version and address in network for network in STRICTER)
    unassigned = address.version == 6 and address not in GIVEN_OUT
    special = not address.is_global or address.is_multicast or address.is_reserved
    # 2001::/23 has blocks that newer versions call global, among ranges that are not: all of it is refused
    assert (guard.classify(address) is not None) == (special or stricter or unassigned)


@pytest.mark.parametrize("network", [network for network, _ in guard.RANGES], ids=str)
def test_no_range_hides_behind_a_larger_one(network: IPv4Network | IPv6Network) -> None:
    """The first range that has an address is the most special one: `metadata` is never told as `link-local`."""
    for edge in (network[0], network[-1]):
        first = next(found for found, _ in guard.RANGES if found.version == edge.version and edge in found)
        assert first.subnet_of(network)  # type: ignore[arg-type]  # the same version


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "fe80::1", "::1", "100.64.0.1", "fd00::1"]
)
@pytest.mark.parametrize("plain", [False, True])
def test_allow_private(address: str, plain: bool) -> None:
    """`allow_private` lets inside addresses through, over plain HTTP as well."""
    assert guard.objection(address, allow_private=True, plain=plain) is None


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "::", "100::1", "what", ""])
def test_never(address: str) -> None:
    """What nobody can receive at is refused whatever is allowed."""
    assert guard.objection(address, allow_private=True) is not None


@pytest.mark.parametrize(
    ("host", "private", "plain", "refused"),
    [
        ("example.com", False, False, False), ("example.com", False, True, True), ("example.com", True, True, False),
        ("localhost", False, False, True), ("a.localhost.", False, False, True), ("LOCALHOST", True, True, False),
        ("127.0.0.1", False, False, True), ("127.0.0.1", True, True, False), ("8.8.8.8", False, False, False),
        ("8.8.8.8", True, True, True), ("::1", False, False, True), ("2130706433", True, False, True),
        ("0x7f000001", True, False, True), ("127.1", True, False, True), ("0177.0.0.1", True, False, True),
        ("example.0x7f", True, False, True), ("1.2.3.4.", True, False, True), ("1e100.net", False, False, False),
    ],
)  # fmt: skip
def test_hosts(host: str, private: bool, plain: bool, refused: bool) -> None:
    """A host is refused at registration where no resolution could make it right."""
    assert (guard.host_objection(host, allow_private=private, plain=plain) is not None) is refused


def test_factory_makes_sockets_only_for_good_addresses() -> None:
    """The factory refuses with words before there is a socket."""
    make = guard.socket_factory(allow_private=False, plain=False)
    with pytest.raises(guard.AddressRefused, match=r"address refused: 127\.0\.0\.1: it is a loopback"):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))
    make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 80))).close()
