"""Parity: the kit's parts run against golden numbers that the authors' own code computed.

A folder of goldens holds an `index.json`, which names its sets, their tensors and tolerances, and one folder
per set. Networks get weights by a rule (`fill_by_rule`), so that a set passes only if the kit's module has
exactly the official names and shapes.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nfs_lib import audio
from nfs_lib.audio2exp import Audio2Exp, speech_to_expression
from nfs_lib.errors import BadInput
from nfs_lib.lipaint import LipaintNet

Compared = Iterator[tuple[str, Tensor | np.ndarray]]  # tensor's name in the golden file, the kit's value


class Parity(NamedTuple):
    """How one golden set came out."""

    name: str
    error: float  # of the tensor nearest to its limit, in the set's own terms (absolute or relative)
    tolerance: float  # that tensor's limit
    ok: bool | None  # None: not yet covered by the kit, and not asked for

    def __str__(self) -> str:
        if math.isnan(self.error):
            return f"{self.name:12s} not yet covered: the kit has no check for this set"
        verdict = "ok  " if self.ok else "OVER"
        return f"{self.name:12s} {verdict} error {self.error:.2e}, tolerance {self.tolerance:.0e}"


class GoldenSet(NamedTuple):
    """One entry of an index.json."""

    folder: Path
    seed: int
    entry: dict[str, Any]
    golden: dict[str, Tensor]

    def beside(self, name: str) -> Path:
        """A file of another set in the same collection."""
        return self.folder.parent / name


def fill_by_rule(module: nn.Module, seed: int) -> nn.Module:
    """Give every entry of the state dict the goldens' value, drawn from its name; returns it in eval mode."""
    filled = {}
    for name, value in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)  # noqa: NPY002  the rule says so
        shape = tuple(value.shape)
        if name.endswith("running_var"):
            drawn = rng.uniform(0.75, 1.25, shape)
        elif name.endswith("running_mean"):
            drawn = 0.1 * rng.standard_normal(shape)
        elif len(shape) >= 2:
            drawn = rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("bias"):
            drawn = 0.1 * rng.standard_normal(shape)
        else:
            drawn = rng.uniform(0.75, 1.25, shape)
        filled[name] = torch.from_numpy(drawn.astype(np.float32))
    module.load_state_dict(filled, strict=False)
    return module.eval()


