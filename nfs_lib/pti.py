"""Pivotal tuning inversion with the official schedule (paper section 4.1), for the paper world's generator.

`project` looks for the style and the background latents whose picture looks most like the given one; `tune` then holds them
and trains the generator's weights on that picture. Both work on plain functions; `invert` binds them to a generator.
`nfs_lib.inversion` is the open world's way: fewer steps, other losses, and a pose that may move, where here it is fixed.

Where the authors' code and the paper differ, this follows the code: 2000 steps of tuning at most (the paper: 1000), and
projection and tuning look through different networks (LPIPS on VGG16, then on AlexNet).
"""

import copy
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.camera import Camera
from nfs_lib.inversion import Inversion, check_image, frozen_copy, learning_rate, picture_loss, style_noise
from nfs_lib.progress import progress
from nfs_lib.stylenerf import Generator

STEPS = (1000, 2000)  # of projection; of tuning, at most
ENOUGH = 0.06  # the LPIPS at which tuning stops
SEEN_SIDE = 256  # pixels to which projection reduces larger pictures

Features = Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B n"]]
Compared = Callable[[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]], Float[Tensor, "B"]]
Distance = Callable[[Float[Tensor, "B 3 H W"]], Tensor]  # of a made picture from the wanted one, a single number
Synthesis = Callable[[Float[Tensor, "1 w"], list[Tensor]], Float[Tensor, "1 3 H W"]]  # style, latents → picture


@torch.no_grad()
def style_statistics(mapping: Callable[[Tensor], Tensor], z_dim: int, n: int = 600) -> tuple[Float[Tensor, "1 w"], float]:
    """Mean of w over n random z, and one standard deviation √(Σ‖w − w̄‖² / n) for all of it; the same z every time."""
    z = np.random.RandomState(123).randn(n, z_dim)  # noqa: NPY002  the official numbers
    w = mapping(torch.from_numpy(z).float())
    mean = w.mean(0, keepdim=True)
    return mean, ((w - mean).square().sum() / n).sqrt().item()


def feature_distance(features: Features, image: Float[Tensor, "B 3 H W"]) -> Distance:
    """‖f(image) − f(made)‖², which is LPIPS if f is `lpips.Lpips.features`. Both are reduced to 256 pixels if larger."""

    def seen(picture: Tensor) -> Tensor:
        if picture.shape[-1] > SEEN_SIDE:
            picture = F.interpolate(picture, (SEEN_SIDE, SEEN_SIDE), mode="area")
        return features(picture)

    with torch.no_grad():
        wanted = seen(image)
    return lambda made: (wanted - seen(made)).square().sum()


def plain_distance(image: Float[Tensor, "B 3 H W"]) -> Distance:
    """The kit's own stand-in where no LPIPS is at hand: colour at four sizes and gradients (`inversion.picture_loss`)."""
    return lambda made: picture_loss([*(F.avg_pool2d(made, n) for n in (8, 4, 2)), made], image)


def noise_penalty(buffers: Iterable[Float[Tensor, "H W"]]) -> Tensor:
    """How much neighbours within noise pictures resemble each other, at every scale down to 8 pixels (StyleGAN2's R_noise).

    Σ over buffers and scales of mean(n · n moved right by one)² + mean(n · n moved down by one)²; a scale is the mean of 2 × 2.
    """
    total = torch.zeros(())
    for buffer in buffers:
        n = buffer[None, None]
        while True:
            total = total + (n * n.roll(1, 3)).mean().square() + (n * n.roll(1, 2)).mean().square()
            if n.shape[-1] <= 8:
                break
            n = F.avg_pool2d(n, 2)
    return total


@torch.no_grad()
def normalise(buffer: Float[Tensor, "H W"]) -> None:
    """Give a noise picture mean 0 and variance 1, in place."""
    buffer -= buffer.mean()
    buffer *= buffer.square().mean().rsqrt()


def draw(size: int, rng: torch.Generator) -> Float[Tensor, "1 n"]:
    """A latent (1, size); as in the official generator a first draw is thrown away."""
    torch.randn(1, size, generator=rng)
    return torch.randn(1, size, generator=rng)


