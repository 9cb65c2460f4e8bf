"""A core made anew from its state goes on as the one it was made from."""

from typing import Any

import msgspec
import pytest

from argosy.router.core import events
from argosy.router.core.prefix_index import PrefixIndex
from argosy.router.core.state import RouterState
from argosy.router.policies import new_core

MS, S = 1_000, 1_000_000


def made_anew(router: Any) -> Any:
    snapshot = msgspec.msgpack.encode(router.state, enc_hook=PrefixIndex.to_snapshot)
    state = msgspec.msgpack.decode(
        snapshot, type=RouterState, dec_hook=lambda _, snapshot: PrefixIndex.from_snapshot(snapshot)
    )
    return new_core(state)


@pytest.mark.parametrize("instances", [4, 20])
def test_whatever_it_remembers_beside_its_state_changes_nothing(
    new_router: Any, instances: int
) -> None:
    router = new_router(queue_limit=1000)
    for number in range(instances):
        router.join(f"decode-{number:02}", max_running=50, kv_blocks=1000)
    for number in range(300):
        router.pass_time((0, MS, 7 * MS)[number * number % 3])
        arrival = events.RequestArrived(
            now_us=router.now_us,
            request_id=f"r{number}",
            model="m",
            prompt_tokens=(100, 1000, 4000)[number % 7 % 3],
            max_tokens=16,
            deadline_us=router.now_us + 600 * S,
            blocks=[100 * (number % 5) + block for block in range(3)],
        )
        twin = made_anew(router)
        assert router.feed(lambda now_us, event=arrival: event) == twin.step(arrival)
        if number % 5 == 0 and f"r{number}" not in router.queued:
            # Full, until it reports: the shortlist is as if it were not there.
            at = router.state.requests[f"r{number}"].decode
            router.fail(f"r{number}", at=at, reason="OVERLOADED")
        if number % 7 == 0:
            router.load(f"decode-{number % instances:02}", running=3, step_us=100 * MS)
