"""The generator's part of the report card: G(z) against the rendered truth of the same z, on held-out people."""

from math import radians

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nfs_lib import portraits
from nfs_lib.camera import HEAD_TO_NERF, Camera
from nfs_lib.face import MorphableModel
from nfs_lib.portraits import EXPRESSIONS, Z_DIM, Portrait
from nfs_lib.progress import progress
from nfs_lib.stylenerf import Generator

SEED = 9_600_000
N_IDENTITY = 16  # place of the first expression number in z
MOUTH, EYES = slice(48, 68), slice(36, 48)  # iBUG-68
SIGNED = ("mouth_lr", "look_lr", "look_ud")  # axes that rest at 0; the others rest at −1


def psnr(made: Float[Tensor, "3 H W"], true: Float[Tensor, "3 H W"]) -> float:
    """10·log10(2² / MSE) of one picture in [−1, 1]."""
    return -10 * torch.log10(((made - true) ** 2).mean() / 4).item()


def as_picture(portrait: Portrait) -> Float[Tensor, "3 H W"]:
    """A rendered portrait's picture in [−1, 1]."""
    return torch.from_numpy(portrait.image).permute(2, 0, 1).float() / 127.5 - 1


def box(points: Float[np.ndarray, "n 2"], margin: float, size: int = 256) -> tuple[slice, slice]:
    """Rows and columns of the rectangle around pixel positions, `margin` pixels wider on each side, inside the picture."""
    low, high = np.floor(points.min(0) - margin), np.ceil(points.max(0) + margin)
    (left, top), (right, bottom) = np.clip(low, 0, size - 8).astype(int), np.clip(high, 8, size).astype(int)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def gradient_sum(picture: Float[Tensor, "3 H W"], mask: Bool[Tensor, "H W"]) -> float:
    """Sum of the magnitude of the grey picture's gradient (differences of neighbouring pixels) inside the mask."""
    grey = picture.mean(0)
    magnitude = (grey[:-1].diff(dim=1) ** 2 + grey[:, :-1].diff(dim=0) ** 2).sqrt()
    return (magnitude * mask[:-1, :-1]).sum().item()


def slope(made: np.ndarray, true: np.ndarray) -> float:
    """Least-squares slope of `made` on `true`."""
    return float(np.polyfit(true.ravel(), made.ravel(), 1)[0])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r over all entries."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@torch.no_grad()
def generate(g: Generator, latent: np.ndarray, pose: np.ndarray) -> Float[Tensor, "3 256 256"]:
    """The generator's picture of a chart latent (Z_DIM + Z_BG,) at a pose (3,), within [−1, 1]."""
    z = torch.from_numpy(latent)[None]
    ws = g.broadcast(g.mapping(z[:, :Z_DIM]))
    return g(ws, z[:, Z_DIM:], Camera.from_pose(torch.from_numpy(pose)[None]))[0].clamp(-1, 1)


