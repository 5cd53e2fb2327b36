"""What the kit computes for each tensor of a StyleNeRF golden set: mapping, cameras, pictures and what happens along their
rays, NeRFFaceSpeech's deformation and blending, the regulariser, LipaintNet, the discriminator."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nfs_lib.alignment import match
from nfs_lib.blending import bicubic, blend_at
from nfs_lib.camera import Camera, frontal
from nfs_lib.errors import BadInput
from nfs_lib.lipaint import LipaintNet
from nfs_lib.stylenerf import Discriminator, Generator, official
from nfs_lib.stylenerf import official_cameras as cameras
from nfs_lib.stylenerf.field import inverted_sphere
from nfs_lib.stylenerf.regulariser import path_loss, pixel_places, sample_features
from nfs_lib.stylenerf.rendering import ray_weights

TIE = 1e-6                             # two vertices at distances that differ by less: either may be the nearest
ODD_RAYS, ODD_PLACE = 0.01, 3e-5       # the share of rays whose importance samples may be elsewhere, by more than this

Values = Iterator[tuple[str, Tensor]]


@dataclass
class Set:
    """The files of one set, and the kit's networks made from them."""

    home: Path
    name: str

    def read(self, part: str, needed: bool = True) -> dict[str, Tensor]:
        """The tensors of a file; none if it isn't there and isn't needed, BadInput if it is."""
        from safetensors.torch import load_file

        path = self.home / f"{self.name}_{part}.safetensors"
        if needed and not path.exists():
            raise BadInput(f"{path} isn't there; a golden set needs it beside {self.name}_config.json")
        return load_file(path) if path.exists() else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        return json.loads((self.home / f"{self.name}_config.json").read_text())

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return self.read("inputs")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        return self.read("outputs")

    @cached_property
    def generator(self) -> Generator:
        config, tensors = official.convert_generator(self.config["G"], self.read("G"))
        generator = Generator(config)
        generator.load_state_dict(tensors)
        return generator.eval()

    @cached_property
    def ws(self) -> Tensor:
        return self.generator.broadcast(self.generator.mapping(self.inputs["z"]))

    @cached_property
    def pose(self) -> Camera:
        return cameras.camera_from_rotation(self.inputs["rot_deep3d"])


def values(given: Set) -> Values:
    """The kit's value for each output's name."""
    yield from mapping_and_cameras(given)
    yield from pictures(given)
    yield from judgements(given)
    if "proj_ref_224" in given.inputs:
        yield from deformed_pictures(given)
    if "reg.rand_indexs" in given.inputs:
        yield from regularised(given)
    if "lip.beta" in given.inputs:
        yield "lip.w_out", lipaint(given)(given.ws[:, 0].expand(len(given.inputs["lip.beta"]), -1), given.inputs["lip.beta"])


def mapping_and_cameras(given: Set) -> Values:
    yield "ws", given.ws
    for name in given.outputs:
        if parts := re.fullmatch(r"ws_psi(\d)(\d+)(?:_cut(\d+))?", name):        # psi07: 0.7
            cutoff = int(parts[3]) if parts[3] else None
            yield name, given.generator.mapping.truncate(given.ws, float(f"{parts[1]}.{parts[2]}"), cutoff)
    yield "camera_K", cameras.inverse_intrinsics(given.generator.config)
    for name, camera in (("modes", cameras.camera_from_mode), ("gauss_uv", cameras.camera_from_uv)):
        if f"camera_{name}" in given.inputs:
            yield (f"camera_RT_from_{name}",
                   cameras.world_from_camera(camera(given.inputs[f"camera_{name}"], given.config["G"])))
    yield "RT_front", cameras.world_from_camera(frontal())
    yield "RT_pose", cameras.world_from_camera(given.pose)


def pictures(given: Set) -> Values:
    """The cases without deformation."""
    front, pose, own = frontal(), given.pose, given.ws[:1]
    yield from picture(given, "front", front, own)
    yield from picture(given, "pose", pose, own)
    yield from picture(given, "front_nofreeze", front, own, background=front, sampled_as="front")
    if "ws_plus" in given.inputs:
        yield from picture(given, "front_wplus", front, given.inputs["ws_plus"])


