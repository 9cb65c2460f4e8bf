"""Answer prompts with one plain vLLM engine: python plain_engine.py IN.json OUT.json."""

import asyncio
import json
import sys
from pathlib import Path

from argosy.bench.handoff.bare_vllm import BareEngine
from argosy.instance.settings import InstanceSettings


async def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    engine = BareEngine(InstanceSettings.model_validate(job["settings"]), "")
    await engine.start()
    answers = []
    for number, prompt in enumerate(job["prompts"]):
        tokens, _, _ = await engine.generate(str(number), prompt, job["max_tokens"], None)
        answers.append(tokens)
    engine.stop()
    Path(sys.argv[2]).write_text(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main())
