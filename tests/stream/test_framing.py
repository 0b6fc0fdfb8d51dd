"""Bytes that carry events."""

from __future__ import annotations

import json

import pytest

from gateway.stream import framing


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_frames_have_the_lengths_of_rfc_6455(size: int) -> None:
    """Each length form is read back, joined frames too."""
    one = framing.text_frame(b"x" * size)
    both = one + framing.pong_frame(b"hi") + framing.PING
    assert framing.payloads(both) == [(1, b"x" * size), (10, b"hi"), (9, b"")]
    assert len(one) == size + (2 if size < 126 else 4 if size < 65536 else 10)


def test_sse_block() -> None:
    """`id` only where the position moves, `event`, one `data` line, a blank line."""
    assert framing.sse_block(b"{}", "task.started", 7) == b"id: 00000000000000000007\nevent: task.started\ndata: {}\n\n"
    assert framing.sse_block(b"{}", "stream.pong", None) == b"event: stream.pong\ndata: {}\n\n"
    assert framing.sse_block(b"{}", "stream.closing", None, 5).startswith(b"retry: 5\n")


@pytest.mark.parametrize("gap", [b"\n", b"\r", b"\r\n"])
def test_line_breaks_in_the_body_stay_inside_the_event(gap: bytes) -> None:
    """A pretty-printed native payload cannot break the framing."""
    body = b'{"a":' + gap + b"1}"
    block = framing.sse_block(body, "task.started", 1)
    lines = block.decode().rstrip("\n").split("\n")
    assert json.loads("\n".join(line[6:] for line in lines if line.startswith("data: "))) == {"a": 1}
    assert b"\r" not in block


def test_chunks_and_forms() -> None:
    """A chunk carries its length in hexadecimal; each framing has one form for each view."""
    assert framing.chunk(b"x" * 16) == b"10\r\n" + b"x" * 16 + b"\r\n"
    assert [form.index for form in framing.FORMS] == list(range(8))
    assert framing.SSE_CHUNKED.event(b"{}", "a.b", None, None) == framing.chunk(framing.sse_block(b"{}", "a.b", None))
    assert framing.WEBSOCKET.event(b"{}", "a.b", 1, None) == framing.text_frame(b"{}")
    assert framing.WEBSOCKET_DEFLATED.event(b"{}", "a.b", 1, None) == framing.text_frame(b"{}")
