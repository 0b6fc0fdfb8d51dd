"""Signatures: the published vectors, the reference library, and secrets that are refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from gateway.webhooks import signing

A = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
B = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="


def test_published_vector() -> None:
    """The example of the Standard Webhooks libraries comes out to the letter."""
    key = signing.decode_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    value = signing.sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert value == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
PRIVATE_SIGNS = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="


def seed_of(secret: str) -> str:
    return "whsk_" + base64.b64encode(base64.b64decode(secret.removeprefix("whsk_"))[:32]).decode()


@pytest.mark.parametrize("secret", [PRIVATE, seed_of(PRIVATE)])
def test_published_asymmetric_vector(secret: str) -> None:
    """The published Ed25519 example comes out to the letter, from both ways to write the key, and so does the public key."""
    key = signing.decode_secret(secret)
    value = signing.sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert value == PRIVATE_SIGNS
    assert signing.public_key(key) == PUBLIC


def test_keys_of_both_kinds_sign_one_message() -> None:
    """A receiver that moves from a shared secret to a public key finds an entry for either."""
    keys = [signing.decode_secret(PRIVATE), signing.decode_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    value = signing.sign(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert value == f"{PRIVATE_SIGNS} v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert [signing.public_key(key) for key in keys] == [PUBLIC, None]


def test_a_key_shows_nothing_of_itself() -> None:
    """A private key can be in a traceback's locals without being in its text."""
    key = signing.decode_secret(PRIVATE)
    assert PRIVATE[5:20] not in repr(key)
    assert base64.b64decode(PRIVATE[5:])[:4].hex() not in repr(key)


@pytest.mark.parametrize(
    ("body", "first", "second"),
    [
        (
            '{"type":"task.completed","data":{"s":"é€😀"}}',
            "v1,dfZtf4P1Vqp/53wTdVatI9m72V3QnukToEg3bj5oeeg=",
            "v1,7p8KlKY2TRwN8AU8zjwMaQ2U5gp3nEnK187pumkBLPI=",
        ),
        (
            "",
            "v1,oU8jRqu6AWoSFN6NA945LruCd1GaWWOHQZnewRGKaLo=",
            "v1,WcExuwudJdJbMIkNJ10x5iGYWObFAWhR2HdMFZFltPM=",
        ),
    ],
)
def test_two_secrets_give_two_signatures(body: str, first: str, second: str) -> None:
    """During a rotation both signatures are in the header, a space between, the current one first."""
    keys = [signing.decode_secret(A), signing.decode_secret(B)]
    assert signing.sign(keys, "evt_01J0000000000000000000000A", 1735689600, body.encode()) == f"{first} {second}"


def test_a_key_signs_once() -> None:
    """A secret that comes back while it is still in its overlap is the current one and a former one: receivers bound the
    number of signatures that they look at."""
    a, b, private, again = (signing.decode_secret(secret) for secret in (A, B, PRIVATE, seed_of(PRIVATE)))
    once = signing.sign([a, private, b], "e1", 1735689600, b"{}")
    assert len(once.split(" ")) == 3
    assert signing.sign([a, private, a, b, again, b], "e1", 1735689600, b"{}") == once


@given(
    key=st.binary(min_size=24, max_size=64),
    old=st.binary(min_size=24, max_size=64),
    value=st.text(st.characters(codec="utf-8"), max_size=200),
)
def test_reference_library_verifies(key: bytes, old: bytes, value: str) -> None:
    """Whatever the key and the body, the reference library accepts the signature, with the old key too."""
    body = msgspec.json.encode({"s": value})
    now = int(datetime.now(UTC).timestamp())
    header = signing.sign([key, old], "e1", now, body)
    headers = {"webhook-id": "e1", "webhook-timestamp": str(now), "webhook-signature": header}
    for one in (key, old):
        assert Webhook(signing.encode_secret(one)).verify(body.decode(), headers) == {"s": value}


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secret_roundtrip(size: int) -> None:
    """A key survives being written down."""
    key = bytes(range(size))
    assert signing.decode_secret(signing.encode_secret(key)) == key


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "starts with whsec_ or whsk_"),
        (base64.b64encode(bytes(32)).decode(), "starts with whsec_"),
        ("whpk_" + base64.b64encode(bytes(32)).decode(), "starts with whsec_"),
        ("whsk_", "this one has 0"),
        ("whsk_" + base64.b64encode(bytes(33)).decode(), "this one has 33"),
        ("whsk_" + base64.b64encode(bytes(64)).decode(), "does not belong to it"),
        ("whsk_secret-with-dashes!!", "not standard base64"),
        ("whsec_", "this one has 0"),
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "this one has 23"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "this one has 65"),
        ("whsec_secret-with-dashes!!", "not standard base64"),
        ("whsec_" + base64.b64encode(bytes(32)).decode().rstrip("="), "not standard base64"),
        ("whsec_é", "not standard base64"),
    ],
)
def test_bad_secret_is_refused(secret: str, why: str) -> None:
    """A bad secret is refused with a reason that repeats nothing of it."""
    with pytest.raises(ValueError, match=why) as caught:
        signing.decode_secret(secret)
    assert "dashes" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 23, 65])
def test_bad_key_is_refused(size: int) -> None:
    """Keys outside of the lengths of the specification are not written down."""
    with pytest.raises(ValueError, match=f"this one has {size}"):
        signing.encode_secret(bytes(size))
