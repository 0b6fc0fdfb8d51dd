"""Catalyst's endpoint, and the uuid that a connection authenticates with.

Source: catalyst-task-events.txt ("Endpoint overview", "Permissions", "Errors"); one-time uuids as described in the
upstreams' README. Nothing is ever sent on the socket (RECEIVE_NOT_SUPPORTED), and nothing is replayed on it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
from pydantic import Field, SecretStr, field_validator, model_validator

from adapters.api import Adapter, Item, Rejected, Request, Resume, Session, SourceConfig, Stream, check_http_url
from adapters.catalyst import wire
from adapters.native import DECODE_ERRORS, decoded, excerpt

PATH = "/ws/events/tasks/"


class CatalystConfig(SourceConfig):
    """`adapter: catalyst`: a fixed `uuid`, or `auth_url` with credentials for a fresh one per connect."""

    adapter: Literal["catalyst"] = Field(description="Catalyst")
    uuid: SecretStr | None = Field(default=None, min_length=1, description="fixed ticket, which is a credential")
    auth_url: SecretStr | None = Field(default=None, description='full URL of the endpoint that answers {"uuid": ...}')
    api_key: SecretStr | None = Field(default=None, min_length=1, description="sent to auth_url as a Bearer token")
    auth_headers: dict[str, SecretStr] = Field(default_factory=dict, description="sent to auth_url")

    @field_validator("auth_url")
    @classmethod
    def _endpoint(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_http_url(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _one_way_in(self) -> CatalystConfig:
        if (self.uuid is None) == (self.auth_url is None):
            raise ValueError("needs either uuid, or auth_url with api_key or auth_headers")
        if self.auth_url is None and (self.api_key or self.auth_headers):
            raise ValueError("api_key and auth_headers are for auth_url, which is missing")
        return self


class _Ticket(msgspec.Struct):
    uuid: str


_decode_ticket = msgspec.json.Decoder(_Ticket).decode


class Catalyst(Adapter[CatalystConfig]):
    """One Catalyst account."""

    Config: ClassVar[type[SourceConfig]] = CatalystConfig

    def secrets(self) -> list[str]:
        known = [self.config.uuid, self.config.api_key, *self.config.auth_headers.values()]
        return [secret.get_secret_value() for secret in known if secret is not None]

    def streams(self) -> list[Stream]:
        return [Stream(key="events", path=PATH, gap="always")]

    def authorize(self, stream: Stream) -> Request | None:
        if self.config.auth_url is None:
            return None
        headers = {name: value.get_secret_value() for name, value in self.config.auth_headers.items()}
        if self.config.api_key is not None:
            headers["Authorization"] = f"Bearer {self.config.api_key.get_secret_value()}"
        return Request(url=self.config.auth_url.get_secret_value(), headers={"Accept": "application/json", **headers})

    def open(self, stream: Stream, resume: Resume, ticket: bytes | None) -> Session:
        if self.config.uuid is not None:
            uuid = self.config.uuid.get_secret_value()
        else:
            try:
                uuid = decoded(ticket or b"", _decode_ticket).uuid
            except DECODE_ERRORS as error:
                raise ValueError(f"the answer of auth_url has no uuid: {error}") from None
        request = Request(url=self.config.ws(stream.path, {"uuid": uuid}))
        return CatalystSession(request, uuid, resume.now, fixed_uuid=self.config.uuid is not None)


class CatalystSession(Session):
    """One connection. Closes mean nothing by themselves: an error object has said what there is to say."""

    def __init__(self, request: Request, uuid: str, opened: str, *, fixed_uuid: bool) -> None:
        self._request = request
        self._uuid = uuid
        self._opened = opened
        self._frames = 0
        self._fixed_uuid = fixed_uuid

    def request(self) -> Request:
        return self._request

    def secrets(self) -> list[str]:
        return [self._uuid]

    def on_frame(self, frame: str | bytes) -> list[Item]:
        try:
            text = frame if isinstance(frame, str) else frame.decode()
        except UnicodeDecodeError:
            return [Rejected("malformed", "a binary frame that is not UTF-8", excerpt(frame))]
        self._frames += 1
        return wire.read(text, fixed_uuid=self._fixed_uuid, arrival=f"{self._opened}/{self._frames}")
