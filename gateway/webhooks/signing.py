"""Signatures of deliveries: Standard Webhooks 1.0.0, schemes `v1` (HMAC-SHA256) and `v1a` (Ed25519). Pure.

Owns the form of secrets and the signature header. Must not know what is signed, nor keep a secret's text longer than it
takes to decode it; no error message here contains any part of one.

With `v1` the receiver holds the secret that the gateway signs with; with `v1a` it holds a public key, so that it can verify
and not sign. One header may have entries of both kinds: that is how a receiver moves from one to the other.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: How secrets start when they are written down (Standard Webhooks, "Signature scheme"): a shared secret, a private key,
#: and the public key that the receiver gets.
SHARED, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"
#: Length of a shared secret in bytes (Standard Webhooks, "Signature scheme": between 24 and 64).
KEY_BYTES = range(24, 65)
#: Length of an Ed25519 seed and of a public key in bytes (RFC 8032, 5.1.5).
_SEED = 32

#: What signs: the bytes of a shared secret (`v1`), or a private key (`v1a`).
Key: TypeAlias = "bytes | Ed25519PrivateKey"


def decode_secret(secret: str) -> Key:
    """The key that a secret stands for.

    Args:
        secret: `whsec_` and 24 to 64 bytes, or `whsk_` and an Ed25519 seed, alone or with its public key behind it; in
            standard base64, padded.

    Raises:
        ValueError: it is not such a secret; the message says what is wrong and repeats nothing of it.
    """
    if secret.startswith(PRIVATE):
        return _private_key(_bytes_after(PRIVATE, secret))
    if not secret.startswith(SHARED):
        raise ValueError(f"a secret starts with {SHARED} or {PRIVATE}, followed by base64")
    return _checked(_bytes_after(SHARED, secret))


def encode_secret(key: bytes) -> str:
    """A shared secret as the receiver is given it.

    Raises:
        ValueError: it is too short or too long.
    """
    return SHARED + base64.b64encode(_checked(key)).decode("ascii")


def successor(secret: str, seed: bytes) -> str:
    """A secret of the same kind as another one, so that a receiver verifies in the same way, made of 32 random bytes."""
    return (PRIVATE if secret.startswith(PRIVATE) else SHARED) + base64.b64encode(_checked(seed)).decode("ascii")


def public_key(key: Key) -> str | None:
    """What the receiver of a private key's signatures is given, `whpk_` and base64; None: the secret is a shared one."""
    if isinstance(key, bytes):
        return None
    return PUBLIC + base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def sign(keys: Sequence[Key], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one entry a key, so that old and new secrets verify during a rotation. A key that is
    given twice signs once.

    Args:
        keys: decoded secrets, the current one first.
        message_id: `webhook-id`; has no dot, or the signed text would be ambiguous.
        timestamp: `webhook-timestamp`, seconds since 1970 (UTC) of this attempt.
        body: the bytes that are sent.
    """
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return " ".join(dict.fromkeys(_entry(key, signed) for key in keys))


def _entry(key: Key, signed: bytes) -> str:
    if isinstance(key, bytes):
        return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")
    return "v1a," + base64.b64encode(key.sign(signed)).decode("ascii")


def _bytes_after(prefix: str, secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {prefix} is not standard base64 with padding") from None


def _checked(key: bytes) -> bytes:
    if len(key) not in KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES[0]} to {KEY_BYTES[-1]} bytes, this one has {len(key)}")
    return key


def _private_key(raw: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if len(raw) not in (_SEED, 2 * _SEED):
        raise ValueError(
            f"a private key has {_SEED} bytes, or {2 * _SEED} with its public key, this one has {len(raw)}"
        )
    key = Ed25519PrivateKey.from_private_bytes(raw[:_SEED])
    if raw[_SEED:] not in (b"", key.public_key().public_bytes_raw()):
        raise ValueError("the public key behind the private one does not belong to it")
    return key
