"""Memory that is freed is kept for the next batch."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks of memory instead of returning each to the system.

    An encoder on a CPU allocates and frees the same hundreds of megabytes for every batch, and a
    page of fresh memory is zeroed by the kernel when it is first touched: several hundred thousand
    of them a batch, which can take longer than the network. The process then keeps its peak of
    memory to the end. Does nothing with other C libraries.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
