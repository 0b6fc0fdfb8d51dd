"""Dashboard and alerts: every query is one, of metrics that a running gateway has; every alert has a test and an entry in the
runbook."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from gateway import simulators
from gateway.metrics import Histogram, Metrics
from gateway.simulators import Faults
from tests.process import running

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "mainstem.json").read_text())
RULES = YAML(typ="safe", pure=True).load(PROMETHEUS / "alerts.yml")["groups"][0]["rules"]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
#: Labels that Prometheus adds.
ADDED = {"job", "instance", "le"}
#: Labels by which queries tell series of one metric apart.
SELECTOR, LABEL, NAME = r"(\w+)\{([^}]*)\}", r'(\w+)\s*(?:=~|!~|!=|=)\s*"', r"\b(?:mainstem|process)_\w+"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def series() -> Iterator[tuple[str, set[str]]]:
    """Name and labels of everything in the exposition."""
    for metric in vars(Metrics()).values():
        labels = set(getattr(metric, "_labelnames", ()))
        if isinstance(metric, Histogram):
            yield from ((f"{metric._name}_{suffix}", labels) for suffix in ("bucket", "count", "sum"))
        elif isinstance(metric, Counter):
            yield f"{metric._name}_total", labels
        elif hasattr(metric, "_name"):
            yield metric._name, labels
    yield from ((name, set()) for name in re.findall(r"^(process_\w+) ", Metrics().exposition().decode(), re.MULTILINE))


SERIES = dict(series())


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_queries_name_what_exists(query: str) -> None:
    """Metrics, and labels that these have."""
    names = re.findall(NAME, query)
    assert names or query.startswith("up{")
    known = set().union(ADDED, *(SERIES[name] for name in names))
    for name, selector in re.findall(SELECTOR, query):
        for label in re.findall(LABEL, selector):
            assert label in ADDED | SERIES.get(name, set())
    for grouping in re.findall(r"by \(([^)]*)\)", query):
        assert {label.strip() for label in grouping.split(",")} <= known


async def test_a_running_gateway_has_every_series(tmp_path: Path) -> None:
    """With what queries tell it apart by: after frames, one of them broken, a delivery, a dead letter and a stream."""

    async def receive(request: web.Request) -> web.Response:
        return web.Response(status=500 if request.path == "/broken" else 200)

    app = web.Application()
    app.router.add_post("/{which}", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver = f"http://127.0.0.1:{runner.addresses[0][1]}"
    faults = Faults()
    faults.script("malformed")
    faults.script("duplicate", 3)
    upstream = await simulators.start("triverse", rate=50, faults=faults)
    sections = {
        "server": {"port": 0},
        "sources": [
            {"name": "studio", "adapter": "triverse", "url": upstream.url, "watch": "all"} | upstream.credentials
        ],
        "webhooks": [
            {
                "name": name,
                "url": f"{receiver}/{name}",
                "secret": "whsec_cmVwbGFjZS1tZS1yZXBsYWNlLW1lLXJlcGxhY2UtbWU=",
                "allow_private": True,
                "retry_schedule": [],
            }
            for name in ("fine", "broken")
        ],
    }
    sections["sources"][0].pop("other_token")  # type: ignore[union-attr]
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(sections))
    # What only failures have that are not made here: upstream news that is late or not known, and a lost connection.
    rare = {"mainstem_stale", "mainstem_unfamiliar"}

    async def samples(session: aiohttp.ClientSession) -> dict[str, set[str]]:
        async with session.get("/metrics") as answer:
            families = list(text_string_to_metric_families(await answer.text()))
        labels: dict[str, set[str]] = {family.name: set() for family in families if family.name in rare}
        for family in families:
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
        return labels

    wanted = {name for query in (*QUERIES, *(rule["expr"] for rule in RULES)) for name in re.findall(NAME, query)}
    wanted -= {f"{name}_total" for name in rare}
    try:
        async with running(config) as url, aiohttp.ClientSession(url) as session:
            async with session.ws_connect("/v1/stream") as stream:
                await stream.receive_json()
            async with asyncio.timeout(30):
                while not wanted <= (found := await samples(session)).keys():
                    async with session.ws_connect(
                        "/v1/stream"
                    ) as stream:  # as long as it takes for something to happen
                        await stream.receive_json()
    finally:
        await upstream.stop()
        await runner.cleanup()
    assert rare <= found.keys()
    assert {name: labels - {"le"} for name, labels in found.items() if name in wanted} == {
        name: SERIES[name] for name in wanted
    }


def test_every_metric_is_on_the_dashboard() -> None:
    """What is measured is looked at; of what every process has, what may run out."""
    shown = set(re.findall(NAME, " ".join(QUERIES)))
    base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown if name.startswith("mainstem_")}
    ours = {name for name in SERIES if name.startswith("mainstem_")}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours} == base
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} < shown


def test_panels_do_not_overlap_and_are_told_apart() -> None:
    """Each has its place, its id and its title."""
    places = set()
    for panel in DASHBOARD["panels"]:
        where = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        }
        assert not cells & places
        assert where["x"] + where["w"] <= 24
        places |= cells
        assert panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    """Under its own name, where its annotation points."""
    headings = re.findall(r"^### (Mainstem\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_alert_is_tested() -> None:
    """Once that it fires, once that it does not."""
    groups = YAML(typ="safe", pure=True).load(PROMETHEUS / "alerts_test.yml")["tests"]
    names = [rule["alert"] for rule in RULES]
    quiet, loud = ([test["alertname"] for test in group["alert_rule_test"]] for group in groups)
    assert quiet == loud == names


@needs_promtool
@pytest.mark.parametrize("arguments", [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]])
def test_promtool_accepts_them(arguments: list[str]) -> None:
    """The configuration, the rules, and their tests."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """Variables filled in as Grafana does."""
    filled = [query.replace("$__rate_interval", "5m").replace("$job", ".*") for query in QUERIES]
    rules = [{"record": f"query:{index}", "expr": query} for index, query in enumerate(filled)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
