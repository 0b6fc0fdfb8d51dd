"""Each rule of the Triverse documents, over real sockets."""

from __future__ import annotations

import uuid

import aiohttp
import pytest

PUBLIC = [
    "task_uuid",
    "flow_name",
    "status",
    "progress",
    "created_at",
    "started_at",
    "completed_at",
    "input",
    "output",
    "error",
    "queue",
]
AT = 1_780_000_000.0  # 2026-05-28T20:26:40Z


async def test_a_frame_is_sse_text_with_the_event_on_line_0_and_the_data_on_line_1(simulate, connect):
    """Text frames contain `event: <type>` and `data: <json>`, ended by a blank line."""
    sim = await simulate("triverse")
    task = sim.create_task(created_at=AT)
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    frame = await client.text()
    assert frame.startswith('event: update\ndata: {"task_uuid":"')
    assert frame.endswith("}\n\n")
    assert frame.count("\n") == 3


async def test_the_payload_is_the_public_task_status(simulate, connect):
    """Exactly the documented fields, with the documented forms of instants and queue."""
    sim = await simulate("triverse")
    task = sim.create_task(created_at=AT, input={"image_url": "https://x/input.png", "model_version": "v2"})
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    await client.sse()
    queue = {"is_queued": False, "position": None, "estimated_wait_seconds": None}
    sim.push_state(task.uuid, status="RUNNING", progress=40, at=AT + 12.5, queue=queue)
    assert await client.sse() == (
        "update",
        {
            "task_uuid": task.uuid,
            "flow_name": "image-to-model",
            "status": "RUNNING",
            "progress": 40,
            "created_at": "2026-05-28T20:26:40Z",
            "started_at": "2026-05-28T20:26:52.500000Z",
            "completed_at": None,
            "input": {"image_url": "https://x/input.png", "model_version": "v2"},
            "output": None,
            "error": None,
            "queue": queue,
        },
    )


async def test_a_terminal_state_is_finalized_and_ends_a_single_watch(simulate, connect):
    """`update` with the terminal status, then `finalized`, then a normal close."""
    sim = await simulate("triverse")
    task = sim.create_task()
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    await client.sse()
    sim.push_state(task.uuid, status="SUCCESS", progress=100)
    event, data = await client.sse()
    assert (event, data["status"]) == ("update", "SUCCESS")
    event, data = await client.sse()
    assert (event, data["status"]) == ("finalized", "SUCCESS")
    assert await client.end() == 1000


async def test_the_update_before_finalized_can_be_left_out(simulate, connect):
    """An upstream that says a terminal state once is simulated as well."""
    sim = await simulate("triverse", update_before_finalized=False)
    task = sim.create_task()
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    await client.sse()
    sim.push_state(task.uuid, status="FAILED", error={"code": "X", "message": "no"})
    assert (await client.sse())[0] == "finalized"


async def test_watching_a_finished_task_says_so_and_closes(simulate, connect):
    """A watch that comes too late gets `finalized` and the close, instead of silence."""
    sim = await simulate("triverse")
    task = sim.create_task(status="CANCELLED")
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    assert (await client.sse())[0] == "finalized"
    assert await client.end() == 1000


async def test_without_initial_state_a_single_watch_is_silent_until_something_changes(simulate, connect):
    """The documents promise no initial frame; an upstream without one is simulated as well."""
    sim = await simulate("triverse", initial=False)
    task = sim.create_task()
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    sim.push_state(task.uuid, status="QUEUED")
    assert (await client.sse())[1]["status"] == "QUEUED"


async def test_watch_all_stays_open_after_finalized(simulate, connect):
    """One connection monitors all tasks of the key, one after the other."""
    sim = await simulate("triverse")
    client = await connect(sim, "/api/v1/tasks/watch/all", token=sim.credentials["token"])
    first = sim.create_task(announce=False)
    sim.push_state(first.uuid, status="SUCCESS", event="finalized")
    second = sim.create_task()
    assert [(await client.sse())[1]["task_uuid"] for _ in range(2)] == [first.uuid, second.uuid]


