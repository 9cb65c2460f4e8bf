"""Decode's end of a handoff: claim, offer, pulled."""

import asyncio
import contextlib
from types import TracebackType
from typing import Any, Self

import grpc

from argosy.domain.errors import ArgosyError, Reason
from argosy.mesh import telemetry
from argosy.mesh.rpc_errors import from_rpc
from argosy.wire.inference.v1 import inference_pb2
from argosy.wire.prefill.v1 import prefill_pb2, prefill_pb2_grpc

BROKEN = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError)
"""What writing to or reading from a stream that ended raises."""


class Handoff:
    """Holds the prefill instance to its KV for as long as the block runs.

    Leaving the block without `pulled` makes prefill release it.
    """

    def __init__(self, stub: prefill_pb2_grpc.PrefillStub, ticket: inference_pb2.Ticket) -> None:
        self._ticket = ticket
        self._call: Any = stub.Handoff(metadata=telemetry.inject())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call.cancel()

    async def claim(self) -> prefill_pb2.HandoffOffer:
        """Wait for the KV. Raises ArgosyError, blaming the prefill instance."""
        claim = prefill_pb2.Claim(request_id=self._ticket.request_id, attempt=self._ticket.attempt)
        try:
            await self._call.write(prefill_pb2.HandoffRequest(claim=claim))
            offer = await self._call.read()
        except BROKEN:
            raise await self._reason() from None
        if offer is grpc.aio.EOF:
            raise await self._reason()
        assert isinstance(offer, prefill_pb2.HandoffOffer)
        return offer

    async def broken(self) -> ArgosyError:
        """Return why, once prefill has ended the handoff or is gone."""
        await self._call.code()
        return await self._reason()

    async def pulled(self) -> None:
        """Say that the KV is here, so that prefill can free its own.

        Raises KV_LOST or DRAINING if prefill had freed it already: what was pulled is not
        to be trusted then.
        """
        with contextlib.suppress(*BROKEN):
            await self._call.write(prefill_pb2.HandoffRequest(pulled=prefill_pb2.Pulled()))
            await self._call.done_writing()
        if await self._call.code() is grpc.StatusCode.OK:
            return
        lost = await self._reason()
        if lost.reason in (Reason.KV_LOST, Reason.DRAINING):
            raise lost
        # Prefill died after the pull: the KV is here, and nothing is left to free there.

    async def _reason(self) -> ArgosyError:
        status = await self._call.code()
        trailers = await self._call.trailing_metadata()
        error = grpc.aio.AioRpcError(
            status, grpc.aio.Metadata(), trailers, await self._call.details()
        )
        return from_rpc(error, self._ticket.prefill_instance)
