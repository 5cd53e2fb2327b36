"""Training LipaintNet (paper section 4.4, Eq. 8–11), self-supervised on the generator's own samples.

A random latent w_id is rendered and read by the estimator; the expression that it shows is changed to β; LipaintNet must find
the latent of the same person whose picture has β. The generator, the estimator and the discriminator stay as they are.

    net = train(steps=400, out="runs/mine", recipe=Recipe(batch=2, adversarial=0.0), until=100)     # stops after step 100
    net = train(steps=400, out="runs/mine", recipe=Recipe(batch=2, adversarial=0.0), resume=True)   # the rest of it

The open world adds a warm start that the paper can't have: there, the latent of the same person with expression β is known
(the mapping of the changed chart), and LipaintNet is first fitted to it. That costs seconds, and says so here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import Camera
from nfs_lib.cpu import keep_freed_memory, mixed_precision
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.lipaint import LipaintNet
from nfs_lib.stylenerf import Generator
from nfs_lib.training.common import Loop, export, seed_everything, set_learning_rate, step_rng, warm_cosine
from nfs_lib.training.team import Team
from nfs_lib.worlds import World

Table = tuple[Tensor, Tensor]                         # expressions' latent numbers and facial actions, row by row
OnStep = Callable[[int, dict[str, float]], None]      # step, its losses by name
KEEP_IDENTITY, MOUTH = 0.1, 5.0
WARM_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """What a run is made of, but for its length; the defaults are the shipped weights'.

    landmarks, coefficients, adversarial: the λ of the paper's three losses, 0 switches one off; identity: weight of the
    identity within L_3DMM; mouth: weight of a mouth landmark within L_ldm. warm: share of the steps that the warm start gets
    (a step of it costs a hundredth); batch, rate: of the paper's losses, people and Adam's peak, which is reached after
    `warmup` steps and runs down to `final` of it; spread: 0: β is one of the chart's expressions; else β is what the estimator
    reads plus U[−spread, spread] for every action, inside [0, 1]; check: people in the final figures.
    """

    landmarks: float = 1.0
    coefficients: float = 1.0
    adversarial: float = 0.1
    identity: float = KEEP_IDENTITY
    mouth: float = MOUTH
    warm: float = 0.9
    batch: int = 4
    rate: float = 1e-5
    warmup: int = 20
    final: float = 0.05
    spread: float = 0.0
    check: int = 16


# section 4.4: from nothing, batch 8, Adam at 1e-5, λ 1, 1, 0.1, β augmented by U[−1, 1]; `nfs train lipaint --recipe paper`
PAPER, PAPER_STEPS = Recipe(warm=0.0, batch=8, warmup=0, final=1.0, spread=1.0), 300_000


@dataclass
class Cycle:
    """One turn of the cycle for B people: w_id → G → estimator → another β → w_exp → G → estimator.

    read, seen: what the estimator read off `picture` and off `made`; logits: what the discriminator says to `made`.
    """

    w: Float[Tensor, "B w"]
    beta: Float[Tensor, "B E"]
    picture: Float[Tensor, "B 3 H W"]
    read: Coefficients
    w_exp: Float[Tensor, "B w"]
    made: Float[Tensor, "B 3 H W"]
    seen: Coefficients
    logits: Float[Tensor, "B 1"]

    @property
    def wanted(self) -> Coefficients:
        """What should have been seen: the same person, pose and light, with expression β."""
        return self.read.replace(expression=self.beta)


def landmark_loss(model: MorphableModel, seen: Coefficients, wanted: Coefficients, mouth: float = MOUTH) -> Tensor:
    """L_ldm (Eq. 10): mean distance of the 68 projected landmarks, in units of the picture's half width; the mouth's 20 count
    `mouth` times."""
    distance = (model.project_landmarks(seen, 2) - model.project_landmarks(wanted, 2)).norm(dim=-1)
    weight = torch.ones_like(distance[0])
    weight[48:] = mouth
    return (distance * weight).sum(1).mean() / weight.sum()


def coefficient_loss(seen: Coefficients, wanted: Coefficients, identity: float = KEEP_IDENTITY) -> Tensor:
    """L_3DMM (Eq. 11): squared error of the expression; the identity must stay, which counts `identity` times."""
    expression = (seen.expression - wanted.expression).square().sum(1).mean()
    return expression + identity * (seen.identity - wanted.identity).square().mean()


def adversarial_loss(logits: Float[Tensor, "B 1"]) -> Tensor:
    """L_GAN (Eq. 9): −log D(G(w_exp)), as softplus(−logit)."""
    return F.softplus(-logits).mean()


@lru_cache(maxsize=2)
def expression_table(n: int, seed: int) -> Table:
    """n random expressions: their latent numbers (n, 15) and their facial actions β (n, E)."""
    from nfs_lib.portraits.chart import N_EXPRESSION, expression

    z = torch.randn(n, N_EXPRESSION, generator=step_rng(seed, 0))
    return z, torch.stack([torch.from_numpy(expression(row)).float() for row in z.numpy()])


def change_expression(z_dim: int, table: Table, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random latents z, the same people with another expression, and that expression's β; all (batch, …)."""
    from nfs_lib.portraits.chart import N_EXPRESSION, N_IDENTITY

    z = torch.randn(batch, z_dim, generator=rng)
    row = torch.randint(len(table[0]), (batch,), generator=rng)
    changed = z.clone()
    changed[:, N_IDENTITY : N_IDENTITY + N_EXPRESSION] = table[0][row]
    return z, changed, table[1][row]


