"""Each rule of the emit.run document, over real sockets; and what newer editions add."""

from __future__ import annotations

import aiohttp
import pytest

from gateway.simulators.emit import PROGRESS, READ

AT = 1_740_393_120.0  # 2025-02-24T10:32:00Z

# type, data, status after it: the nine documented types that are events of a job (`init` is sent on connect)
OCCURRENCES = [
    ("delivered", None, "delivered"),
    ("delivery_timeout", None, "pending"),
    ("acked", None, "running"),
    ("progress", {"percent": 65, "step": "encoding", "fps": 30}, "running"),
    ("checkpoint", {"frame": 7}, "running"),
    ("retried", {"error": "Connection timeout", "attemptNumber": 1}, "pending"),
    ("dead", {"error": "FFmpeg exited with code 1: out of memory"}, "dead"),
    ("completed", {"output_url": "s3://bucket/output.mp4", "duration_ms": 12340}, "completed"),
]


async def test_init_comes_at_once_with_the_current_status(simulate, connect):
    """The documented shape, without `data`."""
    sim = await simulate("emit")
    job = sim.create_job("process-video", status="running")
    client = await connect(sim, f"/api/v1/realtime/{job.id}", token=sim.credentials["tokens"][READ])
    event = await client.json()
    assert list(event) == ["jobId", "jobName", "type", "status", "timestamp"]
    assert (event["jobId"], event["jobName"], event["type"], event["status"]) == (
        job.id,
        "process-video",
        "init",
        "running",
    )
    assert event["timestamp"].endswith("Z")
    assert len(event["timestamp"]) == len("2025-02-24T10:31:05.000Z")


@pytest.mark.parametrize(("type", "data", "status"), OCCURRENCES)
async def test_with_jobs_read_every_type_comes_whole(simulate, connect, type, data, status):
    """The same event on the job stream and on the space stream."""
    sim = await simulate("emit")
    job = sim.create_job("process-video")
    token = sim.credentials["tokens"][READ]
    one = await connect(sim, f"/api/v1/realtime/{job.id}", token=token)
    space = await connect(sim, f"/api/v1/realtime/spaces/{job.space}", token=token)
    await one.json()
    sim.push(job.id, type, data, at=AT)
    expected = {"jobId": job.id, "jobName": "process-video", "type": type, "status": status}
    if data is not None:
        expected["data"] = data
    expected["timestamp"] = "2025-02-24T10:32:00.000Z"
    assert await one.json() == expected
    assert await space.json() == expected


@pytest.mark.parametrize("stripped", ["null", "missing"])
@pytest.mark.parametrize(("type", "data", "status"), [*OCCURRENCES, ("custom", {"secret": 1}, "pending")])
async def test_a_progress_token_sees_type_and_status_but_data_of_progress_only(
    simulate, connect, stripped, type, data, status
):
    """The document's table: stripped from checkpoint, completed, retried and dead; untouched where there never is any."""
    sim = await simulate("emit", stripped=stripped)
    job = sim.create_job()
    client = await connect(sim, f"/api/v1/realtime/{job.id}", token=sim.credentials["tokens"][PROGRESS])
    await client.json()
    sim.push(job.id, type, data)
    event = await client.json()
    assert (event["type"], event["status"]) == (type, status)
    if type == "progress":
        assert event["data"] == data
    elif data is None or stripped == "missing":
        assert "data" not in event
    else:
        assert event["data"] is None


@pytest.mark.parametrize("space", [0, 1])
async def test_the_space_stream_shows_all_jobs_of_its_space_and_no_other(simulate, connect, space):
    """Events of every job of the space, nothing at connect, nothing of the other space."""
    sim = await simulate("emit")
    ids = sim.credentials["spaces"]
    jobs = [sim.create_job(f"job-{at}", space=id) for at, id in enumerate(ids)]
    client = await connect(sim, f"/api/v1/realtime/spaces/{ids[space]}", token=sim.credentials["token"])
    for job in jobs:
        sim.push(job.id, "delivered")
    sim.push_raw('"end"')
    assert (await client.json())["jobName"] == f"job-{space}"
    assert await client.json() == "end"