def _audio(golden: GoldenSet) -> Compared:
    import soundfile

    path = golden.folder / golden.entry["meta"]["wav"]
    wave = audio.load_speech(path)
    frames = audio.video_frames(wave)
    whole = wave[: golden.entry["meta"]["samples_used"]]
    mel, windows = audio.mel_spectrogram(whole), audio.mel_windows(wave)
    yield "mel", mel
    yield "window_columns", audio.window_columns(frames, mel.shape[1])
    yield "chunks_mean_std", np.stack([windows.mean((1, 2)), windows.std((1, 2))], axis=1)
    yield "chunks_first4_last2", np.concatenate([windows[:4], windows[-2:]])
    yield "mel_basis", audio.mel_filters()
    reflected = audio.log_mel(np.pad(audio.preemphasise(whole), audio.N_FFT // 2, mode="reflect"))
    yield "mel_reflect_edges", np.concatenate([reflected[:, :3], reflected[:, -3:]], axis=1)
    yield "mfcc", audio.mfcc(soundfile.read(path, dtype="int16")[0])


def _audio2exp(golden: GoldenSet) -> Compared:
    given, model = golden.golden, Audio2Exp(64)
    fill_by_rule(model, golden.seed)
    windows = audio.mel_windows(audio.load_speech(golden.beside("audio") / "speech.wav"))
    with torch.no_grad():
        yield "embedding", model.embed(given["mel"])
        yield "out", model(given["mel"], given["ref"], given["ratio"])
    raw = speech_to_expression(model, windows, given["beta_init"][0], scale=1.0)
    yield "loop_raw", raw[..., None]
    yield "loop_scaled", speech_to_expression(model, windows, given["beta_init"][0])[..., None]


def _lipaint(golden: GoldenSet) -> Compared:
    model = fill_by_rule(LipaintNet(w_dim=512, n_exp=64), golden.seed)
    with torch.no_grad():
        yield "out", model(golden.golden["w"], golden.golden["exp"])


def _syncnet(golden: GoldenSet) -> Compared:
    from nfs_lib.metrics.sync import distances, lse
    from nfs_lib.metrics.syncnet import SyncNet

    given, model = golden.golden, SyncNet()
    fill_by_rule(model, golden.seed)
    pictures = given["frames_u8_14x14"].float().repeat_interleave(16, -1).repeat_interleave(16, -2)
    with torch.no_grad():
        yield "lip_embedding", model.see(pictures)[:, 0]
        yield "audio_embedding", model.hear(given["mfcc_windows"])
    lips, sound = given["lip_features_f16"].float(), given["audio_features_f16"].float()
    each, score = distances(lips, sound), lse(lips, sound)
    yield "distance_rows_first3_last2", torch.cat([each[:3], each[-2:]])
    yield "mean_distance", each.mean(0)
    for name, value in zip(("lse_d", "lse_c", "offset"), score, strict=True):
        yield name, torch.tensor([value])


def _fid(golden: GoldenSet) -> Compared:
    from nfs_lib.metrics.fid import fid
    from nfs_lib.metrics.inception import Inception

    given, model = golden.golden, Inception()
    fill_by_rule(model, golden.seed)
    with torch.no_grad():
        pictures = nn.functional.interpolate(given["image_u8_9x9"] / 127.5 - 1, (128, 128), mode="nearest")
        yield "features", model(pictures)
    yield "fid", torch.tensor([fid(given["real"], given["fake"])]).double()
    yield "fid_first10_of_real", torch.tensor([fid(given["real"][:10], given["fake"])]).double()


def _csim(golden: GoldenSet) -> Compared:
    from nfs_lib.metrics.arcface import ArcFace

    given, model = golden.golden, ArcFace(50)
    fill_by_rule(model, golden.seed)
    with torch.no_grad():
        vectors = model(nn.functional.interpolate(given["image_u8_8x8"] / 127.5 - 1, (112, 112), mode="nearest"))
    yield "embedding", vectors
    yield "cosine", nn.functional.cosine_similarity(vectors[:1], vectors[1:])


def _cpbd(golden: GoldenSet) -> Compared:
    from PIL import Image
    from skimage.data import camera
    from skimage.feature import canny

    from nfs_lib.metrics.cpbd import all_widths, cpbd, sobel_edges

    for name in ("sharp", "blur1", "blur2", "skimage"):
        picture = camera() if name == "skimage" else np.array(Image.open(golden.folder / f"{name}.png"))
        grey = picture.astype(np.float64)
        widths = all_widths(grey)
        yield name, np.array([cpbd(picture)])
        counts = (canny(grey), sobel_edges(grey), widths > 0, widths)
        yield f"{name}_stats", np.array([count.sum() for count in counts])
        yield f"{name}_width_histogram", np.bincount(widths[widths > 0], minlength=60)[:60]


def _align(golden: GoldenSet) -> Compared:
    from PIL import Image

    from nfs_lib.face.align import align, five_points
    from nfs_lib.metrics.arcface import alignment

    given, crops = {k: v.numpy() for k, v in golden.golden.items()}, []
    for (wide, high), landmarks in zip(given["size_wh"], given["landmarks68_y_up"], strict=True):
        y, x = np.mgrid[:high, :wide]
        picture = np.stack([127 + 120 * np.sin(x / 17), 127 + 120 * np.cos(y / 23), (x + y) % 256], -1).astype(np.uint8)
        crops.append(align(Image.fromarray(picture), landmarks))
    fives = [five_points(crop.landmarks) * (1, -1) + (0, 223) for crop in crops]  # y down
    yield "five", five_points(given["landmarks68_y_up"])
    yield "transform", np.array([crop.transform for crop in crops])
    yield "resize_w_h_left_up", np.array([crop.box for crop in crops])
    yield "landmarks_new", np.stack([crop.landmarks for crop in crops])
    yield "arcface_matrix", np.stack([alignment(five) for five in fives])
    golden.golden["crop0"] = torch.from_numpy(np.array(Image.open(golden.folder / "crop0.png")))
    yield "crop0", np.array(crops[0].image)


CHECKS: dict[str, Callable[[GoldenSet], Compared]] = {
    "audio": _audio,
    "audio2exp": _audio2exp,
    "lipaint": _lipaint,
    "syncnet": _syncnet,
    "fid": _fid,
    "csim": _csim,
    "cpbd": _cpbd,
    "align": _align,
}


def _compare(golden: GoldenSet, check: Callable[[GoldenSet], Compared]) -> tuple[float, float]:
    """(error, tolerance) of the tensor nearest to its limit; NaN or a wrong shape is an infinite error.

    A limit in words ("mean absolute difference below 1.5 of 255") holds for the mean absolute difference. Without a limit of
    its own or a default one, a tensor falls under "value" (of the set cpbd).
    """
    absolute = "absolute" in golden.entry.get("note", "") and "relative" not in golden.entry.get("note", "")
    limits = golden.entry["tolerance"]
    worst, worst_excess = (math.inf, 0.0), -1.0
    for name, value in check(golden):
        ours, theirs = torch.as_tensor(value).double(), golden.golden[name].double()
        limit = limits.get(name, limits.get("default", limits.get("value", 0.0)))
        in_words = isinstance(limit, str)
        tolerance = float(re.findall(r"\d+\.\d+", limit)[0]) if in_words else float(limit)
        if ours.shape != theirs.shape or not ours.isfinite().all():
            return math.inf, tolerance
        difference = (ours - theirs).abs()
        error = float(difference.mean() if in_words else difference.max() / (1.0 if absolute else theirs.abs().max()))
        excess = error / tolerance if tolerance else (0.0 if error == 0.0 else math.inf)
        if excess > worst_excess:
            worst, worst_excess = (error, tolerance), excess
    return worst


def run(folder: str | Path, only: str | None = None) -> list[Parity]:
    """Check every golden set under `folder`, at any depth.

    only: name of a single set. Asked for by name, a set that the kit doesn't cover yet counts as failed;
    otherwise it is listed with `ok` None.

    Raises BadInput if there are no goldens under `folder`, or no set of that name.
    """
    from safetensors.torch import load_file

    results = []
    for index in sorted(Path(folder).rglob("index.json")):
        content = json.loads(index.read_text())
        for name, entry in content.get("sets", {}).items():
            if only not in (None, name):
                continue
            if name not in CHECKS:
                results.append(Parity(name, math.nan, math.nan, None if only is None else False))
                continue
            home = index.parent / name
            golden = GoldenSet(home, content["seed"], entry, load_file(home / "golden.safetensors"))
            error, tolerance = _compare(golden, CHECKS[name])
            results.append(Parity(name, error, tolerance, error <= tolerance))
    for readme in sorted(Path(folder).rglob("README.md")):  # collections in another layout
        home, name = readme.parent, readme.parent.name
        foreign = not (home / "index.json").exists() and any(home.glob("*.safetensors"))
        if foreign and only in (None, name):
            results.append(Parity(name, math.nan, math.nan, None if only is None else False))
    if not results:
        wanted = f"golden set called {only}" if only else "golden sets (folders with an index.json)"
        raise BadInput(f"{folder}: there are no {wanted} here; give the folder that holds the goldens")
    return results
