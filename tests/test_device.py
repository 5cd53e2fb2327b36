"""Pictures can be made on another device than the face's geometry.

There is no second device where these tests run. Precision stands in for it: the networks that make pictures are turned to
float64, all else stays float32, and whatever would meet across two devices meets across two precisions, which is forbidden.
What code for mixed precision calls `.float()` stays where it is, as it does on a GPU.
"""

import copy

import numpy as np
import pytest
import torch
from test_pti import POSE, generator, image  # noqa: F401  fixtures
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nfs_lib import cli, inversion, pti, samples, worlds
from nfs_lib.cropping import crop_portrait
from nfs_lib.face import fitting
from nfs_lib.images import load_portrait
from nfs_lib.talking_head import TalkingHead

CARRIERS = ("_to_copy", "copy_")  # what brings a tensor from one device to another


class Apart(TorchDispatchMode):
    """Forbids any operation on tensors of both precisions; single numbers may meet all, as they may on a GPU."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.ndim]
        floats = {t.dtype for t in tensors if t.is_floating_point()}
        if len(floats) > 1 and operation._schema.name.split("::")[1] not in CARRIERS:
            raise AssertionError(f"{operation} on {floats}")
        return operation(*args, **(kwargs or {}))


class Stays(TorchFunctionMode):
    """`.float()` leaves float64 as it is."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return args[0] if function is torch.Tensor.float else function(*args, **(kwargs or {}))


def elsewhere(world):
    """The same world with the networks that make pictures in float64."""
    there = worlds.World(world.name)
    vars(there).update({name: copy.deepcopy(getattr(world, name)).double() for name in ("generator", "lipaint")})
    return there


def test_what_meets_across_devices_is_noticed():
    with Apart():
        torch.ones(2) + torch.ones(2)
        torch.ones(2, dtype=torch.float64) * torch.tensor(2.0)
        with pytest.raises(AssertionError, match="add"):
            torch.ones(2) + torch.ones(2, dtype=torch.float64)


@pytest.fixture(scope="module")
def world():
    return worlds.load("open")


@pytest.fixture(scope="module")
def portrait(world):
    crop = crop_portrait(load_portrait(samples.portrait_file()), world.estimator, world.face_model)
    return crop.image, fitting.fit(world.face_model, world.estimator, crop.image[None])


OFFICIAL = {"rule": "official", "planar": True, "lipaint": False}


def said(world, portrait, turn, **options):
    """Frames of a mouth that opens, while the head turns by `turn` radians; the portrait was inverted in a few steps."""
    picture, face = portrait
    made = inversion.invert(world.generator, picture, face.pose, start=world.first_latent(face), steps_project=2, steps_tune=2,
                            locality=0.1)  # fmt: skip
    betas, poses = face.expression.repeat(6, 1), face.pose.repeat(6, 1)
    betas[:, world.face_model.action("jawOpen")] = torch.linspace(0, 0.7, 6)
    poses[:, 0] += torch.linspace(0, turn, 6)
    return np.stack(list(TalkingHead(world, made, face, **options).frames(betas, poses)))


@pytest.mark.parametrize(("turn", "options"), [(0.0, {}), (0.3, {}), (0.3, OFFICIAL)])
def test_a_head_speaks_whose_pictures_are_made_elsewhere(world, portrait, turn, options):
    here = said(world, portrait, turn, **options)
    with Apart(), Stays():
        there = said(elsewhere(world), portrait, turn, **options)
    assert len({frame.tobytes() for frame in here}) == 6
    assert np.abs(here.astype(int) - there).max() <= 2


def test_the_official_schedule_inverts_elsewhere(generator, image):  # noqa: F811
    def found(generator):
        made = pti.invert(generator, image, POSE, None, None, steps=(3, 3))
        return made.picture(), made.picture(POSE + 0.2)

    here = found(generator)
    with Apart(), Stays():
        there = found(copy.deepcopy(generator).double())
    for a, b in zip(here, there, strict=True):
        assert b.dtype == torch.float64
        assert (a - b).abs().max() < 1e-2 < a.std()


def test_parts_that_make_pictures_are_where_the_world_is():
    world = worlds.World("open", "meta")
    assert all(next(getattr(world, name).parameters()).is_meta for name in ("generator", "discriminator", "lipaint"))
    assert not any(next(getattr(world, name).parameters()).is_meta for name in ("estimator", "audio2exp"))


@pytest.mark.parametrize("device", ["cuda:99", "nix", "meta", ""])
def test_a_device_that_cannot_be_used(device, tmp_path, capsys):
    portrait, clip, out = samples.portrait_file(), samples.speech_file(), tmp_path / "v.mp4"
    args = ["talk", "--image", str(portrait), "--audio", str(clip), "--out", str(out), "--device", device]
    assert cli.main(args) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"the device {device!r} can't be used here" in last and "give another" in last
    assert not list(tmp_path.iterdir())