async def test_who_may_watch_what(simulate, connect):
    """401 without or with a bad token, 403 for another space or too small a scope, 404 for an unknown job."""
    sim = await simulate("emit")
    home, abroad = sim.credentials["spaces"]
    tokens, foreign = sim.credentials["tokens"], sim.credentials["space_tokens"][abroad]
    job = sim.create_job(space=home)
    one, space = f"/api/v1/realtime/{job.id}", f"/api/v1/realtime/spaces/{home}"
    refusals = [
        (one, {}, 401),
        (one, {"token": "wrong"}, 401),
        (one, {"token": foreign[READ]}, 403),
        (one, {"token": foreign[PROGRESS]}, 403),
        (one, {"token": sim.credentials["producer_key"]}, 403),
        ("/api/v1/realtime/01JUNKNOWN", {"token": tokens[READ]}, 404),
        (space, {}, 401),
        (space, {"token": "wrong"}, 401),
        (space, {"token": tokens[PROGRESS]}, 403),
        (space, {"token": foreign[READ]}, 403),
        ("/api/v1/realtime/spaces/01JUNKNOWN", {"token": sim.credentials["token"]}, 404),
    ]
    for path, query, status in refusals:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(sim, path, **query)
        assert (path, query, refused.value.status) == (path, query, status)
    for path, token in [
        (one, tokens[READ]),
        (one, tokens[PROGRESS]),
        (space, tokens[READ]),
        (space, sim.add_token(READ)),
    ]:
        await connect(sim, path, token=token)
    assert sim.accepted == 4
    assert sim.refused == len(refusals)


async def test_the_job_stream_may_leave_the_job_name_out(simulate, connect):
    """The document gives the name to both streams and, elsewhere, to the space stream alone."""
    sim = await simulate("emit", job_name=False)
    job = sim.create_job()
    token = sim.credentials["tokens"][READ]
    one = await connect(sim, f"/api/v1/realtime/{job.id}", token=token)
    space = await connect(sim, f"/api/v1/realtime/spaces/{job.space}", token=token)
    assert "jobName" not in await one.json()
    sim.push(job.id, "delivered")
    assert "jobName" not in await one.json()
    assert (await space.json())["jobName"] == "process-video"


async def test_the_document_s_producer_creates_jobs_over_http(simulate, connect, http, clock):
    """`POST /spaces/{id}/jobs` with `x-api-key` answers the job with its id; the job then lives to its end."""
    sim = await simulate("emit", clock=clock)
    space = sim.credentials["spaces"][0]
    url, headers = f"{sim.http_url}/api/v1/spaces/{space}/jobs", {"x-api-key": sim.credentials["producer_key"]}
    async with http.post(url, headers=headers, json={"name": "generate-report", "payload": {"reportId": 42}}) as answer:
        assert answer.status == 201
        job = await answer.json()
    client = await connect(sim, f"/api/v1/realtime/{job['id']}", token=sim.credentials["token"])
    await clock.advance(600.0)
    types = []
    while not types or types[-1] not in ("completed", "dead"):
        types.append((await client.json())["type"])
    assert types[:2] == ["init", "delivered"]
    assert "acked" in types


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [("none", b"{}", 401), ("token", b"{}", 403), ("producer_key", b"{", 400), ("producer_key", b"{}", 400)],
)
async def test_a_bad_creation_is_refused(simulate, http, key, body, status):
    """401 without a key, 403 without the scope, 400 for a body without a name."""
    sim = await simulate("emit")
    url = f"{sim.http_url}/api/v1/spaces/{sim.credentials['spaces'][0]}/jobs"
    async with http.post(url, headers={"x-api-key": sim.credentials.get(key, "x")}, data=body) as answer:
        assert answer.status == status


