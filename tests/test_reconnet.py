"""ReconNet: its names and sizes, and how pictures are brought to it. Its numbers: the golden set reconnet."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nfs_lib.errors import BadInput
from nfs_lib.face import ReconNet
from nfs_lib.face.reconnet import resized
from nfs_lib.images import to_uint8

GOLDENS = Path(__file__).parent / "goldens" / "networks"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ReconNet().eval()


def smooth(size: int, batch: int = 1) -> torch.Tensor:
    """Pictures of waves, fine ones too, whose values are whole bytes."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(40 * x + k) * np.cos(25 * y * (k + 1)) for k in range(3 * batch)]
    return torch.from_numpy(np.round(np.stack(waves) * 127.5 + 127.5) / 127.5 - 1).float().view(batch, 3, size, size)


def test_it_has_the_official_names():
    with torch.device("meta"):
        network = ReconNet()
    state = network.state_dict()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"backbone.conv1.weight", *(f"backbone.bn1.{part}" for part in norm)}
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for i in range(count):
            block = f"backbone.layer{stage}.{i}."
            expected |= {f"{block}conv{k}.weight" for k in (1, 2, 3)}
            expected |= {f"{block}bn{k}.{part}" for k in (1, 2, 3) for part in norm}
            if i == 0:
                expected |= {f"{block}downsample.0.weight", *(f"{block}downsample.1.{part}" for part in norm)}
    expected |= {f"final_layers.{i}.{part}" for i in range(7) for part in ("weight", "bias")}
    assert state.keys() == expected and len(expected) == 332
    assert sum(p.numel() for p in network.parameters()) == 24_034_625
    assert [tuple(state[f"final_layers.{i}.weight"].shape) for i in range(7)] == [
        (n, 2048, 1, 1) for n in (80, 64, 80, 3, 27, 2, 1)]
    assert [state[f"backbone.layer{k}.0.conv2.weight"].shape[0] for k in (1, 2, 3, 4)] == [64, 128, 256, 512]


@pytest.mark.parametrize("size", [512, 300, 96])
def test_pictures_are_resized_as_pillow_does(size):
    pictures = smooth(size, 2)
    for picture, small in zip(to_uint8(pictures), resized(pictures), strict=True):
        wanted = np.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.BICUBIC))
        assert np.array_equal((small * 255).round().byte().permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("size", [512, 224, 96])
def test_with_gradients_the_same_but_for_rounding(size):
    pictures = smooth(size)
    asked = pictures.clone().requires_grad_()
    small = resized(asked)
    assert (small - resized(pictures)).abs().max() < 1.5 / 255  # Pillow rounds twice
    small.sum().backward()
    assert asked.grad.sum() == pytest.approx(224 * 224 * 3 / 2, rel=0.02)  # a shift by 2 changes [0, 1] by 1; some is clipped
    with torch.no_grad():
        assert torch.equal(resized(asked), resized(pictures))


def test_224_pixels_stay_as_they_are():
    pictures = smooth(224)
    assert torch.allclose(resized(pictures), (pictures + 1) / 2, atol=1e-6)


def test_reading_is_the_network_on_the_resized_picture(network):
    pictures = smooth(300)
    with torch.no_grad():
        wanted, read = network(resized(pictures)), network.read(pictures)
        assert network.pooled(resized(pictures)).shape == (1, 2048)
    assert torch.equal(read.vector(), wanted) and read.expression.shape == (1, 64)
    assert torch.equal(network.pose(wanted), torch.stack([wanted[:, 225], wanted[:, 224], wanted[:, 226]], 1))
    asked = pictures.clone().requires_grad_()
    network.read(asked).expression.square().sum().backward()
    assert asked.grad.isfinite().all() and asked.grad.abs().max() > 0


def test_other_forms_are_refused(network):
    with pytest.raises(BadInput, match="use `read`"):
        network(torch.zeros(1, 3, 256, 256))
    for shape in ((1, 3, 256, 224), (1, 3, 40, 40)):
        with pytest.raises(BadInput, match="crop or resize"):
            network.read(torch.zeros(shape))
