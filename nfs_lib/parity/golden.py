"""A golden set: numbers that the authors' own code computed, and the rule by which its networks got their weights."""

import math
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Compared = Iterator[tuple[str, Tensor | np.ndarray]]  # tensor's name in the golden file, the kit's value


class Parity(NamedTuple):
    """How one golden set came out."""

    name: str
    error: float  # of the tensor nearest to its limit, in the set's own terms (absolute or relative)
    tolerance: float  # that tensor's limit
    ok: bool | None  # None: not yet covered by the kit, and not asked for
    worst: str = ""  # that tensor's name, or why the set couldn't be run

    def __str__(self) -> str:
        if math.isnan(self.error):
            return f"{self.name:22s} not yet covered: the kit has no check for this set"
        verdict = "ok  " if self.ok else "OVER"
        where = f" ({self.worst})" if self.worst else ""
        return f"{self.name:22s} {verdict} error {self.error:.2e}, tolerance {self.tolerance:.0e}{where}"


class GoldenSet(NamedTuple):
    """One entry of an index.json."""

    folder: Path
    seed: int
    entry: dict[str, Any]
    golden: dict[str, Tensor]

    def beside(self, name: str) -> Path:
        """A file of another set in the same collection."""
        return self.folder.parent / name

    def fill(self, module: nn.Module) -> nn.Module:
        """The module with the goldens' weights (`fill_by_rule`), in eval mode."""
        return fill_by_rule(module, self.seed)


def fill_by_rule(module: nn.Module, seed: int) -> nn.Module:
    """Give every entry of the state dict the goldens' value, drawn from its name; returns it in eval mode."""
    filled = {}
    for name, value in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)  # noqa: NPY002  the rule says so
        shape = tuple(value.shape)
        if name.endswith("running_var"):
            drawn = rng.uniform(0.75, 1.25, shape)
        elif name.endswith("running_mean"):
            drawn = 0.1 * rng.standard_normal(shape)
        elif len(shape) >= 2:
            drawn = rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("bias"):
            drawn = 0.1 * rng.standard_normal(shape)
        else:
            drawn = rng.uniform(0.75, 1.25, shape)
        filled[name] = torch.from_numpy(drawn.astype(np.float32))
    module.load_state_dict(filled, strict=False)
    return module.eval()


def measured(ours: Tensor, theirs: Tensor, limit: float | str, absolute: bool) -> tuple[float, float]:
    """(error, tolerance) of one tensor. A number limits the largest difference, which is `absolute` or a share of
    the largest value.

    A limit in words is one of the mean absolute difference ("mean absolute difference below 1.5 of 255") or, given in percent,
    of the share of unequal numbers ("equal except at most 0.1 % of pixels").
    """
    words = limit if isinstance(limit, str) else ""
    tolerance = float(re.findall(r"\d+(?:\.\d+)?", words)[0]) / (100 if "%" in words else 1) if words else float(limit)
    if ours.shape != theirs.shape or not ours.isfinite().all():
        return math.inf, tolerance
    difference = (ours - theirs).abs()
    if words:
        return float((difference > 0).double().mean() if "%" in words else difference.mean()), tolerance
    return float(difference.max() / (1.0 if absolute else theirs.abs().max() or 1.0)), tolerance


def compare(golden: GoldenSet, check: Callable[[GoldenSet], Compared]) -> tuple[float, float]:
    """(error, tolerance) of the tensor nearest to its limit; NaN or a wrong shape is an infinite error.

    Without a limit of its own or a default one, a tensor falls under "value" (of the set cpbd); "information only" is no limit.
    """
    absolute = "absolute" in golden.entry.get("note", "") and "relative" not in golden.entry.get("note", "")
    limits = golden.entry["tolerance"]
    worst, worst_excess = (math.inf, 0.0), -1.0
    for name, value in check(golden):
        if name not in golden.golden:  # another collection may hold less
            continue
        ours, theirs = torch.as_tensor(value).double(), golden.golden[name].double()
        limit = limits.get(name, limits.get("default", limits.get("value", 0.0)))
        if limit == "information only":
            continue
        error, tolerance = measured(ours, theirs, limit, absolute)
        if not math.isfinite(error):
            return math.inf, tolerance
        excess = error / tolerance if tolerance else (0.0 if error == 0.0 else math.inf)
        if excess > worst_excess:
            worst, worst_excess = (error, tolerance), excess
    return worst
