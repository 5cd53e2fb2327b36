"""The sample portraits in data/samples/portraits: six people of the open world whom no training has seen, at 512 pixels.

    python scripts/make_sample_portraits.py

Beside each picture lies its truth as JSON: latent, pose, facial actions.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from nfs_lib import portraits

OUT = Path(__file__).parents[1] / "data" / "samples" / "portraits"
SEEDS = [9_100_009, 9_100_018, 9_100_020, 9_100_023, 9_100_029, 9_100_037]
YAW = [0.14, -0.10, -0.16, 0.10, 0.18, -0.12]
N_IDENTITY, N_EXPRESSION = 16, len(portraits.EXPRESSIONS)


def calm(latent: np.ndarray) -> np.ndarray:
    """The same person with a closed mouth, a hint of a smile, and eyes on the viewer."""
    axes = list(portraits.EXPRESSIONS)
    expression = np.full(N_EXPRESSION, -2.0, np.float32)
    expression[axes.index("smile")] = -0.2
    expression[[axes.index(a) for a in ("mouth_lr", "look_lr", "look_ud")]] = 0
    return np.concatenate([latent[:N_IDENTITY], expression, latent[N_IDENTITY + N_EXPRESSION :]])


def main() -> None:
    """Write the six pictures and their truth."""
    OUT.mkdir(parents=True, exist_ok=True)
    for number, (seed, yaw) in enumerate(zip(SEEDS, YAW, strict=True), 1):
        latent, pose = calm(portraits.sample_latent(seed)), np.array([yaw, 0.03, 0.0], np.float32)
        scene = portraits.chart(latent)
        Image.fromarray(portraits.render(scene, pose, 512).image).save(OUT / f"portrait_{number}.png", optimize=True)
        truth = {"seed": seed, "pose": pose.tolist(), "latent": latent.tolist(), "expression": scene.expression.tolist(),
                 "licence": "made by this project, CC0"}
        (OUT / f"portrait_{number}.json").write_text(json.dumps(truth) + "\n")


if __name__ == "__main__":
    main()
