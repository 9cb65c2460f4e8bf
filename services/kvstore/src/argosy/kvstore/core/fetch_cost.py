"""What it costs to fetch blocks from a tier: so long for a call, and so long for each byte."""

from argosy.kvstore.core.state import TierState

SMOOTHING = 0.1
"""The weight of the newest fetch: dozens of fetches make the estimate, not one slow one."""
GB_PER_S_MIN = 1e-3
"""So that no first fetch, however slow, makes the rate zero: others divide by it."""
MS_MIN = 1e-3


def measured(tier: TierState, fetched_bytes: int, took_us: int) -> None:
    """Learn from one fetch. A small fetch shows what a call costs, a large one the rate."""
    took_ms = took_us / 1e3
    if not tier.fetch_gb_per_s:
        tier.fetch_ms, tier.fetch_gb_per_s = 0.0, max(GB_PER_S_MIN, fetched_bytes / 1e3 / took_us)
        return
    moving_ms = fetched_bytes / (tier.fetch_gb_per_s * 1e6)
    if moving_ms < took_ms / 2:
        tier.fetch_ms += SMOOTHING * (took_ms - moving_ms - tier.fetch_ms)
    else:
        rate = fetched_bytes / 1e6 / max(MS_MIN, took_ms - tier.fetch_ms)
        tier.fetch_gb_per_s += SMOOTHING * (rate - tier.fetch_gb_per_s)
