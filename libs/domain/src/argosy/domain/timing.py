"""A timing model of an engine: how long its steps and KV transfers take, in milliseconds.

Engines announce it, the router predicts with it, and the sim engine runs by it.
"""

import msgspec

NODE, RACK, FAR = 0, 1, 2
"""How far apart two instances are."""


def distance(node_a: str, rack_a: str, node_b: str, rack_b: str) -> int:
    """Return NODE, RACK or FAR. Two empty names do not count as the same node or rack."""
    if node_a == node_b and node_a:
        return NODE
    return RACK if rack_a == rack_b and rack_a else FAR


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in milliseconds. A step that prefills and decodes costs the sum.

    prefill(n) = prefill_ms[0] + prefill_ms[1]·n + prefill_ms[2]·n², n new tokens of the step
    decode(p, b) = decode_ms[0] + decode_ms[1]·p + decode_ms[2]·p² + decode_ms_per_request·b,
        p: share of KV blocks in use, b: sequences decoding
    Default: the published timing of Dynamo's mocker (docs/mocker, polynomial model), whose
    KV transfer runs at 64 GB/s. 131,072 bytes is the KV of one token in Llama 3 8B.
    """

    prefill_ms: tuple[float, float, float] = (16.50142, 1.518344e-2, 4.209989e-7)
    decode_ms: tuple[float, float, float] = (5.74, 54.01, -25.74)
    decode_ms_per_request: float = 0
    kv_bytes_per_token: int = 131_072
    transfer_ms: float = 1
    transfer_gb_per_s: tuple[float, float, float] = (64, 64, 64)
    """Within a node, within a rack, and beyond a rack."""

    def prefill_step_ms(self, new_tokens: int) -> float:
        """Time of one step over `new_tokens` prompt tokens; 0 for none."""
        if new_tokens <= 0:
            return 0.0
        a, b, c = self.prefill_ms
        return a + b * new_tokens + c * new_tokens * new_tokens

    def prompt_ms(self, new_tokens: int, tokens_per_step: int) -> float:
        """Time of a prompt that runs alone, in as many steps as it needs."""
        steps, rest = divmod(new_tokens, tokens_per_step)
        return steps * self.prefill_step_ms(tokens_per_step) + self.prefill_step_ms(rest)

    def decode_step_ms(self, kv_share: float, requests: int = 0) -> float:
        """Time of one step that makes a token for every running sequence."""
        a, b, c = self.decode_ms
        return a + b * kv_share + c * kv_share * kv_share + self.decode_ms_per_request * requests

    def kv_transfer_ms(self, tokens: int, far: int = NODE) -> float:
        """Time to move the KV of `tokens` between instances that are `far` apart."""
        kv_bytes = tokens * self.kv_bytes_per_token
        return self.transfer_ms + kv_bytes / (self.transfer_gb_per_s[far] * 1e6)
