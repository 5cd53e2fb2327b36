"""Training the open world's generator and discriminator.

A 3D-aware GAN learned from pictures alone needs millions of them. Here the true scene is known, so the generator is taught by
paired supervision: the latent is the scene's own chart, and G(z) must reproduce the rendered portrait. Three stages:

1. rays: single rays, drawn where a pair of expressions differs and at edges; colour, depth, opacity, and the pair's change;
2. patches: the upsampler learns the detail on crops, colour and gradients, with the change weighted up;
3. pictures: whole images against a discriminator (non-saturating loss, lazy R1, feature matching) for crispness.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.camera import HEAD_TO_NERF, Camera
from nfs_lib.cpu import keep_freed_memory, mixed_precision
from nfs_lib.stylenerf import OPEN, Discriminator, Generator
from nfs_lib.stylenerf.generator import Rendered
from nfs_lib.training.common import Ema, Loop, export, run_folder, seed_everything, step_rng
from nfs_lib.training.muon import MuonAdam
from nfs_lib.training.pairs import HELD_OUT_SEED, Pairs, draw_patch, draw_rays, load_pairs
from nfs_lib.training.team import Team

PAIRS = 9000
RAY_STEPS, PATCH_STEPS = 0.40, 0.582           # shares of all steps; the rest are whole pictures
PATCH = 12
BATCHES = (16, 4, 2)                           # pairs a step, by stage
R1_EVERY, R1_GAMMA = 8, 2.0


def geometry_loss(r: Rendered, alpha: Float[Tensor, "B R"], depth: Float[Tensor, "B R"]) -> Tensor:
    """Opacity and depth against the truth. Opacity through the optical depth τ, whose gradient doesn't vanish where a ray is
    wrongly opaque: (1 − A)·τ − A·log(1 − e^−τ). Depth in head units, where the truth is solid: with less weight than this the
    samples' coarse cells leave the face 3 % of its width too deep."""
    tau = r.optical
    opacity = ((1 - alpha) * tau.clamp(max=30) - alpha * torch.log(1 - torch.exp(-tau) + 1e-3)).mean()
    return 0.2 * opacity + ((r.depth - depth).abs() * (alpha > 0.95)).mean() / HEAD_TO_NERF


def change_loss(made: Tensor, true: Tensor) -> Tensor:
    """L1 between the changes of the pairs (rows 2i → 2i + 1): an expression must move what it moves in truth."""
    return ((made[1::2] - made[::2]) - (true[1::2] - true[::2])).abs().mean()


def gradient_loss(made: Tensor, true: Tensor, weight: Tensor) -> Tensor:
    """L1 between horizontal and vertical differences of neighbouring pixels."""
    across = ((made.diff(dim=3) - true.diff(dim=3)).abs() * weight[..., 1:]).mean()
    down = ((made.diff(dim=2) - true.diff(dim=2)).abs() * weight[..., 1:, :]).mean()
    return across + down


def ray_step(g: Generator, pairs: Pairs, rng: torch.Generator, batch: int = BATCHES[0], rays: int = 64,
             mine: slice = slice(None)) -> tuple[Tensor, dict]:
    """Stage 1. mine: which of the pairs drawn to look at."""
    index = torch.randint(len(pairs), (batch,), generator=rng)
    drawn = draw_rays(pairs, index, rays, rng)
    jitter = torch.rand(*drawn[0].shape, g.config.n_samples, generator=rng) - 0.5
    z, z_bg, camera = latents(g, pairs, index[mine])
    x, y, colour, alpha, depth, jitter = (of_pairs(t, mine).to(z.device) for t in (*drawn, jitter))
    with mixed_precision(z.device.type):
        r = g.render_rays(g.broadcast(g.mapping(z)), z_bg, camera, x, y, jitter=jitter)
    colour_error, change = (r.rgb - colour).abs().mean(), change_loss(r.rgb, colour)
    geometry = geometry_loss(r, alpha, depth)
    return colour_error + change + geometry, {"colour": colour_error, "change": change, "geometry": geometry}


