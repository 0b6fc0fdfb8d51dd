"""Dialogue: what a client says on a WebSocket, and what comes of it.

Owns the rules of commands (contract, section 2): the first message of a connection without a token must authenticate,
malformed commands are answered and counted, floods end the connection. Must not know sockets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.access import Grant
from gateway.errors import Refused
from gateway.stream import commands, query, resume
from gateway.stream.connection import Connection, may_see
from schemas import stream

#: Refusals of a token, as HTTP says them before the upgrade → as a close says them after it.
_CLOSES = {401: stream.UNAUTHENTICATED, 403: stream.NOT_ALLOWED, 429: stream.TOO_MANY}

Authenticate = Callable[[str | None], Awaitable[Grant]]
#: Counts the connection among those of a holder; False where that would be too many.
Claim = Callable[[Connection, Grant], bool]


class Dialogue:
    """Listens on behalf of one connection."""

    def __init__(self, connection: Connection, ask: query.Ask, authenticate: Authenticate, claim: Claim) -> None:
        settings, clock = connection.around.settings, connection.around.clock
        self._connection = connection
        self._ask = ask
        self._authenticate = authenticate
        self._claim = claim
        self._clock = clock
        self._token: str | None = None
        self._malformed = 0
        self._most_malformed = settings.malformed
        self._subscriptions = settings.subscriptions
        self._allowance = commands.Allowance(settings.command_rate, settings.command_burst, clock.monotonic())

    def greet(self, grant: Grant | None, token: str | None) -> None:
        """Sends the first message, and begins the subscription of the URL where the grant is known.

        Args:
            token: what the grant was had for.
        """
        connection = self._connection
        self._token = token
        if grant is not None:
            connection.entitle(grant)
        connection.tell_opened()
        if grant is not None:
            self._begin(grant)

    def _begin(self, grant: Grant) -> None:
        connection, ask = self._connection, self._ask
        if not self._claim(connection, grant):
            connection.end(stream.TOO_MANY)
        elif ask.implicit:
            connection.subscribe(stream.DEFAULT_SUBSCRIPTION, ask.wanted, ask.after, snapshot=ask.snapshot)
        if ask.unknown:
            self._mention_unknown()

    def _mention_unknown(self) -> None:
        """Tells of parameters of the URL that nobody knows, behind what the URL asks for: it is served all the same."""
        connection, names = self._connection, self._ask.unknown

        def tell(*_: object) -> None:
            if not connection.ended:
                field = names[0] if len(names) == 1 else None
                connection.tell_error("unknown_parameter", query.complaint(names, query.PARAMETERS), field)

        first = connection.subscriptions.get(stream.DEFAULT_SUBSCRIPTION)
        if first is not None and first.task is not None:
            first.task.add_done_callback(tell)
        else:
            tell()

    def afford(self) -> bool:
        """Whether the client may say something more; it loses the connection where it may not."""
        if self._allowance.spend(self._clock.monotonic()):
            return True
        self._connection.end(stream.TOO_MANY)
        return False

    async def hear(self, text: str | bytes) -> None:
        """Takes one message; bytes are a binary one."""
        if self._connection.ended or not self.afford():
            return
        if isinstance(text, bytes):
            command: stream.Command | commands.Malformed = commands.Malformed("not_text", "commands are text messages")
        else:
            command = commands.parse(text)
        if self._connection.grant is None:
            if isinstance(command, stream.Authenticate):
                await self._log_in(command.token)
            else:
                self._connection.end(stream.UNAUTHENTICATED)
        elif isinstance(command, commands.Malformed):
            self._complain(command)
        else:
            self._malformed = 0
            await self._obey(command)

    def _complain(self, malformed: commands.Malformed) -> None:
        self._connection.tell_error(malformed.code, malformed.message, malformed.field, malformed.id)
        self._malformed += 1
        if self._malformed >= self._most_malformed:
            self._connection.end(stream.MALFORMED)

    async def _obey(self, command: stream.Command) -> None:
        connection = self._connection
        match command:
            case stream.Subscribe():
                self._subscribe(command)
            case stream.Unsubscribe():
                if not connection.unsubscribe(command.id):
                    connection.tell_error(
                        "unknown_subscription", "there is no subscription of this id", "id", command.id
                    )
            case stream.Authenticate():
                await self._renew(command.token)
            case stream.Ping():
                connection.tell("stream.pong", {} if command.id is None else {"id": command.id})

    def _subscribe(self, command: stream.Subscribe) -> None:
        connection, id = self._connection, command.id
        after = None
        if command.after is not None:
            try:
                after = resume.parse(str(command.after))
            except ValueError as error:
                self._complain(commands.Malformed("invalid_field", f"after: {error}", "after", id))
                return
        if id in connection.subscriptions:
            connection.tell_error("already_subscribed", "there is a subscription of this id already", "id", id)
        elif len(connection.subscriptions) >= self._subscriptions:
            text = f"a connection may have {self._subscriptions} subscriptions; one may name many tasks"
            connection.tell_error("too_many_subscriptions", text, None, id)
        elif not connection.may(command.filter):
            text = "the token's scope is for single tasks: name them in the filter"
            connection.tell_error("not_allowed", text, "filter.task", id)
        else:
            connection.subscribe(id, command.filter, after, snapshot=command.snapshot)

    async def _log_in(self, token: str) -> None:
        """The first message of a connection that came without a token."""
        connection = self._connection
        try:
            grant = await self._authenticate(token)
        except Refused as refusal:
            connection.end(_CLOSES.get(refusal.status, stream.FAILURE))
            return
        if connection.ended:
            return
        if not _may_listen(grant) or (self._ask.implicit and not may_see(grant, self._ask.wanted)):
            connection.end(stream.NOT_ALLOWED)
            return
        self._token = token
        connection.entitle(grant)
        self._begin(grant)

    async def _renew(self, token: str) -> None:
        """A new token on an open connection. A bad one changes nothing: the one before is good until it expires."""
        connection = self._connection
        try:
            grant = await self._authenticate(token)
        except Refused as refusal:
            connection.tell_error(refusal.code, str(refusal), "token")
            return
        if connection.ended:
            return
        if not self._suffices(grant):
            connection.end(stream.NOT_ALLOWED)
        elif not self._claim(connection, grant):
            connection.end(stream.TOO_MANY)
        else:
            self._token = token
            connection.entitle(grant)

    async def judge(self) -> None:
        """Tokens mean something else from now on: the connection may what its token now stands for, or ends."""
        connection, token = self._connection, self._token
        if connection.ended or connection.grant is None:
            return
        try:
            grant = await self._authenticate(token)
        except Refused as refusal:
            if token == self._token:  # the client may have shown another one meanwhile
                expired = refusal.code == "token_expired"
                connection.end(stream.EXPIRED if expired else _CLOSES.get(refusal.status, stream.FAILURE))
            return
        if connection.ended or token != self._token or grant == connection.grant:
            return
        if not self._suffices(grant):
            connection.end(stream.NOT_ALLOWED)
        else:
            self._claim(connection, grant)  # whoever is in stays in: the limit is for those who come
            connection.entitle(grant)

    def _suffices(self, grant: Grant) -> bool:
        """Whether a grant is good for all that the connection is subscribed to."""
        wanted = [item.wanted for item in self._connection.subscriptions.values()]
        return _may_listen(grant) and all(may_see(grant, item) for item in wanted)


def _may_listen(grant: Grant) -> bool:
    return grant.allows("events:read:progress")
