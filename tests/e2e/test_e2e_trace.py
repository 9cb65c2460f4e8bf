"""One trace joins everybody who had a hand in an answer."""

from typing import Any

import pytest

APART = {
    "client.generate",
    "router.tokenize",
    "router.place",
    "prefill.submit",
    "prefill.compute",
    "prefill.handoff",
    "decode.generate",
    "decode.await_kv",
    "decode.kv_transfer",
}
LOCAL = {"client.generate", "router.tokenize", "router.place", "decode.generate", "decode.prefill"}


async def traced_answer(fleet: Any, text: str, *, direct: bool) -> str:
    async with fleet.traced_client(direct=direct) as client:
        await client.answer("sim", text=text, max_tokens=8, temperature=0)
        return str(client.last_trace_id)


def ended(fleet: Any, trace_id: str) -> Any:
    """The trace, once none of its spans runs any more."""
    trace = fleet.trace(trace_id)
    return None if trace.lost else trace


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
async def test_one_trace_joins_client_router_and_instances(
    either_fleet: Any, eventually: Any, long_text: str, direct: bool
) -> None:
    trace_id = await traced_answer(either_fleet, long_text, direct=direct)
    trace = await eventually(lambda: ended(either_fleet, trace_id))
    names = APART if either_fleet.prefills else LOCAL

    router = "router.route" if direct else "router.generate"
    assert {span.name for span in trace.spans} == names | {router}
    assert [span.name for span in trace.roots] == ["client.generate"]
    assert trace.orphans == []
    assert all(span.status != "ERROR" for span in trace.spans)


async def test_every_service_of_a_disaggregated_answer_is_in_its_trace(
    fleet: Any, eventually: Any, long_text: str
) -> None:
    trace_id = await traced_answer(fleet, long_text, direct=False)
    trace = await eventually(lambda: ended(fleet, trace_id))

    assert set(trace.services) == {"client", "router", "prefill-0", "decode-0"}


async def test_a_trace_follows_the_order_of_the_work(
    fleet: Any, eventually: Any, long_text: str
) -> None:
    trace_id = await traced_answer(fleet, long_text, direct=False)
    trace = await eventually(lambda: ended(fleet, trace_id))

    span = {span.name: span for span in trace.spans}
    assert span["router.place"].end_ns <= span["prefill.compute"].start_ns
    assert span["prefill.compute"].end_ns <= span["decode.kv_transfer"].start_ns
    assert span["decode.kv_transfer"].attributes["transferred_bytes"] > 0


async def test_an_http_answer_names_its_trace_in_a_header(
    fleet: Any, eventually: Any, long_text: str
) -> None:
    async with fleet.http() as http:
        body = {"model": "sim", "prompt": long_text, "max_tokens": 4}
        reply = await http.post("/v1/completions", json=body)
    trace = await eventually(lambda: ended(fleet, reply.headers["x-argosy-trace"]))

    assert [span.name for span in trace.roots] == ["http.completion"]
    assert "decode.kv_transfer" in {span.name for span in trace.spans}
    assert trace.orphans == []


async def test_an_http_caller_s_own_trace_is_continued(fleet: Any, eventually: Any) -> None:
    trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with fleet.http() as http:
        reply = await http.post(
            "/v1/completions",
            json={"model": "sim", "prompt": "hello", "max_tokens": 1},
            headers={"traceparent": f"00-{trace_id}-{parent_id}-01"},
        )
    trace = await eventually(lambda: ended(fleet, trace_id))

    assert reply.headers["x-argosy-trace"] == trace_id
    assert [span.name for span in trace.orphans] == ["http.completion"]
