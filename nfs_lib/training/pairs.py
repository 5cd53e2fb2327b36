"""Pictures that the generator learns from: pairs of one person, pose and light that differ in expression alone.

A mouth is a small share of a portrait, so plain pictures teach it slowly. In a pair, what changed is known pixel by pixel:
rays and patches are drawn there, and the loss compares the change itself.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from nfs_lib.progress import progress
from nfs_lib.training.common import end_with_parent
from nfs_lib.writing import intact, replacing

SHARD = 250
HELD_OUT_SEED = 9_500_000


@dataclass
class Pairs:
    """N pairs. pictures (N, 2, 256, 256, 3) and small (N, 2, 128, 128, 3) uint8; alpha (N, 2, 64, 64) in [0, 1] and depth
    (N, 2, 64, 64) NeRF units; latents (N, 2, Z_DIM + Z_BG); pose (N, 3); weight (N, 64, 64): where to look."""

    pictures: UInt8[Tensor, "N 2 256 256 3"]
    small: UInt8[Tensor, "N 2 128 128 3"]
    alpha: Float[Tensor, "N 2 64 64"]
    depth: Float[Tensor, "N 2 64 64"]
    latents: Float[Tensor, "N 2 z"]
    pose: Float[Tensor, "N 3"]
    weight: Float[Tensor, "N 64 64"]

    def __len__(self) -> int:
        return len(self.pictures)


def render_shard(path: Path, first_seed: int, n: int) -> None:
    """Render pairs first_seed … first_seed + n − 1 into one npz file."""
    from nfs_lib import portraits

    pairs = [portraits.portrait_pair(first_seed + i) for i in range(n)]
    alpha = np.stack([[p.alpha for p in pair] for pair in pairs]).astype(np.float32)
    depth = np.stack([[p.depth for p in pair] for pair in pairs]).astype(np.float32)
    solid = cells((depth > 0).astype(np.float32))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, pictures=np.stack([[p.image for p in pair] for pair in pairs]),
                 alpha=cells(alpha).astype(np.float16),
                 depth=(cells(depth) / np.maximum(solid, 1e-6)).astype(np.float16),
                 latents=np.stack([[p.latent for p in pair] for pair in pairs]).astype(np.float32),
                 pose=np.stack([pair[0].pose for pair in pairs]).astype(np.float32))


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """What `render_shard` wrote."""
    with np.load(path) as shard:
        return {name: shard[name] for name in ("pictures", "alpha", "depth", "latents", "pose")}


def opens(path: Path) -> None:
    """Raises an error for a shard that isn't whole; the pictures, 99 % of it, aren't read for that."""
    with np.load(path) as shard:
        _ = shard["latents"], shard["pose"]


def cells(x: np.ndarray) -> np.ndarray:
    """(n, 2, 256, 256) → (n, 2, 64, 64): means over 4 × 4 pixels."""
    return x.reshape(*x.shape[:2], 64, 4, 64, 4).mean((3, 5))


def load_pairs(folder: Path, n: int, first_seed: int, workers: int = 2) -> Pairs:
    """n pairs from `folder`, rendering those shards that aren't there yet (about 0.1 s a pair and core)."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(first_seed, first_seed + n, SHARD)
    paths = [folder / f"pairs_{s}_{min(SHARD, first_seed + n - s)}.npz" for s in starts]
    missing = [(p, s, min(SHARD, first_seed + n - s)) for p, s in zip(paths, starts, strict=True)
               if not intact(p, opens)]
    if missing:
        # not fork: a child of a process whose OpenMP threads have run can hang
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
            jobs = [pool.submit(render_shard, *m) for m in missing]
            try:
                for job in progress(jobs, "rendering pairs"):
                    job.result()
            except BaseException:                        # Ctrl-C too: the executor would wait for all that was asked for
                for job in jobs:
                    job.cancel()
                for child in multiprocessing.active_children():
                    child.terminate()
                raise
    pictures = torch.empty(n, 2, 256, 256, 3, dtype=torch.uint8)
    rest: dict[str, list[Tensor]] = {k: [] for k in ("alpha", "depth", "latents", "pose")}
    at = 0
    for path in paths:
        shard = read_shard(path)
        part = torch.from_numpy(shard["pictures"])
        pictures[at : at + len(part)] = part
        at += len(part)
        for k, v in rest.items():
            v.append(torch.from_numpy(shard[k].astype(np.float32)))
    small, weight = zip(*[prepare(pictures[i : i + 100]) for i in range(0, n, 100)], strict=True)
    return Pairs(pictures=pictures, small=torch.cat(small), weight=torch.cat(weight),
                 **{k: torch.cat(v) for k, v in rest.items()})


