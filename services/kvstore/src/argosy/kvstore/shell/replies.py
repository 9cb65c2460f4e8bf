"""What the core decided and knows, as the contract's replies."""

import msgspec

from argosy.kvstore.core import effects
from argosy.kvstore.core.hot_prefixes import hottest
from argosy.kvstore.core.state import StoreState
from argosy.kvstore.shell.publisher import TIERS
from argosy.wire.kvstore.v1 import kvstore_pb2

TOP, TOP_MAX = 20, 1000
"""Prefixes in a Top reply: a screenful when the caller does not say; and what fits in a message."""


def get_reply(
    grant: effects.GrantBlocks, memory_address: int, lease_ms: int, *, first: bool
) -> kvstore_pb2.GetReply:
    """A grant to a reader. Only the first reply of a call has the total and the lease's time."""
    return kvstore_pb2.GetReply(
        blocks_total=grant.total if first else 0,
        lease_ms=lease_ms if first else 0,
        last=grant.last,
        before_held=grant.before_held,
        blocks=[
            kvstore_pb2.LeasedBlock(
                address=memory_address + placed.offset,
                checksum=placed.checksum,
                tier=TIERS[placed.tier],
            )
            for placed in grant.blocks
        ],
    )


def granted_reply(
    granted: effects.GrantRoom, lease: int, memory_address: int, lease_ms: int
) -> kvstore_pb2.PutReply:
    """Room for a writer. lease: as the writer calls it."""
    return kvstore_pb2.PutReply(
        granted=kvstore_pb2.Granted(
            lease=lease,
            full=granted.full,
            lease_ms=lease_ms,
            rooms=[
                kvstore_pb2.Room(index=room.index, address=memory_address + room.offset)
                for room in granted.rooms
            ],
        )
    )


def stats_reply(
    state: StoreState, name: str, epoch: str, tiers: list[kvstore_pb2.TierStats]
) -> kvstore_pb2.StatsReply:
    """What the store holds, and has done since its start."""
    return kvstore_pb2.StatsReply(
        store_id=name,
        epoch=epoch,
        tiers=tiers,
        counts=kvstore_pb2.Counts(**msgspec.structs.asdict(state.counts)),
        leases=len(state.leases),
        ssd_trouble=state.ssd_trouble,
        ssd_writing=state.writing_blocks,
    )


def top_reply(state: StoreState, limit: int, now_us: int) -> kvstore_pb2.TopReply:
    """The `limit` prefixes that are requested most (0: TOP of them)."""
    return kvstore_pb2.TopReply(
        prefixes=[
            kvstore_pb2.HotPrefix(
                hash=hot.last.hash,
                tokens=hot.tokens,
                blocks=hot.blocks,
                asked=hot.last.asked,
                dram_blocks=hot.dram_blocks,
                ssd_blocks=hot.ssd_blocks,
                idle_ms=(now_us - hot.last.asked_us) // 1000,
            )
            for hot in hottest(state, min(TOP_MAX, limit or TOP))
        ]
    )
