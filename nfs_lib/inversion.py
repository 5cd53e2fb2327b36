"""Pivotal tuning inversion (paper section 4.1): a picture becomes a latent of the generator, then the generator its own.

``project`` looks for the style w and the background latent whose picture is closest, with the weights of the generator fixed;
the schedule is PTI's (learning-rate ramp, noise on w that fades). ``tune`` then fixes them (the pivot) and lets a copy of the
generator learn what is left.

Differences from the official code, for want of its downloads and for the sake of views that nobody has seen: LPIPS is
replaced by colour and gradients at four sizes and, where given, by the activations of the world's discriminator; the
camera's pose, which an estimator only guesses, may move a little; tuning steps along orthogonal matrices (Muon), which
takes a fraction of Adam's steps to the same loss; and it is asked to keep the views from the sides that its first steps have
brought, which the later ones would spoil. All in full precision: in bfloat16 tuning gets stuck.
"""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import Camera
from nfs_lib.checkpoints import built
from nfs_lib.checks import check_array
from nfs_lib.cpu import keep_freed_memory
from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.face import Coefficients
from nfs_lib.paths import check_input
from nfs_lib.progress import progress
from nfs_lib.stylenerf import Generator, GeneratorConfig
from nfs_lib.training.muon import MuonAdam
from nfs_lib.writing import replacing

STEPS = {"fast": (60, 60), "full": (80, 260)}  # of projection and of tuning, per profile
REMEMBER, HOLD = 20, 0.3  # the step of tuning whose pictures of other views are kept, and the weight that keeps them
Features = Callable[[Float[Tensor, "B 3 H W"]], list[Tensor]]


@dataclass
class Inversion:
    """A picture inside the generator.

    generator: the tuned copy; w (1, w_dim) and z_bg (1, z_bg_dim), on its device; pose (1, 3) radians; face: the fitted 3DMM
    (batch of 1) with that pose, if it was given; both on the CPU. losses: "project" and "tune", one number a step; seconds:
    what it took.
    """

    generator: Generator
    w: Float[Tensor, "1 w"]
    z_bg: Float[Tensor, "1 n"]
    pose: Float[Tensor, "1 3"]
    face: Coefficients | None = None
    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @torch.no_grad()
    def picture(self, pose: Float[Tensor, "1 3"] | None = None) -> Float[Tensor, "1 3 H W"]:
        """The person as seen at `pose` (the input's own by default), within [-1, 1]; on the generator's device."""
        camera = Camera.from_pose(self.pose if pose is None else pose).to(self.w)
        return self.generator(self.generator.broadcast(self.w), self.z_bg, camera).clamp(-1, 1)


OnStep = Callable[[str, int, int, float, Inversion], None]  # stage, step, steps, loss, and where it stands after the step


def check_image(image: Tensor, resolution: int) -> None:
    """Raises BadInput unless image is (3, resolution, resolution), finite, within [-1, 1], and not one flat colour."""
    check_array(image, "a picture to invert", "torch.float32", 3, "H", "W")
    shape = tuple(image.shape)
    if shape != (3, resolution, resolution):
        raise BadInput(
            f"a picture of shape {shape} was given; inversion expects (3, {resolution}, {resolution}): crop it first "
            "(nfs_lib.cropping.crop_portrait)"
        )
    if image.abs().max() > 1.01:
        low, high = image.min().item(), image.max().item()
        raise BadInput(f"a picture with values from {low:.3g} to {high:.3g} was given; inversion expects [-1, 1]")
    if image.std() < 0.01:
        raise BadInput("the picture is one flat colour; give a portrait")


def learning_rate(t: float, peak: float = 0.01) -> float:
    """PTI's schedule at t in [0, 1]: linear up over the first 5 %, cosine down over the last 25 %."""
    return peak * (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / 0.25))) * min(1.0, t / 0.05)


def style_noise(t: float) -> float:
    """PTI's noise on w at t in [0, 1], as a share of the styles' spread: 5 % at first, none in the last quarter."""
    return 0.05 * max(0.0, 1 - t / 0.75) ** 2


