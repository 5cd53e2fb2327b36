"""Refining the estimator's coefficients on one picture by gradient descent (paper section 4.1).

Landmark weights follow 3DMM-Fitting-Pytorch, which the paper's code uses: 10 for the ridge of the nose and the lips.
The open world has no landmark detector: unless landmarks are given, the colours of the skin are all that there is to learn
from, and the start is the estimator's reading, averaged over changed copies of the picture.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.camera import Camera, head_to_nerf, project
from nfs_lib.errors import BadInput
from nfs_lib.face.estimator import Estimator
from nfs_lib.face.model import Coefficients, MorphableModel

ODD_LIGHT = (3, 4, 7)  # of the nine bands: those that change sign with x
PRIOR_SIZE = (0.5, 0.15, 0.03, 0.1)  # about the estimator's error: identity, axes, pose (radians), light


def landmark_weights() -> Float[Tensor, " 68"]:
    """1, but 10 for landmarks 28–30 and 48–67; their sum is 1."""
    weights = torch.ones(68)
    weights[28:31] = weights[48:] = 10.0
    return weights / weights.sum()


def mirror(coefficients: Coefficients, names: list[str]) -> Coefficients:
    """What the picture's mirror image shows: left and right actions exchanged, yaw and roll reversed, the light's sides
    swapped. Identity stays: the modes that the open world's portraits use are symmetric.

    names: those of the expression's actions (``MorphableModel.expression_names``).
    """
    swapped = [n.replace("Left", "Right") if "Left" in n else n.replace("Right", "Left") for n in names]
    light = coefficients.light.unflatten(1, (3, 9)).clone()
    light[:, :, ODD_LIGHT] *= -1
    sign = coefficients.pose.new_tensor([-1.0, 1.0, -1.0])
    return Coefficients(
        coefficients.identity,
        coefficients.expression[:, [names.index(n) for n in swapped]],
        coefficients.pose * sign,
        light.flatten(1),
    )


@torch.no_grad()
def consensus(model: MorphableModel, estimator: Estimator, image: Float[Tensor, "B 3 H W"]) -> Coefficients:
    """The mean of what the estimator reads off the picture and its mirror image, each also a little shifted."""
    step, reads = max(1, round(image.shape[-1] / 128)), []
    padded = F.pad(image, (step,) * 4, mode="replicate")
    for across, down in ((0, 0), (step, 0), (-step, 0), (0, step), (0, -step)):
        shifted = padded.roll((down, across), (2, 3))[..., step:-step, step:-step]
        reads += [estimator(shifted), mirror(estimator(shifted.flip(3)), model.expression_names)]
    fields = ("identity", "expression", "pose", "light")
    return Coefficients(*(torch.stack([getattr(read, f) for read in reads]).mean(0) for f in fields))


def harmonics(normals: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 9"]:
    """Deep3DFaceReconstruction's nine spherical harmonics of unit normals (head frame here)."""
    x, y, z = normals.unbind(-1)
    k0, k1, k2 = 0.8862269, 1.7724539, 2.4270324
    bands = [torch.full_like(x, k0), -k1 * y, k1 * z, -k1 * x, k2 * x * y, -k2 * y * z,
             k2 / (2 * 3**0.5) * (3 * z * z - 1), -k2 * x * z, k2 / 2 * (x * x - y * y)]  # fmt: skip
    return torch.stack(bands, -1)


def shade(normals: Float[Tensor, "B V 3"], light: Float[Tensor, "B 27"]) -> Float[Tensor, "B V 3"]:
    """Colour of a white surface: Σ_b Y_b(n)·(γ_b + 0.8·[b = 0]) per channel."""
    gamma = light.unflatten(1, (3, 9)) + 0.8 * F.one_hot(torch.tensor(0), 9).to(light)
    return torch.einsum("bvk,bck->bvc", harmonics(normals), gamma)


