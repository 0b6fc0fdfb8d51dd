"""What the dashboard's modules make of values, in the browser that runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.webhooks.config import EndpointConfig
from schemas.event import SOURCE_TYPES, TASK_TYPES, WEBHOOK_TYPES
from tests.clients.kit import serving
from tests.ui.kit import STATIC, Visit, browsing, needs_browser

pytestmark = needs_browser

#: A histogram before and after ten more: six up to 1 ms, three up to 10 ms, one above.
BEFORE = """# HELP x_seconds of no interest
x_seconds_bucket{le="0.001"} 100.0
x_seconds_bucket{le="0.01"} 100.0
x_seconds_bucket{le="+Inf"} 100.0
attempts_total{endpoint="a\\"b\\\\c",outcome="delivered"} 3.0 1395066363000
"""
AFTER = """x_seconds_bucket{le="0.001"} 106.0
x_seconds_bucket{le="0.01"} 109.0
x_seconds_bucket{le="+Inf"} 110.0
"""
NOW = 1_767_323_045_000


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    """A page that can import the dashboard's modules."""
    app = web.Application()
    app.router.add_static("/", STATIC)
    async with serving(app) as base, browsing(base) as visit:
        await visit.page.goto(f"{base}/ui/icon.svg")
        yield visit


async def _all(visit: Visit, module: str, calls: dict[str, Any]) -> dict[str, Any]:
    """What expressions over a module, `m`, come to."""
    body = ", ".join(f"[{expression!r}, {expression}]" for expression in calls)
    result: dict[str, Any] = await visit.page.evaluate(
        f"async () => {{ const m = await import('/ui/{module}'); return Object.fromEntries([{body}]); }}"
    )
    return result


async def test_texts(visit: Visit) -> None:
    """Every way in which a text could do more than be read, and how figures are told."""
    cases: dict[str, Any] = {
        "m.visible('a<b>&amp;')": "a<b>&amp;",
        "m.visible('\\u202egpj.exe')": "\\u202egpj.exe",
        "m.visible('a\\u0000b\\u001bc\\u0085d')": "a\\u0000b\\u001bc\\u0085d",
        "m.visible('x\\u200by\\ufeffz\\u{e0041}')": "x\\u200by\\ufeffz\\ue0041",
        "m.visible('\\u2764\\ufe0f 1\\ufe0f\\u20e3')": "\u2764\ufe0f 1\ufe0f\u20e3",
        "m.visible('\\u{1f469}\\u{1f3fd}\\u200d\\u{1f52c}')": "\U0001f469\U0001f3fd\u200d\U0001f52c",
        "m.visible('\\u0645\\u06cc\\u200c\\u062e')": "\u0645\u06cc\u200c\u062e",
        "m.visible('a\\ufe0f\\u200d\\u200cb\\u2764\\ufe0f\\ufe0f\\u200d')": "a\\ufe0f\\u200d\\u200cb\u2764\ufe0f\\ufe0f\\u200d",
        "m.visible('one\\ntwo\\tthree')": "one two three",
        "m.visible('one\\ntwo', 99, true)": "one\ntwo",
        "m.visible('abcdef', 3)": "abc…",
        "m.visible('Grüße, 世界 🎉')": "Grüße, 世界 🎉",
        "m.visible(null)": "",
        "m.latency(null)": "–",
        "m.latency(0)": "0",
        "m.latency(0.00085)": "850 µs",
        "m.latency(0.0032)": "3.2 ms",
        "m.latency(0.25)": "250 ms",
        "m.latency(1.44)": "1.4 s",
        "m.span(0.4)": "less than 1 s",
        "m.span(89)": "89 s",
        "m.span(3000)": "50 min",
        "m.span(86400)": "24 h",
        "m.span(864000)": "10 days",
        f"m.ago(null, {NOW})": "never",
        f"m.ago('2026-01-02T03:04:01Z', {NOW})": "4 s ago",
        f"m.ago('2026-01-02T03:09:05Z', {NOW})": "in 5 min",
        f"m.ago('<b>', {NOW})": "<b>",
        "m.many(1, 'task')": "1 task",
        "m.many(1234, 'task')": "1,234 tasks",
        "m.rate(0.44)": "0.4",
        "m.rate(12.4)": "12",
        "m.position('00000000000000000120')": "120",
        "m.position('00000000000000000000')": "0",
    }
    assert await _all(visit, "text.js", cases) == cases


async def test_metrics(visit: Visit) -> None:
    """The text format with its escapes, and quantiles of what happened between two readings."""
    before, after = f"m.parse({BEFORE!r})", f"m.parse({AFTER!r})"
    cases: dict[str, Any] = {
        f"{before}.get('attempts_total')": [
            {"labels": {"endpoint": 'a"b\\c', "outcome": "delivered"}, "value": 3},
        ],
        f"m.quantile({before}, {after}, 'x_seconds', 0.3)": 0.0005,
        f"m.quantile({before}, {after}, 'x_seconds', 0.75).toFixed(5)": "0.00550",
        f"m.quantile({before}, {after}, 'x_seconds', 0.99)": 0.01,
        f"m.quantile({after}, {after}, 'x_seconds', 0.5)": None,
        f"m.quantile(undefined, {after}, 'none_seconds', 0.5)": None,
    }
    assert await _all(visit, "metrics.js", cases) == cases


async def test_types(visit: Visit) -> None:
    """The filter offers every type that the log can have."""
    found = (await _all(visit, "status.js", {"m.TYPES": None}))["m.TYPES"]
    assert sorted(found) == sorted({*TASK_TYPES, *SOURCE_TYPES, *WEBHOOK_TYPES} - {"task.snapshot"})


async def test_endpoints_in_words(visit: Visit) -> None:
    """The worst comes first."""
    call = "m.ofEndpoints([{{health: {{state: {!r}, dead: {}, pending: 2}}}}, {{health: {{state: 'delivering', dead: 0, pending: 0}}}}])"
    cases: dict[str, Any] = {
        call.format("failing", 0): {
            "tone": "bad", "word": "1 failing", "more": "1 delivering, no dead letters, backlog 2", "stuck": 1,
        },
        call.format("delivering", 1): {
            "tone": "warn", "word": "2 delivering", "more": "1 dead letter, backlog 2", "stuck": 1,
        },
        call.format("replaying", 0): {
            "tone": "good", "word": "1 replaying", "more": "1 delivering, no dead letters, backlog 2", "stuck": 0,
        },
    }  # fmt: skip
    assert await _all(visit, "status.js", cases) == cases


async def test_a_colour_belongs_to_a_name(visit: Visit) -> None:
    """Whatever appears later."""
    cases: dict[str, Any] = {"['b', 'a', 'b', 'c', 'a'].map(m.lineOf)": [0, 1, 0, 2, 1]}
    assert await _all(visit, "charts.js", cases) == cases


async def test_addresses(visit: Visit) -> None:
    """Any task id makes an address and comes back from it; half of a character breaks nothing."""
    cases: dict[str, Any] = {
        "m.linkTo('tasks', 'jobs', 'a/b?c#d%')": "#/tasks/jobs/a%2Fb%3Fc%23d%25",
        "m.linkTo('tasks', 'jobs', '\\ud800')": "#/tasks/jobs/%EF%BF%BD",
        "(location.hash = m.linkTo('tasks', 'jobs', 'a/b?c#d%'), m.here())": {
            "page": "tasks",
            "names": ["jobs", "a/b?c#d%"],
        },
        "(location.hash = '#/tasks/%', m.here())": {"page": "nowhere", "names": []},
        "(location.hash = '', m.here())": {"page": "overview", "names": []},
    }
    assert await _all(visit, "routes.js", cases) == cases


async def test_tokens(visit: Visit) -> None:
    """What a JWT says of itself; anything else says nothing."""
    payload = "eyJzdWIiOiJhZMOkIiwic2NvcGUiOiJhZG1pbiIsImV4cCI6MjAwMH0"  # {"sub":"adä","scope":"admin","exp":2000}
    cases: dict[str, Any] = {
        f"m.claims('e30.{payload}.x')": {"subject": "adä", "scope": "admin", "expires": 2_000_000},
        "m.claims('e30.e30.x')": {"subject": None, "scope": None, "expires": None},
        "m.claims('opaque')": None,
        "m.claims(null)": None,
    }
    assert await _all(visit, "session.js", cases) == cases


async def test_an_empty_field_means_the_default(visit: Visit) -> None:
    """And the field says which one that is: the gateway's."""
    found = (await _all(visit, "editor.js", {"m.DEFAULTS": None}))["m.DEFAULTS"]
    fields = {name: EndpointConfig.model_fields[name].get_default() for name in found}
    schedule = ", ".join(f"{delay:g}" for delay in fields.pop("retry_schedule"))
    assert found == {
        "timeout": f"{fields['timeout']:g}",
        "concurrency": str(fields["concurrency"]),
        "disable_after": f"{fields['disable_after'] / 86400:g}d",
        "retry_schedule": schedule,
    }


async def test_a_form_becomes_a_patch(visit: Visit) -> None:
    """What is as it was is left out; what is emptied goes back to its default; what is no number is for the API to refuse."""
    endpoint = (
        "({name: 'a', url: 'https://a.example.com/', type: ['task.*'], source: [], kind: ['x, y'], task: ['jobs/1'], "
        "status: ['failed', 'running', 'odd'], headers: {'X-A': '*'}, retry_schedule: [5, 60], timeout: 15, "
        "concurrency: 16, rate_limit: 2.5, progress: 'every', disable_after: 5400, enabled: true, allow_http: false, "
        "allow_private: true})"
    )
    await visit.page.evaluate(
        """async () => {
          const { changes, fieldsOf } = await import("/ui/editor.js");
          globalThis.patch = (endpoint, ...edits) => {
            const { status, ...fields } = fieldsOf(endpoint);
            const form = new FormData();
            for (const [name, value] of Object.entries(fields)) if (value !== false) form.set(name, value === true ? "on" : value);
            for (const one of status.split("\\n")) form.append("status", one);
            for (const [name, ...values] of edits) {
              form.delete(name);
              for (const value of values) form.append(name, value);
            }
            try {
              return changes(form, endpoint);
            } catch (error) {
              return error.problem.errors;
            }
          };
        }"""
    )
    cases: dict[str, Any] = {
        f"patch({endpoint})": {},
        f"patch({endpoint}, ['url', ' https://b.example.com/ '])": {"url": "https://b.example.com/"},
        f"patch({endpoint}, ['type', 'task.failed, task.succeeded\\n\\n webhook.*'])": {
            "type": ["task.failed", "task.succeeded", "webhook.*"]
        },
        f"patch({endpoint}, ['kind', 'x, y\\n z'], ['task', ''])": {"kind": ["x, y", "z"], "task": None},
        f"patch({endpoint}, ['status', 'running', 'failed'])": {"status": ["running", "failed"]},
        f"patch({endpoint}, ['status'])": {"status": None},
        f"patch({endpoint}, ['timeout', '2.5'], ['concurrency', 'five'], ['rate_limit', ''])": {
            "timeout": 2.5,
            "concurrency": "five",
            "rate_limit": None,
        },
        f"patch({endpoint}, ['disable_after', '12h'])": {"disable_after": "12h"},
        f"patch({endpoint}, ['disable_after', '0'])": {"disable_after": 0},
        f"patch({endpoint}, ['retry_schedule', '5, 60  x'])": {"retry_schedule": [5, 60, "x"]},
        f"patch({endpoint}, ['retry_schedule', 'none'])": {"retry_schedule": []},
        f"patch({endpoint}, ['retry_schedule', ''])": {"retry_schedule": None},
        f"patch({endpoint}, ['enabled'], ['allow_http', 'on'])": {"enabled": False, "allow_http": True},
        f"patch({endpoint}, ['headers', 'X-B: c: d \\n\\nX-C:'], ['forget', 'X-A'])": {
            "headers": {"X-A": None, "X-B": "c: d", "X-C": ""}
        },
        f"patch({endpoint}, ['headers', 'X-B: c\\nBearer x'])": [
            {"field": "headers", "detail": "line 2 is no header: write Name: value"}
        ],
    }
    assert await _all(visit, "editor.js", cases) == cases


async def test_lengths_of_time(visit: Visit) -> None:
    """As the API takes them back."""
    cases: dict[str, Any] = {
        f"m.duration({seconds})": text
        for seconds, text in {0: "0", 45: "45", 0.5: "0.5", 60: "1m", 5400: "90m", 7200: "2h", 432000: "5d"}.items()
    }
    assert await _all(visit, "editor.js", cases) == cases


async def test_what_is_wrong_with_which_field(visit: Visit) -> None:
    """The API names items of lists and members of mappings; a form has one field for all of them."""
    errors = (
        "[{field: 'url', detail: 'is required'}, {field: 'retry_schedule[1]', detail: 'must be a valid number'}, "
        "{field: 'headers.X-A', detail: 'is masked'}]"
    )
    cases: dict[str, Any] = {
        f"m.wrongFields({{problem: {{errors: {errors}}}}})": [
            ["url", "is required"],
            ["retry_schedule", "value 2 must be a valid number"],
            ["headers", "X-A: is masked"],
        ],
        "m.wrongFields({problem: {errors: 'no list'}})": [],
        "m.wrongFields({})": [],
    }
    assert await _all(visit, "api.js", cases) == cases
