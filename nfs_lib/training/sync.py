"""Training the sync scorer on rendered mouths that say synthetic speech: `nfs train sync`.

The speech is Audio2Exp's training set with its natural facial actions; people, poses and their own expressions are random.
Sound and lips of the same moment attract each other, other moments of the clip and other clips repel (InfoNCE). That alone
stays at chance for long, so both vectors must also tell, through one linear map, which facial actions the speech asks for.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from nfs_lib.cpu import keep_freed_memory, mixed_precision
from nfs_lib.metrics.sync import FRAMES, MOUTH, SyncScorer, lse, windows
from nfs_lib.training import audio2exp, speech_clips, visemes
from nfs_lib.training.common import (
    Ema,
    Loop,
    export,
    in_workers,
    numpy_rng,
    run_folder,
    seed_everything,
    set_learning_rate,
    step_rng,
    warm_cosine,
)
from nfs_lib.training.estimator import as_images
from nfs_lib.training.team import Team
from nfs_lib.writing import intact, replacing

CLIPS, LENGTH = 500, 40  # clips of 1.6 s
BATCH_CLIPS, BATCH_MOMENTS = 10, 10
APART = 3  # frames: moments of a clip nearer to each other than this are neither right nor wrong
OFF = 5  # frames that sound must be off to count as out of sync
TEMPERATURE = 0.07
HELD_OUT_SEED = 9_200_000
Box = tuple[int, int, int, int]


class Talking(NamedTuple):
    """Rendered clips: mouths (C, T, 48, 64, 3) uint8, or another box; of the same frames, the mel windows (C, T, 80, 16) and
    the speech's facial actions (C, T, E)."""

    mouths: UInt8[Tensor, "C T h w 3"]
    mel: Float[Tensor, "C T 80 16"]
    actions: Float[Tensor, "C T E"]


def render_clip(
    actions: Float[np.ndarray, "T E"], seed: int, names: list[str], box: Box = MOUTH, resolution: int = 128
) -> UInt8[np.ndarray, "T h w 3"]:
    """Mouths of a random person (`seed`) with a face of their own, turning a little, while speech acts on it.

    The speech's actions are made 0.8 to 1.25 times as large. box: top, bottom, left, right in pictures of `resolution` pixels.
    """
    from nfs_lib import portraits

    rng, scene = numpy_rng(seed, 1), portraits.chart(portraits.sample_latent(seed))
    reference = 0.6 * scene.expression
    face = visemes.with_reference((actions * rng.uniform(0.8, 1.25)).astype(np.float32), reference, names)
    time = np.linspace(0, 2 * np.pi, len(face))[:, None]
    turning = rng.normal(0, (0.06, 0.03, 0.02), 3) * np.sin(time * rng.uniform(0.2, 1.0, 3) + rng.uniform(0, 6, 3))
    poses = portraits.sample_pose(seed) + turning
    top, bottom, left, right = box
    frames = [portraits.render(scene.replace(expression=e), p, resolution).image for e, p in zip(face, poses, strict=True)]
    return np.stack(frames)[:, top:bottom, left:right]


def render_talking(clips: speech_clips.Clips, count: int, length: int, first_seed: int, title: str, box: Box = MOUTH,
                   resolution: int = 128) -> Talking:
    """`count` pieces of `length` frames, each from the next clip that is long enough, with a person each."""
    names, columns = speech_clips.expression_names(), clips.columns()
    starts = clips.starts()
    long = np.flatnonzero(clips.ends - starts >= length)
    jobs, mel, actions = [], [], []
    for i in range(count):
        clip, rng = long[i % len(long)], numpy_rng(first_seed + i, 2)
        first = int(rng.integers(starts[clip], clips.ends[clip] - length + 1))
        frames = slice(first, first + length)
        jobs.append((clips.actions[frames], first_seed + i, names, box, resolution))
        actions.append(clips.actions[frames])
        mel.append(clips.mel[columns[frames]].transpose(0, 2, 1))
    mouths = in_workers(_render_clip, jobs, title)
    return Talking(*(torch.from_numpy(np.stack(part)) for part in (mouths, mel, actions)))


def _render_clip(job: tuple[Any, ...]) -> UInt8[np.ndarray, "T h w 3"]:
    return render_clip(*job)


