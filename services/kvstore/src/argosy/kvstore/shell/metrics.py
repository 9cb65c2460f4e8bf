"""The store's metrics, by tier."""

from collections.abc import Callable, Iterator, Mapping

from argosy.kvstore.core.state import StoreState, TierState
from argosy.mesh.metrics import Metrics

TIERS = ("dram", "ssd")


def publish(metrics: Metrics, state: StoreState) -> None:
    """Register the metrics; they read the state whenever they are collected."""

    def by_tier(
        value: Callable[[TierState], float],
    ) -> Callable[[], Iterator[tuple[float, Mapping[str, str]]]]:
        def read() -> Iterator[tuple[float, Mapping[str, str]]]:
            for name, tier in zip(TIERS, state.tiers, strict=True):
                if tier.slots.segments:
                    yield value(tier), {"tier": name}

        return read

    gauges: list[tuple[str, str, str, Callable[[TierState], float]]] = [
        ("capacity", "By", "Room for blocks", lambda tier: tier.slots.capacity_bytes),
        ("used", "By", "Room taken by blocks", lambda tier: tier.slots.used_bytes),
        ("blocks", "{block}", "Blocks held", lambda tier: tier.blocks),
        ("tokens", "{token}", "Tokens of the blocks held", lambda tier: tier.tokens),
    ]
    for name, unit, description, value in gauges:
        metrics.gauge(f"argosy.kvstore.tier.{name}", unit, description, by_tier(value))
    counters: list[tuple[str, str, Callable[[TierState], float]]] = [
        ("hit", "Blocks requested and found in the tier", lambda tier: tier.hit_blocks),
        ("evicted", "Blocks evicted to make room", lambda tier: tier.evicted_blocks),
    ]
    for name, description, value in counters:
        full_name = f"argosy.kvstore.tier.{name}"
        metrics.counter(full_name, "{block}", description, by_tier(value))
    for name in state.counts.__struct_fields__:
        unit = "{block}" if "blocks" in name else "{lease}"
        full_name = f"argosy.kvstore.{name.replace('_', '.')}"
        metrics.counter(full_name, unit, name.replace("_", " "), counted(state, name))


def counted(state: StoreState, name: str) -> Callable[[], list[tuple[float, Mapping[str, str]]]]:
    """A function that reads one of the counts."""
    return lambda: [(getattr(state.counts, name), {})]
