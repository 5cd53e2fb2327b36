"""Training LipaintNet (paper section 4.4, Eq. 8–11), self-supervised on the generator's own samples.

A random latent w_id is rendered and read by the estimator; the expression that it shows is changed to β; LipaintNet must find
the latent of the same person whose picture has β. The generator, the estimator and the discriminator stay as they are.

The open world adds a warm start that the paper can't have: there, the latent of the same person with expression β is known
(the mapping of the changed chart), and LipaintNet is first fitted to it. That costs seconds, and says so here.
"""

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
from nfs_lib.worlds import World

Table = tuple[Tensor, Tensor]                         # expressions' latent numbers and facial actions, row by row
LANDMARKS, COEFFICIENTS, ADVERSARIAL, KEEP_IDENTITY = 1.0, 1.0, 0.1, 0.1
WARM = 0.9                                            # share of the warm start's steps, which are a thousand times cheaper


def landmark_loss(model: MorphableModel, seen: Coefficients, wanted: Coefficients) -> Tensor:
    """L_ldm (Eq. 10): mean distance of the 68 projected landmarks, in units of the picture's half width; mouth × 5."""
    weight = torch.ones(68)
    weight[48:] = 5
    distance = (model.project_landmarks(seen, 2) - model.project_landmarks(wanted, 2)).norm(dim=-1)
    return (distance * weight).sum(1).mean() / weight.sum()


def coefficient_loss(seen: Coefficients, wanted: Coefficients) -> Tensor:
    """L_3DMM (Eq. 11): squared error of the expression; the identity must stay."""
    expression = (seen.expression - wanted.expression).square().sum(1).mean()
    return expression + KEEP_IDENTITY * (seen.identity - wanted.identity).square().mean()


def adversarial_loss(logits: Float[Tensor, "B 1"]) -> Tensor:
    """L_GAN (Eq. 9): −log D(G(w_exp)), as softplus(−logit)."""
    return F.softplus(-logits).mean()


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


def warm_start_loss(net: LipaintNet, g: Generator, table: Table, rng: torch.Generator, batch: int = 256) -> Tensor:
    """Distance to the known latent of the same person with the new expression (open world only)."""
    z, changed, beta = change_expression(g.config.z_dim, table, batch, rng)
    with torch.no_grad():
        w, target = g.mapping(z), g.mapping(changed)
    return F.mse_loss(net(w, beta), target)


def paper_loss(net: LipaintNet, world: World, table: Table, rng: torch.Generator, batch: int = 4
               ) -> tuple[Tensor, dict]:
    """The paper's three losses on one batch of generator samples."""
    g = world.generator
    z, _, beta = change_expression(g.config.z_dim, table, batch, rng)
    z_bg = torch.randn(batch, g.config.z_bg_dim, generator=rng)
    pose = torch.randn(batch, 3, generator=rng) * torch.tensor([0.25, 0.1, 0.03])
    camera = Camera.from_pose(pose)
    with torch.no_grad(), mixed_precision():
        w = g.mapping(z)
        before = world.estimator(g(g.broadcast(w), z_bg, camera).float())
    wanted = before.replace(expression=beta)
    with mixed_precision():
        w_exp = net(w, beta).float()
        n = g.config.n_nerf_ws
        made = g(torch.cat([g.broadcast(w_exp)[:, :n], g.broadcast(w)[:, n:]], 1), z_bg, camera).float()
        logits = world.discriminator(made).float()
    seen = world.estimator(made)
    figures = {"landmarks": landmark_loss(world.face_model, seen, wanted), "coefficients": coefficient_loss(seen, wanted),
               "adversarial": adversarial_loss(logits)}
    loss = LANDMARKS * figures["landmarks"] + COEFFICIENTS * figures["coefficients"] + ADVERSARIAL * figures["adversarial"]
    return loss, figures


def train(steps: int = 2400, seed: int = 0, resume: bool = False, device: str = "cpu", out: str | None = None) -> None:
    """`nfs train lipaint`: the warm start, then the paper's losses; exports LipaintNet."""
    from nfs_lib import worlds

    keep_freed_memory()
    seed_everything(seed)
    world = worlds.load("open")
    for part in (world.generator, world.estimator, world.discriminator):
        part.requires_grad_(False)
    config = {"w_dim": world.generator.config.w_dim, "n_exp": len(world.face_model.expression_names)}
    net = LipaintNet(**config)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    warm = int(steps * WARM)
    table = expression_table(20_000, seed)
    with torch.no_grad():                             # actions that no portrait shows must not act through untrained weights
        net.fc1.weight[:, config["w_dim"] :][:, table[1].abs().amax(0) == 0] = 0
    loop = Loop("lipaint", steps, seed, {"net": net, "optimiser": optimiser}, out=out, resume=resume)
    for step in loop:
        rng = step_rng(seed, step)
        if step < warm:
            set_learning_rate(optimiser, warm_cosine(step, warm, 2e-3))
            loss = warm_start_loss(net, world.generator, table, rng)
            loop.log(warm_start=loss)
        else:
            set_learning_rate(optimiser, warm_cosine(step - warm, steps - warm, 1e-4, warmup=20))
            loss, figures = paper_loss(net, world, table, rng)
            loop.log(**figures)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    command = f"nfs train lipaint --steps {steps} --seed {seed}"
    with torch.no_grad():
        held_out = paper_loss(net, world, table, step_rng(seed + 1, steps), batch=16)[1]
    export("lipaint", net.state_dict(), {k: float(v) for k, v in held_out.items()}, command, seed, steps, loop.seconds,
           config=config, out=out)
