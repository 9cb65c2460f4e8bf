"""What placing a request costs beside the time of its own steps.

The router chooses instances by these prices (`placement/policies/least_cost.py`). The autoscaler's
capacity model foresees what the router will choose (`capacity/fleet_model.py`). Both must use the
same numbers, or the fleet is planned for a router that does not exist.
"""

HANDOFF_MS = 5.0
"""What a handoff from prefill to decode costs beside the KV transfer: the low end of the 5 to 10 ms
that traces show as Argosy's own share of a disaggregated request (docs/measurements.md)."""
OWN_WORK = 0.35
"""Seconds charged for each second that a decode instance prefills, though no answer runs there yet:
answers will arrive before it is done. On the conversation trace (6 + 10 instances, 8 times as
fast) mean TTFT is 256.4 to 256.7 ms from .1 to .35, 260.9 ms at .5 and 268.0 ms at .8."""
PRICE_POWER = 4
"""How fast the price of an answer's time rises as TPOT comes near its target. At half the target a
second costs 1/16: TTFT decides. At the target it costs a full second."""
SPREAD_MS = 2.0
"""Charged for each time the mean of new KV that a rank was sent: among equal ranks the one whose
cache is written least is used, so that routers do not herd. Less than any real difference."""


def price_of_answer_time(tpot_ms: float, target_ms: float) -> float:
    """What a second taken from a running answer costs, in seconds: 0 to 1."""
    return float(min(1.0, (tpot_ms / target_ms) ** PRICE_POWER))
