"""How much of the suite a run takes, and what of it may run side by side.

Every run loads it (`-p suite_plugin` in pyproject.toml): property tests of all parts follow one
profile, and `--deep` is one switch for all of them.
"""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

USUAL_EXAMPLES = 100
"""Hypothesis's own default."""
DEEP_FACTOR = 20
"""How many times the usual examples `--deep` tries: a nightly run takes about an hour with it."""
NO_VLLM = "not vllm"
SHARED = {
    "test_conformance_openai": "fleet",
    "test_conformance_services": "fleet",
    "test_e2e_answers": "fleet",
    "test_e2e_bad_input": "fleet",
    "test_e2e_facts": "fleet",
    "test_e2e_trace": "fleet",
    "test_e2e_fairness": "slow_fleet",
    "test_e2e_hang_ups": "slow_fleet",
    "test_e2e_peer_routers": "three_decodes",
    "test_e2e_routing": "three_decodes",
    "test_chaos_bus_and_router": "hurt_fleet",
    "test_chaos_prefill": "hurt_fleet",
}
"""Files whose tests run in one process because they share a fleet; others are groups alone."""
FIRST = (
    "test_e2e_sleep",
    "test_e2e_scaling",
    "test_chaos_sleep",
    "test_chaos_scaling",
    "test_e2e_kvstore",
    "test_chaos_decode",
    "hurt_fleet",
    "three_decodes",
    "slow_fleet",
    "fleet",
)
"""Groups that wait a minute or more begin first, in this order: no process is left with one of
them when the others have ended, and the rest fills the time in which they wait."""


def examples(usual: int) -> int:
    """How many examples a property test tries: `usual`, or DEEP_FACTOR times as many when deep.

    For tests whose examples cost so much that 100 of them take seconds, or so little that more
    of them cost nothing.
    """
    return usual * settings.get_profile(settings.get_current_profile_name()).max_examples // 100


def seeds(usual: int, deep: int) -> list[Any]:
    """For `parametrize`: the seeds below `usual` always run, those up to `deep` with `--deep`."""
    return [
        *range(usual),
        *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(usual, deep)),
    ]


def half(*values: Any) -> list[Any]:
    """For `parametrize`: every second combination always runs, the others with `--deep`.

    values: those of each parameter, at least two of each: every one of them is in the half that
    always runs.
    """
    places = itertools.product(*(range(len(each)) for each in values))
    combined = itertools.product(*values)
    return [
        pytest.param(*chosen, marks=[pytest.mark.deep] if sum(at) % 2 else [])
        for at, chosen in zip(places, combined, strict=True)
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deep",
        action="store_true",
        help=f"{DEEP_FACTOR} times the examples of property tests, and the tests marked `deep`",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Neither a deadline nor slow generation is a fault of the code: machines are busy.
    common: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("usual", max_examples=USUAL_EXAMPLES, **common)
    settings.register_profile("deep", max_examples=USUAL_EXAMPLES * DEEP_FACTOR, **common)
    settings.load_profile("deep" if config.getoption("deep") else "usual")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """tests/vllm imports vLLM, which a run without its tests need not have."""
    if NO_VLLM in config.option.markexpr and collection_path == config.rootpath / "tests/vllm":
        return True
    return None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is left out: a run says which tests it does not speak for."""
    left_out = [] if config.getoption("deep") else ["tests marked deep (make test-deep)"]
    if NO_VLLM in config.option.markexpr:
        left_out.append("tests of real vLLM (make test)")
    if "not slow" in config.option.markexpr:
        left_out.append("tests marked slow (make test)")
    return [f"left out: {', '.join(left_out) or 'nothing'}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `deep` out; begin with the groups that take longest."""
    deep = [item for item in items if "deep" in item.keywords]
    if deep and not config.getoption("deep"):
        config.hook.pytest_deselected(items=deep)
        items[:] = [item for item in items if "deep" not in item.keywords]
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [*FIRST, group(item.nodeid)].index(group(item.nodeid)))


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's; it asks when there are several processes.
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return GroupScheduling(config, log)


class GroupScheduling(LoadScopeScheduling):
    """Hands a process a whole group of tests at a time.

    pytest-xdist 3.8's own groups (`--dist loadgroup`) are ignored under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """The file, or the fleet of several files, whose tests this one runs with."""
    name = Path(nodeid.partition("::")[0]).stem
    return SHARED.get(name, name)
