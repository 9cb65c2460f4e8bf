"""What the autoscaler's core decided, as facts."""

from argosy.autoscaler.core import effects
from argosy.autoscaler.core.state import MANUAL, PLAN, RULE
from argosy.wire.autoscaler.v1 import events_pb2

DECIDED_BY = {
    PLAN: events_pb2.DECIDED_BY_PLAN,
    RULE: events_pb2.DECIDED_BY_RULE,
    MANUAL: events_pb2.DECIDED_BY_MANUAL,
}


def scale_fact(
    effect: effects.DecideScale, now_us: int, traceparent: str
) -> events_pb2.ScaleDecided:
    """The whole decision."""
    expected = effect.expected
    return events_pb2.ScaleDecided(
        id=effect.id,
        generation=effect.generation,
        reason=effect.reason,
        advisory=effect.advisory,
        constraints=effect.constraints,
        at_us=now_us,
        load_traceparent=traceparent,
        pools=[
            events_pb2.PoolDecided(
                role=p.role,
                awake=p.awake,
                exist=p.exist,
                awake_before=p.awake_before,
                exist_before=p.exist_before,
                stop=p.stop,
                wake=p.wake,
                sleep=p.sleep,
                at_most=p.at_most,
            )
            for p in effect.pools
        ],
        forecast=events_pb2.ForecastMade(
            rate_now=expected.rate_now,
            rate_mean=expected.rate_mean,
            rate_upper=expected.rate_upper,
            quantile=expected.quantile,
            ahead_s=expected.ahead_s,
            prompt_tokens=expected.prompt_tokens,
            output_tokens=expected.output_tokens,
            hit_share=expected.hit_share,
            weights=expected.weights,
        ),
        chosen=alternative(effect.chosen),
        rejected=[alternative(a) for a in effect.rejected],
    )


def alternative(one: effects.Alternative) -> events_pb2.Alternative:
    """One of the decision's alternatives."""
    return events_pb2.Alternative(
        name=one.name,
        prefill=one.prefill,
        decode=one.decode,
        silent=one.silent,
        cost=one.cost,
        ttft_p90_ms=one.ttft_p90_ms,
        tpot_p90_ms=one.tpot_p90_ms,
        attained=one.attained,
        rejected=one.rejected,
    )


def slot_fact(effect: effects.PublishSlot) -> events_pb2.DemandMeasured:
    """A slot of history."""
    return events_pb2.DemandMeasured(
        start_us=effect.start_us,
        seconds=round(effect.seconds),
        requests=effect.requests,
        prompt_tokens=effect.prompt_tokens,
        prompt_tokens_squared=effect.prompt_tokens_squared,
        cached_tokens=effect.cached_tokens,
        finished=effect.finished,
        output_tokens=effect.output_tokens,
        output_tokens_squared=effect.output_tokens_squared,
    )


def sleep_fact(effect: effects.DecideSleep) -> events_pb2.SleepDecided:
    """An instance is to sleep."""
    return events_pb2.SleepDecided(
        instance_id=effect.instance,
        node=effect.node,
        decision_sequence=effect.decision_sequence,
        level=effect.level,
        drain_ms=effect.drain_us // 1000,
        reason=effect.reason,
        decision=effect.decision,
        generation=effect.generation,
        decided_by=DECIDED_BY[effect.decided_by],
    )


def wake_fact(effect: effects.DecideWake) -> events_pb2.WakeDecided:
    """An instance is to wake."""
    return events_pb2.WakeDecided(
        instance_id=effect.instance,
        node=effect.node,
        decision_sequence=effect.decision_sequence,
        reason=effect.reason,
        decision=effect.decision,
        generation=effect.generation,
        decided_by=DECIDED_BY[effect.decided_by],
    )
