"""Data sets brought into shape for `nfs evaluate`: `nfs prepare`.

Videos (HDTF, or any folder of them) become clips of 8 s at 25 frames a second with 16 kHz sound, their face framed like the
pictures of FFHQ, the same way through a clip. Pictures (Unsplash, or any folder of portraits) become framed portraits.

    OUT/truth/<clip>.mp4  OUT/speech/<clip>.wav  OUT/portraits/<clip>.png  OUT/manifest.json
"""

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float32

from nfs_lib.audio import QUIETEST, SAMPLE_RATE
from nfs_lib.cropping import RESOLUTION, corners
from nfs_lib.disclosure import Signs
from nfs_lib.errors import BadInput
from nfs_lib.framing import LARGEST, Framing, cut, moments, place, settle
from nfs_lib.images import load_portrait, save_image, to_uint8
from nfs_lib.paths import check_input
from nfs_lib.progress import progress
from nfs_lib.studies.evaluate import PICTURES, VIDEOS
from nfs_lib.video import DISCLOSURE, FPS, VideoWriter, comment, read_sound, stream_frames
from nfs_lib.worlds import World, load
from nfs_lib.writing import replacing

SECONDS = 8
FRAMES, SAMPLES = SECONDS * FPS, SECONDS * SAMPLE_RATE
LARGE = 512                                          # side of the crop in pixels, where the source has as many
RECIPE = {"fps": FPS, "sample_rate": SAMPLE_RATE, "seconds": SECONDS}
TIMES, URLS = "*_annotion_time.txt", "*_video_url.txt"  # HDTF's files, spelt as there
Entry = dict[str, Any]


class Interval(NamedTuple):
    """A part of a video to cut from, in frames at 25 a second; end None: to the video's end."""

    start: int
    end: int | None


def prepare(source: str | Path, out: str | Path) -> Entry:
    """`nfs prepare`: all videos and pictures under `source` → clips and portraits in `out`; returns the manifest.

    Where HDTF's files of time stamps lie under `source`, only the parts that they name are taken; a video that was cut by them
    already (`<name>_0.mp4`) is taken whole. What is shorter than 8 s at the end of a part is dropped. The manifest lists, for
    every clip, its source, the source's sha256, its times and crop, and everything that was left out, with the reason.
    Run again, it goes on where it was; a clip that is there isn't made anew unless its source or its time stamps have changed.
    Raises BadInput if `source` isn't a folder with a video or picture, and if `out` holds a manifest of something else.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise BadInput(f"{source} isn't a folder; give the folder of a data set's videos or pictures")
    if out.exists() and (not out.is_dir() or out.resolve() == source.resolve()):
        raise BadInput(f"{out} can't hold the result: it is {'the source' if out.is_dir() else 'a file'}; give another folder")
    files = media(source, out)
    if not files:
        raise BadInput(f"no video or picture under {source} ({', '.join(VIDEOS + PICTURES)}); give the folder of a data set")
    stamps, urls = time_stamps(source), addresses(source)
    manifest = opened(out)
    world = load("open")
    for folder in ("truth", "speech", "portraits"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, file in progress(files.items(), "files", total=len(files)):
        about: Entry = {"source": file.relative_to(source).as_posix(), "sha256": sha256(file)}
        if (listed := known(file.stem, stamps)) and file.stem.endswith(listed):
            about["parts"] = " ".join(stamps[listed])
        if url := urls.get(known(file.stem, urls) or ""):
            about["url"] = url
        forget(manifest, about, out)
        if about["source"] in manifest["finished"]:
            continue
        try:
            done = {entry["clip"] for entry in manifest["clips"]}
            if file.suffix.lower() in PICTURES:
                entries = framed_portrait(file, name, out, world)
            else:
                entries = clips_of(file, name, intervals(file.stem, stamps), out, done, world)
            for entry in entries:
                manifest["skipped" if "reason" in entry else "clips"].append(about | entry)
                save(manifest, out)
        except BadInput as error:
            reason = " ".join(str(error).removeprefix(f"{file} ").split())
            manifest["skipped"].append(about | {"reason": reason})
        manifest["finished"][about["source"]] = about["sha256"]
        save(manifest, out)
    return manifest


# what there is to do


def media(source: Path, out: Path) -> dict[str, Path]:
    """Name of the result → file, for all videos and pictures under `source` but not under `out`; where two files have one name,
    their folders come before it."""
    files = [f for f in sorted(source.rglob("*")) if f.suffix.lower() in VIDEOS + PICTURES and f.is_file()]
    files = [f for f in files if not f.name.startswith(".") and out.resolve() not in f.resolve().parents]
    stems = [f.stem.lower() for f in files]
    paths = [re.sub(r"[/.]", "_", f.relative_to(source).as_posix()) for f in files]
    names = [f.stem if stems.count(f.stem.lower()) == 1 else path for f, path in zip(files, paths, strict=True)]
    return dict(zip(names, files, strict=True))


def time_stamps(source: Path) -> dict[str, list[str]]:
    """Video's name → its parts, of HDTF's files of lines such as `Radio11.mp4 00:30-01:00 01:30-02:30`."""
    return dict(_lines(source, TIMES))


def addresses(source: Path) -> dict[str, str]:
    """Video's name → where it was published, of HDTF's files of names and addresses."""
    return {name: words[0] for name, words in _lines(source, URLS) if words}


def _lines(source: Path, pattern: str) -> Iterator[tuple[str, list[str]]]:
    """Video's name and the further words of every line of the files of this pattern."""
    for file in sorted(source.rglob(pattern)):
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            if words := line.split():
                yield words[0].removesuffix(".mp4"), words[1:]


