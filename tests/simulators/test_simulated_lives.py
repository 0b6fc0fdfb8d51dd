"""The lives of simulated tasks: realistic, bounded, and the same for the same seed."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from functools import partial

import pytest

from gateway import simulators
from gateway.simulators import Faults
from gateway.simulators.emit import NEVER_DATA
from gateway.simulators.population import Population, Step, case, generation, job

PLANS = {"generation": generation, "job": job, "newer job": partial(job, newer=True), "case": case}


def lives(plan, count=600):
    chance = random.Random(7)
    return [[step for _, step in plan(chance)] for _ in range(count)]


def test_generations_queue_run_and_end():
    """Positions only fall while a task waits, progress only rises while it runs, and every end occurs."""
    ends, requeued = Counter(), 0
    for life in lives(generation):
        kinds = [step.kind for step in life]
        assert kinds[0] == "created"
        ends[kinds[-1]] += 1
        requeued += "requeued" in kinds
        positions = [step.position for step in life if step.kind == "queued"]
        assert positions == sorted(positions, reverse=True)
        percent = 0
        for step in life:
            if step.kind == "started":
                percent = 0
            elif step.kind == "progressed":
                assert percent < step.percent < 100
                percent = step.percent
    assert set(ends) == {"succeeded", "failed", "cancelled"}
    assert ends["succeeded"] > 0.7 * sum(ends.values())
    assert requeued > 0


@pytest.mark.parametrize("newer", [False, True])
def test_jobs_follow_the_documented_states(newer):
    """Each event is possible after the one before it; retries are counted and end in `dead` when used up."""
    after = {
        "scheduled": {"pending"},
        "pending": {"delivered"},
        "delivered": {"acked", "delivery_timeout"},
        "delivery_timeout": {"delivered"},
        "retried": {"delivered"},
    }
    working = {"progress", "checkpoint", "custom", "completed", "retried", "dead", "killed"}
    ends, seen = Counter(), set()
    for life in lives(partial(job, newer=newer), 6_000):
        kinds = [step.kind for step in life]
        seen |= set(kinds)
        ends[kinds[-1]] += 1
        for before, now in itertools.pairwise(kinds):
            assert now in after.get(before, working), (before, now)
        attempts = [step.attempt for step in life if step.kind == "retried"]
        assert attempts == list(range(1, len(attempts) + 1))
        assert (kinds[-1] == "dead") == (len(attempts) == 3 and life[-1].attempt == 4)
    documented = {"pending", "delivered", "acked", "progress", "checkpoint", "completed", "retried", "dead"}
    documented.add("delivery_timeout")
    assert seen == documented | ({"scheduled", "killed", "custom"} if newer else set())
    assert ends["completed"] > 0.8 * sum(ends.values())


def test_cases_use_all_eight_events():
    """From `task_created` to `task_deleted`; nobody is removed who was not there."""
    seen = set()
    for life in lives(case):
        kinds = [step.kind for step in life]
        seen |= set(kinds)
        assert (kinds[0], kinds[-1]) == ("task_created", "task_deleted")
        for what in ("owner", "assignee"):
            there = 0
            for kind in kinds:
                there += (kind == f"task_{what}_added") - (kind == f"task_{what}_removed")
                assert there in (0, 1)
    assert len(seen) == 8


@pytest.mark.parametrize("name", PLANS)
def test_one_seed_one_history_whatever_the_time_steps(name):
    """Small steps or one leap: the same happenings at the same times, in order of time."""

    def history(seed, step):
        population = Population(PLANS[name], random.Random(seed), now=0.0, rate=2.0, life=10.0)
        now, happenings = 0.0, []
        while now < 100.0:
            now += step
            happenings += population.advance(now)
        return happenings

    fine = history(1, 0.25)
    assert fine == history(1, 100.0)
    assert fine != history(2, 0.25)
    assert [each.at for each in fine] == sorted(each.at for each in fine)


def test_speed_shortens_lives_and_rate_makes_more():
    """Twice the speed, half the life; the rate of births is its own."""

    def span(speed):
        population = Population(generation, random.Random(3), now=0.0, rate=0, life=10.0, speed=speed)
        population.admit(0.0)
        return list(population.advance(1_000.0))[-1].at

    assert span(2.0) == pytest.approx(span(1.0) / 2)
    for rate in (1.0, 10.0):
        population = Population(generation, random.Random(3), now=0.0, rate=rate)
        born = sum(each.step == Step("created") for each in population.advance(200.0))
        assert 0.7 * 200 * rate < born < 1.3 * 200 * rate


def test_a_population_is_bounded():
    """No births while as many live as may; nothing due when there are no lives and no births."""
    population = Population(generation, random.Random(3), now=0.0, rate=100.0, life=1e9, most=5)
    list(population.advance(10.0))
    assert population.full
    assert population.alive == 5
    silent = Population(generation, random.Random(3), now=0.0, rate=0)
    assert silent.next_due() is None
    assert list(silent.advance(1e12)) == []
    assert silent.admit(0.0) == 1
    assert silent.next_due() is not None


@pytest.mark.parametrize("bad", [{"rate": -1.0}, {"rate": 1.0, "life": 0.0}, {"rate": 1.0, "speed": 0.0}])
def test_impossible_lives_are_refused(bad):
    """Negative rates and lives of no length are mistakes."""
    with pytest.raises(ValueError, match="above 0"):
        Population(generation, random.Random(3), now=0.0, **bad)


async def conversation(kind, clock, connect, seed, **options):
    """Everything one client hears in 100 s; ended by a marker."""
    sim = await simulators.start(kind, seed=seed, rate=1.0, speed=3.0, clock=clock, **options)
    try:
        given = sim.credentials
        if kind == "triverse":
            client = await connect(sim, "/api/v1/tasks/watch/all", token=given["token"])
        elif kind == "emit":
            client = await connect(sim, f"/api/v1/realtime/spaces/{given['spaces'][0]}", token=given["token"])
        else:
            client = await connect(sim, "/ws/events/tasks/", uuid=given["uuid"])
        await sim.wait_connection()
        await clock.advance(100.0)
        sim.push_raw("end")
        heard = []
        while not heard or heard[-1] != "end":
            heard.append(await client.text())
        return given, heard
    finally:
        await sim.stop()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("triverse", {}),
        ("triverse", {"shape": "flow", "enveloped": True}),
        ("emit", {}),
        ("emit", {"edition": "newer"}),
        ("catalyst", {}),
    ],
)
@pytest.mark.parametrize("faulty", [False, True])
async def test_the_same_seed_gives_the_same_conversation(clock, connect, kind, options, faulty):
    """Credentials, ids, payloads, timestamps and faults, to the byte; another seed gives another one."""

    async def heard(seed):
        faults = Faults(duplicate=0.05, malformed=0.05, out_of_order=0.05) if faulty else None
        return await conversation(kind, type(clock)(), connect, seed, faults=faults, **options)

    first = await heard(1)
    assert len(first[1]) > 15
    assert first == await heard(1)
    other = await heard(2)
    assert first[0] != other[0]
    assert first[1] != other[1]


async def test_a_population_speaks_every_documented_type(clock, connect):
    """emit.run: over a while a space sees every type but `init`, with data exactly where the document has it."""
    _, heard = await conversation("emit", clock, connect, 1, spaces=1, life=3.0)
    events = [json.loads(text) for text in heard[:-1]]
    assert {each["type"] for each in events} >= {"delivered", "acked", "progress", "checkpoint", "completed", "retried"}
    assert {each["status"] for each in events} >= {"pending", "delivered", "running", "completed"}
    for each in events:
        assert ("data" in each) is (each["type"] not in NEVER_DATA)