async def test_since_filters_on_the_creation_time_exclusively(simulate, connect):
    """Only tasks created after `since` are caught up, each with its latest status, before anything live."""
    sim = await simulate("triverse")
    for offset in (-0.000001, 0.0, 0.000001, 5.0):
        sim.create_task(created_at=AT + offset)
    last = list(sim.tasks)[-1]
    sim.push_state(last, status="RUNNING", progress=7)
    sim.push_state(list(sim.tasks)[2], status="SUCCESS")
    client = await connect(sim, "/api/v1/tasks/watch/all", token=sim.credentials["token"], since="2026-05-28T20:26:40Z")
    caught = [await client.sse() for _ in range(2)]
    assert [(event, data["created_at"], data["status"]) for event, data in caught] == [
        ("finalized", "2026-05-28T20:26:40.000001Z", "SUCCESS"),
        ("update", "2026-05-28T20:26:45Z", "RUNNING"),
    ]
    live = sim.create_task()
    assert (await client.sse())[1]["task_uuid"] == live.uuid


async def test_an_old_task_that_finished_meanwhile_is_not_caught_up(simulate, connect):
    """The trap of the filter: created before `since`, finished after it, not returned."""
    sim = await simulate("triverse")
    task = sim.create_task(created_at=AT)
    sim.push_state(task.uuid, status="SUCCESS", at=AT + 600)
    client = await connect(sim, "/api/v1/tasks/watch/all", token=sim.credentials["token"], since="2026-05-28T20:30:00Z")
    sim.push_raw("end")
    assert await client.text() == "end"


async def test_without_since_nothing_is_caught_up(simulate, connect):
    """Catch-up is asked for."""
    sim = await simulate("triverse")
    sim.create_task()
    client = await connect(sim, "/api/v1/tasks/watch/all", token=sim.credentials["token"])
    sim.push_raw("end")
    assert await client.text() == "end"


async def test_a_key_sees_its_own_tasks_only(simulate, connect, http):
    """Neither stream nor REST shows the tasks of another key."""
    sim = await simulate("triverse")
    other = sim.credentials["other_token"]
    client = await connect(sim, "/api/v1/tasks/watch/all", token=other, since="2000-01-01T00:00:00Z")
    foreign = sim.create_task()
    own = sim.create_task(token=other)
    assert (await client.sse())[1]["task_uuid"] == own.uuid
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(sim, f"/api/v1/tasks/watch/{foreign.uuid}", token=other)
    assert refused.value.status == 404
    async with http.get(
        f"{sim.http_url}/api/v1/tasks/{foreign.uuid}", headers={"Authorization": f"Bearer {other}"}
    ) as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("all", {}, 401),
        ("all", {"token": "wrong"}, 401),
        (str(uuid.UUID(int=1)), {}, 401),
        (str(uuid.UUID(int=1)), {"token": "good"}, 404),
        ("all", {"token": "good", "since": "yesterday"}, 400),
    ],
)
async def test_a_bad_watch_is_refused_before_the_upgrade(simulate, connect, path, query, status):
    """401 without a key that is known, 404 for an unknown task, 400 for a `since` that is no instant."""
    sim = await simulate("triverse")
    if query.get("token") == "good":
        query = {**query, "token": sim.credentials["token"]}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(sim, f"/api/v1/tasks/watch/{path}", **query)
    assert refused.value.status == status
    assert [each.status for each in sim.handshakes] == [status]
    assert sim.accepted == 0


async def test_the_older_shape_is_the_flow_status_payload(simulate, connect, http):
    """camelCase, no progress, `createTime`; on the socket and over REST."""
    sim = await simulate("triverse", shape="flow")
    task = sim.create_task(created_at=AT, status="RUNNING", output={"texture_job_status": "IN_PROGRESS"})
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    expected = {
        "flowName": "image-to-model",
        "taskId": task.uuid,
        "status": "RUNNING",
        "input": task.input,
        "output": {"texture_job_status": "IN_PROGRESS"},
        "createTime": "2026-05-28T20:26:40Z",
    }
    assert await client.sse() == ("update", expected)
    headers = {"Authorization": f"Bearer {sim.credentials['token']}"}
    async with http.get(f"{sim.http_url}/api/v1/tasks/{task.uuid}", headers=headers) as answer:
        assert await answer.json() == {"code": 0, "message": "success", "data": expected}