def latents(g: Generator, pairs: Pairs, index: Tensor) -> tuple[Tensor, Tensor, Camera]:
    """z (2b, z_dim), z_bg (2b, z_bg_dim) and cameras of both pictures of each pair, where the generator is."""
    device, n = g.mapping.w_avg.device, g.config.z_dim
    z, pose = pairs.latents[index].flatten(0, 1).to(device), pairs.pose[index].repeat_interleave(2, 0)
    return z[:, :n], z[:, n:], Camera.from_pose(pose.to(device))


def of_pairs(rows: Float[Tensor, "n *d"], mine: slice) -> Float[Tensor, "m *d"]:
    """The rows 2i and 2i + 1 of the pairs i in `mine`."""
    return rows.unflatten(0, (-1, 2))[mine].flatten(0, 1)


def true_pictures(pairs: Pairs, index: Tensor, rows: slice = slice(None), columns: slice = slice(None)
                  ) -> Float[Tensor, "n 3 h w"]:
    """Both pictures of each pair, or a piece of them, in [−1, 1]."""
    return pairs.pictures[index, :, rows, columns].flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1


def mixed_styles(g: Generator, z: Float[Tensor, "B z"], rng: torch.Generator) -> Float[Tensor, "B L w"]:
    """Styles of all slots; half of the time the upsampler's come from the other picture of the pair.

    So the expression must come from the field's features, not from the upsampler's styles: ray deformation and LipaintNet
    change the features alone.
    """
    w = g.mapping(z)
    ws = g.broadcast(w)
    if torch.rand((), generator=rng) < 0.5:
        other = w.view(-1, 2, w.shape[1]).flip(1).reshape(w.shape)
        n = g.config.n_nerf_ws
        ws = torch.cat([ws[:, :n], g.broadcast(other)[:, n:]], 1)
    return ws


def patch_step(g: Generator, pairs: Pairs, rng: torch.Generator, batch: int = BATCHES[1], mine: slice = slice(None)
               ) -> tuple[Tensor, dict]:
    """Stage 2: a PATCH × PATCH crop of the feature map and its 8 times larger picture."""
    index = torch.randint(len(pairs), (batch,), generator=rng)
    row, column = draw_patch(pairs, index, PATCH, rng)
    z, z_bg, camera = latents(g, pairs, index[mine])
    true = true_pictures(pairs, index[mine], slice(row * 8, (row + PATCH) * 8), slice(column * 8, (column + PATCH) * 8))
    true = true.to(z.device)
    x, y = (v.view(1, 32, 32)[:, row : row + PATCH, column : column + PATCH].reshape(1, -1) for v in g.grid())
    jitter = 0.5 * (torch.rand(2 * batch, x.shape[1], g.config.n_samples, generator=rng) - 0.5)
    jitter = of_pairs(jitter, mine).to(z.device)
    with mixed_precision(z.device.type):
        ws = mixed_styles(g, z, rng)
        r = g.render_rays(ws, z_bg, camera, x, y, jitter=jitter)
        pictures = g.upsampler(*r.maps(), ws)
    truth = per_ray(pairs, index[mine], slice(row, row + PATCH), slice(column, column + PATCH))
    geometry = geometry_loss(r, *(t.to(z.device) for t in truth))
    return picture_loss(r, pictures, true, margin=8) + geometry, {
        "patch": (pictures[-1] - true)[..., 8:-8, 8:-8].abs().mean(), "geometry": geometry}


def per_ray(pairs: Pairs, index: Tensor, rows: slice, columns: slice) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
    """True opacity and depth of the rays in these rows and columns of the 32 × 32 grid, both pictures of each pair."""
    alpha, depth = (F.avg_pool2d(t[index].flatten(0, 1), 2)[:, rows, columns].flatten(1) for t in (pairs.alpha, pairs.depth))
    return alpha, depth


