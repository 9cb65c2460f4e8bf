from pathlib import Path

import pytest

from argosy.domain.errors import ArgosyError, Reason
from argosy.fleet.file import FleetFile, FleetLoader, parse_fleet
from argosy.operator.core.events import Pool, Template

REPOSITORY = Path(__file__).parents[3]

SAMPLE = """\
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata: {name: demo}
spec:
  model: {name: smollm2-135m, source: ./models/smollm2-135m}
  engine: {kind: vllm, blockTokens: 32}
  split:
    prefill: {replicas: 1, resources: {cpu: 1, memory: 4Gi}}
    decode:  {replicas: 1, resources: {cpu: 1, memory: 4Gi}}
    ratio: {min: "1:2", max: "3:1"}
    placement: {near: rack}
  scaling: {silent: 1, idleSleepAfter: 30s, slo: {ttftP99: 2s, tpotP99: 200ms}, plans: []}
"""

LONG = """\
# One field a line, so that each has a line of its own.
apiVersion: argosy.dev/v1alpha1
kind: FedDeployment
metadata:
  name: demo
spec:
  model:
    name: m
    source: ./models/m
  engine:
    kind: vllm
    blockTokens: 32
  split:
    prefill:
      replicas: 2
      resources:
        cpu: 1
        memory: 4Gi
    decode:
      replicas: 2
    ratio:
      min: "1:2"
      max: "3:1"
  scaling:
    idleSleepAfter: 30s
"""


def refusal(text: str) -> str:
    with pytest.raises(ArgosyError) as refused:
        parse_fleet(text, "f.yaml")
    assert refused.value.reason is Reason.FLEET_FILE
    return refused.value.message


def edited(*edits: str) -> str:
    """LONG with each `old -> new` made once; `\\n` in them is a new line."""
    text = LONG
    for edit in edits:
        old, _, new = edit.replace("\\n", "\n").partition(" -> ")
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_the_sample_of_the_design_is_taken_as_it_stands() -> None:
    fleet = parse_fleet(SAMPLE)
    prefill, decode = fleet.pools(Path("/fleets"))
    assert prefill == Pool(Template("prefill", 4 << 30, 1, decode.template.settings), 1)
    assert (decode.template.role, decode.replicas) == ("decode", 1)
    assert decode.template.settings["model_source"] == "/fleets/models/smollm2-135m"
    assert (fleet.idle_sleep_ms(), fleet.sleep_level()) == (30_000, "dram")
    assert fleet.not_acted_on() == ["spec.split.placement"]


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "deploy/local").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_fleet_file_that_comes_with_argosy_is_taken(path: Path) -> None:
    fleet = parse_fleet(path.read_text(), path.name)
    roles = {pool.template.role for pool in fleet.pools(path.parent) if pool.replicas}
    assert "decode" in roles
    assert ("kvstore" in roles) is (fleet.spec.kv_store is not None)


def test_what_a_field_says_reaches_the_instances() -> None:
    engine = "kind: sim\\n    kvMemory: 512Mi\\n    maxRunning: 3\\n    simSpeed: 2"
    fleet = parse_fleet(edited(f"kind: vllm -> {engine}", "source: ./models/m -> source: sim"))
    (prefill, _) = fleet.pools(Path("/fleets"))
    chosen = {
        "engine": "sim",
        "model": "m",
        "model_source": "sim",
        "kv_bytes": str(512 << 20),
        "max_running": "3",
        "sim_speed": "2.0",
        "block_tokens": "32",
    }
    assert chosen.items() <= prefill.template.settings.items()


def test_fields_that_are_left_out_have_defaults() -> None:
    decode = parse_fleet(LONG).spec.split.decode
    assert (decode.resources.cpu, decode.resources.memory) == (1, 1 << 30)


@pytest.mark.parametrize(
    ("size", "size_bytes"),
    [("123", 123), ("1Ki", 1 << 10), ("512Mi", 512 << 20), ("4Gi", 4 << 30), ("2Ti", 2 << 40)],
)
def test_sizes_are_read_in_their_units(size: str, size_bytes: int) -> None:
    fleet = parse_fleet(edited(f"4Gi -> {size}"))
    assert fleet.spec.split.prefill.resources.memory == size_bytes


