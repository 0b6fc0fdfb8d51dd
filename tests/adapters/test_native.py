"""JSON that was cut in the middle of a character: what is left of it is read, by each of the three adapters at every door."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters import native
from adapters.api import Continuity, Observation, Rejected
from tests.adapters import test_catalyst, test_emit, test_triverse
from tests.adapters.kit import Gateway, catalyst, emit, session, triverse

#: What JavaScript's JSON.stringify writes for a text that ends, or begins, in the middle of a party popper.
CUT, REST = r"\ud83c", r"\udf89"

#: Pieces of a JSON string, each of which may follow each other.
PIECES = (
    CUT, REST, r"\uD83D", r"\uDE00", r"\udBFf", r"\uDc00", CUT + REST, r"\\", r"\"", r"\/", r"\n", "ud83c", "udf89", "u", "d83c", "é",
    "🎉", r"\ufffd", r"\u0041", r"\ud7ff", r"\ue000", " ", "x",
)  # fmt: skip


def without_halves(value: Any) -> Any:
    """A value as Python reads it, which joins pairs and keeps each half that is left, with U+FFFD for those."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {without_halves(key): without_halves(item) for key, item in value.items()}
    return [without_halves(item) for item in value] if isinstance(value, list) else value


def mended(text: str) -> str:
    """A JSON text with each half of a pair replaced, escape by escape."""
    out, at = [], 0
    while at < len(text):
        size = 1 if text[at] != "\\" else 6 if text[at + 1] == "u" else 2
        if size == 6 and "d800" <= text[at + 2 : at + 6].lower() <= "dfff":
            high = text[at + 2 : at + 6].lower() < "dc00"
            if high and text[at + 6 : at + 8] == r"\u" and "dc00" <= text[at + 8 : at + 12].lower() <= "dfff":
                size = 12
            else:
                text = text[:at] + r"\ufffd" + text[at + 6 :]
        out.append(text[at : at + size])
        at += size
    return "".join(out)


@given(st.lists(st.sampled_from(PIECES)).map("".join), st.sampled_from(('"{}"', '[\n"{}"\n]', '{{"{}":\r"{}"}}')))
@example(CUT + CUT + REST + REST, '"{}"')
@example(r"\\" + CUT, '"{}"')
@example(r"\\\\" + "ud83c" + REST, '"{}"')
def test_half_a_pair_is_one_replacement_character(content: str, shape: str) -> None:
    """Whatever stands around it, escaped backslashes and pairs above all. Nothing else changes, and what holds no half is
    decoded once."""
    text = shape.format(content, content)
    seen: list[str] = []

    def decode(text: str) -> Any:
        seen.append(text)
        return msgspec.json.decode(text)

    assert native.decoded(text, decode) == without_halves(json.loads(text))
    assert seen[-1] == native.compact(mended(text))
    assert native.decoded(text.encode(), msgspec.json.decode) == without_halves(json.loads(text))
    assert len(seen) == 1 or mended(text) != text


@given(
    st.recursive(
        st.none() | st.integers(-(2**53), 2**53) | st.text(st.characters()),
        lambda items: st.lists(items) | st.dictionaries(st.text(st.characters()), items),
    )
)
def test_any_value_of_any_characters(value: Any) -> None:
    """Characters of all kinds, lone surrogates among them, in values and names at any depth."""
    text = json.dumps(value)
    assert native.decoded(text, msgspec.json.decode) == without_halves(json.loads(text))


@pytest.mark.parametrize(
    "broken", ["{", '"' + CUT, '"\\ud83"', '"\\udXYZ"', CUT, '{"a":"' + CUT + '",}', b'"\xed\xa0\xbc"', b"\xff"]
)
def test_what_is_no_json_stays_none(broken: str | bytes) -> None:
    """Half a pair excuses nothing else, and bytes that spell one are not UTF-8."""
    with pytest.raises(native.DECODE_ERRORS):
        native.decoded(broken, msgspec.json.decode)


def cut(value: Any) -> str:
    """JSON in which `🎉` is cut in the middle."""
    return json.dumps(value, ensure_ascii=False).replace("🎉", CUT)


