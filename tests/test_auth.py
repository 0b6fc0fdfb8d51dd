"""Tokens: who gets in, with what, and that nothing about a token leaks."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from structlog.testing import capture_logs

from gateway.access import Grant
from gateway.errors import Refused
from gateway.http.auth import Authenticator, Door, StaticToken, token_of
from schemas.filter import Filter

SECRET = "a-shared-secret-of-more-than-32-bytes"


class HeldClock:
    """Time that stands still until told."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def mint(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    claims = {"exp": 1_000_100, "scope": "events:read", "sub": "alice", **claims}
    return jwt.encode({k: v for k, v in claims.items() if v is not ...}, key, algorithm, headers=headers)


def by_secret(**options: Any) -> Authenticator:
    return Authenticator(mode="jwt", clock=HeldClock(), secret=SECRET, algorithms=["HS256"], **options)


async def refusal(authenticator: Authenticator, token: str | None) -> Refused:
    with pytest.raises(Refused) as caught:
        await authenticator.authenticate(token)
    assert token is None or len(token) < 8 or token not in str(caught.value)
    return caught.value


async def test_mode_none() -> None:
    """Everybody may do everything, with and without a token."""
    authenticator = Authenticator(mode="none", clock=HeldClock())
    assert (await authenticator.authenticate(None)).allows("webhooks:write")
    assert (await authenticator.authenticate("x")).allows("admin")


async def test_claims_become_a_grant() -> None:
    """Scopes, bounds, expiry and a name."""
    token = mint(scope="events:read watches:write unheard:of", sources=["studio"], tasks=["a/1", "a/2"], kinds=["k"])
    assert await by_secret().authenticate(token) == Grant(
        holder="jwt:alice",
        scopes=frozenset({"events:read", "watches:write"}),
        bounds=Filter(source=("studio",), task=("a/1", "a/2"), kind=("k",)),
        expires=1_000_100.0,
    )
    # Tokens without a subject once were one holder, so that the connections of one could lock out all the others.
    nobody = [(await by_secret().authenticate(mint(sub=..., jti=jti))).holder for jti in ("a", "b", "a")]
    assert nobody[0] == nobody[2] != nobody[1]
    assert nobody[0].startswith("jwt#")
    assert (await by_secret().authenticate(mint(scope=...))).scopes == frozenset()


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": ...}, "bad_token"),
        ({"exp": 1_000_000}, "token_expired"),
        ({"exp": True}, "bad_token"),
        ({"nbf": 1_000_031}, "bad_token"),
        ({"nbf": "soon"}, "bad_token"),
        ({"scope": ["events:read"]}, "bad_token"),
        ({"scope": None}, "bad_token"),
        ({"sources": "studio"}, "bad_token"),
        ({"sources": None}, "bad_token"),
        ({"sources": []}, "bad_token"),
        ({"tasks": [5]}, "bad_token"),
        ({"tasks": [""]}, "bad_token"),
        ({"kinds": {"k": 1}}, "bad_token"),
    ],
)
async def test_claims_that_refuse_the_token(claims: dict[str, Any], code: str) -> None:
    """Missing or past expiry; a scope or a bound that cannot be understood is never ignored."""
    with warnings.catch_warnings():
        token = mint(**claims) if not isinstance(claims.get("nbf"), str) else raw_token({"exp": 1_000_100, **claims})
    error = await refusal(by_secret(), token)
    assert (error.status, error.code) == (401, code)


