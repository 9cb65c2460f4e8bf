"""Memory that lies still: mapped once, aligned to pages, with an address NIXL can be told."""

import ctypes
import mmap
import os
from pathlib import Path


class Memory:
    """A mapping of at least `size_bytes`, private to this process or shared through a file.

    `path` makes it shared: all that map the same file see the same bytes. Its space is
    taken at once, so a full /dev/shm is an OSError here and not a SIGBUS at first touch.
    The file is its maker's to remove.
    """

    def __init__(self, size_bytes: int, path: Path | None = None) -> None:
        if size_bytes <= 0:
            raise ValueError(f"a memory of {size_bytes} bytes cannot be mapped; ask for at least 1")
        self.size_bytes = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._shared = path is not None
        if path is None:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._map = mmap.mmap(-1, self.size_bytes, flags=flags)
        else:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, self.size_bytes)
                self._map = mmap.mmap(file, self.size_bytes)
            finally:
                os.close(file)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.view = memoryview(self._map)

    def contains(self, address: int, size_bytes: int) -> bool:
        """Whether these bytes are all inside."""
        return self.address <= address and address + size_bytes <= self.address + self.size_bytes

    def discard(self) -> None:
        """Give all of it back to the system; it reads as zeros then, and is taken when written."""
        # Of shared memory the pages themselves are to go, not only this mapping of them.
        self._map.madvise(mmap.MADV_REMOVE if self._shared else mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Unmap. Withdraw it from every BytesPlane first; slices of `view` must be gone."""
        self.view.release()
        self._map.close()
