"""The driver: one event at a time, timers that fire once, and nothing lost from the journal."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from argosy.domain.core import CancelTimer, CoreSpec, Effect, Event, SetTimer, TimerFired
from argosy.mesh import driver as driver_module
from argosy.mesh.driver import Clock, CoreFailed, Driver
from argosy.mesh.journal import JournalWriter
from argosy.mesh.replay import replay_directory


class Question(Event, frozen=True, kw_only=True, tag=True):
    effects: tuple[Any, ...]


class Say(Effect, frozen=True, kw_only=True, tag=True):
    text: str


class Nothing(msgspec.Struct):
    pass


class Obedient:
    """Does what the event asks, and says which timers fired."""

    def __init__(self, state: Nothing) -> None:
        self.state = state
        self.fired: list[TimerFired] = []

    def step(self, event: Any) -> list[Effect]:
        if isinstance(event, TimerFired):
            self.fired.append(event)
            return [Say(text=event.key)]
        return list(event.effects)


SPEC = CoreSpec("obedient", Question | TimerFired, Nothing, Obedient)


class DriverStage:
    """A driver over the obedient core; `said` is what was performed, in order."""

    def __init__(self, journal: JournalWriter | None = None) -> None:
        self.core = Obedient(Nothing())
        self.said: list[str] = []
        self.on_say: Callable[[str], None] = lambda text: None
        self.driver = Driver(self.core, journal, self._perform, Clock())

    def ask(self, *effects: Effect) -> None:
        self.driver.feed(Question(now_us=self.driver.now_us(), effects=effects))

    def timer(self, key: str, after_ms: int) -> SetTimer:
        return SetTimer(key=key, at_us=self.driver.now_us() + 1000 * after_ms)

    def _perform(self, effect: Say) -> None:
        self.said.append(effect.text)
        self.on_say(effect.text)


@pytest.fixture
async def stage() -> AsyncIterator[DriverStage]:
    made = DriverStage()
    yield made
    made.driver.close()


async def test_an_event_fed_while_another_is_decided_waits_its_turn(stage: DriverStage) -> None:
    stage.on_say = lambda text: stage.ask(Say(text="inner")) if text == "outer" else None
    stage.ask(Say(text="outer"), Say(text="rest of outer"))

    assert stage.said == ["outer", "rest of outer", "inner"]


async def test_a_failing_effect_costs_neither_other_effects_nor_later_events(
    stage: DriverStage,
) -> None:
    def fail(text: str) -> None:
        if text == "bad":
            raise RuntimeError(text)

    stage.on_say = fail
    stage.ask(Say(text="bad"), Say(text="beside it"))
    stage.ask(Say(text="good"))

    assert stage.said == ["bad", "beside it", "good"]


async def test_a_timer_fires_once_and_never_early(stage: DriverStage, eventually: Any) -> None:
    timer = stage.timer("once", 5)
    stage.ask(timer, stage.timer("end", 40))
    await eventually(lambda: "end" in stage.said)

    assert stage.said == ["once", "end"]
    assert stage.core.fired[0].now_us >= timer.at_us


async def test_a_timer_in_the_past_fires_without_being_fed_inside_the_step(
    stage: DriverStage, eventually: Any
) -> None:
    stage.ask(stage.timer("late", -1000), Say(text="first"))
    assert stage.said == ["first"]
    await eventually(lambda: stage.said == ["first", "late"])


async def test_a_timer_set_again_replaces_the_earlier_one(
    stage: DriverStage, eventually: Any
) -> None:
    stage.ask(stage.timer("again", 5))
    later = stage.timer("again", 30)
    stage.ask(later, stage.timer("end", 50))
    await eventually(lambda: "end" in stage.said)

    assert stage.said == ["again", "end"]
    assert stage.core.fired[0].now_us >= later.at_us


async def test_a_cancelled_timer_never_fires(stage: DriverStage, eventually: Any) -> None:
    stage.ask(stage.timer("gone", 5), CancelTimer(key="gone"), CancelTimer(key="never was"))
    stage.ask(stage.timer("end", 30))
    await eventually(lambda: stage.said)

    assert stage.said == ["end"]


async def test_a_fired_timer_can_be_set_again_by_what_it_caused(
    stage: DriverStage, eventually: Any
) -> None:
    def again(_: str) -> None:
        if len(stage.said) < 3:
            stage.ask(stage.timer("beat", 1))

    stage.on_say = again
    stage.ask(stage.timer("beat", 1))
    await eventually(lambda: stage.said == ["beat"] * 3)


async def test_no_timer_fires_after_close(stage: DriverStage) -> None:
    fired = asyncio.Event()
    stage.on_say = lambda text: fired.set()
    stage.ask(stage.timer("gone", 1))
    stage.driver.close()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fired.wait(), 0.05)


async def test_what_was_driven_live_replays_timers_included(
    tmp_path: Path, eventually: Any
) -> None:
    stage = DriverStage(JournalWriter(tmp_path, SPEC, Nothing()))
    stage.ask(Say(text="now"), stage.timer("then", 5))
    await eventually(lambda: stage.said == ["now", "then"])
    stage.driver.close()

    (replayed,) = replay_directory(tmp_path, {"obedient": SPEC})
    assert (replayed.steps, replayed.difference, replayed.cut) == (2, None, False)


async def test_the_step_is_journalled_even_when_performing_it_fails(tmp_path: Path) -> None:
    stage = DriverStage(JournalWriter(tmp_path, SPEC, Nothing()))

    def fail(_: str) -> None:
        raise RuntimeError

    stage.on_say = fail
    stage.ask(Say(text="bad"))
    stage.driver.close()

    (replayed,) = replay_directory(tmp_path, {"obedient": SPEC})
    assert replayed.steps == 1


def test_a_core_that_raises_ends_its_journal_with_that_step_and_decides_nothing_more(
    tiny: Any, tmp_path: Path
) -> None:
    core, failures, performed = tiny.spec.build(tiny.Totals()), [], []
    writer = JournalWriter(tmp_path, tiny.spec, core.state)
    driver = Driver(core, writer, performed.append, Clock())
    driver.on_failure = failures.append
    spoiled = tiny.Spoiled(now_us=2, word="keel")
    driver.feed(tiny.Forgotten(now_us=1, word="mast"))
    with pytest.raises(CoreFailed, match="the core failed on Spoiled: KeyError: 'keel'"):
        driver.feed(spoiled)
    driver.feed(tiny.Noted(now_us=3, word="keel", amount=1))
    driver.close()

    assert (failures, performed) == ([driver.failure], [])
    (replayed,) = replay_directory(tmp_path, {"tiny": tiny.spec})
    assert (replayed.steps, replayed.cut, replayed.difference) == (2, False, None)
    assert replayed.raised is not None
    assert (replayed.raised.event, replayed.raised.error) == (spoiled, "KeyError: 'keel'")


def test_replay_shows_that_a_mended_core_does_not_raise_any_more(tiny: Any, tmp_path: Path) -> None:
    class Mended:
        def __init__(self, state: Any) -> None:
            self.state = state

        def step(self, event: Any) -> list[Effect]:
            return []

    core = tiny.spec.build(tiny.Totals())
    driver = Driver(core, JournalWriter(tmp_path, tiny.spec, core.state), print, Clock())
    with pytest.raises(CoreFailed):
        driver.feed(tiny.Spoiled(now_us=2, word="keel"))
    mended = dataclasses.replace(tiny.spec, build=Mended)

    (replayed,) = replay_directory(tmp_path, {"tiny": mended})
    assert replayed.difference is not None
    assert (replayed.difference.expected, replayed.difference.got) == (
        "raised KeyError: 'keel'",
        [],
    )


async def test_no_timer_fires_after_the_core_failed(tiny: Any) -> None:
    reports: list[Any] = []
    driver = Driver(tiny.spec.build(tiny.Totals()), None, reports.append, Clock())
    driver.feed(tiny.Noted(now_us=driver.now_us(), word="mast", amount=1))
    with pytest.raises(CoreFailed):
        driver.feed(tiny.Spoiled(now_us=driver.now_us(), word="keel"))
    assert not driver._timers
    assert [report.total for report in reports] == [1]


class DriverWatch:
    """Stands in for the time module: both clocks say what the test says, in seconds."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = 1_000_000.0, 50.0

    def time_ns(self) -> int:
        return round(self.wall_s * 1e9)

    def monotonic_ns(self) -> int:
        return round(self.monotonic_s * 1e9)

    def step_s(self, monotonic: float, wall: float) -> None:
        self.monotonic_s += monotonic
        self.wall_s += wall


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> DriverWatch:
    made = DriverWatch()
    monkeypatch.setattr(driver_module, "time", made)
    return made


@pytest.mark.parametrize(
    ("wall_s", "told_s"),
    [(5.0, 5.0), (4.5, 5.0), (-3600.0, 5.0), (5.9, 5.0), (3605.0, 3605.0)],
    ids=["alike", "slewed back", "set back", "slewed on", "slept"],
)
def test_wall_time_follows_jumps_forward_and_nothing_else(
    watch: DriverWatch, wall_s: float, told_s: float
) -> None:
    """While 5 s pass on the monotonic clock."""
    clock = Clock()
    before = clock.now_us()
    watch.step_s(5, wall_s)
    assert clock.now_us() - before == round(told_s * 1e6)


def test_wall_time_never_runs_back_even_when_a_jump_is_taken_back(watch: DriverWatch) -> None:
    clock = Clock()
    times = [clock.now_us()]
    for wall_s in (0.1, 100, -100, 0.1, 50):
        watch.step_s(0.1, wall_s)
        times.append(clock.now_us())
    assert times == sorted(set(times))
