"""Compression that can be shared: what is agreed on, and that every message stands alone."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream import deflate, framing

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (["permessage-deflate"], AGREED),
        (["permessage-deflate; client_max_window_bits"], AGREED),  # browsers
        (['Permessage-Deflate ; client_max_window_bits = "15"; server_no_context_takeover'], AGREED),
        (["permessage-deflate; client_no_context_takeover"], AGREED),
        (["permessage-deflate; server_max_window_bits=15"], f"{AGREED}; server_max_window_bits=15"),
        (["permessage-deflate; server_max_window_bits=10, permessage-deflate"], AGREED),
        (["permessage-deflate; server_max_window_bits=10", "x-other, permessage-deflate"], AGREED),
        ([], None),
        (["x-webkit-deflate-frame"], None),
        (["permessage-deflate; server_max_window_bits=10"], None),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; client_max_window_bits=7"], None),
        (["permessage-deflate; server_no_context_takeover=1"], None),
        (["permessage-deflate; client_no_context_takeover; client_no_context_takeover"], None),
        (["permessage-deflate; mystery"], None),
    ],
)
def test_what_is_agreed_on(offers: list[str], answer: str | None) -> None:
    """The first offer that can be met, by the rules of RFC 7692, section 7.1; without takeover in either direction."""
    assert deflate.answer(offers) == answer


@given(st.lists(st.binary(max_size=4000), min_size=1, max_size=8))
def test_every_message_stands_alone(messages: list[bytes]) -> None:
    """Whatever was compressed before, a fresh window inflates each message."""
    compressor = deflate.Compressor()
    for message in messages + messages:
        data = compressor.compress(message)
        assert zlib.decompressobj(wbits=-15).decompress(data + b"\x00\x00\xff\xff") == message


def test_only_what_gets_smaller_is_compressed() -> None:
    """Short messages and noise stay as they are, the rest has RSV1 set."""
    short, long = b"x" * (framing.SMALL - 1), b"x" * framing.SMALL
    noise = random.Random(1).randbytes(2 * framing.SMALL)
    assert framing.deflated_frame(short) == framing.text_frame(short)
    assert framing.deflated_frame(noise) == framing.text_frame(noise)
    assert framing.deflated_frame(long)[0] == 0xC1
    assert len(framing.deflated_frame(long)) < 100
