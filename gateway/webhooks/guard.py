"""Which addresses a delivery may connect to.

Owns the table of address ranges that are not public, and the socket factory that applies it. The factory sees the address
that is about to be dialled, be it a literal or one of several answers of the name service, so there is nothing between the
check and the use of the address that a changed answer could slip through. Must not know endpoints, nor resolve names.

The standard library's `is_global` is not enough: it calls multicast, NAT64, 6to4, and the metadata addresses of two clouds
global, and its answers change with the Python version.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

#: Range → what it is (IANA special-purpose registries for IPv4 and IPv6, and the metadata addresses of cloud vendors).
#: More special ranges come before the ranges that contain them.
RANGES = tuple(
    (ip_network(prefix), what)
    for prefix, what in (
        ("169.254.169.254/32", "metadata"),
        ("169.254.170.2/32", "metadata"),  # AWS container credentials
        ("168.63.129.16/32", "metadata"),  # Azure host
        ("192.0.0.192/32", "metadata"),  # Oracle
        ("100.100.100.200/32", "metadata"),  # Alibaba
        ("fd00:ec2::254/128", "metadata"),  # AWS
        ("fd20:ce::254/128", "metadata"),  # Google
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),  # carrier-grade NAT, RFC 6598
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),  # AS112
        ("192.52.193.0/24", "reserved"),  # AMT
        ("192.88.99.0/24", "translation"),  # 6to4 relays
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),  # AS112
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "translation"),  # IPv4-compatible, deprecated
        ("::ffff:0:0:0/96", "translation"),  # IPv4-translated, RFC 2765
        ("64:ff9b::/96", "translation"),  # NAT64
        ("64:ff9b:1::/48", "translation"),  # NAT64, local use
        ("100::/64", "discard"),
        ("100:0:0:1::/64", "discard"),
        ("2001::/32", "translation"),  # Teredo
        ("2001:2::/48", "benchmark"),
        ("2001:db8::/32", "documentation"),
        ("2001::/23", "reserved"),
        ("2002::/16", "translation"),  # 6to4
        ("2620:4f:8000::/48", "reserved"),  # AS112
        ("3fff::/20", "documentation"),
        ("5f00::/16", "reserved"),  # segment routing
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),  # site-local, deprecated
        ("ff00::/8", "multicast"),
    )
)

#: No receiver can have such an address, whatever an endpoint allows.
NEVER = frozenset({"unspecified", "multicast", "broadcast", "discard"})

#: Hosts that resolvers read as IPv4 addresses although nobody writes addresses so: `2130706433`, `0x7f.1`, `127.1`.
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.ASCII)

#: What the text of `AddressRefused` begins with. Where several addresses of a name failed, the dialler joins the texts of
#: all failures in one plain `OSError`: these words are what is left to know a refusal by.
REFUSED = "address refused"

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


class AddressRefused(OSError):
    """A delivery was about to connect to an address that it may not connect to."""


def classify(address: IPv4Address | IPv6Address) -> str | None:
    """What kind of special address it is; None: a public one. An IPv4-mapped address is what it maps."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    for network, what in RANGES:
        if address.version == network.version and address in network:
            return what
    if isinstance(address, IPv6Address) and int(address) >> 125 != 1:
        return "reserved"  # only 2000::/3 is given out
    return None


def objection(address: str, *, allow_private: bool, plain: bool = False) -> str | None:
    """Why an address may not be connected to, in words; None: it may.

    Args:
        address: an IPv4 or IPv6 address; anything else is refused.
        allow_private: addresses that are not public are allowed, those nobody can receive at aside.
        plain: the request is `http://` and the endpoint does not allow that for public addresses.
    """
    try:
        what = classify(ip_address(address))
    except ValueError:
        return "it is not an IP address"
    if what is None:
        return "plain http:// to a public address needs allow_http" if plain else None
    if what in NEVER:
        return f"it is a {what} address"
    return None if allow_private else f"it is a {what} address, which needs allow_private"


def host_objection(host: str, *, allow_private: bool, plain: bool = False) -> str | None:
    """Why a URL's host is refused before any name is resolved, in words; None: the address decides when it is dialled."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return None if allow_private else "it is a loopback address, which needs allow_private"
    try:
        ip_address(host)
    except ValueError:
        if _NUMERIC.fullmatch(host):
            return "it is neither a host name nor an IP address in its usual form"
        return (
            "plain http:// needs allow_http, or allow_private for a private address"
            if plain and not allow_private
            else None
        )
    return objection(host, allow_private=allow_private, plain=plain)


def socket_factory(*, allow_private: bool, plain: bool) -> Callable[[AddressInfo], socket.socket]:
    """A factory for `aiohttp.TCPConnector` that makes sockets only for addresses that may be connected to.

    The socket it makes raises `AddressRefused` instead of coming into being: the connector then tries the next address.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        address = str(where[0])
        why = objection(address, allow_private=allow_private, plain=plain)
        if why is not None:
            raise AddressRefused(f"{REFUSED}: {address}: {why}")
        return socket.socket(family, kind, protocol)

    return make
