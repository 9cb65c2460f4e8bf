"""Whatever dies while it goes to sleep or wakes: nobody who asks sees it, nothing stays held."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from suite_plugin import half

from argosy.client import Answer
from argosy.domain.errors import ArgosyError
from argosy.wire.instance.v1 import events_pb2 as life_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2

pytestmark = pytest.mark.slow

STEP_MS = 400
STEPS = {
    "sleep_ms": STEP_MS,
    "wake_ms": STEP_MS,
    "withdraw_ms": STEP_MS,
    "register_ms": STEP_MS,
    "decode_ms": [15, 0, 0],
}
"""Every step of a sleep and of a wake takes a while."""
LIFE = (
    life_pb2.InstanceDraining,
    life_pb2.InstanceSlept,
    life_pb2.InstanceWaking,
    life_pb2.InstanceWoke,
)
NAMES = ("prefill-0", "decode-0")
MOMENTS = {
    "withdraw begins": (life_pb2.InstanceDraining, 0),
    "withdraw": (life_pb2.InstanceDraining, 0.5),
    "free": (life_pb2.InstanceDraining, 1.5),
    "asleep": (life_pb2.InstanceSlept, 0),
    "load": (life_pb2.InstanceWaking, 0.5),
    "register": (life_pb2.InstanceWaking, 1.5),
    "awake": (life_pb2.InstanceWoke, 0),
}
"""After which fact, and how many steps' time later."""
LATE_S = 120
"""Until something is given up on: machines are busy."""
OPTIONS: dict[str, Any] = {"max_tokens": 16, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def sleepy(tmp_path_factory: pytest.TempPathFactory, new_fleet_launcher: Any) -> Iterator[Any]:
    """One prefill, one decode; every step of a sleep or a wake takes a while."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("sleepy"))
    yield asyncio.run(launcher.launch(name="sleepy", timing=STEPS))
    launcher.close()


@pytest.fixture(scope="module")
def promised(sleepy: Any, eventually: Any) -> int:
    """Bytes that its node has promised while all are awake."""

    async def told() -> int:
        await all_awake(sleepy, eventually)
        return await promised_bytes(sleepy, eventually)

    return asyncio.run(told())


def prompt() -> str:
    """One that is worth its way to prefill, and that nobody has."""
    return f"{uuid.uuid4().hex} " + "the door of the old ship turns slowly to the north " * 95


async def ask(fleet: Any, text: str, *, direct: bool = False, **options: Any) -> Answer:
    async with fleet.client(direct=direct) as client:
        return await client.answer("sim", text=text, **{**OPTIONS, **options})


async def promised_bytes(fleet: Any, eventually: Any) -> int:
    """As the node reports from now on."""
    async with fleet.hears(node_pb2.NodeReported) as heard:
        await eventually(lambda: heard)
    return int(heard[-1].promised_bytes)


async def all_awake(fleet: Any, eventually: Any) -> None:
    """Wake all that have a process; return once everybody knows that they are awake."""
    await eventually(fleet.is_whole_or_asleep, LATE_S)

    async def are_awake() -> bool:
        """Who came back in between may have missed it."""
        await fleet.wake()
        return bool(await fleet.are("active"))

    await eventually(are_awake, LATE_S)


async def at_rest(fleet: Any, eventually: Any) -> None:
    """Return once every instance, asleep or not, has said that it holds nothing."""
    now_us = time.time_ns() // 1000
    await eventually(lambda: fleet.is_at_rest(now_us), LATE_S)


async def settled(fleet: Any, names: Any = NAMES) -> bool:
    """Whether all are active or silent, and operator, node agent and router agree on it."""
    try:
        processes = await fleet.processes()
        lives = await fleet.lives()
    except ArgosyError:
        return False
    if not set(names) <= lives.keys():
        return False  # An operator that has just come back has yet to read the log.
    states = {name: lives[name].state for name in names}
    return (
        set(states.values()) <= {"active", "silent"}
        and all(processes[name].state == "running" for name in names)
        and all([await fleet.are(state, name) for name, state in states.items()])
        and all(lives[name].restarts == processes[name].restarts for name in names)
    )


@pytest.mark.parametrize(("moment", "name"), half(MOMENTS, NAMES))
async def test_a_kill_at_any_moment_of_a_sleep_or_a_wake_leaves_nothing_behind(
    sleepy: Any, promised: int, eventually: Any, moment: str, name: str
) -> None:
    await all_awake(sleepy, eventually)
    before = (await sleepy.processes())[name]
    kind, steps = MOMENTS[moment]
    texts = [prompt(), "a short one"]
    async with sleepy.follows(*LIFE) as facts:

        def reached() -> bool:
            return any(isinstance(f, kind) and f.instance_id == name for f in facts)

        await sleepy.sleep()
        if kind in LIFE[2:]:
            await eventually(lambda: sleepy.are("silent"), LATE_S)
            await sleepy.wake()
        await eventually(reached, LATE_S)
        # Into the window of a step; wherever it hits, the same has to hold.
        await asyncio.sleep(steps * STEP_MS / 1e3)
        pid = await sleepy.kill(name)
    assert pid == before.pid
    answers = await asyncio.gather(
        *(ask(sleepy, text, direct=direct) for text in texts for direct in (False, True))
    )

    async def is_back() -> bool:
        now = (await sleepy.processes())[name]
        return bool(now.pid != pid and now.restarts == before.restarts + 1)

    await eventually(is_back, LATE_S)
    await eventually(lambda: settled(sleepy), LATE_S)
    await at_rest(sleepy, eventually)
    await all_awake(sleepy, eventually)
    again = [await ask(sleepy, text) for text in texts for _ in range(2)]
    assert [a.token_ids for a in answers] == [a.token_ids for a in again]
    await at_rest(sleepy, eventually)
    assert await promised_bytes(sleepy, eventually) == promised
    assert (await sleepy.processes())[name].restarts == before.restarts + 1


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_killing_a_decode_that_finishes_its_answers_before_a_sleep_loses_none(
    sleepy: Any, eventually: Any, direct: bool
) -> None:
    await all_awake(sleepy, eventually)
    text, options = prompt(), {**OPTIONS, "max_tokens": 120}
    answer = Answer()
    async with (
        sleepy.follows(life_pb2.InstanceDraining) as draining,
        sleepy.client(direct=direct) as client,
    ):
        killed = False
        async for chunk in client.generate("sim", text=text, **options):
            answer.add(chunk)
            if not killed and len(answer.token_ids) >= 5:
                await sleepy.sleep()
                await eventually(lambda: any(f.instance_id == "decode-0" for f in draining), LATE_S)
                await sleepy.kill("decode-0")
                killed = True
    await all_awake(sleepy, eventually)

    assert answer.timing.attempts >= 2
    assert answer.token_ids == (await ask(sleepy, text, **options)).token_ids
    await at_rest(sleepy, eventually)


async def test_a_sleeper_that_is_killed_asleep_comes_back_and_sleeps_when_told_to(
    sleepy: Any, eventually: Any
) -> None:
    await all_awake(sleepy, eventually)
    await sleepy.sleep()
    await eventually(lambda: sleepy.are("silent"), LATE_S)
    for name in NAMES:
        await sleepy.kill(name)
    await eventually(lambda: sleepy.are("active"), LATE_S)
    await sleepy.sleep()
    await eventually(lambda: sleepy.are("silent"), LATE_S)

    assert len((await ask(sleepy, prompt())).token_ids) == OPTIONS["max_tokens"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_sleep_decided_while_a_killed_instance_loads_holds_once_it_has(
    sleepy: Any, eventually: Any, name: str
) -> None:
    await all_awake(sleepy, eventually)
    async with sleepy.follows(node_pb2.InstanceStarted) as started:
        await sleepy.kill(name)
        await eventually(lambda: any(f.instance_id == name for f in started), LATE_S)
        await sleepy.sleep(name)
    await eventually(lambda: sleepy.are("silent", name), LATE_S)
    await all_awake(sleepy, eventually)
    assert len((await ask(sleepy, prompt())).token_ids) == OPTIONS["max_tokens"]


@pytest.mark.parametrize("who", ["router", "operator", "nats"])
async def test_a_sleeping_fleet_wakes_for_a_request_after_one_who_decides_has_died(
    sleepy: Any, eventually: Any, who: str
) -> None:
    await all_awake(sleepy, eventually)
    text = prompt()
    expected = await ask(sleepy, text)
    await sleepy.sleep()
    await eventually(lambda: sleepy.are("silent"), LATE_S)
    pid = await sleepy.kill(who)

    async def is_back() -> bool:
        process = (await sleepy.processes())[who]
        return bool(process.state == "running" and process.pid != pid)

    async def is_answered() -> bool:
        try:
            return bool((await ask(sleepy, text)).token_ids == expected.token_ids)
        except ArgosyError:
            assert who == "router"  # Which has to be there to be asked.
            return False

    await eventually(is_back, LATE_S)
    await eventually(is_answered, LATE_S)
    await eventually(lambda: settled(sleepy), LATE_S)
    await at_rest(sleepy, eventually)
