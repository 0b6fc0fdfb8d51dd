"""What is known of a task, and what news of it means. The one module that owns contiguity.

Owns: comparing states, telling repeats and stale news from real ones, deterministic event ids. Pure: no I/O, no clock; the
time of receipt is passed in. Must not know any upstream: it works on `adapters.api.Observation` alone.

Ids. An event's id is a hash over the source's name and
- for an occurrence: what the adapter says identifies it;
- for an event derived from states: the type, how often the task was run again (`reruns`) and, short of the end, how often
  it went back to an earlier status (`backs`): between two steps back a status is reached once. Within a status the progress
  reached tells events apart, and how often that went back (`dips`).
  So two replicas agree as long as both saw the steps back, however many states in between one of them missed.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec import UNSET, Raw

from adapters.api import Observation, Queue, TaskError
from schemas import rfc3339
from schemas.event import FINISHED, RANK, TYPE_OF_STATUS

#: A JSON value that is not there. (A union of Raw and None cannot be decoded.)
NULL = Raw(b"null")

Origin = Literal["live", "catchup", "reconcile", "snapshot"]

#: Content digests of `task.updated` that are remembered per task between two moves.
_SEEN = 32


class Task(msgspec.Struct):
    """`data.task` of the canonical event (`schemas.event.Task`), in the order in which it is written."""

    key: str
    id: str
    source: str
    adapter: str
    kind: str | None = None
    name: str | None = None
    status: str = "unknown"
    native_status: str | None = None
    progress: int | float | None = None
    attempt: int | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    queue: Queue | None = None
    priority: int | None = None
    cost_credits: int | float | None = None


class State(msgspec.Struct):
    """All that is known of a task; what the store keeps as `TaskRow.state`.

    Attributes:
        extra: public fields of the upstream's state that no other field holds.
        stream: key of the upstream stream that spoke last.
        as_of: upstream time of the newest news, without `Z` so that texts compare like times.
        told: upstream time of the newest *state*, when the status is known from one rather than from an occurrence.
        revived: upstream time of the last re-run of a finished task.
        last_id: id of the last occurrence applied.
        reruns, backs, dips, seen: what ids are made of, see the module's docstring; `seen` has digests of contents since
            the last move.
    """

    task: Task
    input: Raw = NULL
    result: Raw = NULL
    error: TaskError | None = None
    extra: Raw = NULL
    native_type: str = ""
    payload: Raw = NULL
    redacted: bool = False
    received_at: str = ""
    stream: str = ""
    as_of: str | None = None
    told: str | None = None
    by_state: bool = False
    revived: str | None = None
    last_id: str | None = None
    reruns: int = 0
    backs: int = 0
    dips: int = 0
    seen: list[str] = msgspec.field(default_factory=list)


class Change(msgspec.Struct, gc=False):
    """An event to be published: what happened to a task, beside its state."""

    id: str
    type: str
    time: str
    changed: list[str]
    detail: Raw | None
    origin: Origin
    redacted: bool
    native_type: str
    payload: Raw


class Verdict(Enum):
    """What became of an observation that publishes nothing."""

    DUPLICATE = "duplicate"
    STALE = "stale"


#: What an occurrence that comes late may still add where nothing is known: facts that later news does not undo.
_FACTS = ("kind", "name", "attempt", "created_at", "started_at")
_TERMINAL_TYPES = frozenset({"task.succeeded", "task.failed", "task.cancelled", "task.deleted"})
#: contract, section 1, `time`: which of the task's own times is the event's, where the upstream gives no other.
_TIME_OF_TYPE = {
    "task.created": "created_at",
    "task.started": "started_at",
    **dict.fromkeys(_TERMINAL_TYPES, "completed_at"),
}


_NEW_ID = blake2b(digest_size=16)


def event_id(text: str) -> str:
    """A deterministic id: the same text gives the same id, in every process. `evt_` and 32 hex digits."""
    digest = _NEW_ID.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return "evt_" + digest.hexdigest()


def observe(
    state: State | None,
    news: Observation,
    *,
    source: str,
    adapter: str,
    stream: str,
    live: Container[str] = (),
    received_at: str,
) -> tuple[State | None, Change | Verdict]:
    """What an observation means.

    Args:
        state: what is known of the task; None at first sight. It is brought up to date in place.
        news: what the upstream says.
        stream: key of the upstream stream that says it.
        live: keys of the source's streams that are connected.
        received_at: when it was received, RFC 3339.

    Returns:
        The state from now on (the same object where there was one), and the event to publish or why there is none.
    """
    first = state is None
    if state is None:
        state = State(Task(f"{source}/{news.task_id}", news.task_id, source, adapter))
    change = (_compare if news.type is None else _occur)(state, news, first, stream, live, received_at)
    if isinstance(change, Verdict):
        return (None if first else state), change
    state.received_at, state.stream = received_at, stream
    return state, change


# --- states ----------------------------------------------------------------------------------------------------------


def _compare(
    state: State, news: Observation, first: bool, stream: str, live: Container[str], received_at: str
) -> Change | Verdict:
    task = state.task
    before, was = task.status, task.progress
    after = news.status if news.status is not UNSET else before
    if before in FINISHED:
        if after == "unknown":
            after = before  # a word of tomorrow does not undo what is known to be over
        elif after not in FINISHED:
            return Verdict.STALE
    progress = was if news.progress is UNSET else news.progress
    height, lower = _height(after, progress), _height(before, was)
    back = height < lower
    if back and not first and stream != state.stream and state.stream in live:
        return Verdict.DUPLICATE  # two streams show the same task, and this one lags

    changed = _changes(state, news, after)
    if not changed and not first and not _json_differs(news.extra, state.extra):
        state.stream = stream
        _told(state, news)
        return Verdict.DUPLICATE

    if first or after != before:
        kind = _arrival(before, after, first)
    elif "progress" in changed and after == "running":
        kind = "task.progressed"
    else:
        kind = "task.updated"
    _apply(state, news, after, changed)
    _told(state, news)
    if after != before:
        state.dips = 0
        state.seen.clear()
        if before in FINISHED:
            state.reruns += 1
        elif back:
            state.backs += 1
    elif height != lower:
        state.dips += back
        state.seen.clear()

    if kind not in _TERMINAL_TYPES:
        reached = after
        if kind == "task.progressed":
            reached = f"{state.dips}\0{height[1]}"
        elif kind == "task.updated":
            reached = _content(state)
        identity = f"{task.source}\0state\0{task.id}\0{kind}\0{state.reruns}\0{state.backs}\0{reached}"
    elif news.identity is None:
        identity = f"{task.source}\0state\0{task.id}\0{kind}\0{state.reruns}"
    else:
        identity = f"{task.source}\0{news.identity}"
    return _change(event_id(identity), kind, news, task, changed, received_at)


def _told(state: State, news: Observation) -> None:
    state.by_state = True
    if news.time is not None:
        time = news.time[:-1]
        state.told = time
        if state.as_of is None or time > state.as_of:
            state.as_of = time


def _height(status: str, progress: float | None) -> tuple[int, float]:
    return RANK[status], -1.0 if progress is None else float(progress)


def _arrival(before: str, after: str, first: bool) -> str:
    """contract, section 1: the type under which the arrival at a status is published."""
    if not first and after in ("pending", "queued"):
        if before in ("running", "dispatched"):
            return "task.requeued"
        if RANK[before] > RANK[after]:
            return "task.updated"
    return TYPE_OF_STATUS[after]


def _content(state: State) -> str:
    """A digest of everything public in a state that was not seen since the last move; a return to one is a step back."""
    values = [_canonical(value) for value in (state.input, state.result, state.extra)]
    digest = blake2b(msgspec.json.encode((state.task, values, state.error)), digest_size=8).hexdigest()
    if digest in state.seen or len(state.seen) >= _SEEN:
        state.dips += 1
        state.seen.clear()
    state.seen.append(digest)
    return f"{state.dips}\0{digest}"


def _canonical(value: Raw) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.decode(value), order="deterministic")
    except msgspec.DecodeError:
        return bytes(value)  # JSON that adapters pass through unread may hold a number out of range


# --- occurrences -----------------------------------------------------------------------------------------------------


def _occur(
    state: State, news: Observation, first: bool, stream: str, live: Container[str], received_at: str
) -> Change | Verdict:
    assert news.type is not None
    task = state.task
    kind, before = news.type, task.status
    after = before if news.status is UNSET else news.status
    event = event_id(f"{task.source}\0{news.identity or f'{task.id}{news.native_type}{news.time}'}")
    if event == state.last_id:
        return Verdict.DUPLICATE
    time = news.time[:-1] if news.time else None
    late = time is not None and state.as_of is not None and time < state.as_of

    revives = before in FINISHED and after not in FINISHED
    if revives and not (news.revives and before in ("failed", "cancelled")):
        return Verdict.STALE

    if state.by_state and not first and kind == TYPE_OF_STATUS[before] and after == before and _known_by(state, time):
        # The state that the upstream sent on connect has been published as this very step already.
        changed = _changes(state, news, after)
        if not changed:
            return Verdict.DUPLICATE
        kind, event, late = "task.updated", event_id(f"{event}\0more"), False
    elif kind in _TERMINAL_TYPES and before in FINISHED and not first and not late:
        state.reruns += 1  # it ended again: a re-run that was not seen
    elif late and kind in _TERMINAL_TYPES and before not in FINISHED:
        # News of the end may be overtaken by news of the way; but the end of an earlier run is no end of this one.
        late = state.revived is not None and time is not None and time < state.revived

    if late:
        changed = _fill(state, news)
    else:
        if revives:
            state.reruns += 1
            state.revived = time
        elif after != before and RANK[after] < RANK[before]:
            state.backs += 1
        changed = _changes(state, news, after)
        _apply(state, news, after, changed)
        state.last_id = event
        if time is not None and (state.as_of is None or time > state.as_of):
            state.as_of = time
        if news.status is not UNSET and kind == news.type:
            state.by_state = False
        state.seen.clear()
    if news.detail is not None:
        changed.append("detail")
    return _change(event, kind, news, task, changed, received_at)


def _known_by(state: State, time: str | None) -> bool:
    return time is None or state.told is None or time <= state.told


def _fill(state: State, news: Observation) -> list[str]:
    """Late news takes nothing back: it only adds what is not known yet."""
    task, changed = state.task, []
    for name in _FACTS:
        value = getattr(news, name)
        if value is not UNSET and value is not None and getattr(task, name) is None:
            setattr(task, name, value)
            changed.append(name)
    return changed


# --- both ------------------------------------------------------------------------------------------------------------


def _changes(state: State, news: Observation, status: str) -> list[str]:
    """The names of the fields that the news would change, in the order of the event."""
    task, unset = state.task, UNSET
    changed = []
    if status != task.status:
        changed.append("status")
    if news.native_status is not unset and news.native_status != task.native_status:
        changed.append("native_status")
    # Written out: a loop over names costs twice as much, and this is asked of every event.
    if news.kind is not unset and news.kind != task.kind:
        changed.append("kind")
    if news.name is not unset and news.name != task.name:
        changed.append("name")
    if news.progress is not unset and news.progress != task.progress:
        changed.append("progress")
    if news.attempt is not unset and news.attempt != task.attempt:
        changed.append("attempt")
    if news.created_at is not unset and news.created_at != task.created_at:
        changed.append("created_at")
    if news.started_at is not unset and news.started_at != task.started_at:
        changed.append("started_at")
    if news.completed_at is not unset and news.completed_at != task.completed_at:
        changed.append("completed_at")
    if news.queue is not unset and news.queue != task.queue:
        changed.append("queue")
    if news.priority is not unset and news.priority != task.priority:
        changed.append("priority")
    if news.cost_credits is not unset and news.cost_credits != task.cost_credits:
        changed.append("cost_credits")
    if news.input is not unset and _json_differs(news.input, state.input):
        changed.append("input")
    if news.result is not unset and _json_differs(news.result, state.result):
        changed.append("result")
    if news.error is not unset and news.error != state.error:
        changed.append("error")
    return changed


def _json_differs(news: Raw | msgspec.UnsetType | None, known: Raw) -> bool:
    """Whether a JSON value is another one; the same value in other words (spaces, order of keys) is the same."""
    if news is UNSET:
        return False
    value = NULL if news is None else news
    return value != known and _canonical(value) != _canonical(known)


def _apply(state: State, news: Observation, status: str, changed: list[str]) -> None:
    """Brings the state up to date: `changed` is what `_changes` found."""
    task = state.task
    for name in changed:
        if name == "status":
            task.status = status
        elif name in ("input", "result"):
            setattr(state, name, _kept(getattr(news, name)))
        elif name == "error":
            state.error = news.error or None
        else:
            setattr(task, name, getattr(news, name))
    if news.extra is not UNSET:
        state.extra = _kept(news.extra)
    if news.redacted:
        state.redacted = True
    elif state.redacted and (news.result or news.error or news.input):
        state.redacted = False
    state.native_type, state.payload = news.native_type, news.payload.copy()


def _kept(value: Raw | None) -> Raw:
    """A Raw is a view into its frame: a copy lets go of the rest."""
    return NULL if value is None else value.copy()


def _change(event: str, kind: str, news: Observation, task: Task, changed: list[str], received_at: str) -> Change:
    time = _time(kind, news, task, received_at)
    return Change(event, kind, time, changed, news.detail, news.origin, news.redacted, news.native_type, news.payload)


def _time(kind: str, news: Observation, task: Task, received_at: str) -> str:
    if news.time is not None:
        return news.time
    name = _TIME_OF_TYPE.get(kind)
    return (getattr(task, name) if name else None) or received_at


def size(state: State) -> int:
    """Bytes of what upstreams may make as large as they like; the rest of a state is of about the same size for all."""
    error = state.error
    said = 0 if error is None or error.message is None else len(error.message)
    return len(state.input) + len(state.result) + len(state.extra) + len(state.payload) + said


def is_old(news: Observation, horizon: float) -> bool:
    """Whether a state is of a task that ended before a time (seconds since 1970, UTC): older than what the log keeps."""
    done = news.completed_at
    return news.type is None and news.status in FINISHED and isinstance(done, str) and rfc3339.parse(done) < horizon
