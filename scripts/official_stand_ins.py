"""Files in the form of the official ones, with random numbers in them: for a rehearsal of the paper world without its weights.

    python scripts/official_stand_ins.py FOLDER

Each file has the official file's format, names and sizes. What the networks make of a picture is noise; the way there is real.
"""

import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.io
import torch
from safetensors.torch import save_file
from scipy.spatial import Delaunay
from torch import Tensor, nn

from nfs_lib.audio2exp import Audio2Exp
from nfs_lib.face.reconnet import ReconNet
from nfs_lib.lipaint import LipaintNet
from nfs_lib.lpips import Lpips
from nfs_lib.metrics.arcface import ArcFace
from nfs_lib.metrics.inception import Inception
from nfs_lib.metrics.syncnet import SyncNet
from nfs_lib.segmenter import BiSeNet
from nfs_lib.stylenerf import Discriminator, Generator, official

HALF_PI = 1.5707963267948966


def generator_arguments(resolution: int = 1024, channel_base: float = 1, samples: int = 14) -> dict[str, Any]:
    """What the official generator's constructor was given for ffhq_1024 (its published configuration), or for a smaller one."""
    return {
        "c_dim": 0, "z_dim": 512, "w_dim": 512, "img_resolution": resolution, "img_channels": 3,
        "mapping_kwargs": {"num_layers": 8},
        "synthesis_kwargs": {
            "num_fp16_res": 4, "channel_base": channel_base, "channel_max": 1024, "conv_clamp": 256, "kernel_size": 1,
            "architecture": "skip", "upsample_mode": "nn_cat", "z_dim_bg": 32, "z_dim": 0, "resolution_vol": 32,
            "resolution_start": 32, "rgb_out_dim": 256, "use_noise": False, "magnitude_ema_beta": 0.999, "progressive": True,
            "camera_kwargs": {
                "range_v": [HALF_PI - 0.155, HALF_PI + 0.155], "range_u": [-0.3, 0.3], "range_radius": [1.0, 1.0],
                "depth_range": [0.88, 1.12], "fov": 12, "gaussian_camera": True, "angular_camera": True,
                "depth_transform": None, "dists_normalized": False, "ray_align_corner": False, "bg_start": 0.5,
            },
            "renderer_kwargs": {"n_bg_samples": 4, "n_ray_samples": samples, "abs_sigma": False, "hierarchical": True,
                                "no_background": False},
            "foreground_kwargs": {"positional_encoding": "normal", "downscale_p_by": 1, "use_style": "StyleGAN2",
                                  "predict_rgb": True, "use_viewdirs": False},
            "background_kwargs": {"positional_encoding": "normal", "hidden_size": 64, "n_blocks": 4, "downscale_p_by": 1,
                                  "skips": [], "inverse_sphere": True, "use_style": "StyleGAN2", "predict_rgb": True,
                                  "use_viewdirs": False},
            "upsampler_kwargs": {"channel_base": channel_base, "channel_max": 1024, "no_2d_renderer": False,
                                 "no_residual_img": False, "block_reses": None, "shared_rgb_style": False},
        },
    }  # fmt: skip


def discriminator_arguments(resolution: int = 1024) -> dict[str, Any]:
    """What the official discriminator's constructor was given."""
    return {"c_dim": 0, "img_resolution": resolution, "img_channels": 3, "epilogue_kwargs": {"mbstd_group_size": 4},
            "num_fp16_res": 4, "channel_base": 1, "channel_max": 512, "conv_clamp": 256, "architecture": "skip",
            "progressive": True, "lowres_head": 16}  # fmt: skip


# network pickles


class Persistent:
    """An object as the official persistence module stores it: the name of its class, its source text, its attributes."""

    def __init__(self, class_name: str, **state: Any) -> None:
        self.meta = {"type": "class", "version": 6, "module_src": "raise SystemExit('this text is never run')",
                     "class_name": class_name, "state": state}  # fmt: skip

    def __reduce__(self) -> tuple:
        return _reconstruct_persistent_obj, (self.meta,)


