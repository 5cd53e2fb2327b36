"""LPIPS: how different two pictures look, by the activations of VGG16 or AlexNet (Zhang et al. 2018, version 0.1).

The trunks have torchvision's names and the linear heads those of the files in the authors' package. PTI projects with VGG16's
features and tunes with AlexNet's distance (section 4.1).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.checkpoints import find_part, load_tensors
from nfs_lib.errors import BadInput, CorruptWeights

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation, for pictures in [-1, 1]
TAPS = {"vgg": (3, 8, 15, 22, 29), "alex": (1, 4, 7, 9, 11)}  # the ReLUs that are compared
CHANNELS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
PARTS = {"vgg": ("vgg16", "lpips_vgg"), "alex": ("alexnet", "lpips_alex")}  # in the manifest: trunk, heads
SMALLEST = {"vgg": 16, "alex": 31}  # pixels


def vgg16() -> nn.Sequential:
    """Pairs and triples of 3 × 3 convolutions with a pooling after each."""
    layers: list[nn.Module] = []
    before = 3
    for after, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, after, 3, 1, 1), nn.ReLU(inplace=True)]
            before = after
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def alexnet() -> nn.Sequential:
    """Five convolutions, a pooling after the first, second and last."""
    shapes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
    layers: list[nn.Module] = []
    for i, shape in enumerate(shapes):
        layers += [nn.Conv2d(*shape), nn.ReLU(inplace=True)]
        if i in (0, 1, 4):
            layers.append(nn.MaxPool2d(3, 2))
    return nn.Sequential(*layers)


class Trunk(nn.Module):
    """torchvision's VGG16 or AlexNet without the classifier; returns the activations that LPIPS compares."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.features = vgg16() if name == "vgg" else alexnet()
        self.taps = TAPS[name]

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        activations = []
        for start, end in zip((-1, *self.taps), self.taps, strict=False):
            x = self.features[start + 1 : end + 1](x)
            activations.append(x)
        return activations


class Head(nn.Module):
    """One weight for each channel; none is negative in the published heads, whose training put a dropout before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B 1 H W"]:
        return self.model(x)

    def weights(self) -> Float[Tensor, "c 1 1"]:
        return self.model.get_parameter("1.weight")[0]


class Lpips(nn.Module):
    """The distance of pictures with a trunk "vgg" or "alex". Weights: `load`. Raises BadInput for another trunk."""

    def __init__(self, trunk: str = "vgg") -> None:
        super().__init__()
        if trunk not in PARTS:
            raise BadInput(f"LPIPS with the trunk {trunk!r} was asked for; there are {', '.join(PARTS)}")
        self.trunk, self.smallest = Trunk(trunk), SMALLEST[trunk]
        self.lin0, self.lin1, self.lin2, self.lin3, self.lin4 = (Head(n) for n in CHANNELS[trunk])

    @property
    def heads(self) -> list[Head]:
        return [self.lin0, self.lin1, self.lin2, self.lin3, self.lin4]

    def directions(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """The trunk's activations, (B, c, h, w) each, as unit vectors at every place.

        Raises BadInput for a picture that is too small for the trunk.
        """
        if min(image.shape[-2:]) < self.smallest:
            raise BadInput(f"pictures of {tuple(image.shape)} were given; LPIPS needs {self.smallest} pixels at least")
        x = (image - image.new_tensor(SHIFT)[:, None, None]) / image.new_tensor(SCALE)[:, None, None]
        return [unit(activation) for activation in self.trunk(x)]

    def forward(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B"]:
        """LPIPS of each pair; pictures in [-1, 1]. 0 for equal ones, seldom over 1."""
        levels = zip(self.heads, self.directions(a), self.directions(b), strict=True)
        return torch.stack([head((u - v).square()).mean((1, 2, 3)) for head, u, v in levels]).sum(0)

    def features(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B n"]:
        """One vector for each picture in [-1, 1]: the squared distance of two of them is the pictures' LPIPS.

        With "vgg" it stands for NVIDIA's compiled `vgg16.pt` (return_lpips=True), whose pictures go from 0 to 255 instead; the
        order of the numbers within the vector is our own. It grows with the picture: 8 million numbers at 256 × 256.
        """
        levels = zip(self.heads, self.directions(image), strict=True)
        vectors = [(u * (head.weights() / (u.shape[2] * u.shape[3])).sqrt()).flatten(1) for head, u in levels]
        return torch.cat(vectors, 1)


def unit(x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c H W"]:
    """Each place's vector over its length + 1e-10; zeros stay zeros, and have a gradient."""
    return x / (x.square().sum(1, keepdim=True).clamp(min=1e-20).sqrt() + 1e-10)


def load(trunk: str = "vgg") -> Lpips:
    """LPIPS with the weights that the user brought to the paper world, frozen.

    Trunk and heads are two files: `vgg16` or `alexnet` as torchvision publishes it (its classifier isn't used), and `lpips_vgg`
    or `lpips_alex` from the authors' package. Raises MissingWeights or CorruptWeights, which name the file.
    """
    model = Lpips(trunk).eval().requires_grad_(False)
    parts = [find_part("paper", name) for name in PARTS[trunk]]
    for part, prefix, module in zip(parts, ("features.", "lin"), (model.trunk, model), strict=True):
        tensors = {name: value for name, value in load_tensors(part).items() if name.startswith(prefix)}
        expected = {name for name in module.state_dict() if name.startswith(prefix)}
        try:
            if missing := expected - tensors.keys():
                raise RuntimeError(f"{min(missing)} isn't in it")
            module.load_state_dict({name: tensors[name] for name in expected}, strict=False)
        except RuntimeError as error:
            first = " ".join(str(error).split())[:200]
            raise CorruptWeights(f"{part.path} isn't the {part.name} that LPIPS needs; import it anew ({first})") from error
    return model
