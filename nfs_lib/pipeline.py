"""One portrait and one clip of speech become a talking head: the whole of the paper's Fig. 2 on one page."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from nfs_lib.alignment import Match, face_vertices, match, on_official_square
from nfs_lib.blending import MaskMean, blend, blend_at, mouth_mask
from nfs_lib.camera import Camera, frontal, nerf_to_head, pixel_directions, sample_depths
from nfs_lib.cpu import in_parallel, keep_freed_memory
from nfs_lib.deformation import deform_nerf, displacement
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.progress import progress
from nfs_lib.stylenerf.generator import Rendered

if TYPE_CHECKING:
    from nfs_lib.inversion import Inversion
    from nfs_lib.worlds import World

OFFICIAL: dict[str, Any] = {"rule": "official", "stride": 4, "square": True, "planar": True, "segmented": True,
                            "blend_rgb": False}
"""The options of `TalkingHead` with which the official code runs; `anchors` come on top (see `portrait.anchors`)."""
SPLAY = math.radians(22)                              # how far --orbit turns the head to each side


class Layers(NamedTuple):
    """What Eq. 12 blends, each a feature map (1, c, r, r) and its RGB (1, 3, r, r): the deformed rays, and LipaintNet's latent
    with the mask of this one frame, (r, r) or, from the segmenter, (512, 512); None without LipaintNet."""

    deformed: tuple[Tensor, Tensor]
    inpainted: tuple[Tensor, Tensor] | None
    mask: Tensor | None


@dataclass
class TalkingHead:
    """A portrait that is ready to speak.

    world: the parts; inversion: the portrait's own generator, latents and pose; face: its fitted coefficients (batch of 1);
    model: the face model that they belong to, by default the world's. The other options are the paper's, each can be switched
    for an ablation; `OFFICIAL` holds what the official code does instead.
    """

    world: "World"
    inversion: "Inversion"
    face: Coefficients
    model: MorphableModel = None                      # type: ignore[assignment]  # set in __post_init__
    lipaint: bool = True                              # 4.4: inner mouth from another latent
    mask_frames: int = 7                              # n of Eq. 13
    rule: str = "paper"                               # Eq. 6, see true_motion.RULES; "official" ties matches to ray numbers
    stride: int = 1                                   # every vertex (4: as the official code)
    square: bool = False                              # True: vertices on the official code's fixed square
    anchors: Tensor | None = None                     # (A, 3) head frame: more to match with, that never moves
    planar: bool = False                              # True: without motion in depth, as the official code
    segmented: bool = False                           # True: M of Eq. 12 is what the segmenter calls mouth, blended at 512 px
    blend_rgb: bool = True                            # also blend the 32 × 32 RGB that the upsampler starts from
    _matched: dict = field(default_factory=dict, repr=False)
    _fine: dict = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.model = self.world.face_model if self.model is None else self.model
        self.chosen = face_vertices(self.model, self.stride)
        self.v_init = self.vertices(self.face.expression)
        self.masks = MaskMean(self.mask_frames)
        g = self.inversion.generator
        with torch.no_grad():                            # the background is the same in every frame
            self.behind = g.behind(*g.grid(), self.inversion.z_bg) if g.config.background else None

    def vertices(self, expression: Float[Tensor, "1 E"]) -> Float[Tensor, "V 3"]:
        """The portrait's 3DMM with another expression (Eq. 3), those vertices that take part in matching, head frame."""
        vertices = self.model.vertices(self.face.identity, expression)[0, self.chosen]
        vertices = on_official_square(vertices) if self.square else vertices
        return vertices if self.anchors is None else torch.cat([vertices, self.anchors])

    def samples(self, camera: Camera) -> Float[Tensor, "P 3"]:
        """The ray samples of a camera, (P, 3) head frame: 32 × 32 rays, sample index fastest, on each ray the fine samples,
        where the generator has such, after the coarse ones."""
        g, c = self.inversion.generator, self.inversion.generator.config
        direction, fine = pixel_directions(camera, *g.grid(), c.fov), self.fine(camera)
        depth = sample_depths(c.near, c.far, c.n_samples).expand(1, direction.shape[1], -1)
        if fine is not None:
            depth = torch.cat([depth, c.far * fine + c.near * (1 - fine)], -1)
        return nerf_to_head(camera.eye[:, None, None] + depth[..., None] * direction[:, :, None])[0].flatten(0, 1)

    @torch.no_grad()
    def fine(self, camera: Camera) -> Float[Tensor, "1 R m"] | None:
        """Where importance sampling puts the fine samples of a camera while the face is at rest; None where the generator has
        none. Remembered for the last camera."""
        if not self.inversion.generator.config.n_fine:
            return None
        found, key, g, inv = self._fine, seen_as(camera), self.inversion.generator, self.inversion
        if key not in found:
            found = self._fine = {key: g.features(g.broadcast(inv.w), inv.z_bg, camera, behind=self.behind).tau_fine}
        return found[key]

    def matched_from(self, camera: Camera) -> Camera:
        """The camera whose samples are matched: this one; by the official rule the frontal one, for any other."""
        return frontal() if self.rule == "official" else camera

    def match(self, camera: Camera, v_t: Float[Tensor, "V 3"]) -> Match:
        """Eq. 6 for all samples of this camera; remembered for the last camera, but for the rule "now", which looks among the
        vertices of time t."""
        if self.rule == "now":
            return match(self.samples(camera), v_t)
        camera = self.matched_from(camera)
        found, key = self._matched, seen_as(camera)
        if key not in found:
            rule = "paper" if self.rule == "official" else self.rule
            found = self._matched = {key: match(self.samples(camera), self.v_init, rule)}
        return found[key]

    @torch.no_grad()
    def deformed(self, beta: Float[Tensor, "1 E"], camera: Camera) -> tuple[Tensor, Tensor]:
        """The portrait with its rays deformed to expression β_t, seen by this camera (Eq. 6, 7)."""
        g, inv, v_t = self.inversion.generator, self.inversion, self.vertices(beta)
        delta = displacement(self.v_init, v_t, self.planar)                                       # ΔV_t
        move, fine = deform_nerf(self.match(camera, v_t), delta), self.fine(self.matched_from(camera))
        return g.features(g.broadcast(inv.w), inv.z_bg, camera, move, tau_fine=fine, behind=self.behind).maps()

    def inpainted(self, beta: Float[Tensor, "1 E"], camera: Camera) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The face of LipaintNet's latent, whose mouth fits β_t (Eq. 8), and where that mouth is (the M of Eq. 12)."""
        face = self.inpainted_rays(beta, camera, torch.arange(self.inversion.generator.config.ray_resolution**2)).maps()
        if self.segmented:
            return face, self.world.segmenter.mouth(self.upsampled(*face))[0]
        return face, self.mask(beta, camera)

    @torch.no_grad()
    def inpainted_rays(self, beta: Float[Tensor, "1 E"], camera: Camera, cells: Int[Tensor, "n"]) -> Rendered:
        """What the rays of these cells of the feature map see of LipaintNet's face (Eq. 8)."""
        g, inv = self.inversion.generator, self.inversion
        ws, w_exp, n = g.broadcast(inv.w), self.world.lipaint(inv.w, beta), g.config.n_nerf_ws
        ws = torch.cat([g.broadcast(w_exp)[:, :n], ws[:, n:]], 1)
        fine = self.fine(frontal()) if self.rule == "official" else None
        x, y = g.grid()
        return g.render_rays(ws, inv.z_bg, camera, x[:, cells], y[:, cells], tau_fine=None if fine is None else fine[:, cells],
                             behind=self.behind and (self.behind[0][:, cells], self.behind[1][:, cells]))

    def mask(self, beta: Float[Tensor, "1 E"], camera: Camera) -> Float[Tensor, "r r"]:
        """Where the 3DMM's mouth is in this frame (the M of Eq. 12)."""
        points = self.model.landmark_points(self.face.replace(expression=beta))[0]
        return mouth_mask(points, camera, self.inversion.generator.config.ray_resolution)

    def layers(self, beta: Float[Tensor, "1 E"], camera: Camera) -> Layers:
        """What a frame is blended from: the face with expression β_t, seen by this camera."""
        return Layers(self.deformed(beta, camera), *(self.inpainted(beta, camera) if self.lipaint else (None, None)))

    @torch.no_grad()
    def compose(self, layers: Layers) -> Float[Tensor, "3 H W"]:
        """The picture of one frame's layers (Eq. 12–14), the mask averaged with those of the frames before."""
        features, rgb = layers.deformed
        if layers.inpainted is not None and layers.mask is not None:
            mask = self.masks(layers.mask)                                                        # Eq. 13
            merge = blend_at if self.segmented else blend
            features = merge(features, layers.inpainted[0], mask)                                 # Eq. 12
            rgb = merge(rgb, layers.inpainted[1], mask) if self.blend_rgb else rgb
        return self.upsampled(features, rgb)[0].clamp(-1, 1)                                      # Eq. 14

    @torch.no_grad()
    def upsampled(self, features: Float[Tensor, "1 c r r"], rgb: Float[Tensor, "1 3 r r"]) -> Float[Tensor, "1 3 H W"]:
        """The picture of a feature map, painted in the portrait's own style (Eq. 14)."""
        g = self.inversion.generator
        return g.upsample(features, rgb, g.broadcast(self.inversion.w))

    @torch.no_grad()
    def picture(self, beta: Float[Tensor, "1 E"], camera: Camera, mask: Float[Tensor, "r r"]) -> Float[Tensor, "3 H W"]:
        """A frame with this mask, averaged already: what `compose` makes of `layers`, but LipaintNet's face is only rendered
        where the mask lets it through."""
        cells = torch.nonzero(mask.flatten())[:, 0]
        features, rgb = self.deformed(beta, camera)
        mouth = self.inpainted_rays(beta, camera, cells)
        for seen, inside in ((features, mouth.features), (rgb, mouth.rgb))[: 1 + self.blend_rgb]:
            flat = seen.flatten(2)
            flat[..., cells] = blend(flat[..., cells], inside.transpose(1, 2), mask.flatten()[cells])        # Eq. 12
        return self.upsampled(features, rgb)[0].clamp(-1, 1)

    def frame(self, beta: Float[Tensor, "1 E"], camera: Camera) -> Float[Tensor, "3 H W"]:
        """One picture: the face with expression β_t, seen by this camera."""
        if not self.lipaint or self.segmented:
            return self.compose(self.layers(beta, camera))
        return self.picture(beta, camera, self.masks(self.mask(beta, camera)))

    def frames(self, betas: Float[Tensor, "T E"], poses: Float[Tensor, "T 3"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """All pictures of a clip, 8 bit, one by one."""
        self.masks = MaskMean(self.mask_frames)
        keep_freed_memory()
        moments = ((beta[None], Camera.from_pose(pose[None])) for beta, pose in zip(betas, poses, strict=True))
        if not self.lipaint or self.segmented:
            pictures: Iterator[Tensor] = (self.frame(*moment) for moment in moments)
        else:                                            # all that frames share is the mask, so several can be made at once
            pictures = in_parallel(lambda moment: self.picture(*moment),
                                   ((beta, camera, self.masks(self.mask(beta, camera))) for beta, camera in moments))
        for picture in pictures:
            yield ((picture.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()


def seen_as(camera: Camera) -> tuple[float, ...]:
    """A camera as a key."""
    return tuple(camera.rotation.flatten().tolist())


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


def talk(image: str | Path, audio: str | Path | None, out: str | Path, *, world: str = "open", yaw: float | None = None,
         pitch: float | None = None, orbit: bool = False, poses: str | Path | None = None, drive: str | Path | None = None,
         lipaint: bool = True, momentum: float | None = None, scale: float = 1.5, mask_frames: int = 7, official: bool = False,
         profile: str = "full", seed: int = 0) -> Path:
    """`nfs talk`: portrait and speech files → mp4 with sound, 25 frames per second.

    yaw, pitch in radians. poses: a file or a video that says how the head turns (`driving.poses_from`); a short one is played
    back and forth. drive: a video whose face is copied: its expressions in place of those of the speech
    (`driving.expressions_from`), its length, its poses unless yaw, pitch, orbit or poses say otherwise, and its sound unless
    audio is given. momentum: of Eq. 4, 0.5 by default; of the driver's expressions, 0.2 by default. official: as the official
    code does it where that differs from the paper (`OFFICIAL`; a driver's expressions and poses are then taken as they are);
    paper world only.
    Raises BadInput, before anything slow is done, for files that can't be used; nothing half-written is left behind.
    """
    from nfs_lib import audio as sound
    from nfs_lib import audio2exp, driving, images, portrait, video, worlds
    from nfs_lib.portrait import stage

    path = video.check_output(out)
    turned = orbit or yaw is not None or pitch is not None
    if audio is None and drive is None:
        raise BadInput("nothing says what the head does; give speech (--audio), a video to copy (--drive), or both")
    if poses is not None and turned:
        raise BadInput("the poses file says how the head turns; leave out either it or yaw, pitch and orbit")
    if official and world != "paper":
        raise BadInput("only the paper world has all that the official code uses (its segmenter); give --world paper")
    begin = time.perf_counter()
    with stage("reading speech and portrait"):
        wave = None if audio is None else sound.load_speech(audio)
        picture = images.load_portrait(image)
    if poses is not None and Path(poses).suffix.lower() in (".csv", ".json"):
        driving.read_poses(poses)
    parts = worlds.load(world)
    with stage("finding and framing the face"):
        crop = portrait.framed(parts, picture, name=str(image))
    for note in crop.notes:
        print(note, file=sys.stderr)
    seen, whole = None, world == "paper"
    if drive is not None:
        with stage("watching the driver"):
            seen = driving.watch(drive, parts.read, None if whole else parts.face_model, whole=whole)
        wave = seen.sound if wave is None else wave
    if seen is None:
        assert wave is not None                       # one of the two was given
        heard = sound.mel_windows(wave)
    count = len(heard if seen is None else seen.poses)
    turns, fill, smoothing = None, *(("hold", 0.0) if official else ("bounce", 0.4))
    if poses is not None:
        with stage("reading the poses"):
            guide: Any = poses
            if Path(poses).suffix.lower() not in (".csv", ".json"):
                guide = driving.watch(poses, parts.read, None if whole else parts.face_model, most=count, whole=whole)
            turns = driving.poses_from(guide, count, fill=fill, momentum=smoothing)
    elif seen is not None and not turned:
        turns = driving.poses_from(seen, count, fill=fill, momentum=smoothing)
    ready = portrait.ready(parts, crop.image, profile=profile, seed=seed, official=official)
    own = ready.face.expression[0]
    if seen is not None:
        neutral, usual = ("none", 0.0) if official else ("rest", 0.2)
        betas = driving.expressions_from(seen, own, neutral, momentum=usual if momentum is None else momentum)
    else:
        with stage("speech to expressions"):
            betas = audio2exp.speech_to_expression(parts.audio2exp, heard, own, 0.5 if momentum is None else momentum, scale)
    options = OFFICIAL | {"anchors": portrait.anchors(parts, ready.inversion)} if official else {}
    head = TalkingHead(parts, ready.inversion, ready.face, ready.model, lipaint=lipaint, mask_frames=mask_frames, **options)
    if turns is None:
        turns = head_turn(ready.face.pose, count, yaw, pitch, orbit)
    with stage(f"{count} frames"):
        frames = head.frames(betas, turns)
        video.write_video(path, progress(frames, "frames", total=count), wave)
    print(f"{path}: {count / 25:.1f} s of video in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return path
