"""A journal is its core's life: whatever is on disk replays to the same effects, or says why."""

import dataclasses
import errno
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite_plugin import examples

from argosy.domain.core import TimerFired
from argosy.mesh import journal, journal_files
from argosy.mesh.journal import JournalWriter
from argosy.mesh.journal_format import FRAME, chain, write_whole
from argosy.mesh.replay import JournalError, Replayed, replay_directory, replay_segment

PATIENCE_S = 20
WORDS = st.sampled_from(["keel", "mast", "hull", "Ærø", ""])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("noted"), WORDS, st.integers(-(2**40), 2**40)),
        st.tuples(st.just("forgotten"), WORDS),
        st.tuples(st.just("fired"), WORDS),
    ),
    max_size=40,
)
REPLAY_ELSEWHERE = """
import runpy, sys
from pathlib import Path
from argosy.mesh.replay import replay_segment
spec = runpy.run_path(sys.argv[1])["SPEC"]
print(replay_segment(Path(sys.argv[2]), {spec.name: spec}).digests)
"""


class Recorder:
    """A tiny core whose steps are journalled, with the digests they should have."""

    def __init__(self, tiny: Any, directory: Path, **limits: int) -> None:
        self.directory = directory
        self.core = tiny.spec.build(tiny.Totals())
        self.writer = JournalWriter(directory, tiny.spec, self.core.state, **limits)
        self.digests: list[int] = []
        self._tiny = tiny
        self._digest = 0

    def step(self, event: Any) -> None:
        effects = self.core.step(event)
        self.writer.append(event, effects)
        self.writer.advance(self.core.state)
        self._digest = chain(self._digest, journal.msgspec.msgpack.encode(effects))
        self.digests.append(self._digest)

    def note(self, word: str, amount: int = 1) -> None:
        self.step(self._tiny.Noted(now_us=len(self.digests), word=word, amount=amount))

    def note_and_wait_until_written(self, word: str) -> None:
        self.note(word)
        wait_until(lambda: self.steps_on_disk() == len(self.digests))

    def bytes_on_disk(self) -> int:
        return sum(path.stat().st_size for path in self.segments())

    def steps_on_disk(self) -> int:
        return sum(replay(self._tiny, path).steps for path in self.segments())

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*.argj"))

    def close(self) -> None:
        self.writer.close()