def _reconstruct_persistent_obj(meta: dict) -> None:
    raise AssertionError("only its name is stored")


@contextmanager
def persistence_module() -> Iterator[None]:
    """The official module's name for as long as a file is written; pickle looks it up."""
    module: Any = ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    before = _reconstruct_persistent_obj.__module__
    _reconstruct_persistent_obj.__module__ = module.__name__
    sys.modules |= {"torch_utils": ModuleType("torch_utils"), module.__name__: module}
    try:
        yield
    finally:
        _reconstruct_persistent_obj.__module__ = before
        del sys.modules["torch_utils"], sys.modules[module.__name__]


def persistent(class_name: str, state: dict[str, Tensor], arguments: dict[str, Any] | None = None) -> Persistent:
    """A module and its children, from a state dictionary. arguments: those of the constructor, where the file keeps them."""
    own: dict[str, Tensor] = {}
    children: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        child, dot, rest = name.partition(".")
        if dot:
            children.setdefault(child, {})[rest] = value
        else:
            own[name] = value
    buffers = {name for name in own if name in ("alpha", "w_avg", "noise_const")}
    fields: dict[str, Any] = {} if arguments is None else {"_init_args": (), "_init_kwargs": arguments}
    return Persistent(
        class_name, training=False, **fields,
        _parameters=OrderedDict((n, nn.Parameter(v)) for n, v in own.items() if n not in buffers),
        _buffers=OrderedDict((n, v) for n, v in own.items() if n in buffers), _non_persistent_buffers_set=set(),
        _modules=OrderedDict((n, persistent("Layer", s)) for n, s in children.items()))  # fmt: skip


