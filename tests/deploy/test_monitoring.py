"""Dashboard and alerts: every query is one, of metrics that exist; every alert has a test and an entry in the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, Histogram
from ruamel.yaml import YAML

from gateway.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "mainstem.json").read_text())
RULES = YAML(typ="safe", pure=True).load(PROMETHEUS / "alerts.yml")["groups"][0]["rules"]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
#: Labels that Prometheus adds.
ADDED = {"job", "instance", "le"}

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


SERIES = dict(series())


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_queries_name_what_exists(query: str) -> None:
    """Metrics, and labels that these have."""
    names = re.findall(r"mainstem_\w+", query)
    assert names or query.startswith("up{")
    known = set().union(ADDED, *(SERIES[name] for name in names))
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", query):
        for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector):
            assert label in ADDED | SERIES.get(name, set())
    for grouping in re.findall(r"by \(([^)]*)\)", query):
        assert {label.strip() for label in grouping.split(",")} <= known


def test_every_metric_is_on_the_dashboard() -> None:
    """What is measured is looked at."""
    shown = set(re.findall(r"mainstem_\w+", " ".join(QUERIES)))
    base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in SERIES} == base


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
