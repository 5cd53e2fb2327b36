"""The first sample portrait inverted with profile "full", for notebooks that start after PTI.

    python scripts/make_sample_inversion.py

To be run anew whenever the generator or the estimator changes.
"""

from pathlib import Path

from nfs_lib import cropping, images, inversion, samples, worlds
from nfs_lib.face import fitting

OUT = Path(__file__).parents[1] / "data" / "samples" / "inversions" / "portrait_1.safetensors"


def main() -> None:
    """Write the inversion: the tuned generator, latents, pose and the fitted face."""
    world = worlds.load("open")
    crop = cropping.crop_portrait(images.load_portrait(samples.portrait_file()), world.estimator, world.face_model)
    face = fitting.fit(world.face_model, world.estimator, crop.image[None])
    made = inversion.invert(world.generator, crop.image, face.pose, start=world.first_latent(face), face=face, profile="full")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    inversion.save(made, OUT)


if __name__ == "__main__":
    main()