def picture(given: Set, case: str, camera: Camera, ws: Tensor, deform: Callable[[Tensor], Tensor] | None = None,
            tau_fine: Tensor | None = None, background: Camera | None = None, sampled_as: str | None = None) -> Values:
    """Map, low-resolution RGB and image of a case, and what happens along its rays.

    Where coarse samples weigh nothing, rounding decides where the fine ones go. If that happens on a few rays (`ODD_RAYS`),
    the case is rendered with the recorded places on these; on the others both must agree. sampled_as: the case that recorded
    them, if it isn't this one.
    """
    g, z_bg = given.generator, given.inputs.get("z_shape_bg", torch.zeros(1, 0))
    rendered = g.features(ws, z_bg, camera, deform, tau_fine, background)
    rays, ours = given.inputs["ray_subset"], rendered.tau_fine
    recorded = given.outputs.get(f"{sampled_as or case}.di_fine")
    if ours is not None and recorded is not None:
        stored = torch.arange(ours.shape[1]) if recorded.shape[1] == ours.shape[1] else rays
        theirs = ours.index_copy(1, stored, recorded)
        odd = (ours - theirs).abs().amax(-1, keepdim=True) > ODD_PLACE
        if odd.any() and odd.double().mean() <= ODD_RAYS:
            ours = torch.where(odd, theirs, ours)
            rendered = g.features(ws, z_bg, camera, deform, ours, background)
        yield f"{case}.di_fine", ours[:, stored]
        tau_fine = theirs
    features, rgb = rendered.maps()
    yield f"{case}.feat", features
    yield f"{case}.img_nerf", rgb
    yield f"{case}.img", g.upsample(features, rgb, ws)
    if f"{case}.p_i" in given.outputs:
        for name, value in along_rays(g, ws, z_bg, camera, deform, tau_fine, background).items():
            yield f"{case}.{name}", value if name == "bg_di" else value[:, rays]


def along_rays(g: Generator, ws: Tensor, z_bg: Tensor, camera: Camera, deform: Callable[[Tensor], Tensor] | None,
               tau_fine: Tensor | None, background: Camera | None) -> dict[str, Tensor]:
    """What the official renderer keeps of every ray of the grid, in its axes: points, densities, features, weights."""
    c, seen, (x, y) = g.config, [], g.grid()

    def watched(points: Tensor) -> Tensor:
        seen.append(points if deform is None else deform(points))
        return seen[-1]

    samples = g.march(ws, camera, x, y, watched, tau_fine=tau_fine)
    weights, transmittance = ray_weights(samples.sigma, samples.depth, samples.length, wall=not c.background)
    tau = (samples.depth - c.near) / (c.far - c.near)
    rays = x.shape[1]
    found = {"depth_coarse": torch.linspace(c.near, c.far, c.n_samples).expand(1, rays, -1), "di_all": tau,
             "depth_all": samples.depth, "fg_weights": weights, "bg_lambda": transmittance}
    points = torch.cat([group.view(1, rays, -1, 3) for group in seen], 2)
    parts = [points] if points.shape[2] == c.n_samples else points.split([c.n_samples, points.shape[2] - c.n_samples], 2)
    for name, kind, part in zip(("p_i", "p_f"), ("coarse", "fine"), parts, strict=False):
        raw, hidden = g.foreground.raw(part.reshape(1, -1, 3), ws)
        rgb, features = g.foreground.head(hidden, torch.ones_like(raw), ws)
        found |= {name: part[..., cameras.BACK], f"sigma_raw_{kind}": raw.view(1, rays, -1, 1),
                  f"feat_{kind}": torch.cat([rgb, features], -1).view(1, rays, part.shape[2], -1)}
    found["fg_feat"] = (weights[..., None] * torch.cat(sample_features(g, samples, ws), -1)).sum(2)
    if c.background:
        depth = g.background.depth()
        origin, direction = g.background_rays(x, y, 1, background)
        points = inverted_sphere(origin, direction, -depth)
        behind, hidden = g.background.march(points, z_bg)
        features = torch.cat(g.background.head(hidden), -1)
        found |= {"bg_di": depth[None, None], "bg_points": points[..., [*cameras.BACK, 3]], "bg_weights": behind,
                  "bg_feat_samples": features,
                  "bg_feat_times_lambda": transmittance[..., None] * (behind[..., None] * features).sum(2)}
    return found


# NeRFFaceSpeech: ray deformation, inpainting, blending


def deformed_pictures(given: Set) -> Values:
    """The cases in which samples follow the face's vertices."""
    reference, predicted = (anchors(given, given.inputs[f"proj_{kind}_224"]) for kind in ("ref", "pred"))
    yield "ref_vertices", reference
    yield "pred_vertices", predicted
    move = torch.nn.functional.pad((reference - predicted)[0], (0, 1))         # the image plane's two axes; none in depth
    ws, front, pose = given.ws[:1], frontal(), given.pose
    tau_fine = given.outputs.get("front.di_fine")
    if tau_fine is None or tau_fine.shape[1] != given.generator.config.ray_resolution ** 2:
        tau_fine = given.generator.features(ws, given.inputs["z_shape_bg"], front).tau_fine
    index, gap = nearest(sample_points(given.generator, ws, front, tau_fine), reference)
    n, rays = given.generator.config.n_samples, given.generator.config.ray_resolution ** 2
    for name, part in (("", slice(0, n)), ("_f", slice(n, None))):
        flat = [value.view(1, rays, -1)[..., part].flatten(1) for value in (index, gap)]
        theirs = given.outputs.get(f"nearest_indices{name}", flat[0])
        flat[0] = torch.where(flat[1] > TIE, flat[0], theirs)
        index.view(1, rays, -1)[..., part] = flat[0].view(1, rays, -1)
        yield f"nearest_indices{name}", flat[0]
        yield f"nearest_gap{name}", flat[1]

    def cached(points: Tensor) -> Tensor:
        return points + move[index]

    yield from picture(given, "deform_front", front, ws, cached, tau_fine)
    yield from picture(given, "deform_pose", pose, ws, cached, tau_fine)
    live: list[Tensor] = []

    def matched_anew(points: Tensor) -> Tensor:
        index, gap = nearest(points, reference)
        theirs = given.outputs.get("deform_pose_live.nearest_indices", index)
        live.append(torch.where(gap > TIE, index, theirs) if not live else index)
        return points + move[live[-1]]

    yield from picture(given, "deform_pose_live", pose, ws, matched_anew)
    yield "deform_pose_live.nearest_indices", live[0]
    yield from inpainted_pictures(given, cached, tau_fine)