@torch.no_grad()
def features_of(image: Float[Tensor, "3 H W"], features: Features | None) -> list[Tensor] | None:
    """The features of one picture, without a graph."""
    return None if features is None else features(image[None])


@torch.no_grad()
def style_spread(generator: Generator, n: int = 600) -> tuple[Float[Tensor, "1 w"], float]:
    """Mean of w over n random z, and one standard deviation: √(Σ‖w − w̄‖² / n), as PTI has it."""
    rng = torch.Generator().manual_seed(123)
    w = generator.mapping(torch.randn(n, generator.config.z_dim, generator=rng).to(generator.there))
    mean = w.mean(0, keepdim=True)
    return mean, ((w - mean).square().sum() / n).sqrt().item()


def picture_loss(
    pictures: list[Tensor],
    image: Float[Tensor, "B 3 H W"],
    features: Features | None = None,
    wanted: list[Tensor] | None = None,
) -> Tensor:
    """Distance of the generator's pictures, one per size, from the image.

    L1 at every size, L1 between the gradients at full size, and the mean L1 between `features` of the largest picture and
    `wanted`, those of the image.
    """
    loss = image.new_zeros(())
    for p in pictures:
        loss = loss + (p - F.avg_pool2d(image, image.shape[-1] // p.shape[-1])).abs().mean()
    made = pictures[-1]
    for dim in (2, 3):
        loss = loss + (made.diff(dim=dim) - image.diff(dim=dim)).abs().mean()
    if features is not None and wanted is not None:
        pairs = zip(features(made), wanted, strict=True)
        loss = loss + 0.3 * sum((a - b).abs().float().mean() for a, b in pairs) / len(wanted)
    return loss


def tuning_loss(
    pictures: list[Tensor],
    image: Float[Tensor, "B 3 H W"],
    features: Features | None = None,
    wanted: list[Tensor] | None = None,
) -> Tensor:
    """What `tune` lowers: `picture_loss`, and four times the mean squared difference of the largest picture."""
    return picture_loss(pictures, image, features, wanted) + 4 * F.mse_loss(pictures[-1], image)


def pictures_of(generator: Generator, w: Tensor, z_bg: Tensor, pose: Tensor) -> list[Tensor]:
    """The volume-rendered RGB (32 × 32) and the picture after each upsampling block, (B, 3, r, r) each. The pose may lie on
    another device than the rest."""
    ws = generator.broadcast(w)
    features, rgb = generator.features(ws, z_bg, Camera.from_pose(pose).to(w)).maps()
    return [rgb, *generator.upsampler(features, rgb, ws)]


def project(
    generator: Generator,
    image: Float[Tensor, "3 H W"],
    pose: Float[Tensor, "1 3"],
    *,
    steps: int,
    seed: int = 0,
    start: Float[Tensor, "1 w"] | None = None,
    features: Features | None = None,
    on_step: OnStep | None = None,
) -> tuple[Float[Tensor, "1 w"], Float[Tensor, "1 n"], Float[Tensor, "1 3"], list[float]]:
    """First half of PTI: the style, background latent and pose whose picture is closest to the image.

    pose: the first guess, radians; start: the first w (the mean of w by default). The generator isn't changed.
    Returns w, z_bg, pose and the loss of every step.
    """
    rng = torch.Generator().manual_seed(seed)
    image, (mean, spread) = image.to(generator.there), style_spread(generator)
    w = (mean if start is None else start.to(mean)).clone().requires_grad_()
    z_bg = w.new_zeros(1, generator.config.z_bg_dim).requires_grad_()
    turned = pose.clone().requires_grad_()
    optimiser = torch.optim.Adam(
        [{"params": [w], "scale": 1.0}, {"params": [z_bg], "scale": 4.0}, {"params": [turned], "scale": 0.005}]
    )
    frozen, wanted, losses = frozen_copy(generator), features_of(image, features), []
    for step in progress(range(steps), "projection"):
        t = step / steps
        for group in optimiser.param_groups:
            group["lr"] = group["scale"] * learning_rate(max(t, 0.01), peak=0.02)
        noise = torch.randn(w.shape, generator=rng).to(w) * spread * style_noise(t)
        pictures = pictures_of(frozen, w + noise, z_bg, turned)
        loss = picture_loss(pictures, image[None], features, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if on_step:
            now = Inversion(generator, w.detach(), z_bg.detach(), turned.detach())
            on_step("project", step + 1, steps, losses[-1], now)
    return w.detach(), z_bg.detach(), turned.detach(), losses


def tune(
    generator: Generator,
    image: Float[Tensor, "3 H W"],
    w: Float[Tensor, "1 w"],
    z_bg: Float[Tensor, "1 n"],
    pose: Float[Tensor, "1 3"],
    *,
    steps: int,
    seed: int = 0,
    features: Features | None = None,
    hold: float = HOLD,
    on_step: OnStep | None = None,
) -> tuple[Generator, list[float]]:
    """Second half of PTI: a copy of the generator learns the image at the pivot (w, z_bg, pose).

    hold: weight of what keeps the views that the input doesn't show. The first steps improve them, or leave them alone; later
    ones would spoil them for the input view's sake. So after REMEMBER steps the copy's own pictures of eight other views
    (`neighbours`) are kept, and every second step compares one of them as well: PTI's locality, but towards the copy itself,
    where PTI holds on to the original generator. On two portraits that gained 0.25 and 0.5 dB at ±20°, for 0.4 dB of the input
    view and a third more time. 0: without, as the official script has it.
    The upsampler, which makes the fine detail, learns faster than the field; other rates reached the same loss at another step,
    with the same views from the side (tried on one portrait). Stops early when the loss stands still.
    Returns the tuned copy and the loss of every step, of the input view alone.
    """
    tuned = copy.deepcopy(generator).eval().requires_grad_(True)
    volume = [*tuned.foreground.parameters(), *tuned.background.parameters()]
    optimiser = MuonAdam([list(tuned.upsampler.parameters()), volume])
    image, others = image.to(w), list[Neighbour]()
    wanted, losses = features_of(image, features), list[float]()
    for step in progress(range(steps), "tuning"):
        end = min(1.0, (steps - step) / (0.3 * steps))
        optimiser.set_rates(muon=[1e-2 * end, 5e-3 * end], adam=[5e-3 * end, 1e-3 * end])
        loss = tuning_loss(pictures_of(tuned, w, z_bg, pose), image[None], features, wanted)
        losses.append(loss.item())
        if hold and step == REMEMBER:
            others = neighbours(tuned, w, z_bg, pose, seed, 16)[1::2]
        if others and step % 2 == 0:
            latents, remembered = others[step // 2 % len(others)]
            loss = loss + hold * tuning_loss(pictures_of(tuned, *latents), remembered)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if on_step:
            on_step("tune", step + 1, steps, losses[-1], Inversion(tuned, w, z_bg, pose))
        if stands_still(losses):
            break
    return tuned.requires_grad_(False), losses


Neighbour = tuple[tuple[Tensor, Tensor, Tensor], Tensor]  # (w, z_bg, pose) and the picture that a generator makes of them


@torch.no_grad()
def neighbours(generator: Generator, w: Tensor, z_bg: Tensor, pose: Tensor, seed: int, n: int = 12) -> list[Neighbour]:
    """What tuning should leave alone, PTI's locality: half other views of the pivot, half people on the way from the pivot to
    random ones, with the generator's pictures of them."""
    rng = torch.Generator().manual_seed(seed + 1)
    made = []
    for i in range(n):
        turn = torch.randn(1, 3, generator=rng) * torch.tensor([0.35, 0.12, 0.05])
        z = torch.randn(1, generator.config.z_dim, generator=rng)
        near = w if i % 2 else w + 0.5 * (generator.mapping(z.to(w)) - w)
        latents = (near, z_bg, pose + turn if i % 2 else turn)
        made.append((latents, pictures_of(generator, *latents)[-1]))
    return made


def stands_still(losses: list[float], window: int = 40, least: float = 0.01) -> bool:
    """Whether the mean loss of the last `window` steps is less than `least` (a share) below that of the window before."""
    if len(losses) < 2 * window:
        return False
    before, now = (sum(losses[a:b]) for a, b in ((-2 * window, -window), (-window, None)))
    return now > (1 - least) * before


def frozen_copy(generator: Generator) -> Generator:
    """A copy through which gradients reach the latents only."""
    return copy.deepcopy(generator).eval().requires_grad_(False)


def invert(
    generator: Generator,
    image: Float[Tensor, "3 H W"],
    pose: Float[Tensor, "1 3"],
    *,
    profile: str = "full",
    steps_project: int | None = None,
    steps_tune: int | None = None,
    seed: int = 0,
    start: Float[Tensor, "1 w"] | None = None,
    features: Features | None = None,
    hold: float = HOLD,
    face: Coefficients | None = None,
    on_step: OnStep | None = None,
) -> Inversion:
    """PTI: project, then tune. The caller's generator stays as it is.

    image: (3, R, R) in [-1, 1], R the generator's resolution, framed as the world's portraits are; pose: the estimator's,
    radians; both on the CPU, wherever the generator is; profile "fast" or "full" sets the steps unless they are given; start,
    features, hold: see `project` and `tune`; face, the fitted 3DMM, is handed on with the pose that was found.
    on_step(stage, step, steps, loss, now) is called after every step; now is the inversion as it stands, to look at (its
    tensors go on changing).
    Raises BadInput for another image, or an unknown profile.
    """
    began = time.monotonic()
    if profile not in STEPS:
        raise BadInput(f"there is no profile {profile!r}; use one of {', '.join(STEPS)}")
    check_image(image, generator.config.resolution)
    check_array(pose, "the pose of a picture to invert", "torch.float32", 1, 3, limit=math.pi)
    n_project, n_tune = (given if given is not None else usual
                         for given, usual in zip((steps_project, steps_tune), STEPS[profile], strict=True))
    keep_freed_memory()
    w, z_bg, pose, projecting = project(
        generator, image, pose, steps=n_project, seed=seed, start=start, features=features, on_step=on_step)
    tuned, tuning = tune(
        generator, image, w, z_bg, pose, steps=n_tune, seed=seed, features=features, hold=hold, on_step=on_step)
    losses = {"project": projecting, "tune": tuning}
    face = face and face.replace(pose=pose)
    return Inversion(tuned, w, z_bg, pose, face, losses, time.monotonic() - began)


def save(inversion: Inversion, path: Path) -> None:
    """Write one safetensors file: the tuned generator (float16), its configuration, latents, pose, face."""
    from safetensors.torch import save as packed

    tensors = {f"generator.{k}": v.half() for k, v in inversion.generator.state_dict().items()}
    tensors |= {name: getattr(inversion, name) for name in ("w", "z_bg", "pose")}
    if inversion.face:
        tensors |= {f"face.{name}": value for name, value in vars(inversion.face).items()}
    about = {"config": dataclasses.asdict(inversion.generator.config), "losses": inversion.losses,
             "seconds": inversion.seconds}
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(packed({k: v.clone().contiguous() for k, v in tensors.items()}, {"inversion": json.dumps(about)}))


def load(path: Path) -> Inversion:
    """Read what `save` wrote, onto the CPU. Raises BadInput if there is no such file, CorruptWeights if it is another."""
    from safetensors import SafetensorError, safe_open

    path = check_input(path, "a file written by nfs_lib.inversion.save")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["inversion"])
            tensors = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118

        def group(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        weights, given = group("generator."), about["config"]
        generator = built(lambda: Generator(GeneratorConfig.from_dict(given)), given, sum(v.numel() for v in weights.values()))
        generator.load_state_dict(weights)
        face = Coefficients(**group("face.")) if "face.pose" in tensors else None
        return Inversion(generator.eval().requires_grad_(False), tensors["w"], tensors["z_bg"], tensors["pose"],
                         face, about["losses"], about["seconds"])
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError
            ) as error:
        first = " ".join(str(error).split())[:200]
        raise CorruptWeights(f"{path} isn't an inversion that this version can read ({first}); invert again") from error