def picture_loss(r: Rendered, pictures: list[Tensor], true: Float[Tensor, "B 3 H W"], margin: int) -> Tensor:
    """Pictures of all sizes against the truth: colour, gradients, the pairs' change; `margin` pixels at the border, where a
    patch lacks its neighbours, are left out."""
    _, rgb = r.maps()
    loss = 0.3 * (rgb - F.avg_pool2d(true, true.shape[-1] // rgb.shape[-1])).abs().mean()
    for p in pictures[:-1]:
        loss = loss + 0.3 * (p - F.avg_pool2d(true, true.shape[-1] // p.shape[-1])).abs().mean()
    inner = slice(margin, true.shape[-1] - margin)
    made, true = pictures[-1][..., inner, inner], true[..., inner, inner]
    change = F.avg_pool2d((true[1::2] - true[::2]).abs().mean(1, keepdim=True), 9, 1, 4)
    weight = 1 + 2 * change.clamp(max=1).repeat_interleave(2, 0)
    return loss + ((made - true).abs() * weight).mean() + 2 * gradient_loss(made, true, weight) + change_loss(made, true)


def picture_step(g: Generator, d: Discriminator, d_optimiser: torch.optim.Optimizer, pairs: Pairs, rng: torch.Generator,
                 step: int, batch: int = BATCHES[2], mine: slice = slice(None),
                 backward: Callable[[Tensor, nn.Module], None] = lambda loss, _: loss.backward()) -> tuple[Tensor, dict]:
    """Stage 3: whole pictures; one discriminator step, then the generator's loss. backward: as `Team.backward`."""
    index = torch.randint(len(pairs), (batch,), generator=rng)[mine]
    z, z_bg, camera = latents(g, pairs, index)
    true = true_pictures(pairs, index).to(z.device)
    with mixed_precision(z.device.type):
        ws = mixed_styles(g, z, rng)
        r = g.features(ws, z_bg, camera)
        pictures = g.upsampler(*r.maps(), ws)
    made = pictures[-1]
    judgement = discriminator_loss(d, true, made.detach())
    if step % R1_EVERY == 0:
        judgement = judgement + R1_EVERY * r1_penalty(d, true)
    d_optimiser.zero_grad(set_to_none=True)
    backward(judgement, d)
    d_optimiser.step()
    d.requires_grad_(False)
    with mixed_precision(z.device.type):
        logits, seen = d.judge(made)
        with torch.no_grad():
            _, wanted = d.judge(true)
    d.requires_grad_(True)
    adversarial = F.softplus(-logits.float()).mean()
    matching = sum((a.float() - b.float()).abs().mean() for a, b in zip(seen, wanted, strict=True)) / len(seen)
    geometry = geometry_loss(r, *(t.to(z.device) for t in per_ray(pairs, index, slice(None), slice(None))))
    loss = picture_loss(r, pictures, true, margin=0) + geometry + 0.02 * adversarial + 0.3 * matching
    return loss, {"picture": (made - true).abs().mean(), "adversarial": adversarial, "matching": matching, "d": judgement}


def discriminator_loss(d: Discriminator, real: Tensor, made: Tensor) -> Tensor:
    """softplus(D(made)) + softplus(−D(real))."""
    with mixed_precision(real.device.type):
        logits = d(torch.cat([real, made])).float()
    return F.softplus(-logits[: len(real)]).mean() + F.softplus(logits[len(real) :]).mean()


def r1_penalty(d: Discriminator, real: Tensor) -> Tensor:
    """γ/2 · ‖∇D(real)‖²."""
    x = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
    return R1_GAMMA / 2 * gradient.square().sum((1, 2, 3)).mean()


@torch.no_grad()
def psnr(g: Generator, pairs: Pairs, n: int = 24) -> float:
    """Mean PSNR (dB) of the generated pictures of n pairs, both of each."""
    values = []
    for i in range(0, min(n, len(pairs)), 8):
        index = torch.arange(i, min(i + 8, n))
        z, z_bg, camera = latents(g, pairs, index)
        made = g(g.broadcast(g.mapping(z)), z_bg, camera).clamp(-1, 1)
        true = true_pictures(pairs, index).to(made.device)
        values += (-10 * torch.log10(((made - true) ** 2).mean((1, 2, 3)) / 4)).tolist()
    return sum(values) / len(values)


def train(steps: int = 50_000, seed: int = 0, resume: bool = False, device: str | Team = "cpu",
          out: str | Path | None = None) -> None:
    """`nfs train generator`: renders the pairs (once), trains G and D, exports the running mean of G, and D."""
    seed_everything(seed)
    folder, team = run_folder("generator", out), Team.of(device)
    mine = [team.share(batch) for batch in BATCHES]
    with team.first():
        held_out = load_pairs(folder / "pairs", 48, first_seed=HELD_OUT_SEED)
        pairs = load_pairs(folder / "pairs", PAIRS, first_seed=0)
    keep_freed_memory()
    g, d = Generator(OPEN).to(team.device), Discriminator().to(team.device)
    team.join(d)
    upsampler = list(g.upsampler.parameters())
    field = [p for n, p in g.named_parameters() if not n.startswith("upsampler")]
    optimiser = MuonAdam([field, upsampler])
    d_optimiser = torch.optim.Adam(d.parameters(), lr=1e-3, betas=(0.0, 0.99))
    ema = Ema(g, half_life=400)
    first, second = int(steps * RAY_STEPS), int(steps * (RAY_STEPS + PATCH_STEPS))
    loop = Loop("generator", steps, seed, {"g": g, "d": d, "optimiser": optimiser, "d_optimiser": d_optimiser, "ema": ema},
                out=out, resume=resume, team=team)
    for step in loop:
        rng = step_rng(seed, step)
        stage = (step >= first) + (step >= second)
        set_rates(optimiser, step, [0, first, second, steps], stage)
        if stage == 0:
            loss, figures = ray_step(g, pairs, rng, mine=mine[0])
        elif stage == 1:
            loss, figures = patch_step(g, pairs, rng, mine=mine[1])
        else:
            loss, figures = picture_step(g, d, d_optimiser, pairs, rng, step, mine=mine[2], backward=team.backward)
        optimiser.zero_grad()
        team.backward(loss, g)
        optimiser.step()
        ema.update(g)
        loop.log(**figures)
        if (step + 1) % 2000 == 0:
            g_mean = Generator(OPEN).to(team.device)
            g_mean.load_state_dict(ema.state)
            loop.log(held_out_psnr=psnr(g_mean.eval(), held_out))
    if not team.leads:
        return
    g.load_state_dict(ema.state)
    z = torch.randn(10_000, OPEN.z_dim, generator=step_rng(seed, steps)).to(team.device)
    with torch.no_grad():
        g.mapping.w_avg.copy_(torch.cat([g.mapping(c) for c in z.split(1000)]).mean(0))
    figures = {"held_out_psnr": psnr(g.eval(), held_out, 48)}
    command = f"nfs train generator --steps {steps} --seed {seed}{team.options}"
    export("generator", g.state_dict(), figures, command, seed, steps, loop.seconds, config=dataclasses.asdict(OPEN), out=out)
    export("discriminator", d.state_dict(), {}, command, seed, steps, loop.seconds, config={"resolution": 256}, out=out)


def set_rates(optimiser: MuonAdam, step: int, borders: list[int], stage: int) -> None:
    """Learning rates of (field, upsampler): each stage warms up, stays, and runs down in its last 40 %."""
    begin, end = borders[stage], borders[stage + 1]
    done = (step - begin) / max(1, end - begin)
    shape = min(1.0, (step - begin + 1) / 100) * min(1.0, 0.03 + 0.97 * (1 - done) / 0.4)
    field, upsampler = [(3e-2, 0.0), (3e-3, 2e-2), (3e-3, 5e-3)][stage]
    optimiser.set_rates(muon=[field * shape, upsampler * shape], adam=[field * shape / 5, upsampler * shape / 5])