def prepare(pictures: UInt8[Tensor, "n 2 256 256 3"]) -> tuple[Tensor, Tensor]:
    """What ray training needs: smoothed pictures at 128 × 128, and where rays should go (sum 1 per pair): a third to what
    changes in the pair, a third to edges, a third everywhere."""
    x = pictures.flatten(0, 1).permute(0, 3, 1, 2).float()
    small = F.avg_pool2d(F.pad(F.avg_pool2d(x, 2), (1, 1, 1, 1), mode="replicate"), 3, 1)
    grey = F.avg_pool2d(x, 4).mean(1)
    first, second = grey[::2], grey[1::2]
    change = F.avg_pool2d((F.avg_pool2d(x, 4)[1::2] - F.avg_pool2d(x, 4)[::2]).abs().mean(1), 3, 1, 1)
    edge = torch.zeros_like(first)
    for g in (first, second):
        edge[:, :, 1:] += g.diff(dim=2).abs()
        edge[:, 1:] += g.diff(dim=1).abs()
    edge = F.avg_pool2d(edge, 3, 1, 1).clamp(max=60)
    parts = [change, edge, torch.ones_like(edge)]
    weight = torch.stack([p / p.sum((1, 2), keepdim=True).clamp(min=1e-6) for p in parts]).mean(0)
    small = (small + 0.5).byte().permute(0, 2, 3, 1).unflatten(0, (-1, 2))
    return small, weight


def draw_rays(pairs: Pairs, index: Int[Tensor, "b"], n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
    """n rays for each of b pairs, drawn by `weight`.

    Returns image positions x, y (2b, n) in [−1, 1], and what they should see, first and second picture of a pair next to each
    other: colour (2b, n, 3) in [−1, 1], alpha (2b, n), depth (2b, n).
    """
    cell = torch.multinomial(pairs.weight[index].flatten(1), n, replacement=True, generator=rng)      # (b, n) of 64 × 64
    row = cell // 64 * 2 + torch.randint(2, cell.shape, generator=rng)
    column = cell % 64 * 2 + torch.randint(2, cell.shape, generator=rng)
    at = index[:, None]
    both = [torch.stack(v, 1).flatten(0, 1) for v in (
        [pairs.small[at, k, row, column].float() / 127.5 - 1 for k in (0, 1)],
        [pairs.alpha[at, k, row // 2, column // 2] for k in (0, 1)],
        [pairs.depth[at, k, row // 2, column // 2] for k in (0, 1)])]
    x = ((column + 0.5) / 64 - 1).repeat_interleave(2, 0)
    y = (1 - (row + 0.5) / 64).repeat_interleave(2, 0)
    return x, y, *both


def draw_patch(pairs: Pairs, index: Int[Tensor, "b"], size: int, rng: torch.Generator) -> tuple[int, int]:
    """Top row and left column (in feature cells, of 32) of one size × size patch for all b pairs: three times out of five
    around what counts in these pairs (`weight`), else anywhere."""
    high = 32 - size
    if torch.rand((), generator=rng) < 0.6:
        flat = pairs.weight[index].mean(0)
        cell = int(torch.multinomial((flat - flat.min()).flatten(), 1, generator=rng))
        row, column = cell // 64 // 2 - size // 2, cell % 64 // 2 - size // 2
        return max(0, min(high, row)), max(0, min(high, column))
    row, column = torch.randint(high + 1, (2,), generator=rng).tolist()
    return row, column
