"""Training the small Wav2Lip on rendered people who say synthetic speech: `nfs train wav2lip`.

The losses are those of Wav2Lip without its discriminator of visual quality: L1 to the true picture, and, in the second part,
that an expert finds the lips in sync with the sound. The expert is the open world's sync scorer, unchanged; since the same
network measures LSE, this baseline's LSE is flattered: it is as good as the truth's, while the jaw that the estimator reads off
the shipped network's frames follows the true one with r 0.5 only and moves a fifth as far (8 held-out clips). Its mouths are
blurred; part of what pleases the expert is no lip movement but faint patterns. It is a weak stand-in for Wav2Lip.

Three things make a training of half an hour possible: it starts from a network that draws the reference
(`start_from_reference`), pixels count more where the reference is wrong, and the audio encoder also learns, through one linear
map, to tell the facial actions that the speech asks for.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from nfs_lib import portraits
from nfs_lib.baselines.wav2lip import FACE, SIDE, Wav2Lip, face_channels, lip_frames
from nfs_lib.cpu import keep_freed_memory, mixed_precision
from nfs_lib.measure_generator import MOUTH, as_picture, box, psnr
from nfs_lib.metrics.sync import FRAMES, Lse, SyncScorer
from nfs_lib.progress import progress
from nfs_lib.training import audio2exp, speech_clips, visemes
from nfs_lib.training.common import (
    Ema,
    Loop,
    export,
    numpy_rng,
    run_folder,
    seed_everything,
    set_learning_rate,
    step_rng,
    warm_cosine,
)
from nfs_lib.training.estimator import as_images
from nfs_lib.training.sync import render_talking
from nfs_lib.training.team import Team
from nfs_lib.writing import intact, replacing

WIDTH = 3 / 16  # 1.3 M parameters
CLIPS, LENGTH = 600, 20  # clips of 0.8 s
MARGIN = 4  # pixels of 160 by which the face's box may be off
TALKING_BOX = (FACE[0] - MARGIN, FACE[1] + MARGIN, FACE[2] - MARGIN, FACE[3] + MARGIN)
BATCH = 10  # moments a step
WRONG = 20  # how much more a pixel counts where the reference is wrong (per unit of its error)
SYNC_WEIGHT, SYNC_CLIPS, SYNC_FROM = 0.03, 2, 0.5  # the expert's loss, clips of five frames a step, part of the steps
TELLING_WEIGHT, WINDOWS = 0.1, 32  # of the audio encoder's own lesson, mel windows a step
HELD_OUT_SEED = 9_300_000


class Speakers(NamedTuple):
    """faces (C, T, 104, 104, 3) uint8: people who speak, `TALKING_BOX` of 160-pixel pictures; portrait (C, 104, 104, 3): the
    same people with an expression of their own; mel (C, T, 80, 16)."""

    faces: UInt8[Tensor, "C T 104 104 3"]
    portrait: UInt8[Tensor, "C 104 104 3"]
    mel: Float[Tensor, "C T 80 16"]


def load_speakers(folder: Path, clips: speech_clips.Clips) -> Speakers:
    """The training set, from `folder` or rendered there (about 0.7 s a clip)."""
    path = folder / f"speakers_{CLIPS}_{LENGTH}.npz"

    def read(path: Path) -> Speakers:
        with np.load(path) as file:
            parts = (file["faces"], file["portrait"], file["mel"].astype(np.float32))
        return Speakers(*map(torch.from_numpy, parts))

    if not intact(path, read):
        folder.mkdir(parents=True, exist_ok=True)
        talking = render_talking(clips, CLIPS, LENGTH, 0, "rendering speakers", TALKING_BOX, 160)
        top, bottom, left, right = TALKING_BOX
        own = [portraits.portrait(seed, 160).image[top:bottom, left:right] for seed in range(CLIPS)]
        with replacing(path) as temporary:
            mel = talking.mel.numpy().astype(np.float16)
            np.savez(temporary, faces=talking.mouths.numpy(), portrait=np.stack(own), mel=mel)
    return read(path)


def batch(
    speakers: Speakers, rng: torch.Generator, clips: int, run: int
) -> tuple[Float[Tensor, "n t 3 96 96"], Float[Tensor, "n t 3 96 96"], Float[Tensor, "n t 80 16"]]:
    """(true faces, other faces of the same people, mel windows) of `run` consecutive frames of each of `clips` clips.

    The other face is the portrait or another moment of the clip. Both are moved by up to MARGIN pixels, mirrored, made
    brighter or darker and tinted alike; blue, green, red in [0, 1].
    """
    count, length = speakers.faces.shape[:2]
    clip = torch.randperm(count, generator=rng)[:clips]
    first = torch.randint(length - run + 1, (clips,), generator=rng)
    away = torch.randint(run, length, (clips,), generator=rng)  # frames of the clip after the first one, in a circle
    as_portrait = torch.rand(clips, generator=rng) < 0.5
    shift = torch.randint(2 * MARGIN + 1, (clips, 2), generator=rng)
    true, other = [], []
    for c, f, a, p, (y, x) in zip(clip, first, away, as_portrait, shift.tolist(), strict=True):
        cut = (slice(None), slice(y, y + SIDE), slice(x, x + SIDE))
        reference = speakers.portrait[c] if p else speakers.faces[c, (f + a) % length]
        true.append(speakers.faces[c, f : f + run][cut])
        other.append(reference[None][cut].expand(run, -1, -1, -1))
    faces = as_images(torch.cat(true + other)).flip(1) / 2 + 0.5
    if torch.rand((), generator=rng) < 0.5:
        faces = faces.flip(3)
    faces = faces.view(2, clips, run, 3, SIDE, SIDE)
    gain, tint = torch.rand(clips, 1, 1, 1, 1, generator=rng), torch.rand(clips, 1, 3, 1, 1, generator=rng)
    faces = (faces * (0.85 + 0.3 * gain) + 0.1 * (tint - 0.5)).clamp(0, 1)
    mel = torch.stack([speakers.mel[c, f : f + run] for c, f in zip(clip, first, strict=True)])
    return faces[0], faces[1], audio2exp.augment(mel, rng)


def mouths_of(faces: Float[Tensor, "B 3 96 96"]) -> Float[Tensor, "B 3 48 64"]:
    """What the sync scorer looks at, cut out of faces (blue, green, red in [0, 1]) → red, green, blue in [-1, 1]."""
    cut = faces[:, :, 35:95, 8:88]  # metrics.sync.MOUTH of 128 pixels, in FACE of 160
    return F.interpolate(cut, (48, 64), mode="bilinear", antialias=True).flip(1) * 2 - 1


@torch.no_grad()
def start_from_reference(model: Wav2Lip, batches: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """First weights with which the network draws the reference that it is shown; sets the model to evaluation for good.

    Six channels of the first layer are the six channels shown, and three of the last block take the reference from them through
    the skip connection. The batch norms get the means and variances of `batches` (see `batch`) and keep them. Both make a short
    training possible: from random weights the faces are still blurred after 2000 steps, and with the statistics of each
    step's few pictures, as in Wav2Lip's own training, the colours of a face change with the other faces in its batch.
    """
    first: Any = model.get_submodule("face_encoder_blocks.0.0.conv_block")
    last: Any = model.get_submodule("output_block.0.conv_block")
    colours: Any = model.get_submodule("output_block.1")
    skip = last[0].in_channels - first[0].out_channels
    for (conv, norm), shown in ((first, range(6)), (last, range(skip + 3, skip + 6))):
        for channel, source in enumerate(shown):
            conv.weight[channel] = 0
            conv.weight[channel, source, conv.padding[0], conv.padding[1]] = 1
            norm.bias[channel] = 2  # nearly all of it gets through the ReLU
    device, norms = first[0].weight.device, [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over the batches
    model.train()
    for true, other, mel in batches:
        model(mel.flatten(0, 1)[:, None].to(device), face_channels(true.flatten(0, 1), other.flatten(0, 1)).to(device))
    model.eval()
    mean, spread = first[1].running_mean[3:6], first[1].running_var[3:6].sqrt()
    gain = spread / (mean * (1 - mean))  # the sigmoid's slope at the mean is mean · (1 − mean)
    colours.weight.zero_()
    colours.weight[:, :3, 0, 0] = torch.diag(gain)
    colours.bias[:] = mean.logit() - 2 * gain


class Lesson:
    """Mel windows of all sentences, with the facial actions that they ask for, standardised."""

    def __init__(self, clips: speech_clips.Clips) -> None:
        self.mel, self.columns = clips.mel, clips.columns()
        deviation = clips.actions.std(0).clip(min=0.02)
        self.actions = torch.from_numpy((clips.actions - clips.actions.mean(0)) / deviation)

    def draw(self, rng: torch.Generator) -> tuple[Float[Tensor, "n 1 80 16"], Float[Tensor, "n E"]]:
        at = torch.randint(len(self.actions), (WINDOWS,), generator=rng)
        mel = torch.from_numpy(self.mel[self.columns[at.numpy()]]).transpose(1, 2)[:, None]
        return audio2exp.augment(mel, rng), self.actions[at]


def train(
    steps: int = 3000, seed: int = 0, resume: bool = False, device: str | Team = "cpu", out: str | Path | None = None
) -> dict[str, float]:
    """Train, measure on held-out speech and people, export; returns the figures.

    Speech is that of `nfs train audio2exp` (made here if it isn't there); the people are rendered on the first call and kept
    in the run's folder (about seven minutes on one core).
    """
    from nfs_lib import worlds

    keep_freed_memory()
    team = Team.of(device)
    mine, lesson_mine = [team.share(n) for n in (BATCH, SYNC_CLIPS)], team.share(WINDOWS)
    expert = worlds.load("open").sync.to(team.device).requires_grad_(False)
    with team.first():
        clips = speech_clips.training_clips(run_folder("audio2exp", out), seed)
        speakers = load_speakers(run_folder("wav2lip", out), clips)
    lesson = Lesson(clips)
    seed_everything(seed)
    model = Wav2Lip(WIDTH).to(team.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start_from_reference(model, [batch(speakers, step_rng(seed, 10**9 + i), 24, 1) for i in range(10)])
    told = torch.nn.Linear(model.dimensions, lesson.actions.shape[1]).to(team.device)
    optimiser = torch.optim.Adam([*model.parameters(), *told.parameters()], betas=(0.9, 0.99))
    ema = Ema(model, half_life=100)
    state = {"model": model, "told": told, "optimiser": optimiser, "ema": ema}
    loop = Loop("wav2lip", steps, seed, state, out, resume, team=team)
    for step in loop:
        set_learning_rate(optimiser, warm_cosine(step, steps, peak=1.5e-3, final=0.01))
        second = step >= SYNC_FROM * steps
        shape = (SYNC_CLIPS, FRAMES) if second else (BATCH, 1)
        rng = step_rng(seed, step)
        true, other, mel = (part[mine[second]].to(team.device) for part in batch(speakers, rng, *shape))
        seen = face_channels(true.flatten(0, 1), other.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        with mixed_precision(team.device.type):
            drawn = model(mel.flatten(0, 1)[:, None], seen).float()
        half = SIDE // 2  # only the lower half is pasted
        error, wrong = ((a - true.flatten(0, 1))[:, :, half:].abs() for a in (drawn, other.flatten(0, 1)))
        l1 = (error * (1 + WRONG * wrong)).mean()
        loss = l1
        if second:
            pasted = torch.cat([true.flatten(0, 1)[:, :, :half], drawn[:, :, half:]], 2)
            lips = expert.see(mouths_of(pasted).unflatten(0, true.shape[:2]))
            sync = 1 - (lips * expert.hear(mel[:, FRAMES // 2])).sum(1).mean()
            loss = (1 - SYNC_WEIGHT) * l1 + SYNC_WEIGHT * sync
            loop.log(sync=sync)
        heard, actions = (part[lesson_mine].to(team.device) for part in lesson.draw(rng))
        telling = F.mse_loss(told(model.audio_encoder(heard).flatten(1)), actions)
        loss = loss + TELLING_WEIGHT * telling
        optimiser.zero_grad(set_to_none=True)
        team.backward(loss, model, told)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        ema.update(model)
        loop.log(l1=l1, telling=telling, unweighted=error.mean(), reference=wrong.mean())
    if not team.leads:
        return {}
    model.load_state_dict(ema.state)
    figures = measure_wav2lip(model.cpu().eval(), expert.cpu())
    command = f"nfs train wav2lip --steps {steps} --seed {seed}{team.options}"
    export("wav2lip", model.state_dict(), figures, command, seed, steps, loop.seconds, config={"width": WIDTH}, out=out)
    return figures


@torch.no_grad()
def measure_wav2lip(model: Wav2Lip, expert: SyncScorer, n: int = 24, length: int = 40) -> dict[str, float]:
    """n held-out portraits (seeds from 9,300,000) made to say a piece each of a held-out sentence, against the renderer's
    pictures of the same people saying it, the head at rest, 256 × 256.

    mouth_l1 (of values in [0, 1]) and mouth_psnr: inside the box around the clip's true mouth landmarks, 4 pixels wider; with
    still_ the portrait itself, unmoved. lse_d, lse_c: means; in_sync: share of clips whose LSE offset is 0; with truth_ and
    still_ the rendered truth and the unmoved portrait. All LSE by the sync scorer that the training used.
    """
    clips, names = speech_clips.held_out_clips(), speech_clips.expression_names()
    starts, columns = clips.starts(), clips.columns()
    long = np.flatnonzero(clips.ends - starts >= length)
    values: dict[str, list[float]] = {}
    scores: dict[str, list[Lse]] = {"": [], "truth_": [], "still_": []}
    for i in progress(range(n), "speaking"):
        clip, who = long[i % len(long)], portraits.portrait(HELD_OUT_SEED + i)
        first = int(numpy_rng(HELD_OUT_SEED + i, 2).integers(starts[clip], clips.ends[clip] - length + 1))
        frames = slice(first, first + length)
        heard = torch.from_numpy(clips.mel[columns[frames]].transpose(0, 2, 1).copy())
        face = visemes.with_reference(clips.actions[frames], who.scene.expression, names)
        drawn = [portraits.render(who.scene.replace(expression=e), who.pose) for e in face]
        rows, cols = box(np.concatenate([d.landmarks[MOUTH] for d in drawn]), 4)
        truth = torch.stack([as_picture(d) for d in drawn])
        made = as_images(torch.from_numpy(np.stack(list(lip_frames(model, as_picture(who), heard)))))
        still = as_picture(who).expand_as(truth)
        for name, pictures in (("", made), ("still_", still)):
            a, b = pictures[:, :, rows, cols], truth[:, :, rows, cols]
            values.setdefault(f"{name}mouth_l1", []).append(float((a - b).abs().mean() / 2))
            values.setdefault(f"{name}mouth_psnr", []).extend(psnr(x, y) for x, y in zip(a, b, strict=True))
        for name, pictures in (("", made), ("truth_", truth), ("still_", still)):
            scores[name].append(expert.score(pictures, heard))
    figures = {name: float(np.mean(value)) for name, value in values.items()}
    for name, found in scores.items():
        figures[f"{name}lse_d"] = float(np.mean([s.distance for s in found]))
        figures[f"{name}lse_c"] = float(np.mean([s.confidence for s in found]))
        figures[f"{name}in_sync"] = float(np.mean([s.offset == 0 for s in found]))
    return figures
