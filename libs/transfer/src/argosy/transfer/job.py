"""One transfer of the bytes plane, and how it can fail."""

import asyncio
from collections import deque
from typing import Any

Piece = tuple[int, int, int]
"""Local address, remote address or file offset, bytes."""

POST_BYTES = 8 << 20
"""About what one post moves. Between processes of one machine the copying is done while
posting, 2 ms for as much, and nothing else moves then."""


class TransferFailed(Exception):
    """Bytes did not arrive: the message says which, to or from whom, and what to do next."""

    def __init__(self, message: str, settled: "asyncio.Future[str] | None" = None) -> None:
        super().__init__(message)
        self.settled = settled
        """After a timeout: done once no byte of the transfer can move any more."""

    @property
    def still_running(self) -> bool:
        """Whether the memory may still be read and written: do not use it again yet."""
        return self.settled is not None and not self.settled.done()


class TransferJob:
    """One transfer. `rest` gets "", or what went wrong, once its memory is at rest."""

    def __init__(self, operation: str, peer: str, pieces: list[Piece], fd: int | None) -> None:
        self.operation = operation
        self.peer = peer
        self.fd = fd
        self.pieces = pieces
        self.rest: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.abandoned = False
        """Set when nobody waits any more: nothing more of it is posted."""
        self.posts = deque(split(pieces))
        self.begun = False
        self.handle: Any = None


def split(pieces: list[Piece]) -> list[list[Piece]]:
    """Runs of pieces of about POST_BYTES: large transfers take turns with small ones."""
    posts: list[list[Piece]] = []
    room = 0
    for piece in pieces:
        if piece[2] > room:
            posts.append([])
            room = POST_BYTES
        posts[-1].append(piece)
        room -= piece[2]
    return posts
