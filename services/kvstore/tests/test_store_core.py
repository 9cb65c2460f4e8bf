"""What holds in the store's core whatever happens, in whatever order.

The machine plays the shell: memory and SSD are tables of what lies at which offset, its
SSD takes writes and clears in their order and reads whenever it likes.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from suite_plugin import examples, seeds

from argosy.domain.core import Effect, Event, SetTimer, TimerFired
from argosy.kvstore.core import effects, events
from argosy.kvstore.core.slots import ssd_slot_bytes
from argosy.kvstore.core.state import DRAM, SSD, StoredBlock, StoreLimits, StoreState
from argosy.kvstore.core.store import SWEEP_US
from argosy.kvstore.policies import SPEC, new_state

MS, S = 1_000, 1_000_000
LEASE_US = 10 * S
SMALL, LARGE = 3000, 5000
DRAM_SEGMENT, SSD_SEGMENT = 10_000, 24_576
"""Three small slots or two large ones, in either tier."""
MODELS = {"s": SMALL, "l": LARGE}
TOKENS = 16
SEGMENTS_MAX = 3
VOYAGES, VOYAGE_STEPS = 60, 250
MOSTLY = (
    ["ask"] * 8
    + ["offer"] * 8
    + ["write"] * 2
    + ["hang_up"] * 5
    + ["read"] * 4
    + ["ssd"] * 8
    + ["rot", "flush", "flush", "wait", "wait", "odd"]
)

Chain = tuple[str, str]
chains: st.SearchStrategy[Chain] = st.tuples(
    st.sampled_from("sssl"), st.sampled_from(["0", "00", "000", "0000", "01", "010", "001", "1"])
)
picks = st.integers(0, 99)


def name(model: str, path: str) -> bytes:
    return f"{model}{path}".encode().ljust(16, b".")


def keys_of(model: str, path: str) -> list[bytes]:
    return [name(model, path[: depth + 1]) for depth in range(len(path))]


def parent_of(key: bytes) -> bytes:
    """By the names these tests give."""
    text = key.rstrip(b".")
    return text[:-1].ljust(16, b".") if len(text) > 2 else b""


def hash_of(key: bytes) -> int:
    return int.from_bytes(key[:6], "little")


def size_of(key: bytes) -> int:
    return MODELS[chr(key[0])]


def offered(keys: list[bytes]) -> list[events.Offered]:
    return [events.Offered(key, parent_of(key), hash_of(key), TOKENS) for key in keys]


def round_trip(value: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind)


def held_in(block: StoredBlock, tier: int) -> bool:
    """Whether that tier has its bytes."""
    return block.ssd >= 0 if tier == SSD else block.dram >= 0 and not block.reading


def picked(leases: list[int], pick: int) -> int:
    return leases[pick % len(leases)]


@dataclass
class Reader:
    """A lease to read, as its holder sees it."""

    keys: list[bytes]
    total: int
    blocks: list[effects.PlacedBlock] = field(default_factory=list)
    last: bool = False


@dataclass
class Writer:
    """A lease to write."""

    keys: list[bytes]
    rooms: list[effects.Room]


class AnyStoreOrder(RuleBasedStateMachine):
    """Feeds the core as a shell would; a twin that hears the same must say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 1_700_000_000 * S
        self.numbers = 0
        self.timer_us = 0
        self.readers: dict[int, Reader] = {}
        self.writers: dict[int, Writer] = {}
        self.over: list[int] = []
        self.memory: dict[int, bytes] = {}
        self.disk: dict[int, bytes] = {}
        self.queue: list[effects.WriteSsd | effects.ClearSsd] = []
        self.reads: list[effects.ReadSsd] = []
        self.told: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self.flushes: dict[int, bool] = {}
        self.quarantine_until_us: dict[int, int] = {}
        self.answers: list[Effect] = []

    @initialize(
        dram=st.integers(1, SEGMENTS_MAX),
        ssd=st.integers(0, SEGMENTS_MAX),
        leases_max=st.sampled_from([2, 6, 100]),
        writing=st.sampled_from([1, 2, 100]),
        spare=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
        seed=st.integers(0, 1 << 32),
    )
    def open(
        self, dram: int, ssd: int, leases_max: int, writing: int, spare: float, seed: int
    ) -> None:
        limits = StoreLimits(
            dram * DRAM_SEGMENT,
            ssd * SSD_SEGMENT,
            DRAM_SEGMENT,
            SSD_SEGMENT,
            LEASE_US,
            leases_max,
            writing * LARGE,
            spare,
        )
        self.core = SPEC.build(new_state(limits))
        self.twin = SPEC.build(new_state(limits))
        if ssd:
            self.feed(self.recovered(Random(seed)))

    @property
    def state(self) -> StoreState:
        found = self.core.state
        assert isinstance(found, StoreState)
        return found

    def recovered(self, random: Random) -> events.SsdRecovered:
        """Anything a scan could find, and some that it should not."""
        segments, blocks = [], []
        for number in range(self.state.tiers[SSD].slots.segments):
            model = random.choice(["s", "l", ""])
            if not model:
                continue
            slot_bytes = ssd_slot_bytes(MODELS[model])
            segments.append(events.SegmentFound(number, slot_bytes))
            for start in range(0, SSD_SEGMENT - slot_bytes + 1, slot_bytes):
                key = name(model, random.choice(["0", "0", "00", "000", "01", "1"]))
                above = parent_of(key)
                if random.random() < 0.2:
                    above = random.choice([b"", key, name(model, "0"), name(model, "00")])
                offset = number * SSD_SEGMENT + start
                self.disk[offset] = key
                blocks.append(
                    events.Recovered(
                        key, above, hash_of(key), TOKENS, MODELS[model], hash_of(key), offset
                    )
                )
        return events.SsdRecovered(now_us=self.now_us, segments=segments, blocks=blocks)

    # -- the shell's part

    def feed(self, event: Event) -> list[Effect]:
        self.answers = []
        decided = list(self.core.step(event))
        assert list(self.twin.step(round_trip(event, SPEC.events))) == decided
        for effect in decided:
            self.perform(effect)
        self.check_slots()
        self.check_blocks()
        self.check_leases()
        return decided

    def perform(self, effect: Effect) -> None:
        match effect:
            case SetTimer():
                assert effect.at_us > self.now_us
                self.timer_us = effect.at_us
            case effects.GrantBlocks():
                self.granted(effect)
            case effects.GrantRoom() | effects.ConfirmStored():
                self.answers.append(effect)
            case effects.EndLease():
                self.ended(effect.lease)
            case effects.ReadSsd():
                assert effect.moves
                self.reads.append(effect)
            case effects.WriteSsd() | effects.ClearSsd():
                self.queue.append(effect)
            case effects.PublishStored():
                for told in effect.hashes:
                    assert not self.told[effect.tier][told]
                    self.told[effect.tier][told] += 1
            case effects.PublishEvicted():
                for told in effect.hashes:
                    assert self.told[effect.tier][told]
                    self.told[effect.tier][told] -= 1
            case effects.PublishFlushed():
                del self.flushes[effect.flush]

    def granted(self, grant: effects.GrantBlocks) -> None:
        reader = self.readers[grant.lease]
        assert not reader.last
        assert grant.total <= (len(reader.keys) if reader.total < 0 else reader.total)
        assert reader.total >= 0 or not reader.blocks
        reader.total = grant.total
        reader.blocks += grant.blocks
        reader.last = grant.last
        keys = [placed.key for placed in reader.blocks]
        assert keys == reader.keys[: len(keys)]
        assert len(keys) == grant.total if grant.last else len(keys) < grant.total
        for placed in grant.blocks:
            assert self.memory[placed.offset] == placed.key
            assert placed.checksum == hash_of(placed.key)

    def ended(self, lease: int) -> None:
        self.readers.pop(lease, None)
        writer = self.writers.pop(lease, None)
        if writer is not None:
            for room in writer.rooms:
                self.quarantine_until_us[room.offset] = self.now_us + LEASE_US
        self.over.append(lease)

    # -- what holds after every event

    def check_slots(self) -> None:
        state = self.state
        blocks = list(state.blocks.values())
        promised = [block for lease in state.leases.values() for block in lease.blocks]
        dram = {b.dram: b.block_bytes for b in [*blocks, *promised] if b.dram >= 0}
        quarantined = [offset for _, offset in state.quarantined]
        slots = state.tiers[DRAM].slots
        sizes = dram | {offset: slots.sizes[slots.segment_of(offset)] for offset in quarantined}
        in_memory = sum(b.dram >= 0 for b in blocks) + len(promised) + len(quarantined)
        assert len(sizes) == in_memory, "two are at one slot"
        self.check_tier(DRAM, sizes)
        on_ssd = [b.ssd for b in blocks if b.ssd >= 0] + [
            b.writing for b in blocks if b.writing >= 0
        ]
        assert len(set(on_ssd)) == len(on_ssd), "two are at one slot"
        ssd = {b.ssd: ssd_slot_bytes(b.block_bytes) for b in blocks if b.ssd >= 0}
        ssd |= {b.writing: ssd_slot_bytes(b.block_bytes) for b in blocks if b.writing >= 0}
        self.check_tier(SSD, ssd)
        for offset, until_us in self.quarantine_until_us.items():
            assert until_us <= self.now_us or offset in quarantined

    def check_tier(self, number: int, held: dict[int, int]) -> None:
        slots = self.state.tiers[number].slots
        assert slots.used_bytes == sum(held.values()) <= slots.capacity_bytes
        free = [(offset, size) for size, offsets in slots.free.items() for offset in offsets]
        spans = sorted([*held.items(), *free])
        assert all(a + size <= b for (a, size), (b, _) in pairwise(spans))
        assert not spans or sum(spans[-1]) <= slots.capacity_bytes
        for offset, size in spans:
            assert slots.sizes[slots.segment_of(offset)] == size
        taken = Counter(slots.segment_of(offset) for offset in held)
        assert +Counter(slots.taken) == taken
        assert set(slots.empty) == set(slots.sizes) - set(taken)
        assert sorted([*slots.sizes, *slots.uncut]) == list(range(slots.segments))

    def check_blocks(self) -> None:
        blocks = self.state.blocks
        for key, block in blocks.items():
            assert block.in_use if block.doomed else held_in(block, DRAM) or held_in(block, SSD)
            if block.parent and not block.doomed:
                above = blocks[block.parent]
                assert not above.doomed
                assert key in above.children
            assert set(block.children) <= set(blocks)
        for number, tier in enumerate(self.state.tiers):
            here = [block for block in blocks.values() if held_in(block, number)]
            assert tier.blocks == len(here)
            assert tier.tokens == sum(block.tokens for block in here)
            assert +self.told[number] == Counter(block.hash for block in here)
        writing = [block for block in blocks.values() if block.writing >= 0]
        assert self.state.writing_bytes == sum(block.block_bytes for block in writing)

    def check_leases(self) -> None:
        state = self.state
        assert set(state.leases) <= {*self.readers, *self.writers}
        assert len(state.leases) <= state.limits.leases_max
        for reader in self.readers.values():
            for placed in reader.blocks:
                block = state.blocks[placed.key]
                assert (block.dram, block.checksum) == (placed.offset, placed.checksum)
                assert not block.reading
                assert self.memory[placed.offset] == placed.key

    # -- what happens

    @rule(chain=chains, skip=st.integers(0, 3), wrong_size=st.sampled_from([0, 0, 0, 1]))
    def ask(self, chain: Chain, skip: int, wrong_size: int) -> None:
        keys = keys_of(*chain)
        skip = min(skip, len(keys) - 1)
        self.numbers += 1
        lease = self.numbers
        self.readers[lease] = Reader(keys[skip:], -1)
        size = MODELS[chain[0]] + wrong_size
        event = events.BlocksRequested(
            now_us=self.now_us, lease=lease, keys=keys[skip:], block_bytes=size, before=keys[:skip]
        )
        decided = self.feed(event)
        grants = [e for e in decided if isinstance(e, effects.GrantBlocks) and e.lease == lease]
        assert len(grants) == 1
        if not grants[0].total:
            del self.readers[lease]
            self.over.append(lease)

    @rule(keys=st.lists(st.sampled_from([b"x" * 16, name("s", "0"), name("s", "01")]), max_size=6))
    def ask_for_what_is_no_chain(self, keys: list[bytes]) -> None:
        self.numbers += 1
        lease = self.numbers
        self.readers[lease] = Reader(keys, -1)
        self.feed(
            events.BlocksRequested(
                now_us=self.now_us, lease=lease, keys=keys, block_bytes=SMALL, before=keys[:1]
            )
        )
        if not self.readers[lease].total:
            del self.readers[lease]

    @rule(chain=chains, skip=st.sampled_from([0, 0, 0, 1]), write=st.sampled_from([1, 1, 1, 0]))
    def offer(self, chain: Chain, skip: int, write: int) -> None:
        keys = keys_of(*chain)[skip:]
        lease = self.room_asked(keys, MODELS[chain[0]])
        if write and lease:
            rooms = len(self.writers[lease].rooms)
            stored = self.written(lease, [True] * len(keys))
            # A prefix may be on SSD alone and go for its own sake, or be another's to write yet.
            assert stored == rooms or self.state.tiers[SSD].slots.segments or self.writers

    @rule(size=st.sampled_from([1_000_000, DRAM_SEGMENT + 1]))
    def offer_what_is_larger_than_any_room(self, size: int) -> None:
        before = sum(self.told[DRAM].values())
        assert not self.room_asked([b"huge".ljust(16)], size)
        assert sum(self.told[DRAM].values()) == before or self.state.limits.spare_share

    @rule(wrong=st.sampled_from([name("s", "0"), b"y" * 16]))
    def offer_blocks_that_hang_from_themselves(self, wrong: bytes) -> None:
        self.numbers += 1
        odd = [
            events.Offered(b"y" * 16, wrong, 1, TOKENS),
            events.Offered(wrong, b"y" * 16, 1, TOKENS),
        ]
        odd = [o for o in odd if o.parent == b"y" * 16 or o.key == o.parent]
        self.feed(
            events.RoomRequested(
                now_us=self.now_us, lease=self.numbers, block_bytes=SMALL, blocks=odd
            )
        )
        assert not self.answers[0].rooms

    def room_asked(self, keys: list[bytes], size: int) -> int:
        self.numbers += 1
        lease = self.numbers
        at = list(offered(keys))
        decided = self.core_asked_for_room(lease, keys, size, at)
        return lease if decided else 0

    def core_asked_for_room(
        self, lease: int, keys: list[bytes], size: int, blocks: list[events.Offered]
    ) -> bool:
        # The holder knows of its lease before anything can end it.
        writer = self.writers[lease] = Writer([], [])
        self.feed(
            events.RoomRequested(now_us=self.now_us, lease=lease, block_bytes=size, blocks=blocks)
        )
        (answer,) = self.answers
        assert isinstance(answer, effects.GrantRoom)
        writer.rooms = answer.rooms
        writer.keys = [keys[room.index] for room in answer.rooms]
        if not answer.rooms:
            del self.writers[lease]
        for key, room in zip(writer.keys, writer.rooms, strict=True):
            self.memory[room.offset] = key
        return bool(answer.rooms)

    @precondition(lambda self: self.writers)
    @rule(pick=picks, right=st.lists(st.booleans(), max_size=5))
    def write(self, pick: int, right: list[bool]) -> None:
        self.written(picked(sorted(self.writers), pick), right)

    def written(self, lease: int, right: list[bool]) -> int:
        writer = self.writers.pop(lease)
        checksums = [hash_of(key) if ok else 0 for key, ok in zip(writer.keys, right, strict=False)]
        checksums += [99] * (len(right) - len(checksums))
        self.feed(events.BlocksWritten(now_us=self.now_us, lease=lease, checksums=checksums))
        (answer,) = self.answers
        assert isinstance(answer, effects.ConfirmStored)
        assert answer.stored <= sum(right[: len(writer.keys)])
        return answer.stored

    @precondition(lambda self: self.readers or self.writers)
    @rule(pick=picks)
    def hang_up(self, pick: int) -> None:
        lease = picked(sorted([*self.readers, *self.writers]), pick)
        self.ended(lease)
        self.feed(events.LeaseEnded(now_us=self.now_us, lease=lease))

    @precondition(lambda self: self.over)
    @rule(pick=picks, write=st.booleans())
    def come_too_late(self, pick: int, write: bool) -> None:
        lease = picked(self.over, pick)
        if write:
            self.feed(events.BlocksWritten(now_us=self.now_us, lease=lease, checksums=[1, 2, 3]))
            assert self.answers == [effects.ConfirmStored(lease=lease, stored=0)]
        else:
            self.feed(events.LeaseEnded(now_us=self.now_us, lease=lease))

    @precondition(lambda self: self.reads)
    @rule(pick=picks, most=st.integers(1, 4), fails=st.sampled_from([(), (), (0,), (1,), (0, 2)]))
    def ssd_reads(self, pick: int, most: int, fails: tuple[int, ...]) -> None:
        """Some of one request, in its order."""
        at = pick % len(self.reads)
        moves, later = self.reads[at].moves[:most], self.reads[at].moves[most:]
        self.reads[at : at + 1] = [effects.ReadSsd(moves=later)] if later else []
        self.read_ends(moves, {number for number in fails if number < len(moves)})

    def read_ends(self, moves: list[effects.Move], fails: set[int]) -> None:
        bad = [moves[number].key for number in sorted(fails)]
        for move in moves:
            assert self.disk[move.ssd_offset] == move.key, "its slot was given away"
            self.memory[move.dram_offset] = move.key
        good = [move.key for move in moves if move.key not in bad]
        self.feed(events.SsdRead(now_us=self.now_us, good=good, bad=bad))

    @precondition(lambda self: self.queue)
    @rule(most=st.integers(1, 4), trouble=st.sampled_from(["", "", "", "disk full"]))
    def ssd_writes(self, most: int, trouble: str) -> None:
        first = self.queue.pop(0)
        if isinstance(first, effects.ClearSsd):
            for offset in first.offsets:
                self.disk.pop(offset, None)
            return
        moves = list(first.moves)
        while (
            len(moves) < most
            and self.queue
            and isinstance(self.queue[0], effects.WriteSsd)
            and self.queue[0].slot_bytes == first.slot_bytes
        ):
            moves += self.queue.pop(0).moves
        for move in moves:
            assert self.memory[move.dram_offset] == move.key, "its slot was given away"
            if trouble:
                self.disk.pop(move.ssd_offset, None)
            else:
                self.disk[move.ssd_offset] = move.key
        keys = [move.key for move in moves]
        assert len(set(keys)) == len(keys)
        self.feed(events.SsdWritten(now_us=self.now_us, keys=keys, trouble=trouble))

    @rule(chain=chains, tier=st.sampled_from([DRAM, SSD]))
    def rot(self, chain: Chain, tier: int) -> None:
        self.feed(events.BlockCorrupt(now_us=self.now_us, key=name(*chain), tier=tier))

    @rule(drop=st.sampled_from([False, False, True]))
    def flush(self, drop: bool) -> None:
        self.numbers += 1
        self.flushes[self.numbers] = drop
        self.feed(events.FlushRequested(now_us=self.now_us, flush=self.numbers, drop=drop))
        assert not drop or self.numbers not in self.flushes

    @rule(tier=st.sampled_from([DRAM, SSD]), size=st.integers(0, 1 << 40), us=st.integers(1, S))
    def measure(self, tier: int, size: int, us: int) -> None:
        self.feed(
            events.FetchMeasured(now_us=self.now_us, tier=tier, fetched_bytes=size, took_us=us)
        )
        assert self.state.tiers[tier].fetch_gb_per_s > 0 or not size

    @rule(us=st.sampled_from([MS, MS, 3 * S, 11 * S]))
    def pass_time(self, us: int) -> None:
        until_us = self.now_us + us
        while 0 < self.timer_us <= until_us:
            self.now_us, self.timer_us = max(self.now_us, self.timer_us), 0
            self.feed(TimerFired(now_us=self.now_us, key="sweep"))
            for lease in self.state.leases.values():
                assert lease.expires_us > self.now_us
        self.now_us = until_us
        for lease in self.state.leases.values():
            assert lease.expires_us > self.now_us - SWEEP_US

    # -- at last

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        while self.reads:
            self.read_ends(self.reads.pop().moves, set())
        self.work_off()
        assert all(reader.last for reader in self.readers.values())
        for lease in [*self.readers, *self.writers]:
            self.ended(lease)
            self.feed(events.LeaseEnded(now_us=self.now_us, lease=lease))
        self.pass_time(LEASE_US + 2 * SWEEP_US)
        self.work_off()
        state = self.state
        assert [len(x) for x in (state.leases, state.promised, state.quarantined)] == [0, 0, 0]
        assert not self.flushes
        assert not any(state.awaited.values())
        assert not any(block.in_use or block.doomed for block in state.blocks.values())
        for size in (SMALL, LARGE):
            self.all_of_memory_is_to_be_had(size)
        self.numbers += 1
        self.flushes[self.numbers] = True
        self.feed(events.FlushRequested(now_us=self.now_us, flush=self.numbers, drop=True))
        assert not state.blocks
        assert [tier.slots.used_bytes for tier in state.tiers] == [0, 0]
        assert [tier.eviction.victim(self.now_us) for tier in state.tiers] == [None, None]

    def work_off(self) -> None:
        while self.queue:
            self.ssd_writes(32, "")

    def all_of_memory_is_to_be_had(self, size: int) -> None:
        """Nothing is pinned any more."""
        most = self.state.tiers[DRAM].slots.most(size)
        keys = [f"new{size}-{number}".encode().ljust(16, b".") for number in range(most)]
        blocks = [events.Offered(key, b"", number, TOKENS) for number, key in enumerate(keys)]
        self.numbers += 1
        lease = self.numbers
        assert self.core_asked_for_room(lease, keys, size, blocks)
        assert len(self.writers[lease].rooms) == most
        self.written(lease, [False] * most)
        self.work_off()