def photometric_loss(
    model: MorphableModel,
    coefficients: Coefficients,
    image: Float[Tensor, "B 3 H W"],
    albedo: Float[Tensor, "B 2 3"],
) -> Tensor:
    """Mean L1 between the picture at the projected face vertices and albedo × shading there.

    albedo: colours in [0, 1] of skin and lips. Counted are vertices of the face and lips that turn towards the camera by
    70° at most; the gradient reaches the geometry through the place at which the picture is sampled.
    """
    lips, face = (model.regions[name].to(image) for name in ("lips", "face"))
    vertices = model.vertices(coefficients.identity, coefficients.expression)
    camera = Camera.from_pose(coefficients.pose)
    normals = model.normals(vertices)
    place = project(vertices, camera, 2)[..., :2] - 1
    seen = F.grid_sample(image, place[:, :, None], align_corners=False)[..., 0].transpose(1, 2) / 2 + 0.5
    colour = torch.lerp(albedo[:, :1], albedo[:, 1:], lips[:, None]) * shade(normals, coefficients.light)
    towards = F.normalize(camera.eye[:, None] - head_to_nerf(vertices.detach()), dim=-1)
    counted = ((normals.detach() * towards).sum(-1) > 0.34) * torch.maximum(lips, face)
    return ((seen - colour).abs().mean(-1) * counted).sum() / counted.sum()


def fit(
    model: MorphableModel,
    estimator: Estimator,
    image: Float[Tensor, "B 3 H W"],
    steps: int = 60,
    landmarks: Float[Tensor, "B 68 2"] | None = None,
    photometric: float = 0.1,
) -> Coefficients:
    """Coefficients of B faces: the estimator's consensus over changed copies, refined by Adam.

    image: [-1, 1], square, at least 64 pixels (BadInput otherwise). landmarks (B, 68, 2): where the landmarks are, in
    pixels of the image, iBUG order, from a detector or by hand. With them everything moves; without, the pose alone: on 16
    held-out portraits the colours brought it nearer (0.28° → 0.23°), but took identity and expression farther off (0.84 →
    0.87 mm, 0.028 → 0.031) where they were let. photometric: weight of the colour term. The loss is 100 × the weighted squared
    landmark distance (image side = 1), the colour term, and the squared distance from the start in units of the estimator's
    error; expression moves along the estimator's axes only.
    """
    size = image.shape[-1]
    start = consensus(model, estimator, image)
    if landmarks is not None and not torch.isfinite(landmarks).all():
        raise BadInput("landmarks that aren't finite numbers were given; expected 68 pixel positions per face")
    widths = (start.identity.shape[1], len(estimator.axes), 3, 27)
    moved = [torch.zeros(len(image), width, device=image.device) for width in widths]
    albedo = nn.Parameter(image.new_tensor([[0.75, 0.55, 0.45], [0.65, 0.35, 0.33]]).repeat(len(image), 1, 1))
    weights = landmark_weights().to(image)
    free = [m.requires_grad_() for m in (moved if landmarks is not None else moved[2:3])]
    optimiser = torch.optim.Adam([{"params": free, "lr": 0.1}, {"params": [albedo], "lr": 0.02}])

    def current() -> Coefficients:
        identity, axes, pose, light = (m * s for m, s in zip(moved, PRIOR_SIZE, strict=True))
        return Coefficients(start.identity + identity, start.expression + axes @ estimator.axes, start.pose + pose,
                            start.light + light)  # fmt: skip

    for _ in range(steps):
        now = current()
        loss = 1e-4 * torch.stack([m.square().sum(1).mean() for m in moved]).sum()
        if landmarks is not None:
            distance = ((model.project_landmarks(now, size) - landmarks) / size).square().sum(-1)
            loss = loss + 100 * (distance * weights).sum(-1).mean()
        if photometric:
            loss = loss + photometric * photometric_loss(model, now, image, albedo)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return current().detach()
