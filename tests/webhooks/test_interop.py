"""Deliveries as they arrive over a socket, judged by verifiers that nobody here wrote: the Standard Webhooks libraries for
Python and JavaScript, Node's crypto and OpenSSL."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.clock import SystemClock
from gateway.webhooks import signing
from gateway.webhooks.sender import Sender
from tests.webhooks.fakes import Receiver, config

HOME = Path(__file__).with_name("interop")
NODE = shutil.which("node")
OPENSSL = shutil.which("openssl")

needs_node = pytest.mark.skipif(
    NODE is None or not (HOME / "node_modules" / "standardwebhooks").is_dir(),
    reason=f"Node or its package is missing (npm ci --prefix {HOME.relative_to(Path(__file__).parents[2])})",
)
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="the openssl program is not installed")

A, B, C = (signing.encode_secret(bytes(range(first, first + 32))) for first in (0, 32, 64))
PRIVATE = "whsk_" + base64.b64encode(bytes(range(100, 132))).decode()
OTHER_PRIVATE = "whsk_" + base64.b64encode(bytes(range(132, 164))).decode()
PUBLIC, OTHER_PUBLIC = (str(signing.public_key(signing.decode_secret(secret))) for secret in (PRIVATE, OTHER_PRIVATE))

BODIES = {
    "plain": b'{"id":"e1"}',
    "non-ASCII": '{"s":"Grüße, 東京 😀 \u2028","n":1.0}'.encode(),
    "escapes": rb'{"s":"\u00e9\ud83d\ude00\u0000\"\\ \/"}',
    "large": b'{"s":"' + "ä".encode() * 200_000 + b'"}',
}
#: what signs, the current key first → keys that a receiver may have, and whether that is enough
SIGNERS: dict[str, tuple[list[str], dict[str, bool]]] = {
    "one secret": ([A], {A: True, B: False}),
    "rotation": ([B, A], {A: True, B: True, C: False}),
    "public key": ([PRIVATE], {PUBLIC: True, OTHER_PUBLIC: False, A: False}),
    "public keys in rotation": ([OTHER_PRIVATE, PRIVATE], {PUBLIC: True, OTHER_PUBLIC: True}),
    "from a secret to a public key": ([PRIVATE, A], {PUBLIC: True, OTHER_PUBLIC: False, A: True, B: False}),
}

Message = tuple[dict[str, str], bytes]


async def delivered(secrets: Sequence[str], body: bytes) -> Message:
    """The signature headers and the body as they came out of a socket."""
    async with Receiver().serve() as receiver:
        sender = Sender(config(receiver.url, secret=secrets[0], timeout=5), SystemClock())
        try:
            answer = await sender.send("e1", body, [signing.decode_secret(secret) for secret in secrets[1:]])
        finally:
            await sender.close()
    assert answer.outcome == "delivered"
    _, headers, got = receiver.received[0]
    assert got == body
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {name: headers[name] for name in names}, got


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("signers", SIGNERS)
async def test_python_library(signers: str, body: str) -> None:
    """Who has one of the secrets verifies, during a rotation too; entries of the other scheme are skipped."""
    secrets, verdicts = SIGNERS[signers]
    headers, got = await delivered(secrets, BODIES[body])
    for key, good in verdicts.items():
        if key.startswith("whsec_") and good:
            assert Webhook(key).verify(got.decode(), headers) == json.loads(got)
        elif key.startswith("whsec_"):
            with pytest.raises(WebhookVerificationError):
                Webhook(key).verify(got.decode(), headers)


async def test_python_library_sees_a_changed_body() -> None:
    """What was changed on the way is refused: the signature is about these bytes."""
    headers, got = await delivered([A], BODIES["plain"])
    with pytest.raises(WebhookVerificationError):
        Webhook(A).verify(got.decode().replace("e1", "e2"), headers)


@needs_node
async def test_javascript_library() -> None:
    """Every signer and body at once: each key a receiver may have is enough or not, and none for a changed body."""
    questions, expected = [], []
    for secrets, verdicts in SIGNERS.values():
        for body in BODIES.values():
            headers, got = await delivered(secrets, body)
            for changed in (False, True):
                sent = got[:-1] + b" }" if changed else got
                questions.append({"keys": list(verdicts), "headers": headers, "body": base64.b64encode(sent).decode()})
                expected.append([good and not changed for good in verdicts.values()])
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, str(HOME / "verify.mjs"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate("".join(json.dumps(one) + "\n" for one in questions).encode())
    assert (process.returncode, errors) == (0, b"")
    assert [json.loads(line) for line in out.splitlines()] == expected


def openssl(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    assert OPENSSL is not None
    return subprocess.run([OPENSSL, *map(str, arguments)], check=False, capture_output=True, timeout=30)


def write_message(directory: Path, headers: dict[str, str], body: bytes) -> Path:
    file = directory / "signed"
    file.write_bytes(f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body)
    return file


@needs_openssl
@pytest.mark.parametrize("body", BODIES)
async def test_openssl(tmp_path: Path, body: str) -> None:
    """Without any library: the HMAC and the Ed25519 signature are those that OpenSSL makes and verifies."""
    headers, got = await delivered([PRIVATE, A], BODIES[body])
    asymmetric, symmetric = (entry.split(",")[1] for entry in headers["webhook-signature"].split(" "))
    message = write_message(tmp_path, headers, got)

    made = openssl("dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{bytes(range(32)).hex()}", "-binary", message)
    assert base64.b64encode(made.stdout).decode() == symmetric

    (tmp_path / "key").write_bytes(bytes.fromhex("302a300506032b6570032100") + base64.b64decode(PUBLIC[5:]))  # RFC 8410
    (tmp_path / "signature").write_bytes(base64.b64decode(asymmetric))
    command = ("pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", tmp_path / "key", "-rawin", "-in", message)
    assert openssl(*command, "-sigfile", tmp_path / "signature").returncode == 0
    message.write_bytes(message.read_bytes() + b" ")
    assert openssl(*command, "-sigfile", tmp_path / "signature").returncode != 0


@needs_openssl
async def test_key_made_with_openssl(tmp_path: Path) -> None:
    """The documented way to make a pair of keys gives one that the gateway takes, with the public key it computes itself."""
    file = tmp_path / "key.pem"
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", file).returncode == 0
    private = openssl("pkey", "-in", file, "-outform", "DER").stdout[-32:]
    public = openssl("pkey", "-in", file, "-pubout", "-outform", "DER").stdout[-32:]
    secret = "whsk_" + base64.b64encode(private).decode()
    assert signing.public_key(signing.decode_secret(secret)) == "whpk_" + base64.b64encode(public).decode()
    headers, got = await delivered([secret], BODIES["plain"])
    assert headers["webhook-signature"].startswith("v1a,")
    assert got == BODIES["plain"]
