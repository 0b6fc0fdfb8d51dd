"""What can be asked of endpoints while the gateway runs (contract, sections 4 and 5).

Owns the rules: what may be changed by whom of what, that a change is stored before it is answered, and that every change is
an event in the log. Must not know HTTP, nor how deliveries are made.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakValueDictionary

import structlog

from gateway.clock import Clock
from gateway.errors import Invalid, MainstemError, Refused
from gateway.store.api import DeliveryRow
from gateway.telemetry import conceal
from gateway.webhooks import history, record, signing
from gateway.webhooks.books import Books
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.cursor import TEST
from gateway.webhooks.dispatcher import Announce, Dispatcher, log_overruled
from gateway.webhooks.endpoint import DISABLED_TYPE, FILE, SWITCHED_OFF, Endpoint
from gateway.webhooks.record import Former, Record
from gateway.webhooks.status import EndpointStatus
from schemas import rfc3339

_log = structlog.get_logger("mainstem.webhooks")

#: Endpoints that there may be, of the file and of the API together: each costs memory and a connection pool.
MOST = 1000
#: Secrets of an endpoint that sign at once, the current one included.
SECRETS = 10
#: Bytes of a secret that is made here (Standard Webhooks: 24 to 64).
SECRET_BYTES = 32
#: The longest time for which a replaced secret signs on, seconds.
LONGEST_OVERLAP = 604800.0


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint as it is.

    Attributes:
        origin: where it is defined; what the API changed of one of the file holds until the file is edited.
        secrets: how many sign at the moment.
        overlap_until: when the last of the replaced ones ceases to, seconds since 1970, UTC; None: none does.
    """

    config: EndpointConfig
    origin: Literal["file", "api"]
    status: EndpointStatus
    secrets: int
    overlap_until: float | None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as it is.

    Attributes:
        id: `<endpoint>.<sequence>`.
        event_type: None where the log no longer has the event.
        state: pending, delivered, dead, or skipped.
        attempts: `{at, status, duration_ms, error, response}` each, oldest first.
        next_attempt_at: RFC 3339; None where it is settled, waits for its turn, or is being sent.
    """

    id: str
    event_id: str
    sequence: int
    task: str | None
    event_type: str | None
    endpoint: str
    state: str
    attempts: list[dict[str, Any]]
    next_attempt_at: str | None


@dataclass(frozen=True, slots=True)
class Followed:
    """Names of the endpoints that a configuration file read again has changed, in order; `failed`: the store refused."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    failed: list[str]


