"""The estimator: one image → identity, expression, pose and light (paper section 4.1).

The open world's stand-in for Deep3DFaceReconstruction's ReconNet. LipaintNet is trained through it (Eq. 10, 11), so it is
differentiable with respect to the image. Use it in evaluation mode, in which its batch norms are fixed: then a picture's
reading doesn't depend on what else is in the batch.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.camera import Camera, project
from nfs_lib.errors import BadInput
from nfs_lib.face.model import Coefficients

RESOLUTION = 256
SMALLEST = 64


class Patch(NamedTuple):
    """A piece of a rough face surface, head frame: x from -half_width to half_width, y from bottom to top, z = front −
    bend · x²; sampled with columns × rows points."""

    half_width: float
    bottom: float
    top: float
    front: float
    bend: float
    columns: int
    rows: int

    def points(self) -> Float[Tensor, "P 3"]:
        """(rows · columns, 3), row by row from the top left."""
        x = torch.linspace(-self.half_width, self.half_width, self.columns)
        y = torch.linspace(self.top, self.bottom, self.rows)
        y, x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([x, y, self.front - self.bend * x * x], -1).flatten(0, 1)


# one head unit is some 80 pixels of 256
MOUTH = Patch(0.46, -1.1, -0.32, 1.1, 2.0, 96, 80)
EYES = Patch(0.6, -0.04, 0.54, 1.0, 1.0, 112, 56)


class Conv(nn.Module):
    """A 3 × 3 convolution, batch norm, leaky ReLU; with stride 1 the input is added."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.conv.weight.data = self.conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(channels_out)
        self.residual = stride == 1

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = F.leaky_relu(self.norm(self.conv(x)), 0.1)
        return x + y if self.residual else y


def trunk(widths: tuple[int, ...], summary: int) -> nn.Sequential:
    """(B, 3, H, W) → (B, summary · ⌈H / 32⌉ · ⌈W / 32⌉): five halvings, what is seen where."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
        layers += [Conv(before, after, 2)] + [Conv(after, after, 1)] * (i in (2, 3))
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], summary, 1), nn.Flatten())


def residual_means(branch: nn.Sequential, x: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Float[Tensor, "B C"]]:
    """What a trunk gives, and every channel's mean of what its residual layers gave on the way (1/8 and 1/16 of the size)."""
    seen = []
    for layer in branch:
        x = layer(x)
        if isinstance(layer, Conv) and layer.residual:
            seen.append(x.mean((2, 3)))
    return x, torch.cat(seen, 1)


def head(features: int, hidden: int, numbers: int) -> nn.Sequential:
    """Branches' features → numbers."""
    return nn.Sequential(nn.Linear(features, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, numbers))


