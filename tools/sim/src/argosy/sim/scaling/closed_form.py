"""How many instances a steady demand needs: closed forms that belong to no policy.

Used to choose how large a trace is made, what a fleet begins with, and as the oracle's first
guess. What is attained is measured in the simulations, not here.
"""

import math

import numpy as np

from argosy.domain.demand import Demand, Machine, Slo
from argosy.domain.timing import Timing
from argosy.sim.scaling.histogram import Numbers

MISS = 0.01
DEVIATIONS = 2.33
"""In standard deviations: 1 % of a normal distribution lies beyond."""
MOST = 4096


def prompts_ms(timing: Timing, tokens: Numbers, tokens_per_step: int) -> Numbers:
    """Timing.prompt_ms of many prompts."""
    a, b, c = timing.prefill_ms
    steps = np.floor(tokens / tokens_per_step)
    rest = tokens - steps * tokens_per_step
    last: Numbers = np.where(rest > 0, a + rest * (b + c * rest), 0.0)
    return steps * timing.prefill_step_ms(tokens_per_step) + last


def step_tokens(timing: Timing, load: float, prompt: float, most: int) -> float:
    """Tokens of a step when `load` tokens/s arrive: as many as come during one, once one waits."""
    found = least = min(prompt, most)
    for _ in range(16):
        found = min(most, max(least, load * timing.prefill_step_ms(round(found)) / 1e3))
    return found


def prefill_need(demand: Demand, timing: Timing, machine: Machine, slo: Slo) -> int:
    """Least count whose queue makes at most MISS wait longer than TTFT leaves a long prompt.

    M/G/c: Erlang's C with the waits' mean corrected for variance (Allen and Cunneen 1990),
    and an exponential tail. What can be done is told by full steps; a turn is a step as long as
    come to be at that load.
    """
    if demand.rate <= 0:
        return 0
    alone_s = timing.prompt_ms(round(demand.prompt_tokens), machine.tokens_per_step) / 1e3
    varied = (demand.prompt_std / demand.prompt_tokens) ** 2
    long = round(demand.prompt_tokens + DEVIATIONS * demand.prompt_std)
    own_ms = timing.prompt_ms(long, machine.tokens_per_step) + timing.kv_transfer_ms(long, 1)
    left_s = max(0.1 * slo.ttft_ms, slo.ttft_ms - own_ms) / 1e3
    most = machine.tokens_per_step
    work_s = demand.prompt_tokens * timing.prefill_step_ms(most) / most / 1e3
    for count in range(max(1, math.ceil(demand.rate * work_s)), MOST):
        use = demand.rate * work_s / count
        if use >= 1:
            continue
        shared = step_tokens(
            timing, demand.rate * demand.prompt_tokens / count, demand.prompt_tokens, most
        )
        turn_s = max(alone_s, timing.prefill_step_ms(round(shared)) / 1e3)
        mean_s = turn_s * (1 + varied) / 2 / (count * (1 - use))
        rest_s = max(0.0, left_s - (turn_s - alone_s))
        if erlang_c(count, use * count) * math.exp(-rest_s / mean_s) <= MISS:
            return count
    return MOST


def erlang_c(servers: int, offered: float) -> float:
    """Share of arrivals that wait in M/M/c."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    use = offered / servers
    return blocked / (1 - use * (1 - blocked))


def decode_need(demand: Demand, timing: Timing, machine: Machine, slo: Slo) -> int:
    """Least count with room for all but MISS of the time, and steps within TPOT."""
    if demand.rate <= 0:
        return 0
    context = demand.prompt_tokens + demand.output_tokens / 2
    for count in range(1, MOST):
        share, running = steady(demand, timing, machine, count)
        # Poisson concurrency, wider for unequal contexts.
        varied = 1 + (demand.prompt_std / max(1.0, context)) ** 2
        room = running + DEVIATIONS * math.sqrt(running * varied)
        fits = room * context <= count * machine.kv_tokens and room <= count * machine.max_running
        if fits and timing.decode_step_ms(share, round(running / count)) <= slo.tpot_ms:
            return count
    return MOST


def steady(demand: Demand, timing: Timing, machine: Machine, count: int) -> tuple[float, float]:
    """(KV share of an instance, requests running in all), by Little's law."""
    context = demand.prompt_tokens + demand.output_tokens / 2
    running = 0.0
    share = 0.0
    for _ in range(64):
        step_s = timing.decode_step_ms(min(1.0, share), round(running / count)) / 1e3
        running = demand.rate * demand.output_tokens * step_s
        share = running * context / (count * machine.kv_tokens)
        if share > 4:
            break
    return share, running


def need(demand: Demand, timing: Timing, machine: Machine, slo: Slo) -> dict[str, int]:
    """Of both roles, one at least."""
    return {
        "prefill": max(1, prefill_need(demand, timing, machine, slo)),
        "decode": max(1, decode_need(demand, timing, machine, slo)),
    }


def largest_factor(
    demand: Demand, budget: int, timing: Timing, machine: Machine, slo: Slo
) -> float:
    """The most that a peak's rate may be multiplied by so that `budget` instances are enough."""
    low, high = 0.0, 1.0

    def fits(factor: float) -> bool:
        return sum(need(demand.times(factor), timing, machine, slo).values()) <= budget

    while fits(high) and high < 1e6:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