class Manager:
    """The endpoints of a dispatcher.

    Args:
        dispatcher: at work.
        clock: as everywhere.
        announce: puts an event into the log: see `gateway.webhooks.dispatcher.Announce`.
    """

    def __init__(self, dispatcher: Dispatcher, *, clock: Clock, announce: Announce) -> None:
        self._dispatcher, self._clock, self._announce = dispatcher, clock, announce
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # Endpoints

    def list(self) -> list[EndpointView]:
        """All of them, ordered by name."""
        return [self._view(one) for _, one in sorted(self._dispatcher.endpoints.items()) if not one.record.removed]

    def get(self, name: str) -> EndpointView:
        """One of them.

        Raises:
            Refused: there is none.
        """
        return self._view(self._endpoint(name))

    async def create(self, settings: Mapping[str, Any], by: str) -> tuple[EndpointView, str | None]:
        """Makes an endpoint, which begins with the next event.

        Args:
            settings: as in the configuration file; a secret is made where there is none.
            by: who asks for it, for the log.

        Returns:
            It, and the secret where it was made here: it is not shown again.

        Raises:
            Invalid: the settings are not valid.
            Refused: the name is taken, or there are too many.
            StoreError: the store cannot be used.
        """
        settings = {name: value for name, value in settings.items() if value is not None}
        made = None if "secret" in settings else _new_secret()
        if made is not None:
            settings["secret"] = made
        config = record.validated(settings)
        conceal(*record.secrets_of(settings))
        async with self._lock(config.name):
            if config.name in self._dispatcher.endpoints or config.name in self._dispatcher.files:
                raise Refused(409, "webhook_exists", "There is an endpoint of that name.")
            if len(self._dispatcher.endpoints) >= MOST:
                raise Refused(409, "too_many_webhooks", f"There are {MOST} endpoints, and may be no more.")
            kept = Record(settings=record.settings_of(config))
            notice = self._dispatcher.notice("webhook.created", {"endpoint": config.name, "by": by})
            kept.notices = [] if notice is None else [notice]
            endpoint = await self._dispatcher.add(config, kept)
            _log.info("webhook_endpoint_created", endpoint=config.name, by=by)
            await self._dispatcher.announce()
        return self._view(endpoint), made

    async def change(self, name: str, patch: Mapping[str, Any], by: str) -> EndpointView:
        """Changes settings by a JSON Merge Patch (RFC 7396): null returns one to its default. Headers are patched by name, in
        whatever case. A patch that changes nothing is no event.

        What is in flight ends by the old settings, what was taken in goes out; a new filter holds for the next event on.

        Raises:
            Invalid: what comes out is not valid.
            Refused: there is no such endpoint.
            StoreError: the store cannot be used.
        """
        async with self._lock(name):
            endpoint = self._endpoint(name)
            if patch.get("name", name) != name:
                raise Invalid({"name": "cannot be changed"})
            await self._apply(endpoint, patch, by)
            if "enabled" in patch and endpoint.config.enabled:
                await endpoint.enable(by)
            await self._dispatcher.announce()
            return self._view(endpoint)

    async def remove(self, name: str, by: str) -> None:
        """Forgets an endpoint and its deliveries. What is in flight is waited for a few seconds.

        Raises:
            Refused: there is no such endpoint, or the file has it.
            StoreError: the store cannot be used.
        """
        async with self._lock(name):
            endpoint = self._endpoint(name)
            if endpoint.record.settings is None:
                text = 'The configuration file has it: take it out there, or disable it with PATCH {"enabled": false}.'
                raise Refused(409, "webhook_in_file", text)
            endpoint.books.note("webhook.deleted", {"by": by})
            await self._dispatcher.remove(endpoint)
            _log.info("webhook_endpoint_deleted", endpoint=name, by=by)

    async def enable(self, name: str, by: str) -> EndpointView:
        """Delivers again from the next event on, whyever it was disabled.

        Raises:
            Refused: there is no such endpoint.
            StoreError: the store cannot be used.
        """
        async with self._lock(name):
            endpoint = self._endpoint(name)
            if not endpoint.config.enabled:
                await self._apply(endpoint, {"enabled": True}, by)
            await endpoint.enable(by)
            await self._dispatcher.announce()
            return self._view(endpoint)

    async def rotate_secret(self, name: str, secret: str | None, overlap: float, by: str) -> str:
        """Signs with a new secret, and for a while with the old one as well.

        Args:
            secret: the new one; None: one is made, of the kind of the old one.
            overlap: seconds for which the old one signs on.

        Returns:
            The new secret.

        Raises:
            Invalid: the secret or the overlap is not valid.
            Refused: there is no such endpoint, or as many secrets sign as may: an overlap that was promised is kept.
            StoreError: the store cannot be used.
        """
        if not 0 <= overlap <= LONGEST_OVERLAP:
            raise Invalid({"overlap": f"must be 0 to {LONGEST_OVERLAP:g} seconds"})
        if secret is not None:
            try:
                signing.decode_secret(secret)
            except ValueError as error:
                raise Invalid({"secret": str(error)}) from None
        async with self._lock(name):
            endpoint = self._endpoint(name)
            old, now = endpoint.config.secret.get_secret_value(), self._clock.now()
            new = signing.successor(old, secrets.token_bytes(SECRET_BYTES)) if secret is None else secret
            former = [one for one in endpoint.record.former if one.until > now and one.secret not in (old, new)]
            if overlap > 0 and old != new:
                if len(former) >= SECRETS - 1:
                    free = rfc3339.render(min(one.until for one in former))
                    text = f"{SECRETS} secrets sign, and may be no more: the next overlap can begin at {free}."
                    raise Refused(409, "too_many_secrets", text)
                former.insert(0, Former(old, now + overlap))
            data = {"by": by, "overlap": overlap}
            await self._apply(endpoint, {"secret": new}, by, former=former, kind="webhook.secret_rotated", data=data)
            await self._dispatcher.announce()
        return new

    async def _apply(
        self,
        endpoint: Endpoint,
        patch: Mapping[str, Any],
        by: str,
        *,
        former: Sequence[Former] | None = None,
        kind: str = "webhook.updated",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Changes the settings of an endpoint and says so."""
        kept = endpoint.record
        file = self._dispatcher.files.get(endpoint.name)
        if kept.settings is None:
            assert file is not None
            filed, before = record.settings_of(file), kept.patch or {}
            layer = record.merge(before, record.respelled(patch, filed, before), keep=True)
            config = record.validated(record.merge(filed, layer))
        else:
            config = record.validated(record.merge(kept.settings, record.respelled(patch, kept.settings)))
        if data is None and config == endpoint.config:
            return

        def edit() -> None:
            if kept.settings is None:
                assert file is not None
                kept.patch = layer
                kept.fingerprint, kept.secret_fingerprint = record.fingerprint(file), record.secret_fingerprint(file)
            else:
                kept.settings = record.settings_of(config)
            if former is not None:
                kept.former = [*former]

        await self._reconfigure(endpoint, config, by, edit, kind=kind, data=data)

    async def _reconfigure(
        self,
        endpoint: Endpoint,
        config: EndpointConfig,
        by: str,
        edit: Callable[[], None],
        *,
        kind: str = "webhook.updated",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Has an endpoint work by other settings and says so; `edit` makes its record say them, in the same moment."""
        before, after = record.settings_of(endpoint.config), record.settings_of(config)
        conceal(*record.secrets_of(after))
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))

        def change(books: Books) -> None:
            edit()
            if data is not None or changed:
                books.note(kind, data or {"by": by, "changed": changed})
            else:
                books.touch()
            if endpoint.config.enabled and not config.enabled and endpoint.record.disabled is None:
                books.note(DISABLED_TYPE, {"by": by, "reason": SWITCHED_OFF})

        await endpoint.reconfigure(config, change)
        _log.info("webhook_endpoint_changed", endpoint=endpoint.name, by=by, changed=changed)

    # The configuration file, read again

    async def follow(self, files: Sequence[EndpointConfig]) -> Followed:
        """Makes the endpoints of the configuration file those that it has now, by the rules of a start.

        What did not change is not touched. What fails is logged and keeps nothing else from being done; called again, it is
        tried again.

        Args:
            files: all of them; names are unique.
        """
        wanted = {config.name: config for config in files}
        names = sorted(wanted.keys() | self._dispatcher.files.keys())
        # At once: each removal may wait for what is in flight.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._follow(name, wanted.get(name)), name=f"webhook {name}") for name in names]
        found: dict[str | None, list[str]] = {}
        for name, task in zip(names, tasks, strict=True):
            found.setdefault(task.result(), []).append(name)
        await self._dispatcher.flush()
        return Followed(*(found.get(verdict, []) for verdict in ("added", "changed", "removed", "failed")))

    async def _follow(self, name: str, file: EndpointConfig | None) -> str | None:
        """What became of one endpoint, as a field of `Followed`; None: nothing."""
        try:
            async with self._lock(name):
                return await self._follow_locked(name, file)
        except MainstemError as error:
            _log.error("webhook_endpoint_not_changed", endpoint=name, by=FILE, error=str(error))
            return "failed"

    async def _follow_locked(self, name: str, file: EndpointConfig | None) -> str | None:
        dispatcher = self._dispatcher
        endpoint = dispatcher.endpoints.get(name)
        if endpoint is not None and endpoint.record.removed:  # by a removal that failed half-way
            await dispatcher.remove(endpoint)
            endpoint = None
        verdict = None
        if endpoint is None:
            endpoint = await dispatcher.resume(name, file)
            if endpoint is not None:
                endpoint.books.note("webhook.created", {"by": FILE})
                _log.info("webhook_endpoint_created", endpoint=name, by=FILE)
                verdict = "added"
            elif file is None:
                verdict = "removed"
        elif file is None:
            status = endpoint.status()
            lost = {"pending": status.pending, "dead": status.dead}
            _log.warning("webhook_endpoint_left_the_file", endpoint=name, **lost)
            endpoint.books.note("webhook.deleted", {"by": FILE, **lost})
            await dispatcher.remove(endpoint)
            verdict = "removed"
        elif file != dispatcher.files.get(name):
            await self._follow_edit(endpoint, file)
            verdict = "changed"
        if file is None:
            del dispatcher.files[name]
        else:
            dispatcher.files[name] = file
        return verdict

    async def _follow_edit(self, endpoint: Endpoint, file: EndpointConfig) -> None:
        kept = endpoint.record
        overruled = record.is_overruled(file, kept)

        def edit() -> None:
            if overruled:
                record.overrule(file, kept, self._clock.now())
                log_overruled(endpoint.name)

        await self._reconfigure(endpoint, record.effective(file, kept), FILE, edit)
        if endpoint.config.enabled and kept.disabled is None:  # as a start finds it: what disabled itself stays so
            await endpoint.enable(FILE)

    # Deliveries

    async def test(self, name: str, by: str) -> DeliveryView:
        """Puts an event of type `webhook.test` into the log and delivers it to one endpoint, whatever its filter says.

        Raises:
            Refused: there is no such endpoint, or it is disabled.
            StoreError: the store cannot be used.
        """
        endpoint = self._endpoint(name)
        endpoint.check_enabled()
        event = await self._announce(uuid.uuid4().hex, TEST, name, self._clock.now(), {"endpoint": name, "by": by})
        assert event is not None
        await endpoint.push(event)
        return await self._stored_delivery(endpoint, event.sequence)

    async def replay(self, name: str, *, after: int | None, since: float | None, by: str) -> int:
        """Delivers the events of the log after a position, or since a time, again: in order per task, with the same ids.

        Args:
            after: a position.
            since: seconds since 1970, UTC; where there is no position.

        Returns:
            The position after which it begins: the log may not reach back to the one asked for.

        Raises:
            Refused: there is no such endpoint, or it is disabled.
            StoreError: the store cannot be used.
        """
        endpoint = self._endpoint(name)
        position = after if after is not None else await self._dispatcher.store.position_at(since or 0.0)
        begins = await endpoint.replay(position, by)
        _log.info("webhook_replay", endpoint=name, by=by, after=begins)
        await self._dispatcher.announce()
        return begins

    async def deliveries(
        self, name: str, state: str | None, *, limit: int, cursor: str | None
    ) -> tuple[Sequence[DeliveryView], str | None]:
        """Deliveries, newest event first, and the cursor of the next page. What was not read from the log yet is not listed.

        Raises:
            Refused: there is no such endpoint.
            ValueError: it is no cursor.
            StoreError: the store cannot be used.
        """
        endpoint = self._endpoint(name)
        upto = None if cursor is None else _position_of(cursor) - 1
        rows, before = await endpoint.deliveries(state, upto=upto, limit=limit)
        types = await self._dispatcher.store.types([row.sequence for row in rows])
        views = [_delivery(row, types.get(row.sequence)) for row in rows]
        return views, None if before is None else _cursor(before)

    async def delivery(self, id: str) -> DeliveryView:
        """One delivery.

        Raises:
            Refused: there is none.
            StoreError: the store cannot be used.
        """
        endpoint, sequence = self._found(id)
        return await self._stored_delivery(endpoint, sequence)

    async def retry(self, id: str, by: str) -> DeliveryView:
        """Sends a delivery again now, whatever became of it, with its id; what is before it in its task goes first. One that
        is being sent is left alone.

        Raises:
            Refused: there is none, or its endpoint is disabled.
            StoreError: the store cannot be used.
        """
        endpoint, sequence = self._found(id)
        if not await endpoint.retry(sequence, by):
            raise _no_delivery()
        await self._dispatcher.announce()
        return await self._stored_delivery(endpoint, sequence)

    async def retry_dead(self, name: str, by: str) -> int:
        """Sends all dead letters of an endpoint again, by and by, in order per task. Returns how many there are.

        Raises:
            Refused: there is no such endpoint, or it is disabled.
            StoreError: the store cannot be used.
        """
        count = await self._endpoint(name).retry_dead(by)
        await self._dispatcher.announce()
        return count

    async def _stored_delivery(self, endpoint: Endpoint, sequence: int) -> DeliveryView:
        await self._dispatcher.flush()
        row = await endpoint.delivery(sequence)
        if row is None:
            raise _no_delivery()
        return _delivery(row, (await self._dispatcher.store.types([sequence])).get(sequence))

    def _found(self, id: str) -> tuple[Endpoint, int]:
        name, _, digits = id.rpartition(".")
        endpoint = self._dispatcher.endpoints.get(name)
        if (
            endpoint is None
            or endpoint.record.removed
            or not (digits.isascii() and digits.isdigit() and len(digits) < 20)
        ):
            raise _no_delivery()
        return endpoint, int(digits)

    # Common

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self._dispatcher.endpoints.get(name)
        if endpoint is None or endpoint.record.removed:
            raise Refused(404, "webhook_not_found", "There is no such endpoint.")
        return endpoint

    def _lock(self, name: str) -> asyncio.Lock:
        """Changes of one endpoint are made one after the other."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    def _view(self, endpoint: Endpoint) -> EndpointView:
        now, current = self._clock.now(), endpoint.config.secret.get_secret_value()
        # a file can go back to a secret that signs on
        others = [one for one in endpoint.record.former if one.until > now and one.secret != current]
        return EndpointView(
            config=endpoint.config,
            origin="file" if endpoint.record.settings is None else "api",
            status=endpoint.status(),
            secrets=1 + len(others),
            overlap_until=max((one.until for one in others), default=None),
        )


def _new_secret() -> str:
    return signing.encode_secret(secrets.token_bytes(SECRET_BYTES))


def _no_delivery() -> Refused:
    return Refused(404, "delivery_not_found", "There is no such delivery.")


def _delivery(row: DeliveryRow, event_type: str | None) -> DeliveryView:
    waits = row.state == "pending" and row.due is not None
    return DeliveryView(
        id=f"{row.endpoint}.{row.sequence}",
        event_id=row.event_id,
        sequence=row.sequence,
        task=row.task,
        event_type=event_type,
        endpoint=row.endpoint,
        state=row.state,
        attempts=history.listed(row.attempts),
        next_attempt_at=rfc3339.render(row.due) if waits and row.due is not None else None,
    )


def _cursor(sequence: int) -> str:
    return base64.urlsafe_b64encode(b"d%d" % sequence).decode().rstrip("=")


def _position_of(cursor: str) -> int:
    """The position in a cursor.

    Raises:
        ValueError: it is none.
    """
    try:
        packed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("not a cursor of this list") from error
    if packed[:1] != b"d" or not packed[1:].isdigit() or len(packed) > 20 or _cursor(int(packed[1:])) != cursor:
        raise ValueError("not a cursor of this list")
    return int(packed[1:])
