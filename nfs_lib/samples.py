"""What lies in data/samples: portraits with their truth, spoken clips, and the first portrait inverted already.

The inversion is there so that a notebook about a later stage needn't begin with a minute of optimisation.
"""

import json
from pathlib import Path

import numpy as np

from nfs_lib import inversion, portraits
from nfs_lib.inversion import Inversion
from nfs_lib.paths import data_file
from nfs_lib.portraits import Portrait


def portrait_file(number: int = 1) -> Path:
    """A sample portrait, 512 × 512 png; its truth lies beside it as JSON. number: 1 to 6."""
    return data_file(f"samples/portraits/portrait_{number}.png", "python scripts/make_sample_portraits.py")


def speech_file(name: str = "hello") -> Path:
    """A spoken sample, 16 kHz wav: hello, moon or amigos."""
    return data_file(f"samples/speech/{name}.wav", "python scripts/make_samples_speech.py")


def truth(number: int = 1, resolution: int = 256) -> Portrait:
    """A sample portrait as the renderer knows it; `portraits.render(truth.scene, pose)` draws it from any side."""
    about = json.loads(portrait_file(number).with_suffix(".json").read_text())
    scene = portraits.chart(np.array(about["latent"], np.float32))
    return portraits.render(scene, np.array(about["pose"], np.float32), resolution)


def inverted() -> Inversion:
    """The first sample portrait inside the generator (PTI, profile "full"), with its fitted face."""
    return inversion.load(data_file("samples/inversions/portrait_1.safetensors", "python scripts/make_sample_inversion.py"))
