"""Who may see and do what: the grant that a token stands for."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.filter import Filter

SCOPES = ("events:read", "events:read:progress", "watches:write", "webhooks:write", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the holder of a token may do.

    Attributes:
        holder: stable name for limits and logs; never the token, nor anything it can be found from.
        scopes: of `SCOPES`.
        bounds: sources, tasks and kinds outside of which the holder sees nothing.
        expires: seconds since 1970 (UTC) at which the grant ends; None: never.
    """

    holder: str
    scopes: frozenset[str]
    bounds: Filter = field(default_factory=Filter)
    expires: float | None = None

    def allows(self, scope: str) -> bool:
        """Whether the grant includes a scope; `admin` includes all, `events:read` includes `events:read:progress`."""
        if scope in self.scopes or "admin" in self.scopes:
            return True
        return scope == "events:read:progress" and "events:read" in self.scopes

    @property
    def redacts(self) -> bool:
        """Whether the holder sees the progress view only: `events:read:progress` and nothing above it."""
        return not self.allows("events:read")