TestAnyOrder = AnyStoreOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(20), stateful_step_count=50)


def random_run(machine: AnyStoreOrder, random: Random) -> None:
    """A long way, mostly of what happens most."""
    chain = ("s", "0")
    for _ in range(VOYAGE_STEPS):
        if random.random() < 0.6:
            chain = (
                random.choice("sssl"),
                "".join(random.choice("0001") for _ in range(random.randint(1, 4))),
            )
        number = random.randrange(99)
        match random.choice(MOSTLY):
            case "ask":
                machine.ask(chain, random.choice([0, 0, 1, 2]), 0)
            case "offer":
                machine.offer(chain, random.choice([0, 0, 0, 1]), random.randrange(5))
            case "write" if machine.writers:
                machine.write(number, [random.random() < 0.8 for _ in range(4)])
            case "hang_up" if machine.readers or machine.writers:
                machine.hang_up(number)
            case "read" if machine.reads:
                fails: tuple[int, ...] = random.choice([(), (), (), (0,), (1,)])
                machine.ssd_reads(number, random.randint(1, 4), fails)
            case "ssd" if machine.queue:
                machine.ssd_writes(random.randint(1, 4), random.choice([*[""] * 5, "full"]))
            case "wait":
                machine.pass_time(random.choice([MS, S, S, 11 * S]))
            case other:
                seldom(machine, random, chain, other)


def seldom(machine: AnyStoreOrder, random: Random, chain: Chain, what: str) -> None:
    match what:
        case "rot":
            machine.rot(chain, random.choice([DRAM, SSD]))
        case "flush":
            machine.flush(random.random() < 0.1)
        case "odd":
            machine.offer_what_is_larger_than_any_room(DRAM_SEGMENT + 1)


@pytest.mark.parametrize("seed", seeds(6, VOYAGES))
def test_the_same_holds_on_long_random_runs(seed: int) -> None:
    random = Random(seed)
    machine = AnyStoreOrder()
    machine.open(
        random.randint(1, SEGMENTS_MAX),
        random.choice([0, 1, 2, 3]),
        random.choice([2, 6, 100]),
        random.choice([1, 2, 100]),
        random.choice([0.0, 0.0, 0.3, 1.0]),
        seed,
    )
    random_run(machine, random)
    machine.teardown()