def load_talking(folder: Path, clips: speech_clips.Clips) -> Talking:
    """The training set, from `folder` or rendered there (about 0.7 s a clip)."""
    path = folder / f"talking_{CLIPS}_{LENGTH}.npz"

    def read(path: Path) -> Talking:
        with np.load(path) as file:
            parts = (file["mouths"], file["mel"].astype(np.float32), file["actions"])
        return Talking(*map(torch.from_numpy, parts))

    if not intact(path, read):
        folder.mkdir(parents=True, exist_ok=True)
        talking = render_talking(clips, CLIPS, LENGTH, 0, "rendering mouths")
        with replacing(path) as temporary:
            mouths, mel, actions = (part.numpy() for part in talking)
            np.savez(temporary, mouths=mouths, mel=mel.astype(np.float16), actions=actions)
    return read(path)


def augment_mouths(mouths: Float[Tensor, "C T 3 48 64"], rng: torch.Generator) -> Float[Tensor, "C T 3 48 64"]:
    """Whole clips shifted by up to 3 pixels, mirrored, brighter or darker, tinted; a part of them blurred, all noisy."""
    c = len(mouths)

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=rng).to(mouths.device) - 1

    dx, dy = torch.randint(-3, 4, (2,), generator=rng).tolist()
    mouths = F.pad(mouths.flatten(0, 1), (3, 3, 3, 3), mode="replicate")
    mouths = mouths[..., 3 + dy : 51 + dy, 3 + dx : 67 + dx]
    if draw(1) < 0:
        mouths = mouths.flip(-1)
    mouths = mouths.unflatten(0, (c, -1))
    mouths = mouths * (1 + 0.2 * draw(c, 1, 1, 1, 1)) + 0.15 * draw(c, 1, 1, 1, 1) + 0.06 * draw(c, 1, 3, 1, 1)
    third = c // 3
    mouths[:third] = F.avg_pool2d(mouths[:third].flatten(0, 1), 3, 1, 1).unflatten(0, (third, -1))
    return mouths + 0.03 * draw(c, 1, 1, 1, 1) * torch.randn(mouths.shape, generator=rng).to(mouths.device)


def contrastive_loss(
    seen: Float[Tensor, "C M D"], heard: Float[Tensor, "C M D"], moment: Float[Tensor, "C M"]
) -> Tensor:
    """Each moment's lips must find their sound among all sounds of the batch, and each sound its lips.

    seen, heard: unit vectors of M moments of C clips; moment: their frame numbers.
    """
    c, m, _ = seen.shape
    similarity = seen.flatten(0, 1) @ heard.flatten(0, 1).T / TEMPERATURE
    clip, frame = torch.arange(c, device=seen.device).repeat_interleave(m), moment.flatten()
    near = (clip[:, None] == clip[None]) & ((frame[:, None] - frame[None]).abs() < APART)
    near &= ~torch.eye(c * m, dtype=torch.bool, device=seen.device)
    similarity = similarity.masked_fill(near, -torch.inf)
    right = torch.arange(c * m, device=seen.device)
    return (F.cross_entropy(similarity, right) + F.cross_entropy(similarity.T, right)) / 2


