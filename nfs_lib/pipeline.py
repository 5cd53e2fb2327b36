"""One portrait and one clip of speech become a talking head: the whole of the paper's Fig. 2 on one page."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nfs_lib.alignment import Match, face_vertices, match
from nfs_lib.blending import MaskMean, blend, mouth_mask
from nfs_lib.camera import Camera, frontal, nerf_to_head, pixel_directions, sample_depths
from nfs_lib.deformation import deform_nerf, displacement
from nfs_lib.face import Coefficients
from nfs_lib.progress import progress

if TYPE_CHECKING:
    from nfs_lib.inversion import Inversion
    from nfs_lib.worlds import World

SPLAY = math.radians(22)                              # how far --orbit turns the head to each side


@dataclass
class TalkingHead:
    """A portrait that is ready to speak.

    world: the parts; inversion: the portrait's own generator, latents and pose; face: its fitted coefficients (batch of 1).
    The options are the paper's defaults; each can be switched for an ablation.
    """

    world: "World"
    inversion: "Inversion"
    face: Coefficients
    lipaint: bool = True                              # 4.4: inner mouth from another latent
    mask_frames: int = 7                              # n of Eq. 13
    rule: str = "paper"                               # Eq. 6, see alignment.RULES; "official" ties matches to ray numbers
    stride: int = 1                                   # every vertex (4: as the official code)
    planar: bool = False                              # True: without motion in depth, as the official code
    blend_rgb: bool = True                            # also blend the 32 × 32 RGB that the upsampler starts from
    _matched: dict = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.model = self.world.face_model
        self.chosen = face_vertices(self.model, self.stride)
        self.v_init = self.vertices(self.face.expression)
        self.masks = MaskMean(self.mask_frames)

    def vertices(self, expression: Float[Tensor, "1 E"]) -> Float[Tensor, "V 3"]:
        """The portrait's 3DMM with another expression (Eq. 3), those vertices that take part in matching, head frame."""
        return self.model.vertices(self.face.identity, expression)[0, self.chosen]

    def samples(self, camera: Camera) -> Float[Tensor, "P 3"]:
        """The ray samples of a camera, (P, 3) head frame: 32 × 32 rays, sample index fastest."""
        c = self.inversion.generator.config
        direction = pixel_directions(camera, *self.inversion.generator.grid())
        depth = sample_depths(c.near, c.far, c.n_samples)
        return nerf_to_head(camera.eye[:, None, None] + depth[:, None] * direction[:, :, None])[0].flatten(0, 1)

    def match(self, camera: Camera) -> Match:
        """Eq. 6 for all samples of this camera; remembered for the last camera."""
        seen_from = frontal() if self.rule == "official" else camera
        key = tuple(seen_from.rotation.flatten().tolist())
        if key not in self._matched:
            self._matched.clear()
            rule = "paper" if self.rule == "official" else self.rule
            self._matched[key] = match(self.samples(seen_from), self.v_init, rule)
        return self._matched[key]

    @torch.no_grad()
    def frame(self, beta: Float[Tensor, "1 E"], camera: Camera) -> Float[Tensor, "3 H W"]:
        """One picture: the face with expression β_t, seen by this camera."""
        g, inv = self.inversion.generator, self.inversion
        ws = g.broadcast(inv.w)
        delta = displacement(self.v_init, self.vertices(beta), self.planar)                       # ΔV_t
        deformed = g.features(ws, inv.z_bg, camera, deform_nerf(self.match(camera), delta))       # Eq. 6, 7
        features, rgb = deformed.maps()
        if self.lipaint:
            w_exp = self.world.lipaint(inv.w, beta)                                               # Eq. 8
            n = g.config.n_nerf_ws
            inpainted, inpainted_rgb = g.features(torch.cat([g.broadcast(w_exp)[:, :n], ws[:, n:]], 1), inv.z_bg, camera).maps()
            points = self.model.landmark_points(self.face.replace(expression=beta))[0]
            mask = self.masks(mouth_mask(points, camera, g.config.ray_resolution))                # Eq. 12, 13
            features = blend(features, inpainted, mask)
            rgb = blend(rgb, inpainted_rgb, mask) if self.blend_rgb else rgb
        return g.upsample(features, rgb, ws)[0].clamp(-1, 1)                                      # Eq. 14

    def frames(self, betas: Float[Tensor, "T E"], poses: Float[Tensor, "T 3"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """All pictures of a clip, 8 bit, one by one."""
        self.masks = MaskMean(self.mask_frames)
        for beta, pose in zip(betas, poses, strict=True):
            picture = self.frame(beta[None], Camera.from_pose(pose[None]))
            yield ((picture.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()


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


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print a line with the stage's name and the seconds it took."""
    begin = time.perf_counter()
    yield
    print(f"{name:<34s} {time.perf_counter() - begin:6.1f} s", file=sys.stderr, flush=True)


def talk(image: str | Path, audio: str | Path, out: str | Path, *, world: str = "open", yaw: float | None = None,
         pitch: float | None = None, orbit: bool = False, lipaint: bool = True, momentum: float = 0.5, scale: float = 1.5,
         mask_frames: int = 7, rule: str = "paper", profile: str = "full", seed: int = 0) -> Path:
    """`nfs talk`: portrait and speech files → mp4 with sound, 25 frames per second.

    yaw, pitch in radians. Raises BadInput, before anything slow is done, for files that can't be used; nothing half-written is
    left behind.
    """
    from nfs_lib import audio as sound
    from nfs_lib import audio2exp, cropping, images, inversion, video, worlds
    from nfs_lib.face import fitting

    path = video.check_output(out)
    begin = time.perf_counter()
    with stage("reading speech and portrait"):
        wave = sound.load_speech(audio)
        picture = images.load_portrait(image)
    parts = worlds.load(world)
    with stage("finding and framing the face"):
        crop = cropping.crop_portrait(picture, parts.estimator, parts.face_model, name=str(image))
    for note in crop.notes:
        print(note, file=sys.stderr)
    with stage("fitting the 3DMM"):
        face = fitting.fit(parts.face_model, parts.estimator, crop.image[None])
    with stage("inverting the portrait (PTI)"):
        inverted = inversion.invert(parts.generator, crop.image, face.pose, profile=profile, seed=seed,
                                    start=parts.first_latent(face))
    with stage("speech to expressions"):
        betas = audio2exp.speech_to_expression(parts.audio2exp, wave, face.expression[0], momentum=momentum, scale=scale)
    head = TalkingHead(parts, inverted, face.replace(pose=inverted.pose), lipaint=lipaint, mask_frames=mask_frames, rule=rule)
    poses = head_turn(inverted.pose, len(betas), yaw, pitch, orbit)
    with stage(f"{len(betas)} frames"):
        frames = head.frames(betas, poses)
        video.write_video(path, progress(frames, "frames", total=len(betas)), wave)
    print(f"{path}: {len(betas) / 25:.1f} s of video in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return path
