"""Heads that follow somebody else: poses from a file or a video, expressions from a video.

The paper drives poses and expressions by sound alone; its authors' code can also take both from a video, frame by frame
("video driven") or only the poses ("given poses"). Here as there the estimator reads each frame of the driver.
"""

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from nfs_lib.cropping import RESOLUTION, Estimate, crop_portrait, warp
from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input
from nfs_lib.progress import progress
from nfs_lib.video import FPS, length, read_sound, stream_frames

if TYPE_CHECKING:
    from nfs_lib.face import MorphableModel

COLUMNS = ("yaw", "pitch", "roll")
LIMITS = (60.0, 40.0, 45.0)                          # degrees; beyond them no portrait was ever drawn
LONGEST = 600 * FPS                                  # frames, as long as speech may be
LARGEST_FILE = 20_000_000                            # bytes of a file of poses
FACE_EVERY = 12                                      # frames from one search for the face to the next
LOST = 4                                             # searches without a face, one after the other, that end it
FILLS = ("bounce", "hold", "stretch")
NEUTRALS = ("rest", "first", "mean", "none")


@dataclass
class Performance:
    """What a driving video shows, 25 frames a second.

    poses (T, 3) radians as the camera sees the head; expressions (T, E), the driver's own, neither smoothed; sound: mono, 16
    kHz, None where the video has none; notes: what the user should know, one sentence each.
    """

    poses: Float[Tensor, "T 3"]
    expressions: Float[Tensor, "T E"]
    sound: Float32[np.ndarray, " N"] | None = None
    notes: list[str] = field(default_factory=list)


# watching a video


@torch.no_grad()
def watch(path: str | Path, estimator: Estimate, model: "MorphableModel | None" = None, most: int = LONGEST,
          whole: bool = False) -> Performance:
    """Pose and expression of the face in every frame of a video; frames are taken at 25 a second whatever its own rate.

    The face is looked for in every 12th frame; in between its frame (`cropping.Crop.transform`) moves in a straight line.
    most: no more frames than this are read. whole: nobody looks for a face, the square in the middle of each frame is read, as
    the official scripts do with frames that are framed as FFHQ's portraits.
    Raises BadInput if the file can't be read, is longer than 10 minutes, or shows no face for 4 searches in a row.
    """
    poses, expressions = [], []
    found: list[tuple[int, np.ndarray]] = []         # number of frame, transform to the crop
    waiting: list[np.ndarray] = []                   # frames since the last search that found a face
    notes: list[str] = []
    misses, count = 0, 0

    def read_waiting() -> None:
        start = count - len(waiting)
        transforms = [middle(f) if whole else between(found, start + i) for i, f in enumerate(waiting)]
        for i in range(0, len(waiting), 16):
            part = slice(i, i + 16)
            crops = torch.stack([warp(picture(f), t) for f, t in zip(waiting[part], transforms[part], strict=True)])
            read = estimator(crops)
            lean = torch.tensor([[0.0, 0.0, math.atan2(t[1, 0], t[0, 0])] for t in transforms[part]])
            poses.append(read.pose + lean)           # what the crop was turned clockwise, the head leans the other way
            expressions.append(read.expression)
        waiting.clear()

    for frame in progress(stream_frames(path), "watching the driver", total=length(path)):
        if count >= min(most, LONGEST):
            if count < most:
                raise BadInput(f"{path} is longer than {LONGEST / FPS / 60:.0f} minutes; cut it into parts")
            break
        waiting.append(frame)
        count += 1
        if whole and len(waiting) == 16:
            read_waiting()
        if not whole and (count - 1) % FACE_EVERY == 0:
            try:
                crop = crop_portrait(picture(frame), estimator, model, name=str(path))
            except BadInput:
                misses += 1
                if misses == LOST:
                    since = max(0, count - 1 - FACE_EVERY * (LOST - 1)) / FPS
                    raise BadInput(
                        f"{path} shows no face from {since:.1f} s to {(count - 1) / FPS:.1f} s; give a video of one "
                        "person, the face turned to the camera"
                    ) from None
                continue
            misses = 0
            notes += [note for note in crop.notes if note not in notes]
            found.append((count - 1, crop.transform))
            read_waiting()
    if not found and not whole:
        raise BadInput(f"{path} shows no face; give a video of one person, the face turned to the camera")
    if waiting:
        read_waiting()
    return Performance(torch.cat(poses), torch.cat(expressions), read_sound(path), notes)


