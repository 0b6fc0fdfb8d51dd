"""What can go wrong for good. Everything else is waited for and tried again."""

from __future__ import annotations


class ClientError(Exception):
    """The stream cannot go on. The message says why; it holds no token."""


class Refused(ClientError):
    """The gateway said no, and would say so again.

    Attributes:
        code: a WebSocket close code, an HTTP status, or the gateway's own word for it (`not_allowed`).
    """

    def __init__(self, code: int | str, message: str) -> None:
        super().__init__(message)
        self.code = code
