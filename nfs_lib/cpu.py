"""Settings that let a CPU work at full speed."""

import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

chosen: Callable[[], AbstractContextManager] | None = None  # what `nfs train --precision` puts in place of our own choice


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed blocks for reuse instead of handing them back to the kernel.

    Without this, every large temporary of a training step is mapped, zeroed and unmapped anew, which halves the speed.
    Does nothing where the C library isn't glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def mixed_precision(device: str = "cpu") -> AbstractContextManager:
    """bfloat16 autocast where the processor multiplies bfloat16 natively (twice the speed), float32 elsewhere."""
    if chosen:
        return chosen()
    native = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, dtype=torch.bfloat16, enabled=native)


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """function(item) for each item, in order, as many at a time as torch has threads, each on one thread.

    Two items side by side take less time than two threads on one item, which wait for each other in every layer. Items are
    drawn no faster than results are taken.
    """
    threads, waiting = torch.get_num_threads(), deque[Future[Result]]()
    if threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for job in waiting:
                job.cancel()
            torch.set_num_threads(threads)