def raw_token(claims: Any, header: dict[str, Any] | None = None, key: str = SECRET) -> str:
    """Signed as it is, without the checks of the library that mints."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, "HS256", headers=header)


async def test_clocks_may_differ_a_little() -> None:
    """`nbf` slightly ahead is fine."""
    assert (await by_secret().authenticate(mint(nbf=1_000_029))).allows("events:read")


@pytest.mark.parametrize(
    "token",
    [
        "", "x", "a.b.c", "é" * 10, "x" * 20_000, "....", "\ud800",
        mint("another-secret-of-more-than-32-bytes!"),
        mint(algorithm="HS512", key="x" * 64),
        raw_token([1]), raw_token("text"), raw_token({"exp": 1e400}),
        mint()[:-3] + "abc",
    ],
)  # fmt: skip
async def test_bad_tokens(token: str) -> None:
    """Garbage, wrong keys and wrong algorithms: 401 with a challenge, and no word of the token."""
    error = await refusal(by_secret(), token)
    assert (error.status, error.code) == (401, "bad_token")
    assert error.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'  # type: ignore[attr-defined]


async def test_unsigned_tokens() -> None:
    """`alg: none` is no algorithm."""
    await refusal(by_secret(), jwt.encode({"exp": 1_000_100, "scope": "admin"}, None, "none"))


async def test_missing_token() -> None:
    """It is told apart from a bad one."""
    error = await refusal(by_secret(), None)
    assert (error.status, error.code) == (401, "missing_token")


async def test_issuer_and_audience() -> None:
    """Compared where the configuration names them."""
    authenticator = by_secret(issuer="https://issuer", audience="mainstem")
    good: dict[str, Any] = {"iss": "https://issuer", "aud": ["x", "mainstem"]}
    assert await authenticator.authenticate(mint(**good))
    assert await authenticator.authenticate(mint(**good | {"aud": "mainstem"}))
    for wrong in ({"iss": "x"}, {"iss": ...}, {"aud": "x"}, {"aud": ...}, {"aud": ["x"]}):
        await refusal(authenticator, mint(**good | wrong))


async def test_static_tokens() -> None:
    """They stand for their grant, beside tokens that are signed, and alone."""
    grant = Grant(holder="static:ops", scopes=frozenset({"admin"}))
    entry = StaticToken("let-me-in-please", grant)
    assert "let-me-in" not in repr(entry)
    other = StaticToken("another-token", Grant(holder="static:x", scopes=frozenset()))
    both = by_secret(tokens=[entry, other])
    assert await both.authenticate("let-me-in-please") is grant
    assert (await both.authenticate(mint())).holder == "jwt:alice"
    alone = Authenticator(mode="jwt", clock=HeldClock(), tokens=[entry])
    assert await alone.authenticate("let-me-in-please") is grant
    await refusal(alone, "let-me-in-pleasf")
    await refusal(alone, mint())


def pair(kind: str) -> tuple[Any, str]:
    key: Any = {
        "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[kind]()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key, public.decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_public_keys(algorithm: str) -> None:
    """Each algorithm of the contract; another key of the kind, and the public key as a shared secret, are refused."""
    private, public = pair(algorithm)
    authenticator = Authenticator(mode="jwt", clock=HeldClock(), public_key=public, algorithms=[algorithm])
    assert (await authenticator.authenticate(mint(private, algorithm))).holder == "jwt:alice"
    await refusal(authenticator, mint(pair(algorithm)[0], algorithm))
    await refusal(authenticator, mint())
    forged = jwt.PyJWS()
    body, header = json.dumps({"exp": 1_000_100, "scope": "admin"}).encode(), {"alg": "HS256"}
    token = forged.encode(body, SECRET, "HS256", headers=header)
    await refusal(authenticator, token)


class Issuer:
    """Publishes keys, and can fail."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.fetches = 0
        self.failing: BaseException | bytes | None = None

    def add(self, kid: str, algorithm: str = "ES256") -> Any:
        private, _ = pair(algorithm)
        self.keys[kid] = private
        return private

    async def get(self, url: str) -> bytes:
        assert url == "https://issuer/keys"
        self.fetches += 1
        await asyncio.sleep(0)
        if isinstance(self.failing, bytes):
            return self.failing
        if self.failing is not None:
            raise self.failing
        keys = []
        for kid, private in self.keys.items():
            algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(private, rsa.RSAPrivateKey) else "ES256")
            keys.append({**json.loads(algorithm.to_jwk(private.public_key())), "kid": kid, "use": "sig"})  # type: ignore[attr-defined]
        keys.append({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "shared"})
        return json.dumps({"keys": keys}).encode()

    def authenticator(self) -> tuple[Authenticator, HeldClock]:
        clock = HeldClock()
        made = Authenticator(
            mode="jwt", clock=clock, jwks_url="https://issuer/keys", algorithms=["RS256", "ES256"], http_get=self.get
        )
        return made, clock


async def test_published_keys_and_rotation() -> None:
    """Fetched once and kept; an unknown key id fetches again, but not at the pace of whoever makes ids up."""
    issuer = Issuer()
    first = issuer.add("one")
    authenticator, clock = issuer.authenticator()
    token = mint(first, "ES256", {"kid": "one"}, exp=2_000_000)
    await asyncio.gather(*(authenticator.authenticate(token) for _ in range(5)))
    assert issuer.fetches == 1
    second = issuer.add("two", "RS256")
    rotated = mint(second, "RS256", {"kid": "two"}, exp=2_000_000)
    for _ in range(5):
        await refusal(authenticator, rotated)
    assert issuer.fetches == 1
    clock.time += 11
    assert await authenticator.authenticate(rotated)
    assert issuer.fetches == 2
    await refusal(authenticator, mint(second, "RS256", {"kid": "one"}, exp=2_000_000))
    assert await authenticator.authenticate(mint(first, "ES256", exp=2_000_000))  # no kid: every key that fits is tried
    clock.time += 601
    assert await authenticator.authenticate(token)
    assert issuer.fetches == 3
    await refusal(authenticator, mint("secret-secret-secret-secret-secret", "HS256", {"kid": "shared"}))


