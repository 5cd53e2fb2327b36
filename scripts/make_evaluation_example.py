"""A folder for `nfs evaluate` whose right answers are known: twenty people, three "methods", three broken videos.

    python scripts/make_evaluation_example.py figures/example [--clips 20] [--frames 60]
    cd figures/example; nfs evaluate blurred dubbed stranger --out table.csv

truth/ holds rendered people who say parts of the spoken samples, portraits/ their pictures, and the methods are the truth with
one thing wrong, so that each metric has to tell one of them:
    blurred    every frame under a Gaussian of 2 pixels      CPBD, FID
    dubbed     the sound is that of another sentence         LSE-D, LSE-C
    stranger   one and the same stranger says everything     CSIM, FID
A sound that is only late would not do: LSE takes the best of all shifts up to 0.6 s.
One of blurred's files is cut short, one of dubbed's shows no face, one of stranger's has no sound.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from scipy.ndimage import gaussian_filter

from nfs_lib import audio, portraits, samples, video
from nfs_lib.disclosure import Signs
from nfs_lib.progress import progress
from nfs_lib.training import visemes
from nfs_lib.training.speech import Phoneme
from nfs_lib.training.speech_clips import expression_names

FIRST_SEED, STRANGER, SAMPLE = 9_940_000, 9_949_999, audio.SAMPLE_RATE // audio.FPS
PARTS = 5                                            # of sentences, said in turn
write_video = partial(video.write_video, signs=Signs(mark=False))            # they will be measured


def sentences(frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """PARTS pieces of the spoken samples: wave (N,) and the facial actions (T, E) that it asks for."""
    names, pieces = expression_names(), []
    for name in ("hello", "moon", "amigos"):
        wave = audio.load_speech(samples.speech_file(name))
        sounds = json.loads(samples.speech_file(name).with_suffix(".json").read_text())["sounds"]
        actions = visemes.facial_actions([Phoneme(*sound) for sound in sounds], wave, names)
        for start in range(6, len(actions) - frames, frames):
            pieces.append((wave[start * SAMPLE : (start + frames) * SAMPLE], actions[start : start + frames]))
    return (pieces * PARTS)[:PARTS]


def drawn(seed: int, actions: np.ndarray, resolution: int) -> Iterator[np.ndarray]:
    """The person of a seed saying it, the head turning a little."""
    scene, pose = portraits.chart(portraits.sample_latent(seed)), portraits.sample_pose(seed)
    for t, beta in enumerate(visemes.with_reference(actions, scene.expression, expression_names())):
        turn = np.array([0.1 * np.sin(2 * np.pi * t / len(actions)), 0, 0], np.float32)
        yield portraits.render(scene.replace(expression=beta), pose + turn, resolution).image


def make(folder: Path, clips: int = 20, frames: int = 60, resolution: int = 256) -> None:
    """Write the whole folder; at least four clips."""
    for name in ("truth", "portraits", "speech", "blurred", "dubbed", "stranger"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pieces = sentences(frames)
    stranger = [np.stack(list(drawn(STRANGER, actions, resolution))) for _, actions in progress(pieces[:clips], "stranger")]
    for i in progress(range(clips), "clips"):
        name, (wave, actions) = f"clip_{i:02}", pieces[i % PARTS]
        film = np.stack(list(drawn(FIRST_SEED + i, actions, resolution)))
        soundfile.write(folder / "speech" / f"{name}.wav", wave, audio.SAMPLE_RATE)
        Image.fromarray(portraits.portrait(FIRST_SEED + i).image).save(folder / "portraits" / f"{name}.png")
        write_video(folder / "truth" / f"{name}.mp4", film, wave)
        write_video(folder / "blurred" / f"{name}.mp4", gaussian_filter(film, (0, 2, 2, 0)), wave)
        write_video(folder / "dubbed" / f"{name}.mp4", film, pieces[(i + 1) % PARTS][0])
        write_video(folder / "stranger" / f"{name}.mp4", stranger[i % PARTS], wave)
    broken = folder / "blurred" / "clip_01.mp4"
    broken.write_bytes(broken.read_bytes()[:2000])
    noise = np.random.default_rng(0).integers(0, 256, (frames, resolution, resolution, 3), dtype=np.uint8)
    write_video(folder / "dubbed" / "clip_02.mp4", noise, pieces[2][0])
    write_video(folder / "stranger" / "clip_03.mp4", stranger[3 % PARTS])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A folder for nfs evaluate whose right answers are known.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    make(options.folder, options.clips, options.frames)