async def test_frames_can_come_in_the_envelope(simulate, connect):
    """`{code, message, data}` around the payload, as an option."""
    sim = await simulate("triverse", enveloped=True, terminator="")
    task = sim.create_task()
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    frame = await client.text()
    assert frame.endswith("}}")
    assert frame.split("\n")[1].startswith('data: {"code":0,"message":"success","data":{"task_uuid":')


@pytest.mark.parametrize(("shape", "leaked"), [("public", "flow_run_id"), ("flow", "flowRunId")])
async def test_internal_fields_leak_only_on_request(simulate, connect, shape, leaked):
    """Off, the public fields are all; on, the internal ones are there in the style of the shape."""
    for on in (False, True):
        sim = await simulate("triverse", shape=shape, internal_fields=on)
        task = sim.create_task()
        client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
        data = (await client.sse())[1]
        assert (leaked in data) is on
        if shape == "public" and not on:
            assert list(data) == PUBLIC


async def test_rest_answers_in_the_envelope(simulate, http):
    """`GET /api/v1/tasks/{uuid}` gives the public payload; unknown fields pushed as `extra` are part of it."""
    sim = await simulate("triverse")
    task = sim.create_task(extra={"label": "new"})
    headers = {"Authorization": f"Bearer {sim.credentials['token']}"}
    async with http.get(f"{sim.http_url}/api/v1/tasks/{task.uuid}", headers=headers) as answer:
        body = await answer.json()
    assert (body["code"], body["message"], list(body["data"])) == (0, "success", [*PUBLIC, "label"])


@pytest.mark.parametrize(
    ("path", "bearer", "status", "code"),
    [
        ("tasks/{uuid}", "wrong", 401, 401),
        ("tasks/{other}", "good", 404, 1006),
        ("tasks/url/{other}", "good", 404, 1006),
        ("tasks/url/{uuid}", "good", 409, 2005),
    ],
)
async def test_rest_errors_have_a_code_a_message_and_a_suggestion(simulate, http, path, bearer, status, code):
    """Numeric codes under the fitting HTTP status."""
    sim = await simulate("triverse")
    task = sim.create_task()
    token = sim.credentials["token"] if bearer == "good" else bearer
    url = f"{sim.http_url}/api/v1/" + path.format(uuid=task.uuid, other=uuid.UUID(int=1))
    async with http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        assert answer.status == status
        body = await answer.json()
    assert list(body) == ["code", "message", "suggestion"]
    assert body["code"] == code


async def test_download(simulate, http):
    """The download response of a task with assets; 4042 for one without."""
    sim = await simulate("triverse")
    output = {"geometry_model_url": None, "textured_model_url": ["https://x/t.glb"], "preview_url": "https://x/p.png"}
    good, bare = sim.create_task(status="SUCCESS", output=output), sim.create_task(status="SUCCESS")
    headers = {"Authorization": f"Bearer {sim.credentials['token']}"}
    async with http.get(f"{sim.http_url}/api/v1/tasks/url/{good.uuid}", headers=headers) as answer:
        data = (await answer.json())["data"]
    assert uuid.UUID(data.pop("asset_id"))
    assert data == {"download_url": "https://x/t.glb", "preview_url": "https://x/p.png", "kind": "model"}
    async with http.get(f"{sim.http_url}/api/v1/tasks/url/{bare.uuid}", headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, 4042)


