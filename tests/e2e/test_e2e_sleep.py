"""Fleets that sleep and wake: nobody who asks them something sees more of it than a moment."""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from suite_plugin import half, seeds

from argosy.client import Answer
from argosy.wire.instance.v1 import events_pb2 as life_pb2
from argosy.wire.node_agent.v1 import events_pb2 as node_pb2
from argosy.wire.prefill.v1 import events_pb2 as prefill_pb2

pytestmark = pytest.mark.slow

STEP_MS = 300
STEPS = {"sleep_ms": STEP_MS, "wake_ms": STEP_MS, "withdraw_ms": STEP_MS, "register_ms": STEP_MS}
"""Every step of a sleep and of a wake takes a while."""
SLOW_TRANSFER = {"prefill_ms": [20, 2, 0], "transfer_ms": 600}
"""Prefill beside answers would cost more than the way of the KV."""
SLOW_TOKENS = {"decode_ms": [25, 0, 0]}
LIFE = (
    life_pb2.InstanceDraining,
    life_pb2.InstanceSlept,
    life_pb2.InstanceWaking,
    life_pb2.InstanceWoke,
)
NAMES = ("prefill-0", "decode-0")
BLOCK_TOKENS = 32
PROMPT_BLOCKS = 20
CYCLES = 12
CROSSINGS = 8
LATE_S = 90
"""Until something is given up on: machines are busy."""
OPTIONS: dict[str, Any] = {"max_tokens": 24, "temperature": 0, "ignore_eos": True}

STAGES = {fact.__name__: fact for fact in LIFE}
BOTH_WAYS = pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])


