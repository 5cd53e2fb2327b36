"""Parity of the metrics: SyncNet, Inception and FID, ArcFace, CPBD, alignment."""

import numpy as np
import torch
from torch import nn

from nfs_lib.parity.golden import Compared, GoldenSet


def check_syncnet(golden: GoldenSet) -> Compared:
    from nfs_lib.metrics.sync import distances, lse
    from nfs_lib.metrics.syncnet import SyncNet

    given, model = golden.golden, SyncNet()
    golden.fill(model)
    pictures = given["frames_u8_14x14"].float().repeat_interleave(16, -1).repeat_interleave(16, -2)
    with torch.no_grad():
        yield "lip_embedding", model.see(pictures)[:, 0]
        yield "audio_embedding", model.hear(given["mfcc_windows"])
    lips, sound = given["lip_features_f16"].float(), given["audio_features_f16"].float()
    each, score = distances(lips, sound), lse(lips, sound)
    yield "distance_rows_first3_last2", torch.cat([each[:3], each[-2:]])
    yield "mean_distance", each.mean(0)
    for name, value in zip(("lse_d", "lse_c", "offset"), score, strict=True):
        yield name, torch.tensor([value])


def check_fid(golden: GoldenSet) -> Compared:
    from nfs_lib.metrics.fid import fid
    from nfs_lib.metrics.inception import Inception

    given, model = golden.golden, Inception()
    golden.fill(model)
    with torch.no_grad():
        pictures = nn.functional.interpolate(given["image_u8_9x9"] / 127.5 - 1, (128, 128), mode="nearest")
        yield "features", model(pictures)
    yield "fid", torch.tensor([fid(given["real"], given["fake"])]).double()
    yield "fid_first10_of_real", torch.tensor([fid(given["real"][:10], given["fake"])]).double()


def check_csim(golden: GoldenSet) -> Compared:
    from nfs_lib.metrics.arcface import ArcFace

    given, model = golden.golden, ArcFace(50)
    golden.fill(model)
    with torch.no_grad():
        vectors = model(nn.functional.interpolate(given["image_u8_8x8"] / 127.5 - 1, (112, 112), mode="nearest"))
    yield "embedding", vectors
    yield "cosine", nn.functional.cosine_similarity(vectors[:1], vectors[1:])


def check_cpbd(golden: GoldenSet) -> Compared:
    from PIL import Image
    from skimage.data import camera
    from skimage.feature import canny

    from nfs_lib.metrics.cpbd import all_widths, cpbd, sobel_edges

    for name in ("sharp", "blur1", "blur2", "skimage"):
        picture = camera() if name == "skimage" else np.array(Image.open(golden.folder / f"{name}.png"))
        grey = picture.astype(np.float64)
        widths = all_widths(grey)
        yield name, np.array([cpbd(picture)])
        counts = (canny(grey), sobel_edges(grey), widths > 0, widths)
        yield f"{name}_stats", np.array([count.sum() for count in counts])
        yield f"{name}_width_histogram", np.bincount(widths[widths > 0], minlength=60)[:60]


def check_align(golden: GoldenSet) -> Compared:
    from PIL import Image

    from nfs_lib.face.align import align, five_points
    from nfs_lib.metrics.arcface import alignment

    given, crops = {k: v.numpy() for k, v in golden.golden.items()}, []
    for (wide, high), landmarks in zip(given["size_wh"], given["landmarks68_y_up"], strict=True):
        y, x = np.mgrid[:high, :wide]
        picture = np.stack([127 + 120 * np.sin(x / 17), 127 + 120 * np.cos(y / 23), (x + y) % 256], -1).astype(np.uint8)
        crops.append(align(Image.fromarray(picture), landmarks))
    fives = [five_points(crop.landmarks) * (1, -1) + (0, 223) for crop in crops]  # y down
    yield "five", five_points(given["landmarks68_y_up"])
    yield "transform", np.array([crop.transform for crop in crops])
    yield "resize_w_h_left_up", np.array([crop.box for crop in crops])
    yield "landmarks_new", np.stack([crop.landmarks for crop in crops])
    yield "arcface_matrix", np.stack([alignment(five) for five in fives])
    golden.golden["crop0"] = torch.from_numpy(np.array(Image.open(golden.folder / "crop0.png")))
    yield "crop0", np.array(crops[0].image)
