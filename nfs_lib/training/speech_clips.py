"""Data sets of synthetic speech: what is heard (mel) and what the face does meanwhile, clip after clip."""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from nfs_lib.audio import mel_spectrogram, video_frames, window_columns
from nfs_lib.paths import data_file
from nfs_lib.progress import progress
from nfs_lib.training import speech, visemes
from nfs_lib.training.common import numpy_rng
from nfs_lib.writing import intact, replacing

CLIPS = 1100  # sentences to train on, about an hour
HELD_OUT_SEED, HELD_OUT_CLIPS, HELD_OUT_FILE = 9_000_000, 24, "heldout/speech.npz"


class Clips(NamedTuple):
    """Speech with the face that goes with it; clips lie end to end."""

    mel: Float[np.ndarray, "M 80"]
    mel_ends: Int[np.ndarray, " C"]  # where each clip's mel frames end
    actions: Float[np.ndarray, "F E"]  # natural facial actions due to speech alone, 25 rows a second
    ends: Int[np.ndarray, " C"]  # where each clip's video frames end
    reference: Float[np.ndarray, "C E"]  # a portrait's expression to say it with
    voices: list[str]

    def save(self, path: Path, recipe: str) -> None:
        """As a compressed npz, reals in fp16; `recipe` says how it was made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in self._asdict().items()}
        small = {k: v.astype(np.float16) if v.dtype.kind == "f" else v for k, v in arrays.items()}
        with replacing(path) as temporary:
            np.savez_compressed(temporary, recipe=np.array(recipe), **small)

    @staticmethod
    def load(path: Path) -> "Clips":
        """Read back what `save` wrote, reals as float32."""
        with np.load(path) as file:
            read = {name: file[name] for name in Clips._fields}
        read = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in read.items()}
        return Clips(**{**read, "voices": read["voices"].tolist()})

    def starts(self) -> Int[np.ndarray, " C"]:
        """Each clip's first video frame."""
        return np.concatenate([[0], self.ends[:-1]])

    def columns(self) -> Int[np.ndarray, "F 16"]:
        """Rows of `mel` that the window of each video frame takes."""
        mel_starts = np.concatenate([[0], self.mel_ends[:-1]])
        sizes = zip(mel_starts, self.mel_ends - mel_starts, self.ends - self.starts(), strict=True)
        return np.concatenate([first + window_columns(int(frames), int(mel)) for first, mel, frames in sizes])


def expression_names() -> list[str]:
    """The 52 facial actions in the order of the open world's face model."""
    path = data_file("face/anny.json", "python scripts/bake_face.py")
    return json.loads(path.read_text())["expression_names"]


def random_reference(names: list[str], rng: np.random.Generator) -> Float32[np.ndarray, " E"]:
    """A portrait's own expression: sometimes neutral, else a few actions, left and right nearly alike."""
    if rng.random() < 0.2:
        return np.zeros(len(names), dtype=np.float32)
    stems = [name.removesuffix("Left").removesuffix("Right") for name in names]
    strengths = {stem: rng.uniform(0.0, 0.6) * (rng.random() < 0.25) for stem in dict.fromkeys(stems)}
    strengths["mouthSmile"] = rng.uniform(0.0, 0.8) * (rng.random() < 0.5)
    values = [strengths[stem] * rng.uniform(0.85, 1.15) + rng.normal(0.0, 0.02) for stem in stems]
    return np.array(values, dtype=np.float32)


def make_clips(count: int, seed: int, held_out: bool = False) -> Clips:
    """Synthesise `count` sentences with their faces. Held out: voices, words and a language of their own.

    Half of the held-out clips are clean, the others mildly degraded; training clips are all degraded.
    """
    synthesiser, names, rng = speech.Synthesiser(), expression_names(), numpy_rng(seed, 0)
    mels, actions, references, voices = [], [], [], []
    spoken = speech.utterances(synthesiser, count, rng, held_out)
    for clean in progress(spoken, "speech", total=count):
        utterance = speech.with_pauses(clean, rng.uniform(0.0, 0.6), rng.uniform(0.0, 0.6))
        wave = utterance.wave[: video_frames(utterance.wave) * 640]
        actions.append(visemes.facial_actions(utterance.phonemes, wave, names))
        amount = rng.choice([0.0, 0.6]) if held_out else 1.0
        mels.append(mel_spectrogram(speech.degrade(wave, rng, amount)).T)
        references.append(random_reference(names, rng))
        voices.append(utterance.voice)
    mel_ends, ends = (np.cumsum([len(part) for part in parts]) for parts in (mels, actions))
    return Clips(np.concatenate(mels), mel_ends, np.concatenate(actions), ends, np.stack(references), voices)


def training_clips(folder: Path, seed: int, count: int = CLIPS) -> Clips:
    """The training set, made once and kept in `folder`/data.npz until what it is made from changes."""
    path = folder / "data.npz"
    sources = "".join(inspect.getsource(part) for part in (speech, visemes, make_clips, random_reference))
    recipe = hashlib.sha256(f"{seed} {count} {sources} {speech.words()}".encode()).hexdigest()
    if intact(path, Clips.load):
        with np.load(path) as file:
            if str(file["recipe"]) == recipe:
                return Clips.load(path)
    make_clips(count, seed).save(path, recipe)
    return Clips.load(path)


def held_out_clips() -> Clips:
    """The small committed set that measures: sentences and voices that no training heard."""
    return Clips.load(data_file(HELD_OUT_FILE, "python scripts/make_samples_speech.py"))