def test_emit_loses_no_end_to_half_a_character() -> None:
    """The worker cut its title to eighty UTF-16 units, and the job is done all the same."""
    done = {**test_emit.COMPLETED, "data": {"title": "done 🎉", "path": r"c:\ud83c"}}
    gateway = Gateway(emit())
    (event,) = gateway.frames(session(emit(spaces=["01JL"])), cut(done))
    assert (event["type"], gateway.others) == ("task.succeeded", [])
    assert event["data"]["result"] == {"title": "done \ufffd", "path": r"c:\ud83c"}
    assert event["data"]["native"]["payload"] == without_halves(json.loads(cut(done)))

    dead = {**test_emit.DEAD, "data": {"error": "boom 🎉"}}
    (event,) = gateway.frames(session(emit(spaces=["01JL"])), cut({**dead, "jobId": "2"}).encode())
    assert event["data"]["error"]["message"] == "boom \ufffd"


def test_emit_resumes_behind_what_was_cut() -> None:
    """The position of such a frame counts, and a notice of what was missed is heard."""
    connection = session(emit(spaces=["01JL"]))
    connection.on_frame(cut({**test_emit.PROGRESS, "data": {"step": "🎉"}, "seq": 7, "streamInstanceId": "i"}))
    assert connection.cursor == {"seq": 7, "instance": "i"}
    assert connection.on_frame(cut({"type": "connected", "missed": 3, "motd": "🎉"})) == [Continuity(3)]


def test_emit_repairs_with_answers_that_were_cut() -> None:
    """A job by itself, wrapped, and in a list beside others."""
    job = {"id": "1", "name": "render 🎉", "status": "completed", "result": {"a": "🎉"}}
    for body in (job, {"job": job}):
        (item,) = emit().on_lookup("1", cut(body).encode())
        assert isinstance(item, Observation)
        assert (item.name, item.result) == ("render \ufffd", msgspec.Raw(rb'{"a": "\ufffd"}'))
    for listing in ([job, {"id": 5}], {"jobs": [job, {"id": 5}]}):
        seen, wrong = emit().on_listing(cut(listing).encode())
        assert isinstance(seen, Observation)
        assert isinstance(wrong, Rejected)
        assert (seen.task_id, seen.status) == ("1", "succeeded")


def test_triverse_loses_no_end_to_half_a_character() -> None:
    """Read at once, read carefully for an unknown field, inside an envelope, and as the answer to a question."""
    done = {**test_triverse.SUCCESS, "output": {"title": "done 🎉"}}
    for payload in (done, {**done, "novel": "🎉", "userId": "🎉"}, {"code": 0, "message": "🎉", "data": done}):
        frame = f"event: finalized\ndata: {cut(payload)}"
        gateway = Gateway(triverse())
        (event,) = gateway.frames(session(triverse()), frame)
        assert (event["type"], event["data"]["result"]) == ("task.succeeded", {"title": "done \ufffd"})
        assert "userId" not in event["data"]["native"]["payload"]
        (item,) = triverse().on_lookup(test_triverse.TASK, cut(payload).encode())
        assert isinstance(item, Observation)
        assert (item.status, item.origin) == ("succeeded", "reconcile")
    answer = triverse().on_download(cut({"code": 0, "data": {"url": "https://x/🎉", "userId": "u"}}).encode())
    assert answer == msgspec.Raw('{"url":"https://x/\ufffd"}'.encode())


def test_catalyst_loses_no_item_to_half_a_character() -> None:
    """Neither the item it stands in nor its neighbours; and an error object, and the answer with the ticket, are read."""
    items = [test_catalyst.item("task_created"), {**test_catalyst.item("task_deleted", task=2), "note": "🎉"}]
    gateway = Gateway(catalyst())
    events = gateway.frames(session(catalyst()), cut(items))
    assert [(event["type"], event["subject"]) for event in events] == [("task.created", "1"), ("task.deleted", "2")]
    assert events[1]["data"]["native"]["payload"]["note"] == "\ufffd"
    (fault,) = session(catalyst()).on_frame(cut({"error_code": "ERR_RATE_LIMIT_EXCEEDED", "detail": "slow 🎉"}))
    assert (fault.verdict, fault.message) == ("slow_down", "slow \ufffd")  # type: ignore[union-attr]
    renewing = catalyst(auth_url="https://up/auth", api_key="k3y")
    opened = session(renewing, ticket=cut({"uuid": "fresh", "user": "🎉"}).encode())
    assert opened.secrets() == ["fresh"]


def test_what_is_rejected_is_shown_as_it_came() -> None:
    """The excerpt in the log is what the upstream sent, not what was made of it."""
    frame = cut({"type": "completed", "note": "🎉"})
    (rejected,) = session(emit(spaces=["01JL"])).on_frame(frame[:-1])
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.excerpt) == ("malformed", frame[:-1])