def channels_last(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """The same tensor in the memory layout that is fastest on a CPU."""
    return x.contiguous(memory_format=torch.channels_last)


def look_up(
    image: Float[Tensor, "B 3 H W"], points: Float[Tensor, "P 3"], patch: Patch, camera: Camera
) -> Float[Tensor, "B 3 rows columns"]:
    """The picture's colours where the patch's points project to."""
    place = project(points.expand(len(image), -1, -1), camera, 2)[..., :2] - 1
    grid = place.view(-1, patch.rows, patch.columns, 2).to(image)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


class Estimator(nn.Module):
    """Image → Coefficients. 1.5 M parameters.

    A first branch sees the whole picture at 128 pixels and gives the pose. With it, mouth and eyes are looked up in the
    picture where the surface of a mean face would be, which turns them to the front; two more branches see those patches.
    (No gradient flows through where the patches lie, only through what is seen there.)
    Expression is regressed along `axes` (A, n_expression), the directions in which faces of its world move: actions that
    no axis drives are exactly 0, and left and right agree where an axis says so. Identity beyond the first n_modes is 0.

    Buffers, part of the state dict: axes; mean and std of the numbers that the heads give in standardised form, in the
    order pose, axes, identity, light.
    """

    axes: Tensor
    mean: Tensor
    std: Tensor
    mouth_points: Tensor
    eye_points: Tensor

    def __init__(
        self,
        n_axes: int = 15,
        n_modes: int = 16,
        n_expression: int = 52,
        n_identity: int = 40,
        widths: tuple[int, ...] = (32, 48, 64, 96, 128),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.sizes = (3, n_axes, n_modes, 27)
        self.n_identity = n_identity
        self.whole, self.mouth, self.eyes = (trunk(widths, 48) for _ in range(3))
        self.pose_head = head(48 * 16, 64, 3)
        self.head = head(48 * (16 + 9 + 8), hidden, sum(self.sizes) - 3)
        self.register_buffer("mouth_points", MOUTH.points(), persistent=False)
        self.register_buffer("eye_points", EYES.points(), persistent=False)
        self.register_buffer("axes", torch.zeros(n_axes, n_expression))
        self.register_buffer("mean", torch.zeros(sum(self.sizes)))
        self.register_buffer("std", torch.ones(sum(self.sizes)))

    def standardised(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B n"]:
        """The heads' numbers: pose, axes, identity, light, each with its mean subtracted and divided by its std.

        image: [-1, 1], square, at least 64 pixels; resized inside. Raises BadInput for another form.
        """
        image = self.resized(image)
        whole = self.whole(channels_last(F.avg_pool2d(image, 2)))
        pose = self.pose_head(whole).to(self.mean)
        mouth, eyes = self.patches(image, pose)
        return torch.cat([pose, self.head(torch.cat([whole, self.mouth(mouth), self.eyes(eyes)], 1)).to(pose)], 1)

    def features(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 480"]:
        """What the three branches see at 1/8 and 1/16 of their pictures' size, each channel's mean over its places: how the
        picture looks, not what it says. image: as in `standardised`."""
        image = self.resized(image)
        whole, seen = residual_means(self.whole, channels_last(F.avg_pool2d(image, 2)))
        mouth, eyes = self.patches(image, self.pose_head(whole).to(self.mean))
        return torch.cat([seen, residual_means(self.mouth, mouth)[1], residual_means(self.eyes, eyes)[1]], 1)

    def resized(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 256 256"]:
        """The picture at the size that the branches know. Raises BadInput as `standardised` does."""
        height, width = image.shape[-2:]
        if height != width or height < SMALLEST:
            raise BadInput(
                f"an image of {width}×{height} pixels was given; the estimator expects a square one of at least "
                f"{SMALLEST}: crop or resize it first"
            )
        if height != RESOLUTION:
            image = F.interpolate(image, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True)
        return image

    def patches(self, image: Float[Tensor, "B 3 256 256"], pose: Float[Tensor, "B 3"]) -> tuple[Tensor, Tensor]:
        """Mouth and eyes as they look from the front, (B, 3, rows, columns) each, for a standardised pose."""
        camera = Camera.from_pose((pose * self.std[:3] + self.mean[:3]).detach())
        return (channels_last(look_up(image, self.mouth_points, MOUTH, camera)),
                channels_last(look_up(image, self.eye_points, EYES, camera)))

    def coefficients(self, standardised: Float[Tensor, "B n"]) -> Coefficients:
        """From the head's numbers to what they stand for."""
        pose, along, identity, light = (standardised * self.std + self.mean).split(self.sizes, 1)
        identity = F.pad(identity, (0, self.n_identity - identity.shape[1]))
        return Coefficients(identity, along @ self.axes, pose, light)

    def targets(self, truth: Coefficients) -> Float[Tensor, "B n"]:
        """The inverse of `coefficients`, for training: what the head should give."""
        along = truth.expression @ torch.linalg.pinv(self.axes)
        numbers = torch.cat([truth.pose, along, truth.identity[:, : self.sizes[2]], truth.light], 1)
        return (numbers - self.mean) / self.std

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Coefficients:
        """Identity, expression, pose and light of B faces.

        image (B, 3, H, W) in [-1, 1], square, at least 64 pixels, the face centred as the open world's portraits are.
        Raises BadInput for another form.
        """
        return self.coefficients(self.standardised(image))
