"""Parity of StyleNeRF and of what NeRFFaceSpeech does to its renderer.

A set is five files: NAME_config.json (arguments of generator and discriminator), their weights under the official names,
inputs and outputs. What the authors' code gave is compared name by name; files may lack cases.
"""

import math
import re
from pathlib import Path

import torch

from nfs_lib.errors import NfsError
from nfs_lib.parity.golden import Parity
from nfs_lib.parity.stylenerf_cases import Set, values

RENDERED, EXACT = 5e-4, 1e-5           # tolerances, as shares of a tensor's largest value
EXACT_NAMES = re.compile(r"ws|ws_psi.*|camera_.*|RT_.*|.*\.(p_[if]|bg_points)|(ref|pred)_vertices|reg\.rand_pixels|lip\..*"
                         r"|d_logits.*|mask_.*")


def check(home: Path, only: str | None = None) -> list[Parity]:
    """Run every set in a folder (or the one called `only`); one result for each set."""
    results = []
    for config in sorted(home.glob("*_config.json")):
        name = config.name.removesuffix("_config.json")
        if only in (None, home.name, name) and (home / f"{name}_outputs.safetensors").exists():
            try:
                found = report(home, name)
            except (NfsError, LookupError, RuntimeError, TypeError, ValueError) as error:       # also: shapes that don't fit
                results.append(Parity(name, math.inf, EXACT, False, " ".join(str(error).split())))
                continue
            if not found:
                results.append(Parity(name, math.inf, EXACT, False, "nothing in it is known"))
                continue
            worst = max(found, key=lambda tensor: found[tensor][0] / found[tensor][1])
            left = sorted(Set(home, name).outputs.keys() - found.keys())
            where = worst + (f"; not compared: {', '.join(left)}" if left else "")
            results.append(Parity(name, *found[worst], all(error <= limit for error, limit in found.values()), where))
    return results


@torch.no_grad()
def report(home: Path, name: str) -> dict[str, tuple[float, float]]:
    """(error, tolerance) of every tensor of a set. Errors are shares of the tensor's largest value; of indices, the share of
    wrong ones, where tolerance is 0 written as 1e-9."""
    given = Set(home, name)
    results = {}
    for tensor, value in values(given):
        if tensor not in given.outputs:
            continue
        theirs = given.outputs[tensor]
        if not theirs.is_floating_point():
            results[tensor] = (1.0 if value.shape != theirs.shape else float((value != theirs).double().mean()), 1e-9)
            continue
        error = math.inf
        if value.shape == theirs.shape and value.isfinite().all():
            error = float((value.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-30))
        results[tensor] = (error, EXACT if EXACT_NAMES.fullmatch(tensor) else RENDERED)
    return results
