"""What conformance tests share: a distribution that is installed from outside."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from argosy.domain import plugins
from argosy.kvstore.core.eviction import POLICIES
from argosy.kvstore.policies import load_policies

ENGINE = '''
"""The smallest engine: it answers with the prompt's last token, over and over."""

import asyncio

from argosy.engine.api import EngineFailed, EngineInfo, EngineOutput, EngineRefused, EngineStats


class EchoEngine:
    def __init__(self, settings, role):
        self.info = EngineInfo(settings.block_tokens, 64, 400, settings.max_running)
        self.role = role
        self.running = set()
        self.stopped = False

    async def start(self, listener):
        self.listener = listener
        return self.info

    async def submit(self, request):
        if self.stopped:
            raise EngineFailed("the engine stopped")
        if not 0 < len(request.token_ids) < self.info.max_model_tokens:
            raise EngineRefused("no prompt of this length")
        tokens = 1 if request.produce else request.sampling.max_tokens
        self.running.add(request.request_id)
        try:
            for number in range(1, tokens + 1):
                await asyncio.sleep(0)
                if self.stopped:
                    raise EngineFailed("the engine stopped")
                last = number == tokens
                yield EngineOutput(
                    [request.token_ids[-1]],
                    finish="length" if last else None,
                    kv_handle=b"echo" if last and request.produce else None,
                )
        finally:
            self.running.discard(request.request_id)
            self.listener.stepped(self.stats())

    async def release(self, request_id, kv_handle):
        pass

    def unstage(self, slots):
        pass

    def stats(self):
        return EngineStats(len(self.running))

    async def withdraw(self):
        pass

    async def sleep(self, level):
        pass

    async def wake(self):
        pass

    async def register(self):
        pass

    async def stop(self):
        self.stopped = True
'''

POLICY = '''
"""Evicts the block that was stored last: the worst there is."""

from argosy.kvstore.core.eviction.ranked import RankedPolicy


class NewestFirstPolicy(RankedPolicy):
    def __init__(self, capacity_blocks):
        super().__init__(capacity_blocks)
        self.number = 0
        self.numbers = {}

    def stored(self, key, parent, now_us):
        self.number += 1
        self.numbers[key] = self.number
        super().stored(key, parent, now_us)

    def _rank(self, key):
        return (-self.numbers[key],)

    def _ranks_to_plain(self):
        return {"number": self.number, "numbers": list(self.numbers.items())}

    def _ranks_from_plain(self, plain):
        self.number, self.numbers = plain["number"], dict(plain["numbers"])
'''

ENTRY_POINTS = """\
[argosy.engines]
echo = outside_engine:EchoEngine

[argosy.eviction_policies]
newest_first = outside_policy:NewestFirstPolicy
"""


@pytest.fixture
def install_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """Installs a distribution that is no part of Argosy, until the test ends.

    It has the engine `echo` and the eviction policy `newest_first`.
    """

    def install() -> None:
        folder = tmp_path / "site"
        metadata = folder / "outside-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
        (folder / "outside_engine.py").write_text(ENGINE)
        (folder / "outside_policy.py").write_text(POLICY)
        monkeypatch.syspath_prepend(str(folder))
        plugins.forget()
        load_policies()

    yield install
    plugins.forget()
    POLICIES.pop("newest_first", None)