def picture(frame: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 H W"]:
    """A frame of a video as the kit's picture, in [-1, 1]."""
    return torch.from_numpy(frame).permute(2, 0, 1).float() / 127.5 - 1


def middle(frame: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
    """The transform (3, 3) that makes the square in the middle of a frame the crop."""
    height, width = frame.shape[:2]
    side = min(height, width)
    scale = RESOLUTION / side
    return np.array([[scale, 0, -(width - side) / 2 * scale], [0, scale, -(height - side) / 2 * scale], [0, 0, 1.0]])


def between(found: list[tuple[int, np.ndarray]], at: int) -> np.ndarray:
    """The transform (3, 3) of frame `at`, on the line between the two nearest of those found; the nearest beyond the ends."""
    numbers = [number for number, _ in found]
    i = int(np.searchsorted(numbers, at))
    if i == 0 or i == len(found):
        return found[min(i, len(found) - 1)][1]
    (before, a), (after, b) = found[i - 1], found[i]
    return a + (b - a) * (at - before) / (after - before)


def smooth(values: Float[Tensor, "T K"], momentum: float) -> Float[Tensor, "T K"]:
    """``s_t = (1 − m)·v_t + m·s_{t−1}``, run forwards and then backwards, so that nothing comes late. m = 0: as it is."""
    for _ in range(2):
        past = [values[0]]
        for value in values[1:]:
            past.append((1 - momentum) * value + momentum * past[-1])
        values = torch.stack(past[::-1])
    return values


# poses


def poses_from(
    source: str | Path | Performance,
    frames: int,
    estimator: Estimate | None = None,
    model: "MorphableModel | None" = None,
    fill: str = "bounce",
    momentum: float = 0.4,
) -> Float[Tensor, "frames 3"]:
    """A pose for each frame of a clip, (frames, 3) radians: yaw, pitch, roll as `camera` defines them.

    source: a .csv or .json of degrees (`read_poses`), a video, or one that was watched already. Only a video's poses are
    smoothed. fill: see `fit_length`. Raises BadInput for a file that can't be used.
    """
    if not isinstance(source, Performance):
        if Path(source).suffix.lower() in (".csv", ".json"):
            return fit_length(read_poses(source), frames, fill)
        if estimator is None:
            raise ValueError("an estimator is needed to read the poses of a video")
        source = watch(source, estimator, model, most=LONGEST if fill == "stretch" else frames)
    limits = torch.tensor(LIMITS).deg2rad()
    return fit_length(smooth(source.poses, momentum).clamp(-limits, limits), frames, fill)


def read_poses(path: str | Path) -> Float[Tensor, "T 3"]:
    """Poses from a file, 25 a second, (T, 3) radians.

    csv: a header with yaw, pitch and roll in any order, then one line of degrees a frame. json: a list of
    ``{"yaw": …, "pitch": …, "roll": …}``, or three lists, ``{"yaw": […], "pitch": […], "roll": […]}``, with "fps" if the
    poses aren't 25 a second: they are resampled then, on straight lines.
    Raises BadInput, naming the line, for missing or unknown columns, for what isn't a number, and for angles beyond 60° of
    yaw, 40° of pitch, 45° of roll.
    """
    path = check_input(path, "a .csv or .json of poses, or a video")
    if path.stat().st_size > LARGEST_FILE:
        raise BadInput(f"{path} is larger than {LARGEST_FILE // 1_000_000} MB; poses of 10 minutes need less than 1 MB")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} isn't a text file that can be read; give a .csv or .json of poses") from error
    rows, fps = _json_rows(text, path) if path.suffix.lower() == ".json" else (_csv_rows(text, path), float(FPS))
    if not rows:
        raise BadInput(f"{path} holds no pose; give at least one of yaw, pitch, roll in degrees")
    degrees = np.array([_angles(row, number, path) for number, row in rows])
    if len(degrees) > LONGEST * fps / FPS:
        raise BadInput(f"{path} is longer than {LONGEST / FPS / 60:.0f} minutes; cut it into parts")
    count = max(1, round(len(degrees) / fps * FPS))
    at, of = np.arange(count) / FPS, np.arange(len(degrees)) / fps
    return torch.tensor(np.radians([np.interp(at, of, column) for column in degrees.T]).T, dtype=torch.float32)


def _csv_rows(text: str, path: Path) -> list[tuple[str, list[str]]]:
    """(where, yaw, pitch, roll) of each line that isn't empty."""
    try:
        lines = [(i, row) for i, row in enumerate(csv.reader(io.StringIO(text)), 1) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise BadInput(f"{path} isn't a csv that can be read ({error})") from error
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if sorted(header) != sorted(COLUMNS):
        given = ", ".join(header)[:80] or "nothing"
        raise BadInput(f"{path} begins with the columns {given}; a header with yaw, pitch and roll is expected")
    for i, row in lines[1:]:
        if len(row) != 3:
            raise BadInput(f"{path}, line {i}: {len(row)} values, 3 are expected (yaw, pitch, roll)")
    order = [header.index(name) for name in COLUMNS]
    return [(f"line {i}", [row[k] for k in order]) for i, row in lines[1:]]


def _json_rows(text: str, path: Path) -> tuple[list[tuple[str, list]], float]:
    """(where, yaw, pitch, roll) of each pose, and how many there are a second."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} isn't JSON that can be read ({error})") from error
    fps: object = FPS
    if isinstance(content, dict):
        fps = content.pop("fps", FPS)
        if set(content) != set(COLUMNS) or not all(isinstance(v, list) for v in content.values()):
            raise BadInput(f"{path} holds {', '.join(content)[:80] or 'nothing'}; lists named yaw, pitch and roll are expected")
        if len({len(v) for v in content.values()}) > 1:
            raise BadInput(f"{path}: yaw, pitch and roll are lists of different lengths")
        content = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(content[name] for name in COLUMNS), strict=True)]
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 1 <= fps <= 1000:
        raise BadInput(f"{path}: fps is {fps!r}; a number from 1 to 1000 is expected")
    if not isinstance(content, list) or not all(isinstance(row, dict) and set(row) == set(COLUMNS) for row in content):
        raise BadInput(f"{path}: a list of poses is expected, each with yaw, pitch and roll and nothing else")
    return [(f"pose {i}", [row[name] for name in COLUMNS]) for i, row in enumerate(content, 1)], float(fps)


def _angles(row: list, where: str, path: Path) -> list[float]:
    """Three finite numbers within the limits; BadInput for others."""
    angles = []
    for name, limit, value in zip(COLUMNS, LIMITS, row, strict=True):
        try:
            angle = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            angle = math.nan
        if not -limit <= angle <= limit:
            raise BadInput(f"{path}, {where}: {name} is {str(value)[:40]!r}; degrees from -{limit:g} to {limit:g} are expected")
        angles.append(angle)
    return angles


def fit_length(values: Float[Tensor, "T K"], frames: int, fill: str = "bounce") -> Float[Tensor, "frames K"]:
    """Values of T frames for a clip of another length; of longer ones the first `frames` are taken.

    fill, what follows where they are too short: "bounce": back to the start, forwards again, and so on, so that the head
    never jumps; "hold": the last one, for ever. "stretch" slows down or speeds up what there is to last just as long, on
    straight lines between the frames.
    """
    if fill not in FILLS:
        raise BadInput(f"there is no way {fill!r} to fill a clip; use one of: {', '.join(FILLS)}")
    if frames < 1 or not len(values):
        raise BadInput(f"{len(values)} frames were given for a clip of {frames}; one at least is expected of both")
    last = len(values) - 1
    if fill == "stretch":
        at = torch.linspace(0, last, frames)
        low = at.floor().long().clamp(max=max(0, last - 1))
        return torch.lerp(values[low], values[(low + 1).clamp(max=last)], (at - low)[:, None])
    number = torch.arange(frames)
    if fill == "bounce" and last:
        number = last - (number % (2 * last) - last).abs()
    return values[number.clamp(max=last)]


# expressions


def expressions_from(
    seen: Performance, own: Float[Tensor, "E"], neutral: str = "rest", momentum: float = 0.2
) -> Float[Tensor, "T E"]:
    """The driver's expressions carried over to another face: ``β_t = β_own + (β_t^driver − β_neutral^driver)``, (T, E).

    own: the portrait's expression. Only the driver's *change* is taken, so that the way this face looks at rest stays, and
    what the estimator reads wrongly in every frame of the driver cancels.
    neutral: what counts as the driver's rest. "rest": see there; "first": the first frame; "mean": the mean of all, which shuts
    the mouth too far, for actions go one way. "none" takes the driver's expressions as they are, the portrait's own are
    lost (as in the authors' code). momentum: see `smooth`.
    """
    if neutral not in NEUTRALS:
        raise BadInput(f"there is no neutral {neutral!r}; use one of: {', '.join(NEUTRALS)}")
    driver = smooth(seen.expressions, momentum)
    if neutral == "none":
        return driver
    return own + driver - rest(seen.expressions, neutral)


def rest(expressions: Float[Tensor, "T E"], neutral: str = "rest") -> Float[Tensor, "E"]:
    """The expression that counts as neutral; see `expressions_from`.

    "rest": each action by itself, the value nearest to 0 among the middle 80 % of its frames. An action that goes one way, as
    most do, is at rest at its lower end; one that goes both ways passes through 0.
    """
    if neutral == "first":
        return expressions[0]
    if neutral == "mean":
        return expressions.mean(0)
    low, high = torch.quantile(expressions, torch.tensor([0.1, 0.9]).to(expressions), dim=0)
    return torch.zeros_like(low).clamp(low, high)