@pytest.mark.parametrize("failing", [OSError("x"), TimeoutError(), b"<html>", b"[]", b'{"keys": []}', b'{"keys": 5}'])
async def test_an_issuer_that_does_not_answer(failing: Any) -> None:
    """Without any key: 503, come back; keys that were fetched once stay good; said once when down and once when back."""
    issuer = Issuer()
    private = issuer.add("one")
    authenticator, clock = issuer.authenticator()
    token = mint(private, "ES256", {"kid": "one"}, exp=2_000_000)
    issuer.failing = failing
    with capture_logs() as logs:
        for _ in range(2):
            error = await refusal(authenticator, token)
            assert (error.status, error.code) == (503, "keys_unavailable")
            clock.time += 11
        issuer.failing = None
        assert await authenticator.authenticate(token)
        issuer.failing = failing
        clock.time += 700
        assert await authenticator.authenticate(token)
    assert [entry["event"] for entry in logs] == [
        "auth_keys_unavailable",
        "auth_keys_available",
        "auth_keys_unavailable",
    ]


@pytest.mark.parametrize(
    ("headers", "path", "token"),
    [
        ({"Authorization": "Bearer abc"}, "/", "abc"),
        ({"Authorization": "bearer  abc "}, "/?token=x", "abc"),
        ({}, "/?token=abc", "abc"),
        ({}, "/?token=", ""),
        ({}, "/", None),
        ({"Authorization": "Basic abc"}, "/?token=x", ""),
    ],
)
def test_token_of(headers: dict[str, str], path: str, token: str | None) -> None:
    """`Authorization: Bearer` first, then `?token=`."""
    request: web.Request = make_mocked_request("GET", path, headers=headers)
    assert token_of(request) == token


def test_the_held_clock_is_in_the_past() -> None:
    """These tests do not pass by accident of the machine's clock."""
    assert time.time() > 1_000_100


async def test_rules_that_are_replaced() -> None:
    """From one request to the next; a token that is being judged meanwhile is judged again by the new ones."""
    admin = Grant(holder="a", scopes=frozenset({"admin"}))
    door = Door(by_secret(tokens=[StaticToken("one", admin)]))
    assert await door.authenticate("one") == admin
    assert (await door.authenticate(mint())).holder == "jwt:alice"
    door.authenticator = Authenticator(
        mode="jwt", clock=HeldClock(), secret="x" * 32, algorithms=["HS256"], tokens=[StaticToken("two", admin)]
    )
    assert await door.authenticate("two") == admin
    for token in ("one", mint()):
        with pytest.raises(Refused) as caught:
            await door.authenticate(token)
        assert caught.value.code == "bad_token"
    issuer = Issuer()
    private = issuer.add("one")
    door.authenticator, _ = issuer.authenticator()
    judging = asyncio.create_task(door.authenticate(mint(private, "ES256", {"kid": "one"})))
    while not issuer.fetches:
        await asyncio.sleep(0)
    door.authenticator = by_secret()
    with pytest.raises(Refused) as caught:
        await judging
    assert caught.value.code == "bad_token"


async def test_published_keys_outlive_other_rules() -> None:
    """An issuer that does not answer at that moment locks nobody out; another URL is another issuer."""
    issuer = Issuer()
    private = issuer.add("one")
    before, clock = issuer.authenticator()
    token = mint(private, "ES256", {"kid": "one"})
    await before.authenticate(token)
    issuer.failing = OSError("x")
    rules: dict[str, Any] = {"mode": "jwt", "clock": clock, "algorithms": ["ES256"], "former": before}
    same = Authenticator(**rules, jwks_url="https://issuer/keys", http_get=issuer.get, audience="x")
    assert (await refusal(same, token)).code == "bad_token"
    assert await same.authenticate(mint(private, "ES256", {"kid": "one"}, aud="x"))
    assert issuer.fetches == 1

    async def down(url: str) -> bytes:
        raise OSError(url)

    other = Authenticator(**rules, jwks_url="https://other/keys", http_get=down)
    assert (await refusal(other, token)).code == "keys_unavailable"
