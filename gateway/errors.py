"""Every error of the gateway, by what the operator must do.

MainstemError
├── ConfigError        mend the configuration file
├── CannotListen       choose another address, or end what listens there
├── StoreError         look at the disk or the file of the store
│   ├── StoreLocked    another process has it
│   └── StoreFull      no room, or a limit of the store
└── Refused            the caller asked for something that cannot be done (HTTP 4xx, 503)
    └── Invalid        what the caller sent is not valid, field by field (HTTP 400)
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping


class MainstemError(Exception):
    """Something is wrong. The message says what and where."""


class ConfigError(MainstemError):
    """The configuration is not valid. One problem a line, each with its key and line."""


class CannotListen(MainstemError):
    """An address cannot be listened at.

    Args:
        host: as it was configured.
        port: the same.
        error: what the operating system said.

    Attributes:
        taken: whether something else listens there.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        # event loops put a sentence of their own around the reason; a resolver's numbers are not the system's
        number = None if isinstance(error, socket.gaierror) else error.errno
        why = os.strerror(number) if number else error.strerror or str(error)
        super().__init__(f"cannot listen at {f'[{host}]' if ':' in host else host}:{port}: {why}")
        self.taken = error.errno == errno.EADDRINUSE


class StoreError(MainstemError):
    """The store cannot be used."""


class StoreLocked(StoreError):
    """Another process has the store."""


class StoreFull(StoreError):
    """The store cannot take more."""


class Refused(MainstemError):
    """A request that cannot be done as asked, or not now.

    Attributes:
        status: HTTP status, 400 to 499, or 503.
        code: short constant for programs, e.g. `unknown_source`.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Invalid(Refused):
    """What the body of a request asks for is not valid.

    Attributes:
        errors: dotted path of each field that is not valid → what is wrong with it, without its value.
    """

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(400, "invalid_body", "; ".join(f"{name}: {text}" for name, text in errors.items()))
        self.errors = dict(errors)