async def test_creation_answers_the_documented_payload_and_the_task_lives(simulate, connect, http, clock):
    """The creation payload at once; then the task runs through a life of its own to the end."""
    sim = await simulate("triverse", clock=clock)
    watching = await connect(sim, "/api/v1/tasks/watch/all", token=sim.credentials["token"])
    headers = {"Authorization": f"Bearer {sim.credentials['token']}"}
    url, body = f"{sim.http_url}/api/v1/tasks/image-to-model", {"image_url": "https://x/i.png", "model_version": "v2"}
    async with http.post(url, headers=headers, json=body) as answer:
        created = (await answer.json())["data"]
    id = created["task_uuid"]
    assert created == {
        "task_uuid": id,
        "name": f"image-to-model-{id[:8]}",
        "created_at": "2025-06-15T15:06:40Z",
        "is_public": True,
        "task_priority": 0,
        "status": "PENDING",
        "flow_name": "image-to-model",
        "input": body,
        "costCredits": 120,
    }
    assert (await watching.sse())[1]["status"] == "PENDING"
    await clock.advance(200.0)
    states = []
    while not states or states[-1][0] != "finalized":
        event, data = await watching.sse()
        assert data["task_uuid"] == id
        states.append((event, data["status"]))
    assert ("update", "RUNNING") in states
    assert states[-1][1] in ("SUCCESS", "FAILED", "CANCELLED")


async def test_newer_creation_payload(simulate, http):
    """Without `input`, with `cost_credits` and `queue`; and a task that waits for the script."""
    sim = await simulate("triverse", creation="newer", lives=False)
    headers = {"Authorization": f"Bearer {sim.credentials['token']}"}
    url = f"{sim.http_url}/api/v1/tasks/text-to-model"
    async with http.post(url, headers=headers, json={"prompt": "a chair"}) as answer:
        data = (await answer.json())["data"]
    assert list(data) == ["task_uuid", "flow_name", "status", "created_at", "cost_credits", "queue"]
    assert sim.population.alive == 0


@pytest.mark.parametrize(
    ("token", "body", "status", "code"),
    [("wrong", b"{}", 401, 401), ("good", b"{", 400, 1004), ("good", b"[]", 400, 1004), ("good", b"{}", 400, 1004)],
)
async def test_a_bad_creation_is_refused(simulate, http, token, body, status, code):
    """401 without a key, 1004 for a body without parameters."""
    sim = await simulate("triverse")
    token = sim.credentials["token"] if token == "good" else token
    url, headers = f"{sim.http_url}/api/v1/tasks/image-to-model", {"Authorization": f"Bearer {token}"}
    async with http.post(url, headers=headers, data=body) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_a_full_queue_refuses_creation(simulate, http):
    """As many tasks live as may: 2000, HTTP 429."""
    sim = await simulate("triverse", most=0)
    url, headers = (
        f"{sim.http_url}/api/v1/tasks/image-to-model",
        {"Authorization": f"Bearer {sim.credentials['token']}"},
    )
    async with http.post(url, headers=headers, json={"image_url": "https://x"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, 2000)


async def test_an_upstream_without_rest(simulate, http):
    """Status and download can be out of order while the sockets work."""
    sim = await simulate("triverse", rest=False)
    task = sim.create_task()
    headers = {"Authorization": f"Bearer {sim.credentials['token']}"}
    async with http.get(f"{sim.http_url}/api/v1/tasks/{task.uuid}", headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, 5003)


async def test_finished_tasks_are_forgotten(simulate, clock):
    """After the retention, and beyond the number kept; unfinished ones stay."""
    sim = await simulate("triverse", clock=clock, retain=60.0, most=3)
    unfinished = sim.create_task()
    old = sim.create_task(status="SUCCESS")
    await clock.advance(61.0)
    new = [sim.create_task(status="SUCCESS").uuid for _ in range(4)]
    assert list(sim.tasks) == [unfinished.uuid, *new[1:]]
    assert old.uuid not in sim.tasks


async def test_a_state_has_only_documented_fields(simulate):
    """A typing error in a script is told, not sent."""
    sim = await simulate("triverse")
    with pytest.raises(TypeError, match="stauts"):
        sim.create_task(stauts="RUNNING")
