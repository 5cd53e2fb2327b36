"""Parity of the official face: the Basel Face Model, its making, ReconNet, the terms and stages of the fit."""

import re

import numpy as np
import torch
from torch import Tensor, nn

from nfs_lib.face import bfm as model
from nfs_lib.face import bfm_fitting as fitting
from nfs_lib.face.reconnet import ReconNet
from nfs_lib.official.bfm_originals import convert, read_mat
from nfs_lib.parity.golden import Compared, GoldenSet


def check_bfm(golden: GoldenSet) -> Compared:
    given, bfm = golden.golden, model.Bfm(read_mat(golden.folder / "BFM_model_front.mat"))
    for name, value in (*_picture(bfm, given), *_terms(bfm, given), *_stages(bfm, given)):
        if name in given:
            yield name, value


def _picture(bfm: model.Bfm, given: dict[str, Tensor]) -> Compared:
    """Deep3D's chain from coefficients to vertices' places and colours."""
    c = model.BfmCoefficients.from_vector(given["coeffs"], bfm.sizes)
    shape, texture, turned = bfm.shape(c.identity, c.expression), bfm.texture(c.texture), model.rotation(c.angles)
    points, normals = model.to_camera(shape @ turned + c.translation[:, None]), bfm.normals(shape)
    projected = model.project(points)
    yield from (("shape", shape), ("vertex_camera", points), ("texture", texture), ("normal", normals), ("rotation", turned))
    yield "color", bfm.colours(texture, normals @ turned, c.light)
    yield from (("landmarks", bfm.landmarks(c)), ("projection", projected))
    yield from (("camera_front", model.camera_matrix()), ("camera_posed", model.camera_matrix(turned)))
    for name in given:
        if every := re.fullmatch(r"plane_every(\d+)\w+", name):
            yield name, model.plane(projected, int(every[1]))


def _terms(bfm: model.Bfm, given: dict[str, Tensor]) -> Compared:
    """3DMM-Fitting's variants for the first row of the coefficients, and its losses."""
    c = model.BfmCoefficients.from_vector(given["coeffs"][:1], bfm.sizes)
    shape, texture = bfm.shape(c.identity, c.expression), bfm.texture(c.texture)
    normals, landmarks = bfm.normals(shape, by_area=True), fitting.rows_down(bfm.landmarks(c))
    yield from (("fit_landmarks", landmarks), ("fit_texture255", 255 * texture), ("fit_normal", normals))
    yield "fit_color255", 255 * bfm.colours(texture, normals @ model.rotation(c.angles), c.light)
    yield "fit_lm_weights", fitting.landmark_weights()
    yield "fit_reflectance_loss", fitting.reflectance_loss(255 * texture, bfm.skin)[None]
    if "fit_target" in given:
        yield "fit_lm_loss", fitting.landmark_loss(landmarks, given["fit_target"])[None]
    if "photo_mask" in given:
        mask = given["photo_mask"].bool()
        yield "photo_loss", fitting.photometric_loss(given["photo_a"][mask], given["photo_b"][mask])[None]


def _stages(bfm: model.Bfm, given: dict[str, Tensor]) -> Compared:
    """Both stages from zero; how many steps, the names and sizes of the tensors say."""
    if "fit_target" not in given:
        return
    target = given["fit_target"][0]
    for name, values in given.items():
        if every := re.fullmatch(r"fit_rigid_loss_every(\d+)", name):
            steps = int(every[1]) * len(values)
            c, losses = fitting.fit_rigid(bfm, fitting.start(bfm), target, steps)
            yield name, torch.tensor(losses[:: int(every[1])]) / fitting.LANDMARKS
            yield from (("fit_rigid_angles", c.angles), ("fit_rigid_trans", c.translation))
            yield "fit_rigid_final_loss", torch.tensor(losses[-1:]) / fitting.LANDMARKS
    if (curve := given.get("fit_nonrigid_loss_curve")) is not None:
        c, losses = fitting.fit_nonrigid(bfm, fitting.start(bfm), target, steps=len(curve))
        yield "fit_nonrigid_loss_curve", torch.tensor(losses)
        prefix = f"fit_nonrigid{len(curve)}_"
        yield from ((prefix + "id", c.identity), (prefix + "exp", c.expression))
        yield prefix + "landmarks", fitting.rows_down(bfm.landmarks(c))


def check_bfm_convert(golden: GoldenSet) -> Compared:
    ours, theirs = convert(golden.folder), read_mat(golden.folder / golden.entry["files"]["out"])
    golden.golden.update({name: torch.from_numpy(value.astype(np.float64)) for name, value in theirs.items()})
    for name in theirs:
        yield name, ours.get(name, np.zeros(0))


def check_reconnet(golden: GoldenSet) -> Compared:
    given, net = golden.golden, ReconNet()
    golden.fill(net)
    (small,) = (value for name, value in given.items() if name.startswith("image_u8"))
    faces = nn.functional.interpolate(small / 255, (model.SIDE, model.SIDE), mode="nearest")
    with torch.no_grad():
        yield "out", net(faces)
        pooled = net.pooled(faces)
    for name in given:
        if first := re.fullmatch(r"pooled_first(\d+)", name):
            yield name, pooled[:, : int(first[1])]
