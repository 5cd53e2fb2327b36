"""figures/watermark.png and .json: is the watermark read back after hard compression, and never where there is none?

    python scripts/measure_watermark.py [PEOPLE]

PEOPLE (50 by default) who never existed say parts of the spoken samples, some with the head still, some turning slowly, some
fast: four clips each, of 5, 10, 25 and 50 frames. Each is written as the kit writes it, with the watermark and without (crf 18,
without the visible mark), scaled to half its side and encoded anew with H.264 at crf 28. The clips without are also read with
100 random keys each: as good as as many other clips. The rendered people are kept in runs/watermark/.
"""

import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from make_evaluation_example import sentences

from nfs_lib import portraits
from nfs_lib.disclosure import Signs
from nfs_lib.disclosure import watermark as w
from nfs_lib.progress import progress
from nfs_lib.training import visemes
from nfs_lib.training.speech_clips import expression_names
from nfs_lib.video import every_frame, write_video
from nfs_lib.viz.style import COLOURS, Plot, panels, styled
from nfs_lib.writing import replacing

ROOT = Path(__file__).parents[1]
RUNS, OUT = ROOT / "runs" / "watermark", ROOT / "figures" / "watermark.png"
FIRST_SEED, FRAMES, KEYS = 9_980_000, 50, 100
PIECES = {5: slice(20, 25), 10: slice(5, 15), 25: slice(25, 50), 50: slice(0, 50)}       # length → frames of the person's clip
TURNS = (0.0, 0.12, 0.35)                            # radians to either side during the 2 s


def person(number: int, actions: np.ndarray) -> np.ndarray:
    """(50, 256, 256, 3) uint8: one person speaking, from the file if it is there."""
    path = RUNS / f"{number:03}.npz"
    if not path.exists():
        scene = portraits.chart(portraits.sample_latent(FIRST_SEED + number))
        pose, names = portraits.sample_pose(FIRST_SEED + number), expression_names()
        film = []
        for t, beta in enumerate(visemes.with_reference(actions, scene.expression, names)):
            turn = np.array([TURNS[number % len(TURNS)] * np.sin(2 * np.pi * t / FRAMES), 0, 0], np.float32)
            film.append(portraits.render(scene.replace(expression=beta), pose + turn, 256).image)
        with replacing(path) as temporary:
            np.savez_compressed(temporary, film=np.stack(film))
    return np.load(path)["film"]


def halved(source: Path, target: Path) -> None:
    """A video at half its side, encoded anew at crf 28."""
    with av.open(str(source)) as given, av.open(str(target), "w") as file:
        picture = given.streams.video[0]
        stream = file.add_stream("libx264", rate=25, options={"crf": "28", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = picture.width // 2, picture.height // 2, "yuv420p"
        for number, frame in enumerate(given.decode(picture)):
            small = frame.reformat(stream.width, stream.height, "yuv420p", interpolation="BICUBIC")
            small.pts, small.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(small))
        file.mux(stream.encode(None))


def seen(film: np.ndarray, signs: Signs | None) -> list[np.ndarray]:
    """What the detector sees of a clip after all that."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.mp4", Path(folder) / "b.mp4"
        halved(write_video(first, film, signs=signs), second)
        return [w.small(frame) for frame in every_frame(second)]


def score(pictures: list[np.ndarray], key: bytes = w.KEY) -> float:
    """Of a clip, with any key."""
    return w.strength(np.sum([w.closeness(picture, key) for picture in pictures], 0))


@styled
def drawn(marked: dict[int, list[float]], unmarked: list[float]) -> Plot:
    """Histograms of the scores with and without the watermark, and the threshold."""
    figure, axes = panels(1, 1, 7, 3)
    axis, bins = axes[0, 0], np.arange(-5, 13, 0.25)
    axis.hist(unmarked, bins, density=True, color="#999999", label=f"without: {len(unmarked):,} readings")
    axis.plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), color="black", lw=0.8, label="normal distribution")
    for (length, scores), colour in zip(marked.items(), COLOURS, strict=False):
        axis.hist(scores, bins, density=True, histtype="step", lw=1.4, color=colour, label=f"with: {length / 25:.1f} s")
    axis.axvline(w.THRESHOLD, color="black", ls=":", label=f"threshold {w.THRESHOLD}")
    axis.set(xlabel="score after a resize to 50 % and H.264 at crf 28", ylabel="density")
    axis.legend()
    return figure


def main() -> None:
    """Measure, print, draw."""
    RUNS.mkdir(parents=True, exist_ok=True)
    people = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    marked: dict[int, list[float]] = {length: [] for length in PIECES}
    plain, others, squares = [], [], []
    talk = sentences(FRAMES)
    for number in progress(range(people), "people"):
        film = person(number, talk[number % len(talk)][1])
        squares.append(np.mean((np.stack([w.watermarked(f) for f in film[::10]]) - film[::10].astype(float)) ** 2))
        for length, piece in PIECES.items():
            marked[length].append(score(seen(film[piece], Signs(mark=False))))
            without = seen(film[piece], None)
            plain.append(score(without))
            others += [score(without, f"{number} {length} {key}".encode()) for key in range(KEYS)]
    both = [z for scores in marked.values() for z in scores]
    psnr = 10 * np.log10(255**2 / np.array(squares))
    figures = {
        "clips": len(both), "read_back": sum(z >= w.THRESHOLD for z in both), "threshold": w.THRESHOLD,
        "by_seconds": {length / 25: {"clips": len(z), "read_back": sum(v >= w.THRESHOLD for v in z), "lowest": min(z),
                                     "median": float(np.median(z))} for length, z in marked.items()},
        "unmarked_clips": len(plain), "unmarked_highest": max(plain), "unmarked_readings": len(others),
        "false_alarms": sum(z >= w.THRESHOLD for z in plain + others), "highest_reading": max(others),
        "mean_and_deviation": [float(np.mean(others)), float(np.std(others))],
        "bound_on_false_alarms": w.false_alarm(w.THRESHOLD), "psnr_lowest_mean": [float(psnr.min()), float(psnr.mean())],
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    with replacing(OUT.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n")
    drawn(marked, plain + others).savefig(OUT, dpi=120)


if __name__ == "__main__":
    main()
