"""How long everything takes in an engine: data, fitted from measurements or published."""

import msgspec

from argosy.domain.timing import Timing


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's weights, spread evenly over devices that copy at the same time. Rates in GB/s."""

    gigabytes: float
    nodes: int = 1
    devices_per_node: int = 1
    device_gb_per_s: float = 50
    """Between a device and its host's memory, either way."""
    host_gb_per_s: float = 400
    """What a node's memory gives or takes, for all its devices together."""
    disk_gb_per_s: float = 7
    """What a node reads from its files."""

    def copy_ms(self) -> float:
        """All of them between hosts and devices."""
        rate = min(self.devices_per_node * self.device_gb_per_s, self.host_gb_per_s)
        return 1e3 * self.gigabytes / self.nodes / rate

    def read_ms(self) -> float:
        """All of them from files into devices, in one stream."""
        return max(self.copy_ms(), 1e3 * self.gigabytes / self.nodes / self.disk_gb_per_s)


class Profile(Timing, frozen=True, forbid_unknown_fields=True):
    """Timing of steps and transfers, and of what happens around them, in milliseconds."""

    load_ms: float = 200
    sleep_ms: float = 100
    """To free memory, without the copies that `weights` tells of."""
    wake_ms: float = 200
    """To take it again."""
    flush_ms: float = 0
    """Until KV that stores do not have yet is there; in virtual time only."""
    withdraw_ms: float = 0
    """Until NIXL has let go of KV memory."""
    register_ms: float = 0
    """Until NIXL knows it again."""
    weights: Weights | None = None
    """None: nothing is copied."""
    tokens_per_step: int = 8192
    """Most tokens in one step of one data-parallel rank."""

    def faster(self, speed: float) -> "Profile":
        """Everything `speed` times faster."""
        return msgspec.structs.replace(
            self,
            prefill_ms=tuple(ms / speed for ms in self.prefill_ms),
            decode_ms=tuple(ms / speed for ms in self.decode_ms),
            decode_ms_per_request=self.decode_ms_per_request / speed,
            transfer_ms=self.transfer_ms / speed,
            transfer_gb_per_s=tuple(rate * speed for rate in self.transfer_gb_per_s),
            load_ms=self.load_ms / speed,
            sleep_ms=self.sleep_ms / speed,
            wake_ms=self.wake_ms / speed,
            flush_ms=self.flush_ms / speed,
            withdraw_ms=self.withdraw_ms / speed,
            register_ms=self.register_ms / speed,
            weights=None if self.weights is None else faster_copies(self.weights, speed),
        )

    def free_ms(self, level: str) -> float:
        """Until memory is free: weights kept in host memory (dram) are copied there first."""
        if self.weights is None or level != "dram":
            return self.sleep_ms
        return self.sleep_ms + self.weights.copy_ms()

    def take_ms(self, level: str) -> float:
        """Until memory is as it was, weights included."""
        if self.weights is None:
            return self.wake_ms
        copy_ms = self.weights.copy_ms() if level == "dram" else self.weights.read_ms()
        return self.wake_ms + copy_ms


def faster_copies(weights: Weights, speed: float) -> Weights:
    """Every rate `speed` times higher."""
    return msgspec.structs.replace(
        weights,
        device_gb_per_s=weights.device_gb_per_s * speed,
        host_gb_per_s=weights.host_gb_per_s * speed,
        disk_gb_per_s=weights.disk_gb_per_s * speed,
    )
