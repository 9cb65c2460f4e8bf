"""What a fleet file may hold, and what would contradict itself."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from argosy.domain.pools import Pool, Template
from argosy.fleet.scaling import ScalingSpec
from argosy.fleet.section import INSTANCES_MAX, Section, contradiction, installed
from argosy.fleet.units import Bytes, Ratio, share

STORE_OVERHEAD_BYTES = 256 << 20
"""What a store takes beside its blocks: Python, NIXL, the directory."""


class Metadata(Section):
    """Who this fleet is."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")


class ModelSpec(Section):
    """What it serves. `source`: a folder, relative to the file, or `sim`."""

    name: str = Field(min_length=1)
    source: str = "sim"


class EngineSpec(Section):
    """What serves it. `kind`: an installed engine."""

    kind: str
    block_tokens: int = Field(32, ge=1)
    kv_memory: Bytes = 1 << 30
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    device: Literal["cpu", "cuda"] = "cpu"
    max_model_tokens: int = Field(0, ge=0)
    max_running: int = Field(16, ge=1)
    max_pass_tokens: int = Field(0, ge=0)
    sim_speed: float = Field(1, gt=0)
    timing: str = ""
    """A timing profile: its name, or a YAML file relative to this one."""

    @field_validator("kind")
    @classmethod
    def check_kind(cls, name: str) -> str:
        """Refuse an engine that is not installed."""
        return installed("argosy.engines", name)


class Resources(Section):
    """What one instance takes of its node."""

    cpu: int = Field(1, ge=0, le=4096)
    memory: Bytes = 1 << 30
    devices: int = Field(0, ge=0, le=64)
    """Accelerators, while it is awake: those asleep leave theirs to others."""


class PoolSpec(Section):
    """Equal instances."""

    replicas: int = Field(ge=0, le=INSTANCES_MAX)
    resources: Resources = Field(default_factory=Resources)


class RatioSpec(Section):
    """Bounds of prefill to decode instances."""

    min: Ratio
    max: Ratio


class Placement(Section):
    """Where pairs go."""

    near: Literal["node", "rack", "zone"]


class Split(Section):
    """Prefill and decode apart."""

    prefill: PoolSpec
    decode: PoolSpec
    ratio: RatioSpec | None = None
    placement: Placement | None = None

    @model_validator(mode="after")
    def check(self) -> "Split":
        """Refuse what contradicts itself."""
        if self.decode.replicas == 0:
            raise contradiction("nothing could answer; write at least 1", "decode", "replicas")
        if self.ratio is not None:
            low, high = share(self.ratio.min), share(self.ratio.max)
            if low > high:
                raise contradiction("ratio.min is above ratio.max: swap them", "ratio", "min")
            if not low <= self.prefill.replicas / self.decode.replicas <= high:
                raise contradiction(
                    f"{self.prefill.replicas} prefill to {self.decode.replicas} decode is outside "
                    f"ratio {self.ratio.min} to {self.ratio.max}: change replicas or ratio",
                    "ratio",
                )
        return self


class SsdSpec(Section):
    """A store's SSD tier. `path`: a folder, relative to the file; each store has its own in it."""

    path: str = Field(min_length=1)
    size: Bytes


class RoutingSpec(Section):
    """How requests are placed. `policy`: an installed routing policy; unset: the router's own
    default.
    """

    policy: str | None = None

    @field_validator("policy")
    @classmethod
    def check_policy(cls, name: str | None) -> str | None:
        """Refuse a routing policy that is not installed."""
        return None if name is None else installed("argosy.routing_policies", name)


class KvStoreSpec(Section):
    """KV blocks kept for all instances: `replicas` stores share them out among themselves."""

    replicas: int = Field(1, ge=0, le=INSTANCES_MAX)
    dram: Bytes = 1 << 30
    ssd: SsdSpec | None = None
    eviction: str = "learned"
    """Which blocks a store evicts first: an installed eviction policy."""
    staging: Bytes = 512 << 20
    """Memory of each instance through which KV goes to and from stores."""

    @field_validator("eviction")
    @classmethod
    def check_eviction(cls, name: str) -> str:
        """Refuse a policy that is not installed."""
        return installed("argosy.eviction_policies", name)


