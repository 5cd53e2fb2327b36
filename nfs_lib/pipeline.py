"""One portrait and one clip of speech become a talking head: the whole of the paper's Fig. 2 on one page."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.checks import check_number
from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input, check_output
from nfs_lib.progress import progress
from nfs_lib.talking_head import OFFICIAL, TalkingHead

YAW, PITCH = math.radians(60), math.radians(40)       # as far as a head may be turned
SPLAY = math.radians(22)                              # how far --orbit turns the head to each side


def head_turn(pose: Float[Tensor, "1 3"], frames: int, yaw: float | None, pitch: float | None, orbit: bool
              ) -> Float[Tensor, "T 3"]:
    """The pose of each frame, radians. Without options the portrait's own; yaw, pitch replace it; orbit turns the head to
    one side, the other, and back, with a slight nod."""
    start = pose[0].clone()
    if yaw is not None:
        start[0] = yaw
    if pitch is not None:
        start[1] = pitch
    poses = start.repeat(frames, 1)
    if orbit:
        t = torch.linspace(0, 2 * math.pi, frames)
        poses[:, 0] = (start[0] * (1 - (t / 2).sin() ** 2) + SPLAY * t.sin())
        poses[:, 1] = start[1] + math.radians(4) * (2 * t).sin()
    return poses


def tell(notes: list[str]) -> None:
    """What the user should know, a line each."""
    for note in notes:
        print(note, file=sys.stderr)


def talk(image: str | Path, audio: str | Path | None, out: str | Path, *, world: str = "open", yaw: float | None = None,
         pitch: float | None = None, orbit: bool = False, poses: str | Path | None = None, drive: str | Path | None = None,
         lipaint: bool = True, momentum: float | None = None, scale: float = 1.5, mask_frames: int = 7, official: bool = False,
         profile: str = "full", seed: int = 0, mark: bool = True, certificate: str | Path | None = None, device: str = "cpu"
         ) -> Path:
    """`nfs talk`: portrait and speech files → mp4 with sound, 25 frames per second.

    yaw, pitch in radians. poses: a file or a video that says how the head turns (`driving.poses_from`); a short one is played
    back and forth. drive: a video whose face is copied: its expressions in place of those of the speech
    (`driving.expressions_from`), its length, its poses unless yaw, pitch, orbit or poses say otherwise, and its sound unless
    audio is given. momentum: of Eq. 4, 0.5 by default; of the driver's expressions, 0.2 by default. official: as the official
    code does it where that differs from the paper (`OFFICIAL`; a driver's expressions and poses are then taken as they are);
    paper world only. mark: the visible one; certificate: what the manifest is signed with (`disclosure.Signs`). device: where
    the pictures are made (`worlds.load`).
    Raises BadInput, before anything slow is done, for files that can't be used; nothing half-written is left behind.
    """
    from nfs_lib import audio as sound
    from nfs_lib import audio2exp, driving, images, portrait, video, worlds
    from nfs_lib.disclosure import Signs, manifest
    from nfs_lib.portrait import TURNING, stage

    path = check_output(out)
    if certificate is not None:
        manifest.check(certificate)
    turned = orbit or yaw is not None or pitch is not None
    if audio is None and drive is None:
        raise BadInput("nothing says what the head does; give speech (--audio), a video to copy (--drive), or both")
    if poses is not None and turned:
        raise BadInput("the poses file says how the head turns; leave out either it or yaw, pitch and orbit")
    if official and world != "paper":
        raise BadInput("only the paper world has all that the official code uses (its segmenter); give --world paper")
    if profile not in TURNING:
        raise BadInput(f"there is no profile {profile!r}; use one of {', '.join(TURNING)}")
    for name, value, low, high in (("yaw (radians)", yaw, -YAW, YAW), ("pitch (radians)", pitch, -PITCH, PITCH),
                                   ("momentum", momentum, 0, 0.99), ("scale", scale, 0, 5)):
        check_number(0 if value is None else value, name, low, high)
    check_number(mask_frames, "the number of mask frames", 1, 1000, whole=True)
    check_number(seed, "the seed", 0, 2**31 - 1, whole=True)
    begin = time.perf_counter()
    with stage("reading speech and portrait"):
        wave: Any = None if audio is None else sound.load_speech(audio)
        picture = images.load_portrait(image)
    if poses is not None and Path(poses).suffix.lower() in (".csv", ".json"):
        driving.read_poses(poses)
    for film in (poses, drive):
        if film is not None:
            check_input(film, "a video")
    parts = worlds.load(world, device)
    parts.require("generator", "estimator", *["face_model"] * (world == "paper"), *["audio2exp"] * (drive is None),
                  *["lipaint"] * lipaint, *["segmenter"] * official)
    with stage("finding and framing the face"):
        crop = portrait.framed(parts, picture, name=str(image))
    tell(crop.notes)
    seen, whole = None, world == "paper"
    if drive is not None:
        with stage("watching the driver"):
            seen = driving.watch(drive, parts.read, None if whole else parts.face_model, whole=whole)
        tell(seen.notes)
        wave = seen.sound if wave is None else wave
    count = sound.video_frames(wave) if seen is None else len(seen.poses)
    turns, fill, smoothing = None, *(("hold", 0.0) if official else ("bounce", 0.4))
    if poses is not None:
        with stage("reading the poses"):
            guide: Any = poses
            if Path(poses).suffix.lower() not in (".csv", ".json"):
                guide = driving.watch(poses, parts.read, None if whole else parts.face_model, most=count, whole=whole)
                tell(guide.notes)
            turns = driving.poses_from(guide, count, fill=fill, momentum=smoothing)
    elif seen is not None and not turned:
        turns = driving.poses_from(seen, count, fill=fill, momentum=smoothing)
    signs = Signs(mark, None if certificate is None else Path(certificate),
                  manifest.making(world, image=image, audio=audio, poses=poses, drive=drive))
    ready = portrait.ready(parts, crop.image, profile=profile, seed=seed, official=official)
    own = ready.face.expression[0]
    if seen is not None:
        neutral, usual = ("none", 0.0) if official else ("rest", 0.2)
        betas = driving.expressions_from(seen, own, neutral, momentum=usual if momentum is None else momentum)
    else:
        with stage("speech to expressions"):
            betas = audio2exp.speech_to_expression(parts.audio2exp, sound.mel_windows(wave), own,
                                                   0.5 if momentum is None else momentum, scale)
    options = OFFICIAL | {"anchors": portrait.anchors(parts, ready.inversion)} if official else {}
    head = TalkingHead(parts, ready.inversion, ready.face, ready.model, lipaint=lipaint, mask_frames=mask_frames, **options)
    if turns is None:
        turns = head_turn(ready.face.pose, count, yaw, pitch, orbit)
    with stage(f"{count} frames"):
        frames = head.frames(betas, turns)
        video.write_video(path, progress(frames, "frames", total=count), wave, signs=signs)
    print(f"{path}: {count / 25:.1f} s of video in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return path
