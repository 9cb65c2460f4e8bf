"""Passes vLLM's statistics of each step to a callback."""

from collections.abc import Callable
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from argosy.engine.vllm.step_times import StepReport

OnStats = Callable[[StepReport], None]


def stat_logger(on_stats: OnStats) -> Callable[..., Any]:
    """A factory for AsyncLLM's stat_loggers."""

    class StepStats(StatLoggerBase):  # type: ignore[misc]
        """vLLM calls `record` in every engine step: it does as little as it can."""

        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self,
            scheduler_stats: Any = None,
            iteration_stats: Any = None,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            """Pass on what the engine needs."""
            if scheduler_stats is None:
                return
            transfers = transferred_bytes(scheduler_stats.kv_connector_stats or {})
            running, waiting = scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs
            ended = iteration_stats.finished_requests if iteration_stats is not None else []
            on_stats(
                StepReport(
                    running,
                    waiting + scheduler_stats.num_skipped_waiting_reqs,
                    scheduler_stats.kv_cache_usage,
                    transfers,
                    bool(running or waiting),
                    scheduler_stats.iteration_details,
                    ended[0].prefill_time if ended else 0.0,
                )
            )

        def log_engine_initialized(self) -> None:
            """vLLM wants this method; there is nothing to log."""

    return StepStats


def transferred_bytes(stats: dict[str, Any]) -> list[int]:
    """Bytes of each transfer that ended: of the only connector, or of each in a MultiConnector."""
    found = list(stats.get("bytes_transferred", []))
    for part in stats.values():
        data = getattr(part, "data", part)
        found += data.get("bytes_transferred", []) if isinstance(data, dict) else []
    return found
