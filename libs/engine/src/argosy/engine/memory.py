"""Memory given back to the system while nothing needs it, and what is held."""

import ctypes
import mmap

import psutil

libc = ctypes.CDLL(None, use_errno=True)


def drop_pages(address: int, size_bytes: int) -> None:
    """Empty the whole pages in this private memory, which from now on reads as zeros there.

    Addresses stay valid, and writing takes new pages.
    """
    start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (address + size_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if start >= end:
        return
    if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), "madvise refused to give memory back")


def trim_heap() -> None:
    """Give back what this process has freed but its allocator keeps."""
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def resident_bytes(pid: int) -> int:
    """Held by a process and those it started; what several processes share counts once (PSS)."""
    own = psutil.Process(pid)
    found = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            found += int(process.memory_full_info().pss)
        except psutil.Error:
            continue
    return found