def warm_start_loss(net: LipaintNet, g: Generator, table: Table, rng: torch.Generator, batch: int = WARM_BATCH,
                    mine: slice = slice(None)) -> Tensor:
    """Distance to the known latent of the same person with the new expression (open world only). mine: rows to look at."""
    device = g.mapping.w_avg.device                   # drawn on the CPU: the same numbers on every device
    z, changed, beta = (x[mine].to(device) for x in change_expression(g.config.z_dim, table, batch, rng))
    with torch.no_grad():
        w, target = g.mapping(z), g.mapping(changed)
    return F.mse_loss(net(w, beta), target)


def paint(world: World, w: Float[Tensor, "B w"], w_exp: Float[Tensor, "B w"], z_bg: Float[Tensor, "B n"], camera: Camera
          ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 1"], Coefficients]:
    """G(w_exp), what the discriminator says to it, and what the estimator reads off it."""
    g, n = world.generator, world.generator.config.n_nerf_ws
    with mixed_precision(w.device.type):              # the field's slots take w_exp, the upsampler's keep w
        made = g(torch.cat([g.broadcast(w_exp)[:, :n], g.broadcast(w)[:, n:]], 1), z_bg, camera).float()
        logits = world.discriminator(made).float()
    return made, logits, world.estimator(made)


def turn(net: LipaintNet, world: World, w: Float[Tensor, "B w"], beta: Float[Tensor, "B E"], z_bg: Float[Tensor, "B n"],
         camera: Camera, added: bool = False) -> Cycle:
    """One turn of the cycle: latents w, the expressions β that they are to get, backgrounds, cameras.

    added: β is what the estimator reads plus `beta`, kept inside [0, 1], where facial actions live.
    """
    g, kind = world.generator, w.device.type
    with torch.no_grad(), mixed_precision(kind):
        picture = g(g.broadcast(w), z_bg, camera).float()
    with torch.no_grad():
        read = world.estimator(picture)
    beta = (read.expression + beta).clamp(0, 1) if added else beta
    with mixed_precision(kind):
        w_exp = net(w, beta).float()
    made, logits, seen = paint(world, w, w_exp, z_bg, camera)
    return Cycle(w, beta, picture, read, w_exp, made, seen, logits)


def paper_losses(model: MorphableModel, seen: Coefficients, wanted: Coefficients, logits: Float[Tensor, "B 1"],
                 recipe: Recipe) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the paper's three losses, and each alone."""
    figures = {"landmarks": landmark_loss(model, seen, wanted, recipe.mouth),
               "coefficients": coefficient_loss(seen, wanted, recipe.identity),
               "adversarial": adversarial_loss(logits)}
    return (recipe.landmarks * figures["landmarks"] + recipe.coefficients * figures["coefficients"]
            + recipe.adversarial * figures["adversarial"]), figures


def descend(world: World, w: Float[Tensor, "B w"], beta: Float[Tensor, "B E"], z_bg: Float[Tensor, "B n"], camera: Camera,
            recipe: Recipe | None = None, steps: int = 30, rate: float = 0.02) -> Float[Tensor, "B w"]:
    """What the losses ask for, with no network between: Adam on w_exp itself, from w on, each person for themselves.

    Shows in seconds what a loss pulls at; of no use for a video, as every frame would have to be searched anew.
    """
    recipe, w_exp = recipe or Recipe(), w.clone().requires_grad_()
    optimiser = torch.optim.Adam([w_exp], lr=rate)
    with torch.no_grad():
        wanted = world.estimator(world.generator(world.generator.broadcast(w), z_bg, camera)).replace(expression=beta)
    for _ in range(steps):
        _, logits, seen = paint(world, w, w_exp, z_bg, camera)
        loss, _ = paper_losses(world.face_model, seen, wanted, logits, recipe)
        (w_exp.grad,) = torch.autograd.grad(loss * len(w), w_exp)
        optimiser.step()
    return w_exp.detach()


def paper_loss(net: LipaintNet, world: World, table: Table, rng: torch.Generator, batch: int = 4, recipe: Recipe | None = None,
               mine: slice = slice(None)) -> tuple[Tensor, dict[str, Tensor]]:
    """The paper's three losses on one batch of generator samples: their weighted sum, and each alone. mine: rows to look at."""
    g, recipe = world.generator, recipe or Recipe()
    device = g.mapping.w_avg.device                   # drawn on the CPU: the same numbers on every device
    z, _, beta = change_expression(g.config.z_dim, table, batch, rng)
    z_bg = torch.randn(batch, g.config.z_bg_dim, generator=rng)
    pose = torch.randn(batch, 3, generator=rng) * torch.tensor([0.25, 0.1, 0.03])
    if recipe.spread:
        beta = recipe.spread * (2 * torch.rand(beta.shape, generator=rng) - 1)
    z, beta, z_bg, pose = (x[mine].to(device) for x in (z, beta, z_bg, pose))
    with torch.no_grad(), mixed_precision(device.type):
        w = g.mapping(z)
    cycle = turn(net, world, w, beta, z_bg, Camera.from_pose(pose), added=recipe.spread > 0)
    return paper_losses(world.face_model, cycle.seen, cycle.wanted, cycle.logits, recipe)


def train(steps: int = 2400, seed: int = 0, resume: bool = False, device: str | Team = "cpu", out: str | Path | None = None, *,
          recipe: Recipe | None = None, start: LipaintNet | None = None, until: int | None = None,
          on_step: OnStep | None = None) -> LipaintNet:
    """`nfs train lipaint`: the warm start, then the paper's losses; exports LipaintNet and returns it, on the CPU.

    out: a folder for all that is written; without it the kit's own weights are replaced. recipe: see there. start: weights to
    go on from (the optimiser begins anew). until: stop after so many of the steps, with a checkpoint to resume from and
    without an export. on_step: told each step's losses.
    """
    from nfs_lib import worlds

    keep_freed_memory()
    seed_everything(seed)
    recipe, world, team = recipe or Recipe(), worlds.load("open"), Team.of(device)
    warm_rows, rows, check_rows = (team.share(n) for n in (WARM_BATCH, recipe.batch, recipe.check))
    for part in (world.generator, world.estimator, world.discriminator):
        part.to(team.device).requires_grad_(False)
    team.join(world.discriminator)
    world.face_model.to(team.device)
    config = {"w_dim": world.generator.config.w_dim, "n_exp": len(world.face_model.expression_names)}
    net = LipaintNet(**config)
    table = expression_table(20_000, seed)
    with torch.no_grad():                             # actions that no portrait shows must not act through untrained weights
        net.fc1.weight[:, config["w_dim"] :][:, table[1].abs().amax(0) == 0] = 0
    if start is not None:
        net.load_state_dict(start.state_dict())
    net.to(team.device)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    warm = int(steps * recipe.warm)
    special = {Recipe(): "", PAPER: " --recipe paper"}.get(recipe, f" and {recipe}")
    special += " from given weights" if start is not None else ""
    loop = Loop("lipaint", steps, seed, {"net": net, "optimiser": optimiser}, out=out, resume=resume, until=until,
                team=team, plan=f"--steps {steps}{special}")
    for step in loop:
        rng = step_rng(seed, step)
        if step < warm:
            set_learning_rate(optimiser, warm_cosine(step, warm, 2e-3))
            loss = warm_start_loss(net, world.generator, table, rng, mine=warm_rows)
            figures = {"warm_start": loss}
        else:
            if step == warm:                          # Adam's means of the warm start's tiny gradients would make giant steps
                optimiser.state.clear()
            set_learning_rate(optimiser, warm_cosine(step - warm, steps - warm, recipe.rate, recipe.warmup, recipe.final))
            loss, figures = paper_loss(net, world, table, rng, recipe.batch, recipe, rows)
        optimiser.zero_grad(set_to_none=True)
        team.backward(loss, net)
        optimiser.step()
        loop.log(**figures)
        if on_step:
            on_step(step, {name: float(value.detach()) for name, value in figures.items()})
    if loop.step == steps:
        command = f"nfs train lipaint --steps {steps} --seed {seed}{special}{team.options}"
        with torch.no_grad():
            held_out = paper_loss(net, world, table, step_rng(seed + 1, steps), recipe.check, recipe, check_rows)[1]
        measured = dict(zip(held_out, team.mean([float(v) for v in held_out.values()]), strict=True))
        if team.leads:
            export("lipaint", net.state_dict(), measured, command, seed, steps, loop.seconds, config=config, out=out)
    return net.cpu()