def inpainted_pictures(given: Set, cached: Callable[[Tensor], Tensor], tau_fine: Tensor | None) -> Values:
    """The mouth from other styles, and its blend with the deformed map."""
    if "ws_inpaint" not in given.inputs:
        return
    g, z_bg, ws = given.generator, given.inputs["z_shape_bg"], given.ws[:1]
    inpainted = g.features(given.inputs["ws_inpaint"], z_bg, given.pose, tau_fine=tau_fine)
    yield from picture(given, "inpaint", given.pose, given.inputs["ws_inpaint"], tau_fine=tau_fine)
    if "mask_params" in given.inputs:
        size = 512
        outside = torch.stack([ellipse(size, *row) for row in given.inputs["mask_params"]]).mean(0)
        first = int(bicubic(size, g.config.ray_resolution)[0].nonzero()[0])
        step = size // g.config.ray_resolution
        yield "mask_mean", outside.mean()[None]
        yield "mask_at_taps", outside[None, None, first::step, first::step]
        features, rgb = g.features(ws, z_bg, given.pose, cached, tau_fine).maps()
        blended = blend_at(features, inpainted.maps()[0], 1 - outside)
        yield "blend_pose.feat", blended
        yield "blend_pose.img", g.upsample(blended, rgb, ws)


def sample_points(g: Generator, ws: Tensor, camera: Camera, tau_fine: Tensor | None) -> Tensor:
    """The grid's sample points (1, P, 3), on each ray the coarse ones first."""
    seen: list[Tensor] = []

    def watched(points: Tensor) -> Tensor:
        seen.append(points)
        return points

    g.march(ws, camera, *g.grid(), watched, tau_fine=tau_fine)
    return seen[0]


def anchors(given: Set, projected: Tensor) -> Tensor:
    """Vertices (1, V, 2) of the 224-pixel picture, y up, and the torso's pixels of the 512-pixel one, y down → the square ±0.1
    of the NeRF frame's x, y."""
    torso = given.inputs.get("torso_xy_512", torch.zeros(0, 2)) / 512 * 0.2 - 0.1
    return torch.cat([projected / 224 * 0.2 - 0.1, (torso * torch.tensor([1.0, -1.0]))[None]], 1)


def nearest(points: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Points (1, P, 3), anchors (1, V, 2) → the nearest anchor on the image plane (1, P), and by how much the second nearest is
    farther away."""
    pair = match(points[0], torch.nn.functional.pad(anchors[0], (0, 1)), "k-nearest", k=2).index
    distance = (points[0, :, None, :2].double() - anchors[0][pair].double()).norm(dim=-1)
    return pair[None, :, 0], (distance[:, 1] - distance[:, 0])[None].float()


def ellipse(size: int, cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor) -> Tensor:
    """1 outside an ellipse, 0 inside; pixel centres at whole numbers."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((column - cx) / rx) ** 2 + ((row - cy) / ry) ** 2 > 1).float()


# what else the set holds


def regularised(given: Set) -> Values:
    g, ws, z_bg, pixels = given.generator, given.ws[:1], given.inputs["z_shape_bg"], given.inputs["reg.rand_indexs"]
    yield "reg.rand_pixels", torch.stack(pixel_places(g, pixels), -1)
    yield "reg.reg_loss", path_loss(g, g(ws, z_bg, frontal()), ws, z_bg, frontal(), pixels)


def lipaint(given: Set) -> LipaintNet:
    weights = given.read("lipaint")
    hidden, n_in = weights["fc1.weight"].shape
    w_dim = weights["fc4.weight"].shape[0]
    model = LipaintNet(w_dim, n_in - w_dim, hidden)
    model.load_state_dict(weights)
    return model.eval()


def judgements(given: Set) -> Values:
    """The discriminator on the recorded pictures."""
    pictures = [given.outputs[f"{case}.img"] for case in ("front", "pose") if f"{case}.img" in given.outputs]
    if not given.read("D", needed=False) or len(pictures) < 2:
        return
    arguments, tensors = official.convert_discriminator(given.config["D"], given.read("D"))
    discriminator = Discriminator(**arguments)
    discriminator.load_state_dict(tensors)
    yield "d_logits", discriminator(torch.cat(pictures))
    yield "d_logits_b1", discriminator(pictures[0])
