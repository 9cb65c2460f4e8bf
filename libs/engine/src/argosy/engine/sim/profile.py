"""How long things take in the sim engine. Data: fitted elsewhere, or the built-in one."""

from pathlib import Path

import msgspec


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in milliseconds. A mixed pass costs prefill plus decode.

    prefill(n) = prefill_ms[0] + prefill_ms[1]·n + prefill_ms[2]·n², n new tokens
    decode(p)  = decode_ms[0] + decode_ms[1]·p + decode_ms[2]·p², p active share of KV
    Default: the published timing of Dynamo's mocker (docs/design-docs, mocker).
    """

    prefill_ms: tuple[float, float, float] = (16.50142, 1.518344e-2, 4.209989e-7)
    decode_ms: tuple[float, float, float] = (5.74, 54.01, -25.74)
    load_ms: float = 200
    transfer_ms: float = 1
    transfer_gib_per_s: float = 10
    kv_bytes_per_token: int = 23_040
    tokens_per_pass: int = 8192

    def prefill_pass_ms(self, new_tokens: int) -> float:
        """A pass over `new_tokens` prompt tokens; 0 for none."""
        if not new_tokens:
            return 0.0
        a, b, c = self.prefill_ms
        return a + b * new_tokens + c * new_tokens * new_tokens

    def decode_pass_ms(self, kv_share: float) -> float:
        """One token for every running sequence."""
        a, b, c = self.decode_ms
        return a + b * kv_share + c * kv_share * kv_share

    def transfer_pass_ms(self, kv_bytes: int) -> float:
        """Pulling `kv_bytes` from another instance."""
        return self.transfer_ms + kv_bytes / (self.transfer_gib_per_s * (1 << 30)) * 1e3


def load_profile(path: Path | None) -> Profile:
    """A profile from YAML; the built-in one for no path."""
    if path is None:
        return Profile()
    return msgspec.yaml.decode(path.read_bytes(), type=Profile)