def batch(talking: Talking, rng: torch.Generator, device: str | torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(mouths (C, M, 5, 3, 48, 64), mel (C, M, 80, 16), middle frames (C, M), actions (C, M, E)) of random moments,
    augmented."""
    clip = torch.randperm(len(talking.mouths), generator=rng)[:BATCH_CLIPS]
    length = talking.mouths.shape[1] - FRAMES + 1
    first = torch.stack([torch.randperm(length, generator=rng)[:BATCH_MOMENTS] for _ in clip])
    frames = first[..., None] + torch.arange(FRAMES)
    pictures = as_images(talking.mouths[clip[:, None, None], frames].flatten(0, 2)).to(device)
    mouths = augment_mouths(pictures.unflatten(0, (len(clip), -1)), rng)
    middle = first + FRAMES // 2
    mel = audio2exp.augment(talking.mel[clip[:, None], middle].to(device), rng)
    return mouths.unflatten(1, (BATCH_MOMENTS, FRAMES)), mel, middle.float().to(device), talking.actions[
        clip[:, None], middle
    ].to(device)


def train(
    steps: int = 2050, seed: int = 0, resume: bool = False, device: str | Team = "cpu", out: str | Path | None = None
) -> dict[str, float]:
    """Train, measure on held-out speech and people, export; returns the figures.

    Speech is that of `nfs train audio2exp` (made here if it isn't there); the mouths are rendered on the first call and
    kept in the run's folder (about seven minutes on one core).
    """
    keep_freed_memory()
    team = Team.of(device)
    mine = team.share(BATCH_CLIPS)
    with team.first():
        clips = speech_clips.training_clips(run_folder("audio2exp", out), seed)
        talking = load_talking(run_folder("sync", out), clips)
    seed_everything(seed)
    model = SyncScorer().to(team.device)
    team.join(model)
    told = torch.nn.Linear(model.dimensions, talking.actions.shape[-1]).to(team.device)  # vector → standardised actions
    mean, std = talking.actions.mean((0, 1)).to(team.device), talking.actions.std((0, 1)).clamp(min=0.02).to(team.device)
    optimiser = torch.optim.AdamW([*model.parameters(), *told.parameters()], lr=1e-3, weight_decay=0.05)
    ema = Ema(model, half_life=150)
    loop = Loop("sync", steps, seed, {"model": model, "told": told, "optimiser": optimiser, "ema": ema}, out, resume, team=team)
    for step in loop:
        set_learning_rate(optimiser, warm_cosine(step, steps, peak=1e-3, final=0.02))
        mouths, mel, middle, actions = batch(talking, step_rng(seed, step), team.device)
        with mixed_precision(team.device.type):
            seen, heard = model.see(mouths[mine].flatten(0, 1)), model.hear(mel[mine].flatten(0, 1))
        wanted = ((actions[mine] - mean) / std).flatten(0, 1)
        telling = sum(F.mse_loss(told(8 * vector), wanted) for vector in (seen, heard))
        seen, heard = (team.gather(vector).unflatten(0, middle.shape) for vector in (seen, heard))
        matching = contrastive_loss(seen, heard, middle)
        loss = matching + telling
        optimiser.zero_grad(set_to_none=True)
        team.backward(loss, model, told)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        ema.update(model)
        loop.log(matching=matching, telling=telling)
    if not team.leads:
        return {}
    model.load_state_dict(ema.state)
    figures = measure_sync(model.cpu().eval())
    command = f"nfs train sync --steps {steps} --seed {seed}{team.options}"
    export("sync", model.state_dict(), figures, command, seed, steps, loop.seconds, config={"dimensions": 128}, out=out)
    return figures


@torch.no_grad()
def measure_sync(model: SyncScorer, n: int = 24, length: int = 40) -> dict[str, float]:
    """In sync or off? On n clips of `length` frames: held-out sentences and voices (data/heldout/speech.npz) said by
    people that no training used (seeds from 9,200,000).

    accuracy: how often the lips of a moment (five frames, 0.2 s) are nearer to their own sound than to another one of the
    same clip that is off by 5 frames or more, over all such pairs; clip_accuracy: the same with distances averaged over
    1 s (25 moments); offset_found: share of clips whose LSE offset is within one frame of 0; lse_d and lse_c: means.
    """
    talking = render_talking(speech_clips.held_out_clips(), n, length, HELD_OUT_SEED, "rendering mouths")
    single, second, scores = [], [], []
    for mouths, mel in zip(talking.mouths, talking.mel, strict=True):
        seen = model.see(windows(as_images(mouths)))
        half = FRAMES // 2
        heard = model.hear(mel[half : length - half])
        distance = torch.cdist(seen, heard)
        single.append(beaten(distance))
        second.append(beaten(sliding_mean(distance, 25)))
        scores.append(lse(seen, heard))
    return {
        "accuracy": float(torch.cat(single).mean()),
        "clip_accuracy": float(torch.cat(second).mean()),
        "offset_found": float(np.mean([abs(s.offset) <= 1 for s in scores])),
        "lse_d": float(np.mean([s.distance for s in scores])),
        "lse_c": float(np.mean([s.confidence for s in scores])),
    }


def beaten(distance: Float[Tensor, "n n"]) -> Float[Tensor, " pairs"]:
    """1 where the distance of row i to its own column is less than to column j, else 0, for all |i − j| ≥ 5."""
    i = torch.arange(len(distance))
    off = (i[:, None] - i[None]).abs() >= OFF
    return (distance.diagonal()[:, None] < distance)[off].float()


def sliding_mean(distance: Float[Tensor, "n n"], length: int) -> Float[Tensor, "m m"]:
    """Means along the diagonals: entry (i, j) is the mean of (i + k, j + k) for k < length."""
    m = len(distance) - length + 1
    return torch.stack([distance[k : k + m, k : k + m] for k in range(length)]).mean(0)
