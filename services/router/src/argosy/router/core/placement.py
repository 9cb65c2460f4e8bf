"""Which instances serve a request: pure functions over the ledger.

Policy `least_loaded`. Choose when: nothing is known of prefixes. Decode: fewest
requests for its size, then least KV in use. Prefill: fewest tokens queued, near the
decode side. Missing reports: the ledger of what was dispatched stands in for them.
"""

from argosy.router.core.state import Instance, Request, RouterState


def serving(state: RouterState, model: str, role: str) -> list[tuple[str, Instance]]:
    """Live instances of a model and role, by name."""
    return sorted(
        (name, instance)
        for name, instance in state.instances.items()
        if instance.live and instance.model == model and instance.role == role
    )


def choose_decode(state: RouterState, request: Request) -> str | None:
    """The decode instance with the most room, or None if all are full or gone."""
    best: tuple[float, float, str] | None = None
    for name, instance in serving(state, request.model, "decode"):
        limit = 2 * instance.max_running_requests
        if instance.requests >= limit:
            continue
        kv_share = instance.kv_used_blocks / max(1, instance.kv_total_blocks)
        candidate = (instance.requests / limit, kv_share, name)
        if best is None or candidate < best:
            best = candidate
    return best[2] if best else None


def choose_prefill(state: RouterState, request: Request, decode: str) -> tuple[str, str]:
    """Who prefills, and why: a prefill instance, or the decode instance itself.

    Disaggregation pays when a prompt is long enough to hold up the decode batch it
    would otherwise share a step with.
    """
    candidates = serving(state, request.model, "prefill")
    if not candidates:
        return decode, "no prefill instance is live"
    if request.prompt_tokens < state.disaggregate_min_tokens:
        return decode, "short prompt"
    node = state.instances[decode].node
    _, _, name = min(
        (instance.prefill_tokens, instance.node != node, name) for name, instance in candidates
    )
    return name, "least queued prefill"
