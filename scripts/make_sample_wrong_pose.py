"""The first sample portrait inverted at a pose that is wrong by 25°, for notebook 03: what learning by heart looks like.

    python scripts/make_sample_wrong_pose.py

Writes the inversion, and the PSNR of three views on the way as JSON beside it. To be run anew whenever the generator or the
estimator changes.
"""

from pathlib import Path

import torch

from nfs_lib import inversion, samples, worlds
from nfs_lib.viz import pti

OUT = Path(__file__).parents[1] / "data" / "samples" / "inversions" / "portrait_1_wrong_pose.safetensors"


def main() -> None:
    """Invert with the estimator's pose turned by −25°; nothing else is wrong."""
    world = worlds.load("open")
    watch = pti.Watch(pti.Views.of(samples.truth()), every=10)
    image = watch.views.image
    with torch.no_grad():
        face = world.estimator(image[None])
    made = inversion.invert(world.generator, image, face.pose + pti.turn(-25), start=world.first_latent(face),
                            steps_project=80, steps_tune=160, on_step=watch)  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    inversion.save(made, OUT)
    watch.save(OUT.with_suffix(".json"))


if __name__ == "__main__":
    main()
