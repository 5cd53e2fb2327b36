"""The reference pictures in figures/ that show the pipeline at work.

    python scripts/make_figures.py

demo_strip.png: a portrait, frames of its clip while the head turns, the same moment seen from both sides.
ablation_strip.png: the same moments with one part of the paper left out per row.
"""

import math
from pathlib import Path

import numpy as np
import torch

from nfs_lib import audio, audio2exp, cropping, images, inversion, pipeline, viz, worlds
from nfs_lib.face import fitting

ROOT = Path(__file__).parents[1]
FIGURES, SAMPLES = ROOT / "figures", ROOT / "data" / "samples"
ROWS = {  # row → options of (speech_to_expression, TalkingHead)
    "as in the paper": ({}, {}),
    "without LipaintNet": ({}, {"lipaint": False}),
    "λ_exp = 1 (not 1.5)": ({"scale": 1.0}, {}),
    "α_m: no momentum": ({"momentum": 0.0}, {}),
    "mask of one frame (n = 1)": ({}, {"mask_frames": 1}),
}


def prepare(portrait: Path, clip: Path):
    """World, inversion, face and speech of one portrait and one clip."""
    world = worlds.load("open")
    crop = cropping.crop_portrait(images.load_portrait(portrait), world.estimator, world.face_model)
    face = fitting.fit(world.face_model, world.estimator, crop.image[None])
    inverted = inversion.invert(world.generator, crop.image, face.pose, start=world.first_latent(face), profile="fast")
    return world, inverted, face.replace(pose=inverted.pose), crop, audio.load_speech(clip)


def mouth(picture: np.ndarray) -> np.ndarray:
    """The lower half of the face, where the rows differ."""
    h, w = picture.shape[:2]
    return picture[int(0.42 * h) : int(0.82 * h), int(0.3 * w) : int(0.7 * w)]


def main() -> None:
    """Write both strips."""
    FIGURES.mkdir(exist_ok=True)
    portrait, clip = sorted((SAMPLES / "portraits").glob("*.png"))[0], sorted((SAMPLES / "speech").glob("*.wav"))[0]
    world, inverted, face, crop, wave = prepare(portrait, clip)
    betas = audio2exp.speech_to_expression(world.audio2exp, wave, face.expression[0])
    jaw = betas[:, world.face_model.action("jawOpen")]
    poses = pipeline.head_turn(face.pose, len(betas), None, None, True)
    frames = list(pipeline.TalkingHead(world, inverted, face).frames(betas, poses))
    wide = int(jaw.argmax())
    picked = np.linspace(0, len(frames) - 1, 8).astype(int)[1:-1]
    sides = torch.tensor([[math.radians(a), 0.0, 0.0] for a in (-30, 30)])
    views = list(pipeline.TalkingHead(world, inverted, face).frames(betas[[wide, wide]], sides))
    row = [images.to_uint8(crop.image), images.to_uint8(inverted.picture()[0]), *[frames[i] for i in picked], *views]
    tops = ["input", "inverted", *[f"{i / 25:.1f} s" for i in picked], "30° left", "30° right"]
    viz.picture_grid([row], tops, size=1.35).savefig(FIGURES / "demo_strip.png", dpi=170)

    moments = sorted(int(i) for i in torch.cat([jaw.topk(len(jaw) // 3).indices[::4][:4], (-jaw).topk(3).indices[:3]]))
    rows = []
    for speech, head in ROWS.values():
        changed = audio2exp.speech_to_expression(world.audio2exp, wave, face.expression[0], **speech)
        made = list(pipeline.TalkingHead(world, inverted, face, **head).frames(changed, face.pose.repeat(len(changed), 1)))
        rows.append([mouth(made[i]) for i in moments])
    strip = viz.picture_grid(rows, [f"{i / 25:.2f} s" for i in moments], list(ROWS), size=1.35)
    strip.savefig(FIGURES / "ablation_strip.png", dpi=170)


if __name__ == "__main__":
    main()
