"""Tokenizes in separate processes, so that a long text delays no stream.

Prompts that come as token ids only need hashing. That takes less time than sending them to
another process and back, so it is done here.

Bounds: TASKS_PER_PROCESS waiting per process; beyond that requests are refused as
OVERLOADED. A pool that broke (a process was killed) is made anew once per call.
"""

import asyncio
import multiprocessing
import signal
from array import array
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import msgspec

from argosy.domain.errors import ArgosyError, Reason
from argosy.domain.kv_blocks import chained_block_hashes, root_hash
from argosy.engine import text
from argosy.engine.text.template_environment import variables_of

TASKS_PER_PROCESS = 256
"""At a millisecond or so each, a quarter of a second of work waits at most."""


@dataclass(frozen=True)
class TokenizerJob:
    """One prompt to make tokens of: text, a chat, or tokens that only need hashing.

    The fields of a chat are those of the contract's Chat.
    context_tokens: what the model takes; a text that is longer however it is cut into tokens is
    refused before it is. 0: not known.
    """

    text: str | None = None
    messages_json: str = ""
    tools_json: str = ""
    template_kwargs_json: str = ""
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    template_name: str = ""
    documents_json: str = ""
    token_ids: Sequence[int] = ()
    salt: str = ""
    context_tokens: int = 0


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as the mesh carries it. blocks: chained hashes of its full KV blocks."""

    token_ids: Sequence[int]
    blocks: list[int]


@dataclass(frozen=True)
class Failure:
    """An ArgosyError on its way between processes."""

    reason: str
    message: str
    param: str


_tokenizer: text.Tokenizer
_model: str
_block_tokens: int
_token_chars_max: int


def initialise(source: str, model: str, block_tokens: int) -> None:
    """In each process of the pool: load the tokenizer once, leave signals to the parent."""
    global _tokenizer, _model, _block_tokens, _token_chars_max
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tokenizer = text.load(source)
    longest = max(map(len, tokenizer.encoder.get_vocab()))
    _tokenizer, _model, _block_tokens, _token_chars_max = tokenizer, model, block_tokens, longest


def work(job: TokenizerJob) -> TokenizedPrompt | Failure:
    """In a process of the pool: do one job."""
    try:
        check_length(job, _token_chars_max)
        ids = encode(job, _tokenizer)
    except ArgosyError as error:
        return Failure(error.reason.name, error.message, error.param)
    return TokenizedPrompt(
        ids, chained_block_hashes(ids, _block_tokens, root_hash(_model, job.salt))
    )


def check_length(job: TokenizerJob, token_chars_max: int) -> None:
    """Raise PROMPT_TOO_LONG for a text that no choice of tokens makes fit.

    Tokenizing it would hold up others for seconds. Of a chat only what users say is counted:
    templates may leave out the rest.
    """
    most = job.context_tokens * token_chars_max
    if not most or max(len(job.text or ""), len(job.messages_json)) <= most:
        return
    if job.text is not None:
        characters = len(job.text)
    else:
        messages = decode_array(job.messages_json, "messages")
        said = [message.get("content") for message in messages if message.get("role") == "user"]
        characters = sum(len(content) for content in said if isinstance(content, str))
    if characters > most:
        raise ArgosyError(
            Reason.PROMPT_TOO_LONG,
            f"This model's maximum context length is {job.context_tokens} tokens, the answer "
            f"included. However, the prompt has {characters} characters, which are more tokens "
            "than that: shorten it",
        )


def check_ids(token_ids: Sequence[int], vocabulary: int) -> None:
    """Raise BAD_REQUEST for a token id that is none."""
    if (largest := max(token_ids)) >= vocabulary:
        raise ArgosyError(
            Reason.BAD_REQUEST, f"token id {largest} is outside the vocabulary of {vocabulary}"
        )


def encode(job: TokenizerJob, tokenizer: text.Tokenizer) -> list[int]:
    """The token ids of a text or chat. Raises BAD_REQUEST."""
    if job.text is not None:
        return tokenizer.encode(job.text)
    messages = decode_array(job.messages_json, "messages")
    if not messages:
        raise ArgosyError(Reason.BAD_REQUEST, "messages is empty: send at least one")
    if not all(isinstance(message.get("role"), str) for message in messages):
        raise ArgosyError(Reason.BAD_REQUEST, "every message needs a role")
    tools = decode_array(job.tools_json, "tools") if job.tools_json else None
    options = chat_options(job)
    check_variables(tokenizer.templates.choose(options.template, tools), options)
    return tokenizer.encode_chat(messages, tools, options)


def check_variables(template: str, options: text.ChatOptions) -> None:
    """Raise BAD_REQUEST for a variable that the chat template does not use: it would be ignored."""
    wanted = set(options.variables) - {"continue_final_message", "add_generation_prompt"}
    if options.documents:
        wanted.add("documents")
    if options.add_generation_prompt is False:
        wanted.add("add_generation_prompt")
    known = variables_of(template)
    for name in sorted(wanted - known):
        others = ", ".join(sorted(known))
        raise ArgosyError(
            Reason.BAD_REQUEST,
            f"the model's chat template does not use {name}: leave it out. It uses {others}",
            param=name,
        )


def chat_options(job: TokenizerJob) -> text.ChatOptions:
    """How to render the chat of a job. Raises BAD_REQUEST."""
    documents, variables = job.documents_json, job.template_kwargs_json
    return text.ChatOptions(
        add_generation_prompt=job.add_generation_prompt,
        continue_final_message=job.continue_final_message,
        template=job.template_name,
        documents=decode_array(documents, "documents") if documents else None,
        variables=decode_object(variables, "chat_template_kwargs") if variables else {},
    )


def decode_array(encoded: str, name: str) -> list[dict[str, Any]]:
    """A JSON array of objects, or BAD_REQUEST naming the field."""
    try:
        return msgspec.json.decode(encoded, type=list[dict[str, Any]])
    except msgspec.DecodeError as error:
        message = f"{name} is not a JSON array of objects: {error}"
        raise ArgosyError(Reason.BAD_REQUEST, message) from error


def decode_object(encoded: str, name: str) -> dict[str, Any]:
    """A JSON object, or BAD_REQUEST naming the field."""
    try:
        return msgspec.json.decode(encoded, type=dict[str, Any])
    except msgspec.DecodeError as error:
        message = f"{name} is not a JSON object: {error}"
        raise ArgosyError(Reason.BAD_REQUEST, message) from error


class TokenizerPool:
    """`processes` tokenizers. Raises ArgosyError (NOT_READY) from start if none can load."""

    def __init__(self, source: str, model: str, block_tokens: int, processes: int) -> None:
        self._arguments = (source, model, block_tokens)
        self._processes = processes
        self._vocabulary = 0
        self._waiting = 0
        self._pool = self._make()

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, once started."""
        return self._vocabulary

    async def start(self) -> None:
        """Load the tokenizers now rather than in the first request."""
        self._vocabulary = text.load(self._arguments[0]).encoder.get_vocab_size()
        await self.tokenize(TokenizerJob(text="ready?"))

    async def tokenize(self, job: TokenizerJob) -> TokenizedPrompt:
        """Tokens and block hashes of a prompt. Raises BAD_REQUEST or OVERLOADED."""
        if job.token_ids:
            return self._hash(job)
        if self._waiting >= TASKS_PER_PROCESS * self._processes:
            message = f"{self._waiting} prompts are waiting to be tokenized, the most allowed"
            raise ArgosyError(Reason.OVERLOADED, message, retry_after_ms=1000)
        self._waiting += 1
        try:
            result = await self._submit(job)
        finally:
            self._waiting -= 1
        if isinstance(result, Failure):
            raise ArgosyError(Reason[result.reason], result.message, param=result.param)
        return result

    def _hash(self, job: TokenizerJob) -> TokenizedPrompt:
        _, model, block_tokens = self._arguments
        packed = array("I", job.token_ids[:])  # a slice is a list, quicker than by list()
        check_ids(packed, self._vocabulary)
        hashes = chained_block_hashes(packed, block_tokens, root_hash(model, job.salt))
        # The field itself: protobuf copies it into another message without making Python ints.
        return TokenizedPrompt(job.token_ids, hashes)

    def stop(self) -> None:
        """End the processes."""
        for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 - they ignore SIGTERM
            process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _submit(self, job: TokenizerJob) -> TokenizedPrompt | Failure:
        loop = asyncio.get_running_loop()
        pool = self._pool
        try:
            return await loop.run_in_executor(pool, work, job)
        except BrokenProcessPool:
            if pool is self._pool:
                self._pool = self._make()
            return await loop.run_in_executor(self._pool, work, job)

    def _make(self) -> ProcessPoolExecutor:
        # Spawned, not forked: gRPC's threads do not survive a fork.
        return ProcessPoolExecutor(
            self._processes, multiprocessing.get_context("spawn"), initialise, self._arguments
        )
