"""A portrait that is ready to speak: from an expression and a camera to a picture (Eq. 6–14)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from nfs_lib.alignment import Match, face_vertices, match, on_official_square
from nfs_lib.blending import MaskMean, blend, blend_at, mouth_mask
from nfs_lib.camera import Camera, frontal, nerf_to_head, pixel_directions, sample_depths
from nfs_lib.checks import check_array
from nfs_lib.cpu import keep_freed_memory
from nfs_lib.deformation import displacement, moved_by
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.stylenerf.generator import Deform, Rendered

if TYPE_CHECKING:
    from nfs_lib.inversion import Inversion
    from nfs_lib.worlds import World

OFFICIAL: dict[str, Any] = {"rule": "official", "stride": 4, "square": True, "planar": True, "segmented": True,
                            "blend_rgb": False}
"""The options of `TalkingHead` with which the official code runs; `anchors` come on top (see `portrait.anchors`)."""
TOGETHER = 4                                          # frames that are rendered at a time
UNMOVED = 1e-6                                        # head units: less than that changes no picture


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
    model: the face model that they belong to, by default the world's. Pictures are made where the generator is, which
    is where the world is; expressions, cameras, vertices, matches and the 3DMM's masks are on the CPU. The other options are
    the paper's, each can be switched for an ablation; `OFFICIAL` holds what the official code does instead.
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
    _matched: dict = field(default_factory=dict, init=False, repr=False)
    _fine: dict = field(default_factory=dict, init=False, repr=False)
    _rest: dict = field(default_factory=dict, init=False, repr=False)

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
        x, y = (u.to(camera.rotation) for u in g.grid())
        direction, fine = pixel_directions(camera, x, y, c.fov), self.fine(camera)
        depth = sample_depths(c.near, c.far, c.n_samples).expand(1, direction.shape[1], -1)
        if fine is not None:
            depth = torch.cat([depth, (c.far * fine + c.near * (1 - fine)).to(depth)], -1)
        return nerf_to_head(camera.eye[:, None, None] + depth[..., None] * direction[:, :, None])[0].flatten(0, 1)

    @torch.no_grad()
    def fine(self, camera: Camera) -> Float[Tensor, "1 R m"] | None:
        """Where importance sampling puts the fine samples of a camera while the face is at rest; None where the generator has
        none. Remembered for the last camera."""
        if not self.inversion.generator.config.n_fine:
            return None
        found, key, g, inv = self._fine, seen_as(camera), self.inversion.generator, self.inversion
        if key not in found:
            seen = g.features(g.broadcast(inv.w), inv.z_bg, camera.to(g.there), behind=self.behind)
            found = self._fine = {key: seen.tau_fine}
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
    def deformed(self, beta: Float[Tensor, "B E"], camera: Camera) -> tuple[Tensor, Tensor]:
        """The portrait with its rays deformed to expressions β_t, each seen by its camera (Eq. 6, 7).

        While the camera stays where it was, a ray none of whose samples moves sees what it saw of the face at rest.
        """
        g, inv, moves, fine = self.inversion.generator, self.inversion, [], []
        for b, view in zip(beta.split(1), each(camera), strict=True):
            v_t = self.vertices(b)
            delta = displacement(self.v_init, v_t, self.planar)                                   # ΔV_t
            moves.append(self.match(view, v_t).gather(delta))
            fine.append(self.fine(self.matched_from(view)))
        move, rest = torch.stack(moves), self.rest(camera)
        tau_fine = None if fine[0] is None else torch.cat(fine)                                   # type: ignore[arg-type]
        if rest is None:
            return g.features(g.broadcast(inv.w), inv.z_bg, camera.to(g.there), moved_by(move.to(g.there)), tau_fine=tau_fine,
                              behind=self.behind).maps()
        move = move.unflatten(1, (g.config.ray_resolution**2, -1))
        cells = torch.nonzero((move.abs() > UNMOVED).flatten(2).any(2).any(0))[:, 0]
        seen = self.rays(cells, camera, g.broadcast(inv.w), moved_by(move[:, cells].flatten(1, 2).to(g.there)), tau_fine)
        return into(rest[0], cells, seen.features), into(rest[1], cells, seen.rgb)

    def rest(self, camera: Camera) -> tuple[Tensor, Tensor] | None:
        """The maps of the face at rest, if all these cameras are the one that was asked for last time; else None."""
        g, inv, views = self.inversion.generator, self.inversion, each(camera)
        keys = {seen_as(view) for view in views}
        if keys != set(self._rest):
            self._rest = {} if len(keys) > 1 else dict.fromkeys(keys)        # a camera's first time: it may not come again
            return None
        (key,) = keys
        if self._rest[key] is None:
            fine = self.fine(self.matched_from(views[0]))
            self._rest[key] = g.features(g.broadcast(inv.w), inv.z_bg, views[0].to(g.there), tau_fine=fine,
                                         behind=self.behind).maps()
        features, rgb = self._rest[key]
        return features.repeat(len(views), 1, 1, 1), rgb.repeat(len(views), 1, 1, 1)

    def rays(self, cells: Int[Tensor, "n"], camera: Camera, ws: Float[Tensor, "#B L w"], deform: Deform | None = None,
             tau_fine: Float[Tensor, "B R m"] | None = None) -> Rendered:
        """What the rays of these cells of the feature map see."""
        g, behind = self.inversion.generator, self.behind and (self.behind[0][:, cells], self.behind[1][:, cells])
        x, y = g.grid()
        return g.render_rays(ws, self.inversion.z_bg, camera.to(g.there), x[:, cells], y[:, cells], deform,
                             tau_fine=None if tau_fine is None else tau_fine[:, cells], behind=behind)

    def inpainted(self, beta: Float[Tensor, "1 E"], camera: Camera) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The face of LipaintNet's latent, whose mouth fits β_t (Eq. 8), and where that mouth is (the M of Eq. 12)."""
        face = self.inpainted_rays(beta, camera, torch.arange(self.inversion.generator.config.ray_resolution**2)).maps()
        if self.segmented:
            return face, self.world.segmenter.mouth(self.upsampled(*face))[0]
        return face, self.mask(beta, camera)

    @torch.no_grad()
    def inpainted_rays(self, beta: Float[Tensor, "B E"], camera: Camera, cells: Int[Tensor, "n"]) -> Rendered:
        """What the rays of these cells of the feature map see of LipaintNet's face (Eq. 8)."""
        g, w, n = self.inversion.generator, self.inversion.w.expand(len(beta), -1), self.inversion.generator.config.n_nerf_ws
        ws = torch.cat([g.broadcast(self.world.lipaint(w, beta.to(w)))[:, :n], g.broadcast(w)[:, n:]], 1)
        fine = self.fine(frontal()) if self.rule == "official" else None
        return self.rays(cells, camera, ws, tau_fine=None if fine is None else fine.expand(len(beta), -1, -1))

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
            mask = self.masks(layers.mask).to(features)                                           # Eq. 13
            merge = blend_at if self.segmented else blend
            features = merge(features, layers.inpainted[0], mask)                                 # Eq. 12
            rgb = merge(rgb, layers.inpainted[1], mask) if self.blend_rgb else rgb
        return self.upsampled(features, rgb)[0]                                                   # Eq. 14

    @torch.no_grad()
    def upsampled(self, features: Float[Tensor, "B c r r"], rgb: Float[Tensor, "B 3 r r"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures of feature maps, painted in the portrait's own style (Eq. 14), within [−1, 1]."""
        g = self.inversion.generator
        return g.upsample(features, rgb, g.broadcast(self.inversion.w)).clamp_(-1, 1)

    @torch.no_grad()
    def pictures(self, beta: Float[Tensor, "B E"], camera: Camera, mask: Float[Tensor, "B r r"]) -> Float[Tensor, "B 3 H W"]:
        """Frames with these masks, averaged already: what `compose` makes of `layers`, but LipaintNet's face is only rendered
        where a mask lets it through."""
        mask, cells = mask.flatten(1)[:, None], torch.nonzero(mask.amax(0).flatten())[:, 0]
        features, rgb = self.deformed(beta, camera)
        mouth, share = self.inpainted_rays(beta, camera, cells), mask[..., cells].mT.to(features)
        for seen, inside in ((features, mouth.features), (rgb, mouth.rgb))[: 1 + self.blend_rgb]:
            into(seen, cells, blend(seen.flatten(2)[..., cells].mT, inside, share))                         # Eq. 12
        return self.upsampled(features, rgb)

    def frame(self, beta: Float[Tensor, "1 E"], camera: Camera) -> Float[Tensor, "3 H W"]:
        """One picture: the face with expression β_t, seen by this camera."""
        if not self.lipaint or self.segmented:
            return self.compose(self.layers(beta, camera))
        return self.pictures(beta, camera, self.masks(self.mask(beta, camera))[None])[0]

    def frames(self, betas: Float[Tensor, "T E"], poses: Float[Tensor, "T 3"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """All pictures of a clip, 8 bit, one by one. As all that frames share is the mask, small ones are made several at a
        time: two cores wait less for each other. Raises BadInput for expressions and poses that aren't those of one clip."""
        check_array(betas, "the expressions of a clip", "torch.float32", "T", self.face.expression.shape[1])
        check_array(poses, "the poses of a clip (radians)", "torch.float32", len(betas), 3, limit=math.pi)
        self.masks, self._rest = MaskMean(self.mask_frames), {}  # a second clip is drawn as the first was, to the last bit
        keep_freed_memory()
        several = TOGETHER if self.lipaint and not self.segmented and self.inversion.generator.config.resolution <= 256 else 1
        for beta, pose in zip(betas.split(several), poses.split(several), strict=True):
            camera = Camera.from_pose(pose)
            if several == 1:
                pictures = self.frame(beta, camera)[None]
            else:
                masks = [self.masks(self.mask(b, view)) for b, view in zip(beta.split(1), each(camera), strict=True)]
                pictures = self.pictures(beta, camera, torch.stack(masks))
            yield from ((pictures.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().cpu().numpy()


def into(maps: Float[Tensor, "B c r r"], cells: Int[Tensor, "n"], values: Float[Tensor, "B n c"]) -> Float[Tensor, "B c r r"]:
    """Put values into these cells of the maps, which are changed and returned."""
    maps.flatten(2)[..., cells] = values.mT
    return maps


def each(camera: Camera) -> list[Camera]:
    """B cameras as B of one."""
    return [Camera(r) for r in camera.rotation.split(1)]


def seen_as(camera: Camera) -> tuple[float, ...]:
    """A camera as a key."""
    return tuple(camera.rotation.flatten().tolist())
