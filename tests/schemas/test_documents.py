"""The committed documents: made from the code as it is, accepted by the tools they are for, and kind to old events."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway import documents
from schemas import asyncapi, event, examples, export, stream

ROOT = Path(__file__).parent.parent.parent
CORPUS = {
    path.stem: json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "corpus" / "1").glob("*.json"))
}
MADE = documents.made()

#: Where `npm install --prefix .node @asyncapi/parser` puts the official parser.
PARSER = ROOT / ".node" / "node_modules" / "@asyncapi" / "parser"
PARSE = """
const { Parser } = require(process.argv[1]);
const text = require("fs").readFileSync(0, "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => {
  console.log(JSON.stringify({
    accepted: document !== undefined,
    operations: document ? document.operations().all().map((one) => one.id()) : [],
    problems: diagnostics.filter((one) => one.severity < 2).map((one) => `${one.path.join(".")}: ${one.message}`),
  }));
});
"""


@pytest.mark.parametrize("name", MADE)
def test_what_is_committed_is_what_the_code_makes(name: str) -> None:
    """`make documents` was run after the last change."""
    assert (ROOT / name).read_text(encoding="utf-8") == MADE[name], f"{name} is stale: run make documents"


def test_nothing_else_is_committed_there() -> None:
    """A document of something that is no more would go on being served."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "schemas" / "documents").iterdir()}
    assert files == {name for name in MADE if name.startswith("schemas/")}


def test_writing_them_removes_what_is_stale(tmp_path: Path) -> None:
    """The command leaves exactly what is made now."""
    folder = tmp_path / "schemas" / "documents"
    folder.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (folder / "old.json").write_text("{}")
    assert documents.main(tmp_path) == 0
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(MADE)


# --- old events ------------------------------------------------------------------------------------------------------


def test_there_is_an_old_event_of_every_type() -> None:
    """A type that comes later adds one; none is ever taken out or changed."""
    assert CORPUS.keys() >= {*event.TASK_TYPES, *event.SOURCE_TYPES, *event.WEBHOOK_TYPES, *stream.NOTICES}
    assert {name: value["type"] for name, value in CORPUS.items()} == {name: name for name in CORPUS}


@pytest.mark.parametrize("kind", CORPUS)
def test_old_events_stay_valid(kind: str) -> None:
    """What was once sent fits the schemas of today: members are added, never taken away or narrowed."""
    old = CORPUS[kind]
    schemas = {document["$id"]: document for document in export.documents().values()}
    Draft202012Validator(schemas[export.EVENT_SCHEMA]).validate(old)
    Draft202012Validator(schemas[old["dataschema"]]).validate(old["data"])
    event.validate(old)
    if kind in stream.NOTICES:
        stream.NOTICES[kind].model_validate(old["data"])


# --- AsyncAPI --------------------------------------------------------------------------------------------------------


def resolved(value: Any, document: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    for part in value["$ref"].removeprefix("#/").split("/"):
        document = document[part]
    return document


def test_every_notice_and_command_is_a_message() -> None:
    """The gateway sends the ones and takes the others."""
    document = asyncapi.document()
    sent, taken = (
        {
            resolved(resolved(message, document), document)["name"]
            for message in document["operations"][name]["messages"]
        }
        for name in ("sendEvents", "receiveCommands")
    )
    assert sent == {"task", "source", "webhook", "other", *stream.NOTICES}
    assert taken == set(stream.COMMANDS)


def test_every_close_code_is_told() -> None:
    """With whether to come back."""
    rows = asyncapi.close_codes().splitlines()[2:]
    assert [int(row.split("|")[1]) for row in rows] == sorted(stream.CLOSES)


def test_examples_are_true() -> None:
    """Every message's example fits its payload, and the model."""
    document = asyncapi.document()
    for message in document["components"]["messages"].values():
        schema = Draft202012Validator({"components": document["components"], **message["payload"]})
        for example in message.get("examples", ()):
            schema.validate(example["payload"])
    for kind, data in examples.NOTICES.items():
        stream.NOTICES[kind].model_validate(data, strict=True)
    for operation, command in examples.COMMANDS.items():
        stream.COMMANDS[operation].model_validate(command)
    assert examples.NOTICES.keys() == stream.NOTICES.keys()
    assert examples.COMMANDS.keys() == stream.COMMANDS.keys()


def test_the_headers_of_a_delivery_are_as_described() -> None:
    """What the gateway's own signer makes."""
    from gateway.webhooks.signing import sign

    keys = [bytes(range(32)), bytes(range(32, 64))]
    schema = Draft202012Validator(asyncapi.webhook_headers())
    headers = {"webhook-id": "evt_1", "webhook-timestamp": "1780000000"}
    schema.validate({**headers, "webhook-signature": sign(keys, "evt_1", 1780000000, b"{}")})
    assert not schema.is_valid({**headers, "webhook-signature": "v2,AA=="})


@pytest.mark.skipif(
    shutil.which("node") is None or not PARSER.exists(),
    reason="needs Node and its package @asyncapi/parser (npm install --prefix .node @asyncapi/parser)",
)
def test_the_official_parser_accepts_it() -> None:
    """Without an error or a warning."""
    done = subprocess.run(
        ["node", "-e", PARSE, str(PARSER)],
        input=json.dumps(asyncapi.document()), capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {
        "accepted": True, "operations": ["sendEvents", "receiveCommands", "deliverEvents"], "problems": [],
    }  # fmt: skip