def generator_state(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """A new generator under the official names, dense enough to be seen. The order of its axes plays no part: it is random."""
    config = official.config_from_kwargs(arguments)
    generator = Generator(config)
    with torch.no_grad():
        generator.foreground.sigma_out.weight.mul_(8)
        for layer in generator.upsampler.torgb:
            layer.get_parameter("weight").normal_(std=0.3)
    ours, names, theirs = generator.state_dict(), official.generator_names(config), {}
    for name, value in ours.items():
        field = name.startswith("foreground.") and name.endswith(".weight") and value.ndim == 2 and "affine" not in name
        theirs[names[name]] = (value[..., None, None] if field else value).clone()
    return {"synthesis.alpha": torch.tensor(1.0), **theirs}


def discriminator_state(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """A new discriminator under the official names."""
    given = official.options.discriminator_arguments(arguments)
    sides, theirs = [given["resolution"] // 2**i for i in range(len(given["channels"]) - 1)], {}
    last = {"fromrgb4": "b4.fromrgb", "conv4": "b4.conv", "fc": "b4.fc", "out": "b4.out"}
    for name, value in Discriminator(**given).state_dict().items():
        layer, *rest = name.split(".")
        theirs[f"{last[layer]}.{rest[-1]}" if layer in last else f"b{sides[int(rest[0])]}.{layer}.{rest[-1]}"] = value
    return {"alpha": torch.tensor(1.0), **theirs}


def write_networks(path: Path, generator: dict[str, Any], discriminator: dict[str, Any]) -> None:
    """G, D and G_ema."""
    g = generator_state(generator)
    content = {"training_set_kwargs": {}, "G": persistent("Generator", g, generator),
               "D": persistent("Discriminator", discriminator_state(discriminator), discriminator),
               "G_ema": persistent("Generator", g, generator), "augment_pipe": None}  # fmt: skip
    with persistence_module(), path.open("wb") as file:
        pickle.dump(content, file, protocol=3)


# the face model and the estimators


def face_arrays(vertices: int = 35_709, faces: int = 70_789, seed: int = 0) -> dict[str, np.ndarray]:
    """A round face of the official model's sizes: an ellipsoid's front with smooth random modes, in decimetres."""
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.uniform(0, 1, vertices)), rng.uniform(0, 2 * np.pi, vertices)
    x, y = 0.75 * radius * np.cos(angle), radius * np.sin(angle)
    shape = np.stack([x, y, 0.9 * np.sqrt(1.001 - radius**2)], 1)
    triangles = Delaunay(shape[:, :2]).simplices[:faces]
    triangles = np.concatenate([triangles, triangles[: faces - len(triangles)]])
    ring = np.full((vertices, 8), faces, np.int64)
    filled = np.zeros(vertices, np.int64)
    for face, corners in enumerate(triangles):
        for corner in corners:
            if filled[corner] < 8:
                ring[corner, filled[corner]] = face
                filled[corner] += 1

    def modes(count: int, size: float) -> np.ndarray:
        waves, phase = rng.normal(0, 3, (count, 2)), rng.uniform(0, 2 * np.pi, count)
        wave = np.sin(shape[:, :2] @ waves.T + phase)                       # (V, count)
        return (wave[:, None] * rng.normal(0, size, (1, 3, count))).reshape(3 * vertices, count).astype(np.float32)

    nearest = [np.argmin(((shape[:, :2] - point) ** 2).sum(1)) for point in rng.uniform(-0.5, 0.5, (68, 2))]
    return {
        "meanshape": shape.reshape(1, -1).astype(np.float32), "meantex": np.full((1, 3 * vertices), 150, np.float32),
        "idBase": modes(80, 0.01), "exBase": modes(64, 0.01), "texBase": modes(80, 3.0),
        "tri": triangles + 1.0, "point_buf": ring + 1.0, "tri_mask2": triangles[: len(triangles) * 3 // 4] + 1.0,
        "keypoints": np.array(nearest)[None] + 1.0, "frontmask2_idx": np.arange(1.0, vertices * 3 // 4)[:, None],
        "skinmask": np.ones((1, vertices)),
    }  # fmt: skip


def recon_state() -> dict[str, Tensor]:
    """A new ReconNet whose faces look nearly straight ahead."""
    net = ReconNet()
    with torch.no_grad():
        for layer in net.final_layers:
            layer.get_parameter("weight").mul_(0.05)
    return net.state_dict()


def write_all(folder: Path, resolution: int = 1024, vertices: int = 35_709, faces: int = 70_789, seed: int = 0) -> list[Path]:
    """Every file of the paper world; returns their paths."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_networks(folder / f"ffhq_{resolution}.pkl", generator_arguments(resolution), discriminator_arguments(resolution))
    scipy.io.savemat(folder / "BFM_model_front.mat", face_arrays(vertices, faces, seed), do_compression=True)
    torch.save({"net_recon": recon_state(), "opt_00": {}, "sched_00": {}}, folder / "epoch_20.pth")
    audio = {f"audio2exp.{name}": value.contiguous() for name, value in Audio2Exp(64).state_dict().items()}
    save_file(audio, folder / "SadTalker_V0.0.2_256.safetensors")
    torch.save(BiSeNet().state_dict(), folder / "seg.pth")
    torch.save({"model_state_dict": LipaintNet().state_dict()}, folder / "LipaintNet.pt")
    torch.save(SyncNet().state_dict(), folder / "syncnet_v2.model")
    torch.save(Inception().state_dict(), folder / "pt_inception-2015-12-05-6726825d.pth")
    torch.save(ArcFace(50).state_dict(), folder / "backbone.pth")
    for trunk, name in (("vgg", "vgg16-397923af.pth"), ("alex", "alexnet-owt-7be5be79.pth")):
        state = Lpips(trunk).state_dict()
        torch.save({n.removeprefix("trunk."): v for n, v in state.items() if n.startswith("trunk.")}, folder / name)
        torch.save({n: v.abs() for n, v in state.items() if n.startswith("lin")}, folder / f"{trunk}.pth")
    return sorted(folder.iterdir())


if __name__ == "__main__":
    for path in write_all(Path(sys.argv[1])):
        print(f"{path.name:<45s} {path.stat().st_size / 1e6:8.1f} MB")