async def test_the_documented_edition_has_no_rest_and_no_sequence(simulate, connect, http):
    """Nothing that only newer editions have may be there to depend on."""
    sim = await simulate("emit")
    job = sim.create_job()
    headers = {"x-api-key": sim.credentials["token"]}
    for path in (f"/api/v1/spaces/{job.space}/jobs", f"/api/v1/jobs/{job.id}"):
        async with http.get(sim.http_url + path, headers=headers) as answer:
            assert answer.status in (404, 405)
    space = await connect(sim, f"/api/v1/realtime/spaces/{job.space}", token=sim.credentials["token"])
    sim.push(job.id, "delivered")
    assert list(await space.json()) == ["jobId", "jobName", "type", "status", "timestamp"]


async def test_the_newer_space_stream_counts(simulate, connect):
    """`connected` first, then a `seq` without holes, and counts where a status changes."""
    sim = await simulate("emit", edition="newer")
    job = sim.create_job()
    client = await connect(sim, f"/api/v1/realtime/spaces/{job.space}", token=sim.credentials["token"])
    opening = await client.json()
    assert (opening["type"], opening["seq"], opening["missed"]) == ("connected", 1, False)
    assert opening["counts"]["pending"] == 1
    sim.push(job.id, "acked")
    sim.push(job.id, "progress", {"percent": 1, "message": "on it"})
    sim.create_job(status="scheduled")
    sim.push(job.id, "killed")
    events = [await client.json() for _ in range(4)]
    assert [(each["type"], each["status"], each["seq"], "counts" in each) for each in events] == [
        ("acked", "running", 2, True),
        ("progress", "running", 3, False),
        ("created", "scheduled", 4, True),
        ("killed", "killed", 5, True),
    ]
    assert events[-1]["counts"] == {
        "scheduled": 1,
        "pending": 0,
        "delivered": 0,
        "running": 0,
        "completed": 0,
        "dead": 0,
        "killed": 1,
    }


async def test_missed_tells_whether_anything_was_lost(simulate, connect):
    """False where the cursor is the server's; true after events meanwhile or a restart of the stream."""
    sim = await simulate("emit", edition="newer")
    job, token = sim.create_job(), sim.credentials["token"]
    path = f"/api/v1/realtime/spaces/{job.space}"
    opening = await (await connect(sim, path, token=token)).json()
    cursor = {"token": token, "since": str(opening["seq"]), "streamInstanceId": opening["streamInstanceId"]}
    assert (await (await connect(sim, path, **cursor)).json())["missed"] is False
    sim.push(job.id, "delivered")
    assert (await (await connect(sim, path, **cursor)).json())["missed"] is True
    sim.restart_streams()
    sim.push(job.id, "acked")
    again = await (await connect(sim, path, **cursor)).json()
    assert (again["seq"], again["missed"]) == (1, True)
    assert again["streamInstanceId"] != opening["streamInstanceId"]


@pytest.mark.parametrize("anonymous", [False, True])
async def test_a_newer_progress_stream_has_three_types(simulate, connect, anonymous):
    """`init` with the last known progress, `progress`, and `completed` without data; with a small token or with none."""
    sim = await simulate("emit", edition="newer")
    job = sim.create_job()
    sim.push(job.id, "progress", {"percent": 5, "message": "on it"})
    query = {} if anonymous else {"token": sim.credentials["tokens"][PROGRESS]}
    client = await connect(sim, f"/api/v1/realtime/{job.id}", **query)
    for type, data, _ in OCCURRENCES:
        sim.push(job.id, type, data)
    events = [await client.json() for _ in range(3)]
    assert [(each["type"], each.get("data")) for each in events] == [
        ("init", {"percent": 5, "message": "on it"}),
        ("progress", {"percent": 65, "step": "encoding", "fps": 30}),
        ("completed", None),
    ]


