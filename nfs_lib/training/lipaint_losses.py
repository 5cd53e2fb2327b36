"""What each of LipaintNet's losses is good for: search w_exp with one of them left out, and judge what comes out.

The searches take a minute a person, so their results (`data/samples/lipaint_losses.safetensors`) come with the kit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib import portraits
from nfs_lib.camera import Camera, frontal
from nfs_lib.face import Coefficients
from nfs_lib.measure_generator import MOUTH, as_picture, box, psnr
from nfs_lib.paths import data_file
from nfs_lib.portraits import Z_DIM
from nfs_lib.portraits.chart import N_EXPRESSION, N_IDENTITY, Scene, chart
from nfs_lib.training.lipaint import Recipe, descend, paint
from nfs_lib.worlds import World
from nfs_lib.writing import replacing

FILE, SEED = "samples/lipaint_losses.safetensors", 9_900_000
RECIPES = {
    "all three": Recipe(),
    "without L_ldm": Recipe(landmarks=0.0),
    "without L_3DMM": Recipe(coefficients=0.0),
    "without L_GAN": Recipe(adversarial=0.0),
    "L_GAN alone": Recipe(landmarks=0.0, coefficients=0.0),
}
ASKED = ({"jawOpen": 0.7}, {"jawOpen": 0.3, "mouthSmileLeft": 0.9, "mouthSmileRight": 0.9},
         {"jawOpen": 0.4, "mouthPucker": 0.9}, {"jawOpen": 0.9})  # fmt: skip


@dataclass
class LossStudy:
    """P held-out people with closed mouths, what was asked of each, and what each search found.

    z (P, Z_DIM + Z_BG) latents of the chart; beta (P, E); w_exp: name of the losses → (P, w).
    """

    z: Float[Tensor, "P z"]
    beta: Float[Tensor, "P E"]
    w_exp: dict[str, Float[Tensor, "P w"]]

    def first(self, people: int) -> "LossStudy":
        """The study of the first so many people only."""
        return LossStudy(self.z[:people], self.beta[:people], {name: w[:people] for name, w in self.w_exp.items()})

    def scene(self, person: int, asked: bool = True) -> Scene:
        """The person as the renderer knows them, with the expression that was asked for or their own."""
        own = chart(self.z[person].numpy())
        return own.replace(expression=self.beta[person].numpy()) if asked else own

    def latents(self, world: World) -> tuple[Float[Tensor, "P w"], Float[Tensor, "P n"], Camera]:
        """What the generator needs to draw the people as they are, from the front: w, z_bg, camera."""
        with torch.no_grad():
            return world.generator.mapping(self.z[:, :Z_DIM]), self.z[:, Z_DIM:], frontal(len(self.z))

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        from safetensors.torch import save

        with replacing(path) as temporary:
            tensors = {"z": self.z, "beta": self.beta, **{f"w_exp/{name}": w for name, w in self.w_exp.items()}}
            temporary.write_bytes(save(tensors))


def load(path: Path | None = None) -> LossStudy:
    """The study that comes with the kit, or another one."""
    from safetensors.torch import load_file

    held = load_file(path or data_file(FILE, "python scripts/make_lipaint_losses.py"))
    return LossStudy(held["z"], held["beta"], {name: held[f"w_exp/{name}"] for name in RECIPES})


def people(world: World) -> LossStudy:
    """The people and what they are asked to do, nothing searched yet."""
    z = np.stack([portraits.sample_latent(SEED + i) for i in range(len(ASKED))])
    z[:, N_IDENTITY : N_IDENTITY + N_EXPRESSION] *= 0.3
    z[:, N_IDENTITY] -= 1.5                           # a calm face, its mouth closed
    beta = np.stack([chart(row).expression for row in z])
    for row, actions in zip(beta, ASKED, strict=True):
        for name, strength in actions.items():
            row[world.face_model.action(name)] = strength
    return LossStudy(torch.from_numpy(z), torch.from_numpy(beta), {})


def search(world: World, study: LossStudy, steps: int = 20, rate: float = 0.05) -> LossStudy:
    """The study with all searches done anew, one after the other (`descend`)."""
    w, z_bg, camera = study.latents(world)
    for part in (world.generator, world.estimator, world.discriminator):
        part.requires_grad_(False)
    found = {name: descend(world, w, study.beta, z_bg, camera, recipe, steps, rate) for name, recipe in RECIPES.items()}
    return LossStudy(study.z, study.beta, found)


@torch.no_grad()
def judge(world: World, study: LossStudy, found: Mapping[str, Float[Tensor, "P w"]]
          ) -> tuple[dict[str, dict[str, float]], dict[str, Float[Tensor, "P 3 H W"]]]:
    """How good the pictures of each way's P latents are, as means over people, and these pictures, both by name.

    expression: root of the summed squared error of the actions read off; landmarks: mean error of the mouth's 20 landmarks,
    pixels of 256; csim: cosine of the identity embeddings before and after; realism: the discriminator's logit, after −
    before; psnr: dB against the renderer's picture inside the mouth's box (its landmarks, 4 pixels wider).
    """
    w, z_bg, camera = study.latents(world)
    before, logits_before, seen_before = paint(world, w, w, z_bg, camera)
    who = world.identity(before.clamp(-1, 1))
    asked = mouth_points(world, seen_before.replace(expression=study.beta))
    truths = [portraits.render(study.scene(i), np.zeros(3, np.float32)) for i in range(len(w))]
    boxes = [(slice(None), *box(truth.landmarks[MOUTH], 4)) for truth in truths]
    figures, pictures = {}, {}
    for name, w_exp in found.items():
        made, logits, seen = paint(world, w, w_exp, z_bg, camera)
        pictures[name] = made.clamp(-1, 1)
        closeness = [psnr(p[at], as_picture(t)[at]) for p, t, at in zip(pictures[name], truths, boxes, strict=True)]
        figures[name] = {
            "expression": (seen.expression - study.beta).norm(dim=1).mean().item(),
            "landmarks": (mouth_points(world, seen) - asked).norm(dim=-1).mean().item(),
            "csim": (who * world.identity(pictures[name])).sum(1).mean().item(),
            "realism": (logits - logits_before).mean().item(),
            "psnr": float(np.mean(closeness)),
        }
    return figures, pictures


def mouth_points(world: World, face: Coefficients) -> Float[Tensor, "B 20 2"]:
    """The mouth's 20 landmarks in the picture, pixels of 256."""
    return world.face_model.project_landmarks(face, 256)[:, MOUTH]