@pytest.mark.parametrize(
    ("edit", "line", "says"),
    [
        # A field that is unknown, missing or there twice.
        ("blockTokens -> blockTokenz", 12, "engine.blockTokenz: unknown field; write blockTokens"),
        ("decode: -> decod:", 19, "spec.split.decod: unknown field; write decode"),
        ("memory: -> ram:", 18, "resources.ram: unknown field; known here: cpu, memory"),
        ("kind: Fed -> status: {}\\nkind: Fed", 3, "status: unknown field; known here: apiVersion"),
        ("    kind: vllm\\n -> ", 10, "spec.engine.kind: missing; add `kind: ...`"),
        ("metadata:\\n  name: demo\\n -> ", 2, "metadata: missing; add `metadata: ...`"),
        ("replicas: 2 -> replicas: 2\\n      replicas: 3", 16, "replicas: given twice; keep one"),
        # A value of the wrong kind.
        ("v1alpha1 -> v2", 2, "apiVersion: Input should be 'argosy.dev/v1alpha1'"),
        ("FedDeployment -> Job", 3, "kind: Input should be 'FedDeployment' (got 'Job')"),
        ("kind: vllm -> kind: vlm", 11, "kind: there is no 'vlm'; write one of: sim, vllm"),
        ("  name: demo -> ", 4, "metadata: write a mapping, such as `metadata: {...}`"),
        ("name: demo -> name: My Fleet", 5, "metadata.name: "),
        ("name: demo -> name: 7", 5, "metadata.name: "),
        ("4Gi -> 4GB", 18, "memory: write a size such as 512Mi or 4Gi (got '4GB')"),
        ("4Gi -> -1", 18, "memory: write a size such as 512Mi or 4Gi (got -1)"),
        ("4Gi -> 9999999Ti", 18, "spec.split.prefill.resources.memory: "),
        ("replicas: 2 -> replicas: many", 15, "spec.split.prefill.replicas: "),
        ("replicas: 2 -> replicas: yes", 15, "spec.split.prefill.replicas: "),
        ("replicas: 2 -> replicas: 1.5", 15, "spec.split.prefill.replicas: "),
        ("replicas: 2 -> replicas: -1", 15, "spec.split.prefill.replicas: "),
        ("replicas: 2 -> replicas: 1000000000", 15, "spec.split.prefill.replicas: "),
        ("replicas: 2 -> replicas:", 15, "spec.split.prefill.replicas: "),
        ("name: m -> name: [m]", 8, "spec.model.name: "),
        ("name: m -> 1: m", 8, "spec.model.1: "),
        ("30s -> 30", 25, "idleSleepAfter: write a duration such as 200ms, 30s or 5m (got 30)"),
        ("30s -> soon", 25, "idleSleepAfter: write a duration such as 200ms, 30s or 5m"),
        ('"1:2" -> 1:2', 22, 'ratio.min: write prefill:decode in quotes, such as "1:2"'),
        ('"1:2" -> "0:2"', 22, 'ratio.min: write prefill:decode in quotes, such as "1:2"'),
        # Fields that contradict each other.
        ('"1:2" -> "4:1"', 22, "ratio.min is above ratio.max: swap them"),
        ("replicas: 2 -> replicas: 9", 21, "9 prefill to 2 decode is outside ratio 1:2 to 3:1"),
        ("2\\n    ratio -> 0\\n    ratio", 20, "replicas: nothing could answer; write at least 1"),
        ("./models/m -> sim", 9, "model.source: engine.kind is vllm but model.source is sim"),
        ("    source: ./models/m\\n -> ", 7, "engine.kind is vllm but model.source is sim"),
        ("Tokens: 32 -> Tokens: 48", 12, "engine.blockTokens: must be a multiple of 32"),
        # Not YAML, or YAML of another kind.
        ("kind: vllm -> kind: {vllm", 12, "not YAML: "),
        ("name: m -> name: \t", 8, "not YAML: "),
        ("name: m -> name: \x07", 8, "not YAML: special characters are not allowed"),
        ("name: m -> name: 2020-99-99", 8, "not YAML: month must be in 1..12"),
        ("name: m -> name: !!python/object:os.system {}", 8, "could not determine a constructor"),
        ("kind: Fed -> ---\\nkind: Fed", 3, "not YAML: but found another document"),
    ],
)
def test_a_wrong_fleet_file_says_where_and_what_to_write(edit: str, line: int, says: str) -> None:
    problems = refusal(edited(edit)).splitlines()
    assert [p for p in problems if p.startswith(f"f.yaml:{line}: ") and says in p]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "- a list\n", "just words\n", "7\n"])
def test_what_is_no_mapping_is_told_how_a_fleet_file_begins(text: str) -> None:
    begins = "f.yaml:1: a fleet file begins with `apiVersion: argosy.dev/v1alpha1`"
    assert refusal(text) == begins


@pytest.mark.parametrize(
    "text", ["[" * 5_000, "a: &a {b: *a}", "a: &a [*a]"], ids=["deep", "loop", "list loop"]
)
def test_a_file_without_end_is_refused(text: str) -> None:
    assert refusal(text).startswith("f.yaml:1: ")


def test_aliases_that_multiply_are_looked_at_once() -> None:
    levels = "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 64))
    assert "a63: unknown field" in refusal(f"a0: &a0 {{x: 1}}\n{levels}\n")


def test_every_problem_of_a_file_is_told_at_once() -> None:
    problems = refusal(edited("4Gi -> 4GB", "kind: vllm -> kind: vlm")).splitlines()
    assert [problem.split(": ")[0] for problem in problems] == ["f.yaml:11", "f.yaml:18"]


def test_the_routing_policy_is_named_in_the_file_or_left_to_the_router() -> None:
    named = SAMPLE.replace("spec:\n", "spec:\n  routing: {policy: round_robin}\n")
    assert parse_fleet(named).routing_policy() == "round_robin"
    assert parse_fleet(SAMPLE).routing_policy() is None


def test_vllm_on_cuda_may_have_blocks_of_any_size() -> None:
    fleet = parse_fleet(edited("blockTokens: 32 -> blockTokens: 16\\n    device: cuda"))
    assert isinstance(fleet, FleetFile)


def test_a_text_is_parsed_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    get_single_node = FleetLoader.get_single_node

    def counted(loader: FleetLoader) -> object:
        composed.append(loader)
        return get_single_node(loader)

    monkeypatch.setattr(FleetLoader, "get_single_node", counted)
    text = SAMPLE.replace("name: demo", "name: once")
    assert parse_fleet(text) is parse_fleet(text)
    assert len(composed) == 1
