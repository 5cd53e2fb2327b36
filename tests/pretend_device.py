"""A device that isn't there, with real numbers: `python tests/pretend_device.py` lets the open world's heads speak on it,
`python tests/pretend_device.py PORTRAIT SPEECH` those of the paper world, and both print how far they are from the CPU's.

Tensors on "far" wrap a tensor on the CPU. What a GPU forbids is forbidden: tensors of two devices in one operation, but for
single numbers on the CPU, for index tensors on the CPU, and for copies. All else is computed on the CPU, so results must be the
same to the last bit. It is set up for the whole process, which is why the tests start another one.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
COPIES = ("aten::copy_", "aten::_to_copy")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index",
           "aten::_unsafe_index_put")  # fmt: skip


class Far(torch.Tensor):
    """A tensor on the device; `near` is what it holds."""

    @staticmethod
    def __new__(cls, near):
        return torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype, layout=near.layout,
            device=torch.device(NAME, 0))  # fmt: skip

    def __init__(self, near):
        self.near = near

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return done(operation, args, kwargs or {})


class Machine(TorchDispatchMode):
    """Within it, whatever asks for the device "far" gets tensors on it."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return done(operation, args, kwargs or {})


def near(value):
    return value.near if isinstance(value, Far) else value


def far(value):
    return Far(value) if isinstance(value, torch.Tensor) and not isinstance(value, Far) else value


def done(operation, args, kwargs):
    """The operation's result, on the device that it is asked for, or that its tensors are on."""
    name, tensors = operation._schema.name, [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there, here = [t for t in tensors if isinstance(t, Far)], [t for t in tensors if not isinstance(t, Far) and t.ndim]
    if name in INDEXED and isinstance(args[0], Far):
        here = [t for t in here if not any(t is index for index in args[1])]
    if there and here and name not in COPIES:
        raise RuntimeError(f"two devices meet in {operation}: {[tuple(t.shape) for t in here]} lie on the CPU")
    asked = kwargs.get("device")
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    result = operation(*tree_map(near, args), **tree_map(near, kwargs))
    if not (torch.device(asked).type == NAME if asked is not None else there):
        return result
    return args[0] if operation._schema.is_mutable and name.endswith("_") else tree_map(far, result)


def set_up():
    """Make torch know the device. Two ways to make a tensor from numbers bypass what `Machine` sees."""
    _setup_privateuseone_for_python_backend(NAME)
    new_tensor, tensor = torch.Tensor.new_tensor, torch.tensor
    torch.Tensor.new_tensor = lambda self, data, **k: far(new_tensor(self.near, data, **k)) if isinstance(self, Far) else (
        new_tensor(self, data, **k))  # fmt: skip
    torch.tensor = lambda data, device=None, **k: tensor(data, **k) if device is None else tensor(data, **k).to(device)


def different(cases, spoken):
    """Case → the largest difference between its frames here and there, in grey levels; `spoken(device, case)` gives them."""
    for case in cases:
        here = spoken("cpu", case)
        with Machine():
            there = spoken(NAME, case)
        assert len({frame.tobytes() for frame in here}) > 3, "nothing moves"
        yield str(case), int(np.abs(here.astype(int) - there).max())


OPEN = [{}, {"turn": 0.3}, {"turn": 0.3, "lipaint": False, "rule": "official", "planar": True},
        {"rule": "k-nearest", "stride": 4, "square": True, "blend_rgb": False}]  # fmt: skip
PAPER = [{"official": True, "orbit": True}]


def open_world() -> Iterator[tuple[str, int]]:
    """A mouth opens, options of `TalkingHead`; inverted in two steps and two, which hold other views as well."""
    from nfs_lib import cropping, images, inversion, samples, worlds
    from nfs_lib.face import fitting
    from nfs_lib.talking_head import TalkingHead

    inversion.REMEMBER = 0
    here = worlds.load("open")
    image = cropping.crop_portrait(images.load_portrait(samples.portrait_file()), here.estimator, here.face_model).image
    face, heads = fitting.fit(here.face_model, here.estimator, image[None]), {}

    def spoken(device, case):
        options = dict(case)
        turn = options.pop("turn", 0.0)
        world = worlds.load("open", device)
        if device not in heads:
            heads[device] = inversion.invert(world.generator, image, face.pose, start=world.first_latent(face), steps_project=2,
                                             steps_tune=2)  # fmt: skip
        betas, poses = face.expression.repeat(5, 1), face.pose.repeat(5, 1)
        betas[:, world.face_model.action("jawOpen")] = torch.linspace(0, 0.7, 5)
        poses[:, 0] += torch.linspace(0, turn, 5)
        return np.stack(list(TalkingHead(world, heads[device], face, **options).frames(betas, poses)))

    yield from different(OPEN, spoken)


def paper_world(image: Path, audio: Path) -> Iterator[tuple[str, int]]:
    """`pipeline.talk` whole, options of it; the files are those in $NFS_DATA."""
    from nfs_lib import pipeline, portrait, video

    portrait.TURNING, portrait.FITTING, shown = {"fast": (2, 1)}, {"fast": (2, 1)}, {}
    video.write_video = lambda path, frames, wave, **options: shown.update(frames=np.stack(list(frames)))

    def spoken(device, case):
        pipeline.talk(image, audio, image.with_name("none.mp4"), world="paper", profile="fast", device=device, **case)
        return shown["frames"]

    yield from different(PAPER, spoken)


if __name__ == "__main__":
    set_up()
    print(json.dumps(dict(paper_world(*map(Path, sys.argv[1:])) if sys.argv[1:] else open_world())))
