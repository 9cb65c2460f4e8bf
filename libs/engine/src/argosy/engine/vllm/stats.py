"""vLLM's per-step statistics, told to a callback."""

from collections.abc import Callable
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from argosy.engine.vllm.step_times import StepReport

OnStats = Callable[[StepReport], None]


def stat_logger(on_stats: OnStats) -> Callable[..., Any]:
    """A factory for AsyncLLM's stat_loggers."""

    class StepStats(StatLoggerBase):  # type: ignore[misc]
        """Called for every engine step: does as little as can be."""

        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self,
            scheduler_stats: Any = None,
            iteration_stats: Any = None,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            """Pass on what we need."""
            if scheduler_stats is None:
                return
            moved = bytes_moved(scheduler_stats.kv_connector_stats or {})
            running, waiting = scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs
            ended = iteration_stats.finished_requests if iteration_stats is not None else []
            on_stats(
                StepReport(
                    running,
                    waiting + scheduler_stats.num_skipped_waiting_reqs,
                    scheduler_stats.kv_cache_usage,
                    moved,
                    bool(running or waiting),
                    scheduler_stats.iteration_details,
                    ended[0].prefill_time if ended else 0.0,
                )
            )

        def log_engine_initialized(self) -> None:
            """Nothing to say."""

    return StepStats


def bytes_moved(stats: dict[str, Any]) -> list[int]:
    """Bytes of each transfer, of a connector alone or of one among several."""
    found = list(stats.get("bytes_transferred", []))
    for part in stats.values():
        data = getattr(part, "data", part)
        found += data.get("bytes_transferred", []) if isinstance(data, dict) else []
    return found