def known(stem: str, names: dict[str, Any]) -> str | None:
    """The name in HDTF's files that a video goes by: with or without the set's letters (`RD_Radio1`) and a number of a part
    (`Radio1_0`)."""
    bare = re.sub(r"^(RD|WDA|WRA)_", "", stem)
    return next((name for name in (stem, bare, re.sub(r"_\d+$", "", bare)) if name in names), None)


def intervals(stem: str, stamps: dict[str, list[str]]) -> list[Interval]:
    """The parts of a video to cut clips from, one after the other.

    Raises BadInput if there are time stamps, but none for this video, or some that can't be meant.
    """
    if not stamps:
        return [Interval(0, None)]
    name = known(stem, stamps)
    if name is None:
        raise BadInput(f"{TIMES} has no time stamps for it; add a line, or take the file away to use whole videos")
    if not stem.endswith(name):                      # cut by them already
        return [Interval(0, None)]
    parts, last = [], 0
    for word in stamps[name]:
        match = re.fullmatch(r"((?:\d+:)?\d+:\d+)-((?:\d+:)?\d+:\d+)", word)
        start, end = map(_frames, match.groups()) if match else (0, 0)
        if end <= start or start < last:
            raise BadInput(f"its time stamps {' '.join(stamps[name])!r} aren't parts such as 00:30-01:00, one after the other; "
                           f"correct its line in {TIMES}")
        parts.append(Interval(start, end))
        last = end
    return parts


def _frames(clock: str) -> int:
    """Frames from the start to a time such as 1:30 or 1:02:30."""
    seconds = 0
    for number in clock.split(":"):
        seconds = 60 * seconds + int(number)
    return seconds * FPS


# making clips and portraits


