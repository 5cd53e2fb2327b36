"""A portrait becomes a head that can be moved (section 4.1): it is framed, inverted, and its 3DMM fitted.

In the open world the 3DMM is fitted to the portrait, and inversion starts from what it says. The paper's code only takes the
pose from the portrait; it inverts, and then fits the 3DMM to the *reconstruction*, seen from the front, where the ray samples
are matched.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import frontal, nerf_to_head
from nfs_lib.cropping import Crop, crop_portrait, predictor
from nfs_lib.errors import MissingWeights
from nfs_lib.face import Coefficients, MorphableModel

if TYPE_CHECKING:
    from nfs_lib.inversion import Inversion
    from nfs_lib.worlds import World

TURNING = {"fast": (10, 10), "full": (1000, 2000)}  # the paper world's steps of projection and of tuning, per profile
FITTING = {"fast": (100, 20), "full": (1000, 500)}  # its rigid and non-rigid steps of the 3DMM fit


@dataclass
class Ready:
    """A portrait inside the generator, its face (batch of 1; pose: the portrait's), and the model that the face belongs to."""

    inversion: "Inversion"
    face: Coefficients
    model: MorphableModel


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print a line with the stage's name and the seconds it took."""
    begin = time.perf_counter()
    yield
    print(f"{name:<34s} {time.perf_counter() - begin:6.1f} s", file=sys.stderr, flush=True)


def framed(world: "World", picture: Float[Tensor, "3 H W"], name: str = "the picture") -> Crop:
    """The portrait as the world's generator knows portraits.

    In the open world the face is found and framed (`cropping`). The paper's generator knows FFHQ's framing; as in the official
    code, the picture is taken as it is, only cut to a square about its middle. Raises BadInput, naming `name`, if the open
    world finds no face.
    """
    if world.name == "open":
        return crop_portrait(picture, world.estimator, world.face_model, name=name)
    height, width = picture.shape[1:]
    side = min(height, width)
    top, left, size = (height - side) // 2, (width - side) // 2, world.generator.config.resolution
    square = picture[:, top : top + side, left : left + side]
    image = F.interpolate(square[None], (size, size), mode="bicubic", antialias=True)[0].clamp(-1, 1)
    scale = size / side
    transform = torch.tensor([[scale, 0, -left * scale], [0, scale, -top * scale], [0, 0, 1]], dtype=torch.float64).numpy()
    notes = []
    if height != width:
        notes = [f"{name} isn't square ({width}×{height} pixels): its middle is taken; the official generator knows portraits "
                 "framed as FFHQ's are, which `nfs prepare` makes"]
    return Crop(image, transform, notes)


def ready(world: "World", image: Float[Tensor, "3 R R"], *, profile: str = "full", seed: int = 0, official: bool = False
          ) -> Ready:
    """Invert a framed portrait and fit its 3DMM. profile: "fast" or "full" (in the paper world the official schedules).

    official: insist on LPIPS; otherwise PTI in the paper world falls back on the kit's own picture loss, and says so, where the
    user hasn't brought it. Raises MissingWeights, naming the file, for a part that isn't there.
    """
    return _open(world, image, profile, seed) if world.name == "open" else _paper(world, image, profile, seed, official)


def _open(world: "World", image: Tensor, profile: str, seed: int) -> Ready:
    from nfs_lib import inversion
    from nfs_lib.face import fitting

    with stage("fitting the 3DMM"):
        face = fitting.fit(world.face_model, world.estimator, image[None])
    with stage("inverting the portrait (PTI)"):
        inverted = inversion.invert(world.generator, image, face.pose, profile=profile, seed=seed,
                                    start=world.first_latent(face))
    return Ready(inverted, face.replace(pose=inverted.pose), world.face_model)


def _paper(world: "World", image: Tensor, profile: str, seed: int, official: bool) -> Ready:
    from nfs_lib import lpips, pti
    from nfs_lib.face import bfm, bfm_fitting

    losses: list[Any] = []
    for trunk in ("vgg", "alex"):
        try:
            network = lpips.load(trunk).to(world.device)
            losses.append(network.features if trunk == "vgg" else network)
        except MissingWeights as error:
            if official:
                raise
            print(f"PTI compares with the kit's own picture loss instead of LPIPS: {error}", file=sys.stderr)
            losses.append(None)
    with stage("reading the pose"), torch.no_grad():
        pose = world.estimator.read(image[None]).pose()
    with stage("inverting the portrait (PTI)"):
        inverted = pti.invert(world.generator, image, pose, *losses, steps=TURNING[profile], seed=seed)
    with stage("fitting the 3DMM"):
        front = inverted.picture(torch.zeros(1, 3)).to(image)
        landmarks = bfm_fitting.landmarks68(front[0]) if predictor() else None
        fitted = bfm_fitting.fit(world.bfm, world.estimator, front, landmarks, FITTING[profile]).coefficients
    model = bfm.as_morphable(world.bfm, bfm.rotation(fitted.angles)[0], fitted.translation[0])
    return Ready(inverted, fitted.face().replace(pose=inverted.pose), model)


@torch.no_grad()
def anchors(world: "World", inversion: "Inversion") -> Float[Tensor, "A 3"]:
    """Points of hair, neck and clothes, head frame, which the official code matches samples with as well, and which never move.

    They are pixels of the frontal picture, laid on the ±0.1 square through the orbit centre (`segmenter.torso_points`).
    """
    from nfs_lib.segmenter import torso_points

    g = inversion.generator
    front = g(g.broadcast(inversion.w), inversion.z_bg, frontal().to(g.there))
    points = torso_points(world.segmenter.labels(front)[0].cpu())
    return nerf_to_head(F.pad(points, (0, 1)))
