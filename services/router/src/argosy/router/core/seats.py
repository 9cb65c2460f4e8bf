"""Where a request can go: ranks of live instances, with what policies ask of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from argosy.mesh.timing import distance
from argosy.router.core import ledger
from argosy.router.core.state import Instance, Rank, Request, RouterState

REQUESTS_FACTOR = 2
"""Requests a rank may have for each it can run: the rest wait in its own queue."""


class Seat(NamedTuple):
    """One rank, and the instance it is of."""

    instance: Instance
    rank: Rank


@dataclass
class Seats:
    """The live ranks of a model, in order of names. prefill: instances of that role only;
    decode: those that can decode, which can also prefill."""

    prefill: list[Seat] = field(default_factory=list)
    decode: list[Seat] = field(default_factory=list)

    @property
    def prefilling(self) -> list[Seat]:
        """All that can prefill."""
        return self.prefill + self.decode


class Choice(NamedTuple):
    """Where a policy wants a request to be."""

    prefill: Seat
    decode: Seat
    uncached_tokens: int
    why: str

    @property
    def local(self) -> bool:
        """Whether decode prefills it itself."""
        return self.prefill.rank is self.decode.rank


Planned = dict[str, int]
"""Prefill time (us) promised in this round to requests that wait for a rank, by holder."""


def seats_of(state: RouterState, model: str) -> Seats:
    """Live ranks of a model."""
    seats = Seats()
    for _, instance in sorted(state.instances.items()):
        if instance.live and instance.model == model:
            into = seats.prefill if instance.role == "prefill" else seats.decode
            into += [Seat(instance, rank) for rank in instance.ranks]
    return seats


def uncached_tokens(seat: Seat, request: Request) -> int:
    """Prompt tokens the rank would have to compute; at least the last one."""
    hit = request.hits.get(seat.rank.holder, 0) * seat.instance.block_tokens
    return max(1, request.prompt_tokens - hit)


def prompt_blocks(instance: Instance, request: Request) -> int:
    """KV blocks the prompt takes."""
    return -(-request.prompt_tokens // instance.block_tokens)


def has_room(seat: Seat, request: Request, extra_tokens: int = 0) -> bool:
    """Whether the rank can take the request and decode it, as far as we know."""
    instance, rank = seat
    if rank.requests >= REQUESTS_FACTOR * instance.max_running_requests:
        return False
    need = -(-(request.prompt_tokens + extra_tokens) // instance.block_tokens)
    return rank.kv_blocks + need <= instance.kv_total_blocks or rank.requests == 0


def with_room(seats: Iterable[Seat], request: Request, extra_tokens: int = 0) -> list[Seat]:
    """Those with room; if there are none, those that only lack it for the answer's KV."""
    seats = list(seats)
    return [s for s in seats if has_room(s, request, extra_tokens)] or (
        [s for s in seats if has_room(s, request)] if extra_tokens else []
    )


def wait_us(seat: Seat, now_us: int, planned: Planned) -> int:
    """How long until the rank could begin with a new prompt."""
    instance, rank = seat
    done_us = rank.prefill_done_us
    if planned:
        done_us = max(done_us, now_us) + planned.get(rank.holder, 0)
    if len(instance.ranks) > 1:
        # In lockstep, a rank without work waits for the others' pass to end.
        done_us = max(done_us, instance.pass_ends_us)
    return max(0, done_us - now_us)


def transfer_ms(source: Instance, target: Instance, tokens: int) -> float:
    """Moving a prompt's KV from one instance to another."""
    far = distance(source.node, source.rack, target.node, target.rack)
    return target.timing.kv_transfer_ms(tokens, far)


def prefill_us(seat: Seat, tokens: int) -> int:
    """How long the rank takes over so many prompt tokens."""
    return round(1e3 * ledger.prefill_ms(seat.instance, seat.rank, tokens))