def clips_of(file: Path, name: str, parts: list[Interval], out: Path, done: set[str], world: World) -> Iterator[Entry]:
    """Write the clips of one video that aren't done; yields an entry for each, and for all that is left out.

    The video is read twice: to frame the faces and count the frames, and to write. Raises BadInput if it can't be read.
    """
    wave = read_sound(file)
    if wave is None:
        raise BadInput("it has no sound")
    found: dict[int, list[np.ndarray | None]] = defaultdict(list)
    chosen, count = set(moments(FRAMES).tolist()), 0
    for frame in stream_frames(file, LARGEST):
        start = start_of(count, parts)
        if start is not None and count - start in chosen and called(name, start) not in done:
            found[start].append(place(frame, world.estimator, world.face_model))
        count += 1
    framings: dict[int, Framing] = {}
    for start in whole(parts, count):
        times = {"start": start / FPS, "end": start / FPS + SECONDS}
        sound = wave[start * SAMPLE_RATE // FPS :][:SAMPLES]
        if len(sound) < SAMPLES // 2 or np.abs(sound - sound.mean()).max() < QUIETEST:
            yield times | {"reason": "no speech in it: it is silent"}
        elif called(name, start) not in done:
            try:
                framings[start] = settle(found[start])
            except BadInput as error:
                yield times | {"reason": str(error)}
    yield from remainders(parts, count)
    frames = enumerate(stream_frames(file, LARGEST))
    said = f"{comment(file)} Cut from {file.name} by nfs prepare.".strip()  # what is synthetic stays so
    for start, framing in framings.items():
        yield write_clip(frames, start, framing, wave, called(name, start), said, out)


def called(name: str, start: int) -> str:
    """A clip's name: its video's, and the second at which it starts."""
    return f"{name}_{start // FPS:04}"


def start_of(frame: int, parts: list[Interval]) -> int | None:
    """The first frame of the clip that a frame belongs to; None outside the parts."""
    for start, end in parts:
        if start <= frame and (end is None or frame < end):
            return frame - (frame - start) % FRAMES
    return None


def whole(parts: list[Interval], count: int) -> list[int]:
    """The first frames of all clips of full length in a video of `count` frames."""
    return [s for start, end in parts for s in range(start, min(count if end is None else end, count) - FRAMES + 1, FRAMES)]


def remainders(parts: list[Interval], count: int) -> Iterator[Entry]:
    """What is left over at the end of each part of a video of `count` frames."""
    for start, end in parts:
        last = count if end is None else min(end, count)
        if last <= start:
            yield {"start": start / FPS, "end": (end or count) / FPS, "reason": f"the video ends at {count / FPS:.1f} s"}
        elif over := (last - start) % FRAMES:
            yield {"start": (last - over) / FPS, "end": last / FPS, "reason": f"shorter than {SECONDS} s"}


def write_clip(frames: Iterator[tuple[int, np.ndarray]], start: int, framing: Framing, wave: Float32[np.ndarray, " N"],
               name: str, said: str, out: Path) -> Entry:
    """Video, sound and first frame of one clip, from the numbered frames of a video that is read up to there; said: what its
    metadata says; what is synthetic by that gets watermark and manifest anew, but no visible mark, as it will be measured."""
    sound = np.zeros(SAMPLES, np.float32)
    given = wave[start * SAMPLE_RATE // FPS :][:SAMPLES]
    sound[: len(given)] = given
    size = side(framing)
    shape: tuple[int, ...] = ()
    signs = Signs(mark=False) if DISCLOSURE in said else None                # a recording isn't called synthetic
    with VideoWriter(out / "truth" / f"{name}.mp4", sound, comment=said, signs=signs) as video:
        for i, frame in frames:
            if i < start:
                continue
            picture = cut(frame, framing.transform, size)
            video.write(to_uint8(picture))
            if i == start:
                shape = frame.shape
                save_image(out / "portraits" / f"{name}.png", picture)
            if i == start + FRAMES - 1:
                break
        with replacing(out / "speech" / f"{name}.wav") as temporary:
            soundfile.write(temporary, sound, SAMPLE_RATE, subtype="PCM_16")
    short = SECONDS - len(given) / SAMPLE_RATE
    notes = [f"its sound ends {short:.1f} s early: silence follows"] if short > 1 / FPS else []
    return {"clip": name, "start": start / FPS, "end": start / FPS + SECONDS, **place_of(framing, shape, size), "notes": notes}


def framed_portrait(file: Path, name: str, out: Path, world: World) -> Iterator[Entry]:
    """Write the portrait of one picture; yields its entry. Raises BadInput if there is no face in it."""
    frame = to_uint8(load_portrait(file))
    transform = place(frame, world.estimator, world.face_model)
    if transform is None:
        raise BadInput("no face is seen in it")
    framing = Framing(transform, 1, 1)
    size = side(framing)
    save_image(out / "portraits" / f"{name}.png", cut(frame, transform, size))
    yield {"clip": name, **place_of(framing, frame.shape, size), "notes": []}


def side(framing: Framing) -> int:
    """Pixels of the crop's side: as many as the source has, of the two sizes."""
    return LARGE if RESOLUTION / np.sqrt(np.linalg.det(framing.transform[:2, :2])) >= LARGE else RESOLUTION


def place_of(framing: Framing, shape: tuple[int, ...], size: int) -> Entry:
    """What the manifest says of a crop: its corners in pixels of the frame, whose size it names too."""
    back = np.linalg.inv(framing.transform)
    square = corners(RESOLUTION / 2, RESOLUTION / 2, RESOLUTION) @ back[:2, :2].T + back[:2, 2]
    return {"frame": [shape[1], shape[0]], "crop": square.round(2).tolist(), "size": size,
            "face_seen": f"{framing.seen} of {framing.looked}"}


# the manifest


def opened(out: Path) -> Entry:
    """The manifest of an earlier run, or an empty one. Raises BadInput if it isn't one of this recipe."""
    file = out / "manifest.json"
    if not os.path.lexists(file):
        return {"made_by": "nfs prepare", "recipe": RECIPE, "clips": [], "skipped": [], "finished": {}}
    try:
        manifest = json.loads(check_input(file, "a manifest").read_text(encoding="utf-8"))
        kinds = {"clips": list, "skipped": list, "finished": dict}
        ours = manifest["recipe"] == RECIPE and all(isinstance(manifest[k], kind) for k, kind in kinds.items())
        ours = ours and all(_is_entry(e, k) for k, what in (("clip", "clips"), ("reason", "skipped")) for e in manifest[what])
    except (BadInput, OSError, ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise BadInput(f"{file} isn't a manifest that this version of nfs prepare wrote; give another folder, or delete it")
    return manifest


def _is_entry(entry: Any, kind: str) -> bool:
    """Whether this is an entry of a clip or of what was left out; `forget` deletes files by the name of the clip."""
    name = entry.get("clip", "a") if isinstance(entry, dict) else None
    times = [entry[k] for k in ("start", "end") if k in entry] if isinstance(entry, dict) else []
    return (isinstance(name, str) and Path(name).name == name and "\0" not in name and len(times) != 1
            and all(isinstance(t, int | float) for t in times)
            and all(isinstance(entry.get(k), str) for k in ("source", kind)))


def forget(manifest: Entry, about: Entry, out: Path) -> None:
    """Take out of the manifest, and delete, what was made from another version of this source, and clips that lack a file."""

    def stale(entry: Entry) -> bool:
        if entry["source"] != about["source"]:
            return False
        return any(entry.get(k) != about.get(k) for k in ("sha256", "parts")) or (
            "clip" in entry and not all(f.is_file() for f in files_of(entry, out)))

    gone = [e for kind in ("clips", "skipped") for e in manifest[kind] if stale(e)]
    if gone or manifest["finished"].get(about["source"]) != about["sha256"]:
        manifest["finished"].pop(about["source"], None)
        manifest["skipped"] = [e for e in manifest["skipped"] if e["source"] != about["source"]]
        manifest["clips"] = [e for e in manifest["clips"] if e not in gone]
    for old in (f for e in gone if "clip" in e for f in files_of(e, out)):
        old.unlink(missing_ok=True)


def files_of(entry: Entry, out: Path) -> list[Path]:
    """The files of a clip, or of a portrait."""
    portrait = out / "portraits" / f"{entry['clip']}.png"
    if "start" not in entry:
        return [portrait]
    return [out / "truth" / f"{entry['clip']}.mp4", out / "speech" / f"{entry['clip']}.wav", portrait]


def save(manifest: Entry, out: Path) -> None:
    """Write the manifest, whole, its entries in an order that doesn't tell in how many runs they were made."""
    manifest["clips"].sort(key=lambda e: e["clip"])
    manifest["skipped"].sort(key=lambda e: (e["source"], e.get("start", 0)))
    with replacing(out / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def sha256(file: Path) -> str:
    """Of a file's content."""
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def printed(manifest: Entry, out: str | Path) -> str:
    """What was made and what was left out, in lines."""
    clips = sum("start" in e for e in manifest["clips"])
    lines = [f"{out}: {clips} clips of {SECONDS} s, {len(manifest['clips']) - clips} portraits of pictures"]
    for e in manifest["skipped"]:
        when = f" {e['start']:.1f} s to {e['end']:.1f} s" if "start" in e else ""
        lines.append(f"left out: {e['source']}{when}: {e['reason']}")
    return "\n".join(lines)