class Spec(Section):
    """The fleet."""

    model: ModelSpec
    engine: EngineSpec
    split: Split
    kv_store: KvStoreSpec | None = None
    routing: RoutingSpec | None = None
    scaling: ScalingSpec | None = None

    @model_validator(mode="after")
    def check(self) -> "Spec":
        """Refuse what contradicts itself."""
        if self.engine.kind == "vllm" and self.model.source == "sim":
            message = "engine.kind is vllm but model.source is sim: name a model folder"
            raise contradiction(message, "model", "source")
        on_cpu = self.engine.kind == "vllm" and self.engine.device == "cpu"
        if on_cpu and self.engine.block_tokens % 32:
            message = "must be a multiple of 32 for vllm on cpu"
            raise contradiction(message, "engine", "blockTokens")
        self._check_scaling()
        return self

    def _check_scaling(self) -> None:
        if self.scaling is None:
            return
        total = 0
        for role, pool in (("prefill", self.split.prefill), ("decode", self.split.decode)):
            bounds = getattr(self.scaling, role)
            if bounds.max is not None and pool.replicas > bounds.max:
                message = f"below the {pool.replicas} replicas there are: raise it, or have fewer"
                raise contradiction(message, "scaling", role, "max")
            total += bounds.min
        there = self.split.prefill.replicas + self.split.decode.replicas
        if self.scaling.budget and there > self.scaling.budget:
            message = f"the {there} replicas that start at first do not fit in it: raise it"
            raise contradiction(message, "scaling", "budget")
        if self.scaling.budget and self.scaling.budget < max(2, total):
            message = f"one of each role, or the {total} of both mins, do not fit in it: raise it"
            raise contradiction(message, "scaling", "budget")


class FleetFile(Section):
    """A whole file."""

    api_version: Literal["argosy.dev/v1alpha1"]
    kind: Literal["FedDeployment"]
    metadata: Metadata
    spec: Spec

    def pools(self, base_dir: Path) -> list[Pool]:
        """What the operator's core keeps."""
        settings = self.instance_settings(base_dir)
        named = (("prefill", self.spec.split.prefill), ("decode", self.spec.split.decode))
        pools = [
            Pool(template_of(role, pool.resources, settings), pool.replicas) for role, pool in named
        ]
        if (store := self.spec.kv_store) is not None:
            memory = store.dram + STORE_OVERHEAD_BYTES
            template = Template("kvstore", memory, 0, self.store_settings(base_dir, store))
            pools.insert(0, Pool(template, store.replicas))
        return pools

    def store_settings(self, base_dir: Path, store: KvStoreSpec) -> dict[str, str]:
        """Settings every store starts with. Each keeps to a folder of its own in ssd_dir."""
        found = {"dram_bytes": str(store.dram), "eviction_policy": store.eviction}
        if store.ssd is not None:
            found["ssd_dir"] = str((base_dir / store.ssd.path).resolve())
            found["ssd_bytes"] = str(store.ssd.size)
        return found

    def model_source(self, base_dir: Path) -> str:
        """`sim`, or the model's folder as an absolute path."""
        source = self.spec.model.source
        return source if source == "sim" else str((base_dir / source).resolve())

    def instance_settings(self, base_dir: Path) -> dict[str, str]:
        """Settings every instance starts with."""
        engine = self.spec.engine
        return {
            "engine": engine.kind,
            "model": self.spec.model.name,
            "model_source": self.model_source(base_dir),
            "device": engine.device,
            "block_tokens": str(engine.block_tokens),
            "kv_bytes": str(engine.kv_memory),
            "dtype": engine.dtype,
            "max_model_tokens": str(engine.max_model_tokens),
            "max_running": str(engine.max_running),
            "sim_speed": str(engine.sim_speed),
            "step_tokens": str(engine.max_pass_tokens),
            "timing_profile": self.timing_profile(base_dir),
            **self.link_settings(),
        }

    def link_settings(self) -> dict[str, str]:
        """How instances reach the stores, if there are any."""
        store = self.spec.kv_store
        if store is None or not store.replicas:
            return {}
        return {"kv_store": "true", "kv_staging_bytes": str(store.staging)}

    def timing_profile(self, base_dir: Path) -> str:
        """A profile's name as it is; a file's as an absolute path."""
        timing = self.spec.engine.timing
        is_file = timing.endswith((".yaml", ".yml"))
        return str((base_dir / timing).resolve()) if is_file else timing

    def routing_policy(self) -> str | None:
        """The routing policy the file names, if it names one."""
        return self.spec.routing.policy if self.spec.routing is not None else None

    def idle_sleep_ms(self) -> int:
        """How long nothing must be asked for before all sleep; 0: they never do."""
        return self.spec.scaling.idle_sleep_ms() if self.spec.scaling is not None else 0

    def sleep_level(self) -> str:
        """Where weights are while instances sleep."""
        return self.spec.scaling.sleep_level if self.spec.scaling is not None else "dram"

    def not_acted_on(self) -> list[str]:
        """Fields that are checked but that nothing here acts on yet."""
        return ["spec.split.placement"] if self.spec.split.placement is not None else []


def template_of(role: str, resources: Resources, settings: dict[str, str]) -> Template:
    """What the operator's core keeps of a pool."""
    return Template(role, resources.memory, resources.cpu, settings, resources.devices)
