"""What a process prints, and where."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def engines_off_stdout() -> Iterator[None]:
    """vLLM's processes log to the stdout they inherit: give them stderr, and only errors."""
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