async def test_newer_rest_lists_jobs_newest_first(simulate, http):
    """All fields, filter by status, pages of at most 100."""
    sim = await simulate("emit", edition="newer")
    space = sim.credentials["spaces"][0]
    jobs = [sim.create_job(at=AT + number, payload={"n": number}) for number in range(105)]
    sim.create_job(space=sim.credentials["spaces"][1])
    sim.push(jobs[3].id, "delivered", at=AT)
    url, headers = f"{sim.http_url}/api/v1/spaces/{space}/jobs", {"x-api-key": sim.credentials["token"]}

    async def ids(**query: str) -> list[str]:
        async with http.get(url, headers=headers, params=query) as answer:
            assert answer.status == 200
            return [each["id"] for each in await answer.json()]

    newest_first = [job.id for job in reversed(jobs)]
    assert await ids() == newest_first[:50]
    assert await ids(limit="500") == newest_first[:100]
    assert await ids(limit="10", offset="100") == newest_first[100:]
    assert await ids(status="delivered") == [jobs[3].id]
    async with http.get(url, headers=headers, params={"status": "delivered"}) as answer:
        assert await answer.json() == [
            {
                "id": jobs[3].id,
                "spaceId": space,
                "name": "process-video",
                "payload": {"n": 3},
                "status": "delivered",
                "maxRetries": 3,
                "attemptNumber": 0,
                "timeoutSeconds": 300,
                "deliveredAt": "2025-02-24T10:32:00.000Z",
                "startedAt": None,
                "completedAt": None,
                "result": None,
                "createdAt": "2025-02-24T10:32:03.000Z",
                "updatedAt": "2025-02-24T10:32:00.000Z",
            }
        ]


async def test_newer_rest_gives_a_job_with_its_history(simulate, http):
    """One job and what happened to it, oldest first."""
    sim = await simulate("emit", edition="newer")
    job = sim.create_job(at=AT)
    sim.push(job.id, "retried", {"error": "x", "attemptNumber": 2}, at=AT + 1)
    url = f"{sim.http_url}/api/v1/jobs/{job.id}"
    async with http.get(url, headers={"x-api-key": sim.credentials["token"]}) as answer:
        body = await answer.json()
    assert (body["status"], body["attemptNumber"]) == ("pending", 2)
    assert body["events"] == [
        {"type": "created", "status": "pending", "data": None, "timestamp": "2025-02-24T10:32:00.000Z"},
        {
            "type": "retried",
            "status": "pending",
            "data": {"error": "x", "attemptNumber": 2},
            "timestamp": "2025-02-24T10:32:01.000Z",
        },
    ]


async def test_newer_rest_is_guarded(simulate, http):
    """401 without a key, 403 for a small scope or another space, 404 for what is not there, 400 for a bad query."""
    sim = await simulate("emit", edition="newer")
    home, abroad = sim.credentials["spaces"]
    job, token = sim.create_job(space=home), sim.credentials["token"]
    jobs, one = f"/api/v1/spaces/{home}/jobs", f"/api/v1/jobs/{job.id}"
    for path, key, status in [
        (jobs, "wrong", 401),
        (one, "wrong", 401),
        (jobs, sim.credentials["tokens"][PROGRESS], 403),
        (one, sim.credentials["space_tokens"][abroad][READ], 403),
        ("/api/v1/jobs/01JUNKNOWN", token, 404),
        ("/api/v1/spaces/01JUNKNOWN/jobs", token, 404),
        (f"{jobs}?status=lost", token, 400),
        (f"{jobs}?limit=many", token, 400),
    ]:
        async with http.get(sim.http_url + path, headers={"x-api-key": key}) as answer:
            assert (path, answer.status) == (path, status)


async def test_finished_jobs_are_forgotten(simulate, clock):
    """After the retention; an unfinished one stays."""
    sim = await simulate("emit", clock=clock, retain=60.0)
    unfinished, old, new = (sim.create_job() for _ in range(3))
    sim.push(old.id, "dead")
    await clock.advance(61.0)
    sim.push(new.id, "completed")
    assert list(sim.jobs) == [unfinished.id, new.id]


async def test_a_job_that_is_run_again_is_not_forgotten(simulate, clock):
    """An event after `dead` brings the job back to life."""
    sim = await simulate("emit", clock=clock, retain=60.0)
    again, other = sim.create_job(), sim.create_job()
    sim.push(again.id, "dead")
    sim.push(again.id, "retried", {"error": "x", "attemptNumber": 1})
    assert (again.status, again.completed_at) == ("pending", None)
    await clock.advance(61.0)
    sim.push(other.id, "completed")
    assert list(sim.jobs) == [again.id, other.id]
