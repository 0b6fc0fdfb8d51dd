"""Whether a delivery is one: Standard Webhooks 1.0.0, as a receiver checks it. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from gateway.webhooks import signing

#: Seconds by which a timestamp may differ from now (Standard Webhooks, "Verifying webhook authenticity").
TOLERANCE = 300

_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


class Unverified(Exception):
    """It is not from who holds the secret, or not from now. The message says why."""


def verify(key: signing.Key, headers: Mapping[str, str], body: bytes, now: float, tolerance: float = TOLERANCE) -> None:
    """Accepts a delivery whose header holds, among others, a signature made with the key.

    Args:
        key: the decoded secret.
        headers: of the request, by lower-case name; bytes that are not UTF-8 are surrogates in them (PEP 383).
        body: as it came.
        now: seconds since 1970, UTC.
        tolerance: seconds by which the timestamp may differ from now.

    Raises:
        Unverified: a header is missing or not what it should be, the timestamp is too far away, no signature fits.
    """
    missing = [name for name in _HEADERS if not headers.get(name)]
    if missing:
        raise Unverified(f"no header {', '.join(missing)}")
    broken = [name for name in _HEADERS if any("\ud800" <= char <= "\udfff" for char in headers[name])]
    if broken:
        raise Unverified(f"{', '.join(broken)} is not UTF-8")
    stamp = headers["webhook-timestamp"]
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise Unverified("webhook-timestamp is not a number of seconds")
    off = int(stamp) - now
    if abs(off) > tolerance:
        raise Unverified(f"webhook-timestamp is {abs(off):.0f} s in the {'future' if off > 0 else 'past'}")
    expected = signing.sign([key], headers["webhook-id"], int(stamp), body).encode()
    version = expected.partition(b",")[0]  # an Ed25519 signature is the same each time it is made (RFC 8032, 5.1.6)
    offered = [each for each in headers["webhook-signature"].encode().split(b" ") if each.startswith(version + b",")]
    if not offered:
        raise Unverified(f"webhook-signature holds no {version.decode()} signature")
    # every one is compared, so that the time taken says nothing about which fits
    if not any([hmac.compare_digest(each, expected) for each in offered]):  # noqa: C419
        raise Unverified("no signature fits the secret")
