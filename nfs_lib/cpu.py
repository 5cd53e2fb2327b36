"""Settings that let a CPU work at full speed."""

import ctypes
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

F = TypeVar("F", bound=Callable)
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
    """bfloat16 autocast on a GPU, and on processors that multiply bfloat16 natively (twice the speed); else float32."""
    if chosen:
        return chosen()
    native = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, dtype=torch.bfloat16, enabled=native)


def remade(function: F) -> F:
    """A function compiled by numba whose cache, should it be damaged, is emptied and made again, which is said; numba itself
    stumbles over it for ever."""
    kept = function._cache                            # type: ignore[attr-defined]
    load = kept.load_overload

    def load_overload(*signature: object) -> object:
        try:
            return load(*signature)
        except Exception as error:                    # unpickling what isn't a pickle can raise anything
            print(f"numba's cache of {function.__name__} is damaged ({error}); it is made again", file=sys.stderr)
            kept.flush()
            return None

    kept.load_overload = load_overload
    return function