def wait_until(predicate: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not predicate():
        assert time.monotonic() < deadline, "the journal was never written"
        time.sleep(0.002)


def as_event(tiny: Any, now_us: int, step: Sequence[Any]) -> Any:
    kind, *fields = step
    kinds = {"noted": tiny.Noted, "forgotten": tiny.Forgotten, "fired": TimerFired}
    names = kinds[kind].__struct_fields__
    return kinds[kind](**dict(zip(names, (now_us, *fields), strict=True)))


def replay(tiny: Any, path: Path) -> Replayed:
    return replay_segment(path, {"tiny": tiny.spec})


@pytest.fixture
def recorder(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorder]:
    monkeypatch.setattr(journal, "FLUSH_S", 0.002)
    return lambda **limits: Recorder(tiny, tmp_path / "journal", **limits)


@pytest.fixture
def segment(recorder: Callable[..., Recorder]) -> tuple[Path, list[int]]:
    """A journal of five frames, and the digests of the five steps in them."""
    made = recorder()
    for word in ("keel", "mast", "hull", "helm", "deck"):
        made.note_and_wait_until_written(word)
    made.close()
    return made.segments()[0], made.digests


@settings(max_examples=examples(40))
@given(steps=STEPS)
def test_any_sequence_of_events_replays_to_the_digests_of_its_first_run(
    tiny: Any, tmp_path_factory: pytest.TempPathFactory, steps: list[Sequence[Any]]
) -> None:
    recorder = Recorder(tiny, tmp_path_factory.mktemp("journal"))
    for now_us, step in enumerate(steps):
        recorder.step(as_event(tiny, now_us, step))
    recorder.close()

    replayed = replay(tiny, recorder.segments()[0])
    assert replayed.digests == recorder.digests
    assert (replayed.difference, replayed.cut) == (None, False)


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_replay_does_not_depend_on_the_hash_seed(
    tiny: Any, segment: tuple[Path, list[int]], hash_seed: str
) -> None:
    path, digests = segment
    command = [sys.executable, "-c", REPLAY_ELSEWHERE, str(tiny.home), str(path)]

    run = subprocess.run(
        command,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str(digests)


def frame_ends(data: bytes) -> list[int]:
    ends, offset = [], 0
    while offset < len(data):
        offset += FRAME.size + FRAME.unpack_from(data, offset)[0]
        ends.append(offset)
    return ends


def test_a_journal_cut_at_any_byte_replays_up_to_the_cut_and_says_so(
    tiny: Any, segment: tuple[Path, list[int]]
) -> None:
    path, digests = segment
    data = path.read_bytes()
    _, state, *steps = frame_ends(data)
    assert len(steps) == len(digests)
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        replayed = replay(tiny, path)

        whole = sum(end <= length for end in steps)
        assert replayed.digests == digests[:whole], length
        assert replayed.cut == (length not in (state, *steps)), length
        assert replayed.difference is None, length


def test_a_flipped_bit_ends_the_replay_before_the_damage(
    tiny: Any, segment: tuple[Path, list[int]]
) -> None:
    path, digests = segment
    data = path.read_bytes()
    _, _, *steps = frame_ends(data)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        replayed = replay(tiny, path)

        whole = sum(end <= bit // 8 for end in steps)
        assert replayed.digests == digests[:whole], bit
        assert (replayed.cut, replayed.difference) == (True, None), bit


def test_a_changed_core_is_caught_at_its_first_different_effect(
    tiny: Any, recorder: Callable[..., Recorder]
) -> None:
    made = recorder()
    for amount in (1, 7, 2):
        made.note("keel", amount)
    made.close()

    difference = replay_segment(made.segments()[0], {"tiny": tiny.changed_spec}).difference
    assert difference is not None
    assert (difference.sequence, difference.event) == (
        2,
        tiny.Noted(now_us=1, word="keel", amount=7),
    )
    assert difference.expected[0] == {"type": "Report", "word": "keel", "total": 8}
    assert difference.got[0] == {"type": "Report", "word": "keel", "total": 9}


def test_each_segment_replays_alone(
    tiny: Any, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    made = recorder(segment_bytes=1)
    while len(made.segments()) < 4:
        made.note_and_wait_until_written("keel")
    made.close()

    digests = []
    for number, path in enumerate(made.segments()):
        alone = tmp_path / str(number)
        alone.mkdir()
        replayed = replay(tiny, Path(shutil.copy(path, alone)))
        assert (replayed.cut, replayed.difference) == (False, None)
        digests += replayed.digests
    assert digests == made.digests


def test_beyond_its_total_size_the_oldest_segments_go(
    tiny: Any, recorder: Callable[..., Recorder]
) -> None:
    made = recorder(segment_bytes=1, total_bytes=1000)
    made.note_and_wait_until_written("first")
    first = made.segments()[0]
    for _ in range(40):
        made.note("keel")
        wait_until(lambda: not made.writer._pending)
    made.close()

    assert not first.exists()
    assert made.bytes_on_disk() < 1000 + made.segments()[-1].stat().st_size + 500
    kept = [digest for path in made.segments() for digest in replay(tiny, path).digests]
    assert kept == made.digests[-len(kept) :]


def test_what_a_full_buffer_loses_leaves_no_wrong_step_on_disk(
    tiny: Any, recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "BUFFER_BYTES", 500)
    made = recorder()
    for _ in range(3):
        before = made.writer.dropped
        while made.writer.dropped == before:
            made.note("keel")
        wait_until(lambda: not made.writer._pending)
        made.note("after")
        made.note("the gap")
    made.close()

    replays = list(replay_directory(made.directory, {"tiny": tiny.spec}))
    assert all(r.difference is None and not r.cut for r in replays)
    steps = sum(r.steps for r in replays)
    assert steps == len(made.digests) - made.writer.dropped
    assert replays[-1].digests[-1] == made.digests[-1]


def test_what_a_full_disk_loses_leaves_no_wrong_step_on_disk(
    tiny: Any, recorder: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()

    def write_unless_full(out: BinaryIO, data: bytes) -> None:
        if full.is_set():
            write_whole(out, data[:-1])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_whole(out, data)

    monkeypatch.setattr(journal_files, "write_whole", write_unless_full)
    made = recorder()
    made.note_and_wait_until_written("before")
    for _ in range(3):
        full.set()
        before = made.writer.dropped
        made.note("lost")
        wait_until(lambda before=before: made.writer.dropped > before)
        full.clear()
        for word in ("after", "after that"):
            made.note(word)
            wait_until(lambda: not made.writer._pending)
    made.note("the end")
    made.close()

    replays = list(replay_directory(made.directory, {"tiny": tiny.spec}))
    assert all(r.difference is None for r in replays)
    assert sum(r.cut for r in replays) == 3
    assert replays[-1].digests[-1] == made.digests[-1]


def test_a_disk_that_takes_only_a_part_is_full() -> None:
    with Path("/dev/full").open("ab", buffering=0) as out, pytest.raises(OSError, match="space"):
        write_whole(out, b"x")
    with pytest.raises(OSError, match="space"):
        write_whole(Grudging(), b"xy")


class Grudging(io.BytesIO):
    def write(self, data: Any) -> int:
        return super().write(data[:-1])


def test_a_journal_of_an_unknown_core_is_refused_with_the_known_ones(
    tiny: Any, segment: tuple[Path, list[int]]
) -> None:
    with pytest.raises(JournalError, match=r"core 'tiny'.*replays format 2 of: router"):
        replay_segment(segment[0], {"router": tiny.spec})


def test_a_journal_of_another_version_of_its_core_is_refused_not_called_different(
    tiny: Any, segment: tuple[Path, list[int]]
) -> None:
    """Here the newer version knows fewer events."""
    newer = dataclasses.replace(tiny.spec, events=TimerFired)
    with pytest.raises(JournalError, match="another version of core 'tiny'"):
        replay_segment(segment[0], {"tiny": newer})


def test_a_directory_without_journals_is_an_error_not_a_success(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journals"):
        list(replay_directory(tmp_path, {"tiny": tiny.spec}))