def project(
    synthesis: Synthesis,
    distance: Distance,
    mean: Float[Tensor, "1 w"],
    spread: float,
    sizes: Sequence[int],
    *,
    steps: int = STEPS[0],
    seed: int = 0,
    noise: Sequence[Float[Tensor, "H W"]] = (),
) -> tuple[Float[Tensor, "1 w"], list[Tensor], list[float]]:
    """First half of PTI: the style and the latents whose picture is closest.

    mean, spread: of the styles (`style_statistics`); w starts at their mean. sizes: of the latents that are found with it; they
    start random, drawn on the CPU. noise: the generator's noise pictures, if it has any; they are drawn anew, searched too, and
    changed in place. Returns w, the latents in the order of `sizes`, and the loss of every step.
    """
    rng = torch.Generator().manual_seed(seed)
    w = mean.clone().requires_grad_()
    latents = [draw(size, rng).to(mean).requires_grad_() for size in sizes]
    for buffer in noise:
        buffer.copy_(torch.randn(buffer.shape, generator=rng)).requires_grad_()
    optimiser, losses = torch.optim.Adam([w, *latents, *noise]), list[float]()
    for step in progress(range(steps), "projection"):
        t = step / steps
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(t)
        moved = w + torch.randn(w.shape, generator=rng).to(w) * (spread * style_noise(t))
        loss = distance(synthesis(moved, latents)) + 1e5 * noise_penalty(noise).to(w)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for buffer in noise:
            normalise(buffer)
        losses.append(loss.item())
    return w.detach(), [latent.detach() for latent in latents], losses


def tune(
    picture: Callable[[], Float[Tensor, "1 3 H W"]],
    parameters: Iterable[nn.Parameter],
    image: Float[Tensor, "1 3 H W"],
    distance: Distance,
    *,
    steps: int = STEPS[1],
    enough: float = ENOUGH,
) -> list[float]:
    """Second half of PTI: Adam (3e-4) on the parameters that `picture` is made with, until it is the image.

    The loss is the mean squared difference plus `distance`, LPIPS in the official code. As soon as a distance is not above
    `enough`, it stops, before that picture's update. Returns the loss of every picture made: one more than there were updates
    if it stopped early.
    """
    optimiser, losses = torch.optim.Adam(parameters, lr=3e-4), list[float]()
    for _ in progress(range(steps), "tuning"):
        made = picture()
        seen = distance(made)
        loss = F.mse_loss(made, image) + seen
        losses.append(loss.item())
        if seen <= enough:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


def invert(
    generator: Generator,
    image: Float[Tensor, "3 H W"],
    pose: Float[Tensor, "1 3"],
    features: Features | None,
    lpips: Compared | None,
    *,
    steps: tuple[int, int] = STEPS,
    seed: int = 0,
) -> Inversion:
    """PTI as the official script runs it. The caller's generator stays as it is (the official code tunes the one it is given).

    image: (3, R, R) in [-1, 1], R the generator's resolution; pose: radians, stays; steps: of projection and, at most, of
    tuning. features: what projection looks at, officially `lpips.load("vgg").features`; it is given pictures in [-1, 1] of 256
    pixels at most. lpips: what tuning looks at, at full size, officially `lpips.load("alex")`; both are where the generator is,
    image and pose on the CPU. None puts `plain_distance` in the place of either, a difference from the official code; tuning
    then has no early end. The background's camera is frozen.

    Raises BadInput for another image. At 1024 pixels the process takes 3.9 GB, both networks included.
    """
    began = time.monotonic()
    check_image(image, generator.config.resolution)
    there = generator.there
    wanted, camera = image[None].to(there), Camera.from_pose(pose).to(there)
    c, searched = generator.config, frozen_copy(generator)
    mean, spread = style_statistics(lambda z: searched.mapping(z.to(there)), c.z_dim)
    w, (_, _, z_bg, _), projecting = project(
        lambda w, latents: searched(searched.broadcast(w), latents[2], camera),
        feature_distance(features, wanted) if features else plain_distance(wanted),
        mean,
        spread,
        (0, 0, c.z_bg_dim, c.z_bg_dim),  # shape and appearance of the object, then of the background; only the third acts
        steps=steps[0],
        seed=seed,
        noise=[buffer for name, buffer in searched.named_buffers() if name.endswith("noise_const")],
    )
    tuned = copy.deepcopy(generator).eval().requires_grad_(True)
    tuning = tune(
        lambda: tuned(tuned.broadcast(w), z_bg, camera),
        tuned.parameters(),
        wanted,
        (lambda made: lpips(made, wanted).mean()) if lpips else plain_distance(wanted),
        steps=steps[1],
        enough=ENOUGH if lpips else 0.0,
    )
    losses = {"project": projecting, "tune": tuning}
    return Inversion(tuned.requires_grad_(False), w, z_bg, pose, None, losses, time.monotonic() - began)
