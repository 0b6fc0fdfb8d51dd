"""Signatures of deliveries: Standard Webhooks 1.0.0, symmetric scheme `v1`. Pure.

Owns the form of secrets and the signature header. Must not know what is signed, nor keep a secret's text longer than it
takes to decode it; no error message here contains any part of one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

#: How a symmetric secret starts when it is written down (Standard Webhooks, "Signature scheme").
PREFIX = "whsec_"
#: Length of a key in bytes (Standard Webhooks, "Signature scheme": between 24 and 64).
KEY_BYTES = range(24, 65)


def decode_secret(secret: str) -> bytes:
    """The key that a secret stands for.

    Args:
        secret: `whsec_` and the key in standard base64, padded.

    Raises:
        ValueError: it is not such a secret; the message says what is wrong and repeats nothing of it.
    """
    if not secret.startswith(PREFIX):
        raise ValueError(f"a secret starts with {PREFIX}, followed by base64")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {PREFIX} is not standard base64 with padding") from None
    if len(key) not in KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES[0]} to {KEY_BYTES[-1]} bytes, this one has {len(key)}")
    return key


def encode_secret(key: bytes) -> str:
    """A key as the secret that a receiver is given.

    Raises:
        ValueError: the key is too short or too long.
    """
    if len(key) not in KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES[0]} to {KEY_BYTES[-1]} bytes, this one has {len(key)}")
    return PREFIX + base64.b64encode(key).decode("ascii")


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1` entry a key, so that old and new secrets verify during a rotation.

    Args:
        keys: decoded secrets, the current one first.
        message_id: `webhook-id`; has no dot, or the signed text would be ambiguous.
        timestamp: `webhook-timestamp`, seconds since 1970 (UTC) of this attempt.
        body: the bytes that are sent.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii") for key in keys)
