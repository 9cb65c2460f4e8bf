"""What the tests of virtual time share: traces made by seeded chance, and simulations."""

import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from argosy.sim.fleet.simulation import Simulation
from argosy.sim.fleet.spec import InstanceFault, SimFleet
from argosy.sim.traces.trace import TraceRequest
from argosy.sim.traces.trace_blocks import unique_blocks

BLOCK_TOKENS = 64
S = 1_000_000


class TraceMaker:
    """Makes traces. Prompts share no KV block unless they are told to."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._blocks = seed << 32

    def blocks(self, count: int) -> list[int]:
        """KV blocks never seen before."""
        self._blocks += count
        return unique_blocks(self._blocks - count, count)

    def times_us(self, requests_per_s: float, seconds: float) -> Iterator[int]:
        """Poisson arrivals."""
        at_s = self.chance.expovariate(requests_per_s)
        while at_s < seconds:
            yield round(at_s * S)
            at_s += self.chance.expovariate(requests_per_s)

    def request(
        self,
        at_us: int,
        prompt_tokens: tuple[int, int],
        output_tokens: tuple[int, int],
        shared: Sequence[int] = (),
        tenant: str = "",
        priority: int = 0,
    ) -> TraceRequest:
        """One request; its prompt begins with the shared blocks, and is longer by what is drawn."""
        own_tokens = self.chance.randint(*prompt_tokens)
        return TraceRequest(
            at_us,
            own_tokens + len(shared) * BLOCK_TOKENS,
            self.chance.randint(*output_tokens),
            [*shared, *self.blocks(own_tokens // BLOCK_TOKENS)],
            tenant,
            priority,
        )

    def stream(
        self,
        requests_per_s: float,
        seconds: float,
        *,
        shared: Sequence[int] = (),
        prompt_tokens: tuple[int, int] = (500, 6000),
        output_tokens: tuple[int, int] = (10, 100),
        tenant: str = "",
        priority: int = 0,
    ) -> list[TraceRequest]:
        """A tenant's requests."""
        return [
            self.request(at_us, prompt_tokens, output_tokens, shared, tenant, priority)
            for at_us in self.times_us(requests_per_s, seconds)
        ]

    def chats(self, chats_per_s: float, seconds: float, turns: int) -> list[TraceRequest]:
        """Conversations: every turn's prompt is that of the turn before and something more."""
        found = []
        for begun_us in self.times_us(chats_per_s, seconds):
            at_us, past = begun_us, self.blocks(16)
            for _ in range(turns):
                found.append(self.request(at_us, (200, 1500), (10, 100), past))
                past = found[-1].blocks
                at_us += self.chance.randint(2 * S, 6 * S)
        return found


def trace_of(*streams: list[TraceRequest]) -> list[TraceRequest]:
    return sorted((r for stream in streams for r in stream), key=lambda r: r.arrived_us)


def play(
    trace: list[TraceRequest],
    fleet: SimFleet,
    faults: Sequence[InstanceFault] = (),
    prepare: Callable[[Simulation], None] = lambda _: None,
) -> Simulation:
    """Run a simulation to the end of its trace."""
    simulation = Simulation(trace, fleet, faults)
    prepare(simulation)
    simulation.run()
    return simulation


def settle(simulation: Simulation, for_us: int = 2 * S) -> None:
    """Let what is still under way arrive."""
    simulation.queue.run_until(simulation.queue.now_us + for_us)


@pytest.fixture(name="traffic", scope="session")
def traffic_fixture() -> type[TraceMaker]:
    return TraceMaker


@pytest.fixture(name="trace_of", scope="session")
def trace_of_fixture() -> Callable[..., list[TraceRequest]]:
    return trace_of


@pytest.fixture(name="play", scope="session")
def play_fixture() -> Callable[..., Simulation]:
    return play


@pytest.fixture(name="settle", scope="session")
def settle_fixture() -> Callable[..., None]:
    return settle