@pytest.fixture(scope="module")
def module_launcher(
    tmp_path_factory: pytest.TempPathFactory, new_fleet_launcher: Any
) -> Iterator[Any]:
    """For fleets that all tests of this module share."""
    launcher = new_fleet_launcher(tmp_path_factory.mktemp("silence"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def pair(module_launcher: Any) -> Any:
    """One prefill, one decode."""
    return asyncio.run(module_launcher.launch(name="pair"))


@pytest.fixture(scope="module")
def slow_pair(module_launcher: Any) -> Any:
    """As `pair`; every step of a sleep or a wake takes a while."""
    return asyncio.run(module_launcher.launch(name="steps", timing=STEPS))


@pytest.fixture(scope="module")
def slow_transfers(module_launcher: Any) -> Any:
    """As `pair`; prefill takes its time, and so does KV from there to decode."""
    return asyncio.run(module_launcher.launch(name="transfers", timing=SLOW_TRANSFER))


@pytest.fixture(scope="module")
def stored_pair(module_launcher: Any) -> Any:
    """One prefill, two decodes, a KV store; a token takes a while."""
    return asyncio.run(
        module_launcher.launch(name="stored", decode=2, kv_store=True, timing=SLOW_TOKENS)
    )


def prompt(blocks: int = PROMPT_BLOCKS) -> str:
    """Of more than so many blocks, which nobody has."""
    line = "the door of the old ship turns slowly to the north "
    return f"{uuid.uuid4().hex} " + line * -(-blocks * 95 // 20)


async def ask(fleet: Any, text: str, *, direct: bool = False, **options: Any) -> Answer:
    async with fleet.client(direct=direct) as client:
        return await client.answer("sim", text=text, **{**OPTIONS, **options})


async def ask_openai(fleet: Any, text: str) -> str:
    async with fleet.openai() as client:
        reply = await client.completions.create(
            model="sim",
            prompt=text,
            temperature=0,
            max_tokens=OPTIONS["max_tokens"],
            extra_body={"ignore_eos": True},
        )
    return str(reply.choices[0].text)


async def asleep(fleet: Any, eventually: Any, *names: str) -> None:
    """Put these (none: all) to sleep; return once everybody knows that they are."""
    await fleet.sleep(*names)
    await eventually(lambda: fleet.are("silent", *names), LATE_S)


async def awake(fleet: Any, eventually: Any, *names: str) -> None:
    """Wake these (none: all); return once everybody knows that they are awake."""
    await fleet.wake(*names)
    await eventually(lambda: fleet.are("active", *names), LATE_S)


async def at_rest(fleet: Any, eventually: Any) -> None:
    """Return once every instance, asleep or not, has said that it holds nothing."""
    now_us = time.time_ns() // 1000
    await eventually(lambda: fleet.is_at_rest(now_us), LATE_S)


# -- a model that sleeps


async def test_a_sleeping_model_stays_listed_and_healthy(pair: Any, eventually: Any) -> None:
    await asleep(pair, eventually)
    async with pair.openai() as client:
        listed = [model.id async for model in client.models.list()]
    async with pair.client() as client:
        assert await client.models() == listed == ["sim"]
    assert await pair.healthz() == 200
    assert (await pair.status()).ready
    assert await pair.are("silent")


@pytest.mark.parametrize(("level", "way"), half(["dram", "disk"], ["openai", "relayed", "direct"]))
async def test_a_request_to_a_sleeping_model_wakes_it_and_is_answered_as_ever(
    pair: Any, eventually: Any, way: str, level: str
) -> None:
    text = prompt()
    await awake(pair, eventually)
    before = (await ask(pair, text)).text
    await pair.sleep(level=level)
    await eventually(lambda: pair.are("silent"), LATE_S)
    if way == "openai":
        after = await ask_openai(pair, text)
    else:
        after = (await ask(pair, text, direct=way == "direct")).text

    assert after == before
    # Both of the pair were woken, since both are wanted.
    await eventually(lambda: pair.are("active"), LATE_S)
    assert "requests wait" in (await pair.lives())["decode-0"].reason


async def test_many_requests_at_once_to_a_sleeping_model_are_all_answered(
    pair: Any, eventually: Any
) -> None:
    texts = [prompt(number) for number in range(1, 17)]
    await asleep(pair, eventually)
    answers = await asyncio.gather(
        *(ask(pair, text, direct=n % 2 == 0) for n, text in enumerate(texts))
    )
    again = await asyncio.gather(*(ask(pair, text) for text in texts))

    assert [a.token_ids for a in answers] == [a.token_ids for a in again]


async def test_people_can_put_a_fleet_to_sleep_wake_it_and_see_what_it_does(
    pair: Any, eventually: Any
) -> None:
    async def shown() -> dict[str, Any]:
        report = await pair.command("status")
        assert report["ready"]
        return {row["name"]: row for row in report["processes"]}

    await awake(pair, eventually)
    slept = await pair.command("sleep", "--level", "disk")
    assert (slept["state"], sorted(slept["instances"])) == ("silent", sorted(NAMES))
    rows = await shown()
    for name in NAMES:
        assert rows[name]["state"] == "silent"
        assert rows[name]["reason"] == "somebody asked"
        assert rows[name]["age_s"] >= 0
        assert not rows[name]["routed"]
    woke = await pair.command("wake", "decode-0")
    assert (woke["state"], woke["instances"]) == ("active", ["decode-0"])
    await eventually(lambda: pair.are("active", "decode-0"), LATE_S)
    rows = await shown()
    assert [rows[name]["state"] for name in NAMES] == ["silent", "active"]
    woke = await pair.command("wake")
    await eventually(lambda: pair.are("active"), LATE_S)
    assert {rows["state"] for name, rows in (await shown()).items() if name in NAMES} == {"active"}


async def test_memory_promised_to_a_sleeping_instance_is_free_and_promised_again_after(
    pair: Any, eventually: Any
) -> None:
    async with pair.hears(node_pb2.NodeReported) as heard:
        await awake(pair, eventually)
        heard.clear()
        await eventually(lambda: heard and not heard[-1].silent_bytes, LATE_S)
        promised = heard[-1].promised_bytes
        await asleep(pair, eventually)
        await eventually(lambda: heard[-1].promised_bytes < promised, LATE_S)
        assert 0 < heard[-1].silent_bytes < promised
        await awake(pair, eventually)
        await eventually(lambda: heard[-1].promised_bytes == promised, LATE_S)


# -- to zero and back under traffic


async def test_to_zero_and_back_under_traffic_no_request_fails_and_no_token_is_lost(
    pair: Any, eventually: Any
) -> None:
    told: list[tuple[str, list[int]]] = []
    over = asyncio.Event()
    turns = [0] * 4

    async def converse(number: int) -> None:
        async with pair.client(direct=number % 2 == 0) as client:
            for turn in itertools.count():
                text = prompt(1 if turn % 2 else PROMPT_BLOCKS)
                answer = Answer()
                async for chunk in client.generate("sim", text=text, **OPTIONS):
                    answer.add(chunk)
                told.append((text, answer.token_ids))
                turns[number] += 1
                if over.is_set():
                    return

    async def disturb() -> None:
        async with pair.follows(life_pb2.InstanceSlept, life_pb2.InstanceReady) as facts:

            def sleeps(name: str, *, turned: bool = False) -> int:
                """turned: also those that a wake ended before."""
                kinds = LIFE[1] if not turned else (LIFE[1], life_pb2.InstanceReady)
                return sum(isinstance(f, kinds) and f.instance_id == name for f in facts)

            while min(sleeps(name) for name in NAMES) < CYCLES:
                before, said = [sleeps(name, turned=True) for name in NAMES], list(turns)
                # Little time to finish: many answers are cut, and go on after the wake.
                await pair.sleep(drain_s=0.05)
                await eventually(
                    lambda b=before: all(
                        sleeps(name, turned=True) > n for name, n in zip(NAMES, b, strict=True)
                    ),
                    LATE_S,
                )
                # Everybody has been answered since.
                await eventually(
                    lambda s=said: all(b > a for a, b in zip(s, turns, strict=True)), LATE_S
                )
                await eventually(lambda: pair.are("active"), LATE_S)
        over.set()

    await awake(pair, eventually)
    talks = [asyncio.create_task(converse(number)) for number in range(len(turns))]
    disturbing = asyncio.create_task(disturb())
    try:
        await asyncio.gather(disturbing, *talks)
    finally:
        for task in (disturbing, *talks):
            task.cancel()

    for text, token_ids in told:
        assert token_ids == (await ask(pair, text)).token_ids
    await at_rest(pair, eventually)


# -- requests at every stage


@pytest.mark.parametrize(("stage", "name", "direct"), half(STAGES, NAMES, (False, True)), ids=str)
async def test_a_request_sent_at_any_stage_of_a_sleep_or_a_wake_is_served(
    slow_pair: Any, eventually: Any, stage: str, name: str, direct: bool
) -> None:
    await awake(slow_pair, eventually)
    texts = [prompt(), prompt(1)]
    async with slow_pair.follows(*LIFE) as facts:

        def reached(kind: Any) -> bool:
            return any(isinstance(f, kind) and f.instance_id == name for f in facts)

        await slow_pair.sleep()
        if STAGES[stage] in LIFE[2:]:
            await eventually(lambda: slow_pair.are("silent"), LATE_S)
            await slow_pair.wake()
        await eventually(lambda: reached(STAGES[stage]), LATE_S)
        answers = await asyncio.gather(*(ask(slow_pair, t, direct=direct) for t in texts))
    await awake(slow_pair, eventually)
    again = [await ask(slow_pair, text) for text in texts]

    assert [a.token_ids for a in answers] == [a.token_ids for a in again]
    await at_rest(slow_pair, eventually)


async def test_facts_of_a_life_come_with_their_cause_and_their_steps(
    slow_pair: Any, eventually: Any
) -> None:
    await awake(slow_pair, eventually)
    async with slow_pair.follows(*LIFE) as facts:
        await asleep(slow_pair, eventually)
        await awake(slow_pair, eventually)

        def all_told() -> bool:
            return len(facts) == len(LIFE) * len(NAMES)

        await eventually(all_told, LATE_S)
    for name in NAMES:
        told = sorted((f for f in facts if f.instance_id == name), key=lambda f: f.change.number)
        draining, slept, waking, woke = told
        assert [type(fact) for fact in told] == list(LIFE)
        numbers = [fact.change.number for fact in told]
        assert numbers == list(range(numbers[0], numbers[0] + len(LIFE)))
        assert {fact.change.cause for fact in told} == {"somebody asked"}
        assert (
            draining.change.decision_sequence
            == slept.change.decision_sequence
            < waking.change.decision_sequence
            == woke.change.decision_sequence
        )
        steps = [[step.name for step in fact.change.steps] for fact in told]
        assert steps == [
            [],
            ["drain", "flush", "withdraw", "free"],
            [],
            ["load", "register", "warm_up"],
        ]
        for fact in (slept, woke):
            assert fact.change.took_ms >= sum(step.ms for step in fact.change.steps) * 0.9
            assert fact.change.took_ms >= 2 * STEP_MS * 0.9
        assert slept.change.resident_bytes > 0


# -- what is under way when it goes to sleep


@pytest.mark.parametrize(
    ("names", "drain_s", "direct"),
    [
        pytest.param((), 30, False, id="both wait, relayed"),
        pytest.param((), 30, True, id="both wait, direct"),
        pytest.param((), 0.05, False, id="both cut, relayed"),
        pytest.param((), 0.05, True, id="both cut, direct"),
        pytest.param(("prefill-0",), 30, True, id="prefill waits"),
        pytest.param(("prefill-0",), 0.05, False, id="prefill cuts"),
        pytest.param(("decode-0",), 30, False, id="decode waits"),
        pytest.param(("decode-0",), 0.05, True, id="decode cuts"),
    ],
)
async def test_a_sleep_while_kv_is_handed_over_waits_for_it_or_ends_it_cleanly(
    pair: Any,
    slow_transfers: Any,
    eventually: Any,
    names: tuple[str, ...],
    drain_s: float,
    direct: bool,
) -> None:
    await awake(slow_transfers, eventually)
    text = prompt()
    async with (
        slow_transfers.hears(prefill_pb2.LoadReported) as loads,
        slow_transfers.follows(life_pb2.InstanceDraining) as draining,
    ):
        asking = asyncio.create_task(ask(slow_transfers, text, direct=direct))
        # Computed, and on its way to decode.
        await eventually(lambda: loads and loads[-1].load.kv_held_blocks, LATE_S)
        await slow_transfers.sleep(*names, drain_s=drain_s)
        answer = await asking
        await eventually(lambda: {f.instance_id for f in draining} >= set(names or NAMES), LATE_S)
    await at_rest(slow_transfers, eventually)
    if drain_s == 30:
        assert answer.timing.disaggregated
        assert answer.timing.attempts == 1
    undisturbed = await ask(pair, text)

    assert answer.token_ids == undisturbed.token_ids
    assert answer.usage.prompt_tokens == undisturbed.usage.prompt_tokens


@BOTH_WAYS
async def test_a_stream_whose_instance_goes_to_sleep_goes_on_elsewhere(
    stored_pair: Any, eventually: Any, direct: bool
) -> None:
    await awake(stored_pair, eventually)
    text, options = prompt(), {**OPTIONS, "max_tokens": 240}
    answer, busy = Answer(), ""
    async with stored_pair.client(direct=direct) as client:
        async for chunk in client.generate("sim", text=text, **options):
            answer.add(chunk)
            if not busy and len(answer.token_ids) >= 5:
                busy = await eventually(lambda: who_answers(stored_pair))
                await stored_pair.sleep(busy, drain_s=0.2)
    again = await ask(stored_pair, text, **options)

    assert answer.timing.attempts >= 2
    assert answer.token_ids == again.token_ids
    assert answer.text == again.text
    assert answer.usage.completion_tokens == options["max_tokens"]
    await awake(stored_pair, eventually)
    await at_rest(stored_pair, eventually)


async def who_answers(fleet: Any) -> str:
    """The decode instance that has something to do; empty: none, as far as is known."""
    instances = (await fleet.status()).instances
    busy = [i.instance_id for i in instances if i.live and i.load.running_requests]
    return next((name for name in busy if name.startswith("decode")), "")


# -- context


async def test_what_a_sleeping_instance_had_cached_draws_no_request_to_it(
    stored_pair: Any, eventually: Any
) -> None:
    await awake(stored_pair, eventually)
    await asleep(stored_pair, eventually, "prefill-0", "decode-1")
    text = prompt()
    first = await ask(stored_pair, text)
    await awake(stored_pair, eventually, "decode-1")
    await asleep(stored_pair, eventually, "decode-0")
    async with stored_pair.follows(life_pb2.InstanceWoke, life_pb2.InstanceReady) as up:
        second = await ask(stored_pair, text + first.text + " and then?")
        assert not [fact for fact in up if fact.instance_id == "decode-0"]
    # Nobody who sleeps was tried first.
    assert second.timing.attempts == 1
    await awake(stored_pair, eventually)
    assert second.text == (await ask(stored_pair, text + first.text + " and then?")).text


async def test_after_a_wake_a_conversation_s_next_turn_finds_its_context_in_the_store(
    stored_pair: Any, eventually: Any
) -> None:
    async def finds_it() -> bool:
        """Loads that take longer than computing would are cut short: on a busy machine, some."""
        await awake(stored_pair, eventually)
        text = prompt()
        first = await ask(stored_pair, text)
        assert first.usage.cached_tokens == 0
        await asleep(stored_pair, eventually)
        second = await ask(stored_pair, text + first.text + " and then?")
        assert second.text == (await ask(stored_pair, text + first.text + " and then?")).text
        return bool(second.usage.cached_tokens >= PROMPT_BLOCKS * BLOCK_TOKENS)

    await eventually(finds_it, 180)


# -- by itself


async def test_an_idle_fleet_goes_silent_by_itself_and_is_back_for_a_request(
    fleet_launcher: Any, eventually: Any
) -> None:
    fleet = await fleet_launcher.launch(name="idle", idle_sleep_after="1s")
    text = prompt()
    answers = []
    for _ in range(2):
        await eventually(lambda: fleet.are("silent"), LATE_S)
        assert {"idle" in life.reason for life in (await fleet.lives()).values()} == {True}
        assert await fleet.healthz() == 200
        answers.append((await ask(fleet, text)).token_ids)

    assert answers[0] == answers[1]


async def test_a_fleet_that_is_talked_to_does_not_go_silent_for_being_idle(
    fleet_launcher: Any, eventually: Any
) -> None:
    fleet = await fleet_launcher.launch(name="talk", idle_sleep_after="1s", timing=SLOW_TOKENS)
    async with fleet.follows(life_pb2.InstanceDraining) as draining:
        # One answer of several times as long, direct: the router sees nothing of it.
        await asyncio.gather(*(ask(fleet, prompt(), direct=d, max_tokens=200) for d in (0, 1)))
        assert not [fact for fact in draining if fact.instance_id == "decode-0"]
    await eventually(lambda: fleet.are("silent"), LATE_S)


# -- decisions that cross


async def cross(fleet: Any, eventually: Any, seed: int) -> None:
    """Decide this and that at random, one at once after the other; see that the last holds."""
    chance = random.Random(seed)
    for _ in range(CROSSINGS):
        for wakes in chance.choices([True, False], k=chance.randint(2, 5)):
            name = chance.choice(["", *NAMES])
            await (fleet.wake if wakes else fleet.sleep)(*filter(None, [name]))
        last = chance.random() < 0.5
        await (fleet.wake() if last else fleet.sleep())
        await eventually(lambda w=last: fleet.are("active" if w else "silent"), LATE_S)


@pytest.mark.parametrize("seed", seeds(1, 3))
async def test_of_decisions_that_cross_the_last_holds(
    slow_pair: Any, eventually: Any, seed: int
) -> None:
    await cross(slow_pair, eventually, seed)
    texts = [prompt(), prompt(1)]
    answers = await asyncio.gather(*(ask(slow_pair, t, direct=bool(seed % 2)) for t in texts))

    assert [len(answer.token_ids) for answer in answers] == [OPTIONS["max_tokens"]] * len(texts)
    await awake(slow_pair, eventually)
    await at_rest(slow_pair, eventually)


@pytest.mark.parametrize("first", ["sleep", "wake"])
async def test_a_decision_at_once_after_its_opposite_undoes_it(
    slow_pair: Any, eventually: Any, first: str
) -> None:
    begin, then, end = (
        (awake, slow_pair.sleep, slow_pair.wake)
        if first == "sleep"
        else (asleep, slow_pair.wake, slow_pair.sleep)
    )
    for _ in range(4):
        await begin(slow_pair, eventually)
        await then()
        await end()
        await begin(slow_pair, eventually)
    async with slow_pair.hears(node_pb2.NodeReported) as heard:
        await eventually(lambda: heard, LATE_S)
        asleep_bytes = heard[-1].silent_bytes
    assert bool(asleep_bytes) == (first == "wake")
    assert len((await ask(slow_pair, prompt())).token_ids) == OPTIONS["max_tokens"]


# -- afterwards


async def test_a_run_of_sleeps_and_wakes_replays_without_a_difference(
    fleet_launcher: Any, argosy: Any, eventually: Any
) -> None:
    fleet = await fleet_launcher.launch(name="replayed", kv_store=True)
    await cross(fleet, eventually, 7)
    await asleep(fleet, eventually)
    await asyncio.gather(*(ask(fleet, prompt(), direct=direct) for direct in (False, True)))
    await fleet.kill("decode-0")
    await ask(fleet, prompt())
    await eventually(fleet.is_whole, LATE_S)
    await asyncio.to_thread(fleet_launcher.close)
    report = await argosy("replay", str(fleet.path / "journal"))

    assert report["ok"]
    lives = [row for row in report["segments"] if row["core"] == "life"]
    assert len(lives) == 3
    assert all(row["steps"] for row in report["segments"])
    cores = {
        "life",
        "operator",
        "node-agent",
        "router",
        "prefill",
        "decode",
        "kvstore",
        "autoscaler",
    }
    assert cores == {row["core"] for row in report["segments"]}
