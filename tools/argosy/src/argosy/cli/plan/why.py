"""One decision of the autoscaler, explained."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.table import Table
from rich.text import Text

from argosy.autoscaler.core.planning.dp import NEVER
from argosy.cli import console
from argosy.cli.plan.scaler import iso, lasting, scaler_of
from argosy.cli.plan.show import now_us
from argosy.launcher.home import RunningFleet
from argosy.wire.autoscaler.v1 import autoscaler_pb2, events_pb2

EXPERTS = 3
LEAST_SHARE = 0.005
COUNTED = ("generation", "at_us")
"""64-bit numbers, which protobuf's JSON writes as strings."""
FORBIDDEN = NEVER * 1e-3
"""What breaks a bound costs so much that it only ranks."""
COLUMNS = ("prefill", "decode", "silent", "TTFT p90", "TPOT p90", "attained", "cost", "why not")


async def why(running: RunningFleet, decision_id: str, *, as_json: bool) -> None:
    """A decision (empty: the last), what it was chosen from, and what came of it."""
    async with scaler_of(running) as remote:
        reply = await remote.explain(decision_id)
    if as_json:
        print(json.dumps(as_dict(reply)))
        return
    decision = reply.decision
    about = Table.grid(padding=(0, 2))
    for title, text in lines(reply, now_us()):
        about.add_row(Text(title, style="bold"), Text(text))
    console.out.print(about)
    if decision.chosen.prefill or decision.chosen.decode:
        console.out.print(alternatives(decision))


def lines(reply: autoscaler_pb2.ExplainReply, now: int) -> Iterator[tuple[str, str]]:
    """What there is to say, with what it is about; nothing where nothing is known."""
    decision = reply.decision
    advice = ", advice: nobody acts on it" * decision.advisory
    yield "decided", f"{iso(decision.at_us)}, {lasting(now - decision.at_us)} ago{advice}"
    yield "id", f"{decision.id}, generation {decision.generation}"
    for pool in decision.pools:
        yield pool.role, change(pool)
    yield "because", decision.reason
    if decision.HasField("forecast"):
        yield "forecast", forecast(decision.forecast)
        if decision.forecast.weights:
            yield "weighed", weighed(decision.forecast.weights)
    for constraint in decision.constraints:
        yield "kept to", constraint
    for outcome in reply.outcomes:
        yield "came of it", outcome
    if trace := trace_id(decision.load_traceparent):
        yield "load seen", f"trace {trace} (`argosy trace {trace[:12]}`)"


def change(pool: events_pb2.PoolDecided) -> str:
    """Of one role, before and after."""
    parts = [
        f"{counts(pool.awake_before, pool.awake)} awake",
        f"{counts(pool.exist_before, pool.exist)} in all (at most {pool.at_most})",
    ]
    for verb, names in (("wake", pool.wake), ("sleep", pool.sleep), ("stop", pool.stop)):
        if names:
            parts.append(f"{verb} {', '.join(names)}")
    return "; ".join(parts)


def counts(before: int, after: int) -> str:
    """2 to 4; or 2, where it stays."""
    return f"{after}" if before == after else f"{before} to {after}"


def forecast(made: events_pb2.ForecastMade) -> str:
    """What was expected, in a line."""
    return (
        f"{made.rate_now:,.2f} requests/s now; within {made.ahead_s:,} s {made.rate_mean:,.2f} "
        f"expected, at most {made.rate_upper:,.2f} ({made.quantile:.0%} sure); prompts of "
        f"{made.prompt_tokens:,.0f} tokens ({made.hit_share:.0%} cached), answers of "
        f"{made.output_tokens:,.0f}"
    )


def weighed(weights: Mapping[str, float]) -> str:
    """The experts that counted most."""
    ordered = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    counted = [(name, share) for name, share in ordered[:EXPERTS] if share >= LEAST_SHARE]
    return ", ".join(f"{name} {share:.0%}" for name, share in counted)


def alternatives(decision: events_pb2.ScaleDecided) -> Table:
    """First steps, the chosen one first. Cost: instance-seconds over the plan's horizon."""
    table = Table(box=None)
    for title in COLUMNS:
        words = title == "why not"
        table.add_column(title, justify="left" if words else "right", no_wrap=not words)
    for number, other in enumerate((decision.chosen, *decision.rejected)):
        allowed = other.cost < FORBIDDEN
        why_not = other.rejected if allowed else "a bound or a plan forbids it"
        table.add_row(
            f"{other.prefill}",
            f"{other.decode}",
            f"{other.silent}",
            f"{other.ttft_p90_ms:,.0f} ms",
            f"{other.tpot_p90_ms:,.1f} ms",
            f"{other.attained:.1%}",
            f"{other.cost:,.0f}" if allowed else "-",
            Text(why_not if number else "chosen"),
            style=None if number else "bold",
        )
    return table


def trace_id(traceparent: str) -> str:
    """Of a W3C trace context; empty for none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 and set(parts[1]) - {"0"} else ""


def as_dict(reply: autoscaler_pb2.ExplainReply) -> dict[str, Any]:
    """For JSON: all fields, numbers as numbers."""
    found: dict[str, Any] = MessageToDict(
        reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    decision = found.setdefault("decision", {})
    decision.update({name: int(getattr(reply.decision, name)) for name in COUNTED})
    return found