def measure_generator(g: Generator, model: MorphableModel, people: int = 40) -> dict[str, float]:
    """G(z) against the rendered truth of the same z.

    psnr, ssim: means over held-out people, expressions and poses. sharpness: sum of gradient magnitudes inside the head
    (opacity > 0.5), generated ÷ true. depth_error: mean |depth − true depth| ÷ head width (jaw corner to jaw corner of the
    mean face), over the 32 × 32 rays that hit the head squarely. The others: see `mouth_psnr`, `responses`, `yaw_drop`.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    jaw = model.mean[model.landmarks[[0, 16]]]
    head_width = (jaw[0] - jaw[1]).norm().item() * HEAD_TO_NERF
    quality, alike, sharp, depth = [], [], np.zeros(2), []
    for i in progress(range(people), "generator"):
        p = portraits.portrait(SEED + i)
        made, true = generate(g, p.latent, p.pose), as_picture(p)
        quality.append(psnr(made, true))
        alike.append(np.asarray(ssim(made[None], true[None], data_range=2.0)))
        inside = torch.from_numpy(p.alpha > 0.5)
        sharp += gradient_sum(made, inside), gradient_sum(true, inside)
        depth.append(depth_error(g, p) / head_width)
    return {"psnr": float(np.mean(quality)), "ssim": float(np.mean(alike)), "sharpness": float(sharp[0] / sharp[1]),
            "depth_error": float(np.mean(depth)), "mouth_psnr": mouth_psnr(g), "yaw30_drop_db": yaw_drop(g), **responses(g)}


@torch.no_grad()
def depth_error(g: Generator, p: Portrait) -> float:
    """Mean |depth − true depth| in NeRF units of one portrait, over rays whose four pixels are opaque.

    Ray centres lie on pixel corners, so the truth is the mean of the four pixels around.
    """
    z = torch.from_numpy(p.latent)[None]
    camera = Camera.from_pose(torch.from_numpy(p.pose)[None])
    r = g.features(g.broadcast(g.mapping(z[:, :Z_DIM])), z[:, Z_DIM:], camera)
    n = g.config.ray_resolution
    step = p.depth.shape[0] // n
    middle = slice(step // 2 - 1, step // 2 + 1)

    def corners(x: np.ndarray) -> np.ndarray:
        return x.reshape(n, step, n, step)[:, middle, :, middle].transpose(0, 2, 1, 3).reshape(n * n, 4)

    solid = (corners(p.alpha) > 0.95).all(1)
    return float(np.abs(r.depth[0].numpy() - corners(p.depth).mean(1))[solid].mean())


def mouth_psnr(g: Generator, people: int = 24) -> float:
    """PSNR inside the mouth's box (landmarks 48–67, 4 pixels wider) of held-out people with open mouths.

    Everything about them is drawn at random but the jaw, whose number in z is drawn from [0.6, 1.6].
    """
    values = []
    for i in range(people):
        seed = SEED + 1000 + i
        latent = portraits.sample_latent(seed)
        latent[N_IDENTITY] = np.random.default_rng([seed, 3]).uniform(0.6, 1.6)
        p = portraits.render(portraits.chart(latent), portraits.sample_pose(seed))
        rows, columns = box(p.landmarks[MOUTH], 4)
        values.append(psnr(generate(g, latent, p.pose)[:, rows, columns], as_picture(p)[:, rows, columns]))
    return float(np.mean(values))


def responses(g: Generator, people: int = 14) -> dict[str, float]:
    """What happens in the picture when one expression axis alone moves.

    Each person is shown at rest and with the axis full, by the renderer and by the generator. jaw_response,
    smile_response, blink_response: Pearson correlation of the two change images (all pixels and colours inside the box
    around the landmarks of both states), mean over people. ..._gain: least-squares slope of the generated change on the true
    one, over all people together; 1 is right, less is timid.
    """
    moves = {"jaw": ("jaw_open", 1.2, MOUTH, 8), "smile": ("smile", 1.3, MOUTH, 14), "blink": ("blink", 2.2, EYES, 6)}
    names, out = list(EXPRESSIONS), dict[str, float]()
    for key, (axis, full, part, margin) in moves.items():
        r, made_all, true_all = [], [], []
        for i in range(people):
            latent, pose = portraits.sample_latent(SEED + 2000 + i), portraits.sample_pose(SEED + 2000 + i)
            latent[N_IDENTITY : N_IDENTITY + len(names)] = [0.0 if name in SIGNED else -1.0 for name in names]
            moved = latent.copy()
            moved[N_IDENTITY + names.index(axis)] = full
            before, after = (portraits.render(portraits.chart(z), pose) for z in (latent, moved))
            rows, columns = box(np.concatenate([before.landmarks[part], after.landmarks[part]]), margin)
            true = (as_picture(after) - as_picture(before))[:, rows, columns].numpy()
            made = (generate(g, moved, pose) - generate(g, latent, pose))[:, rows, columns].numpy()
            r.append(correlation(made, true))
            made_all.append(made.ravel())
            true_all.append(true.ravel())
        out[f"{key}_response"] = float(np.mean(r))
        out[f"{key}_gain"] = slope(np.concatenate(made_all), np.concatenate(true_all))
    return out


def yaw_drop(g: Generator, people: int = 12) -> float:
    """Mean PSNR at yaw 0 minus mean PSNR at yaw ±30°, the same people, pitch and roll 0."""
    values: dict[float, list[float]] = {0.0: [], 30.0: []}
    for i in range(people):
        latent = portraits.sample_latent(SEED + 3000 + i)
        scene = portraits.chart(latent)
        for yaw in (-30.0, 0.0, 30.0):
            p = portraits.render(scene, np.array([radians(yaw), 0, 0], np.float32))
            values[abs(yaw)].append(psnr(generate(g, latent, p.pose), as_picture(p)))
    return float(np.mean(values[0.0]) - np.mean(values[30.0]))
