"""The paper's networks for the metrics, and what they are given: names of their tensors, aligned faces, the backend's crops.

Their numbers against the official code's: test_parity. Real weights aren't part of the repository.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nfs_lib import checkpoints, portraits, worlds
from nfs_lib.cropping import expected_box
from nfs_lib.errors import BadInput, MissingWeights
from nfs_lib.face.align import STANDARD, align, five_points, scale_and_centre
from nfs_lib.metrics import csim, load_backend, photo
from nfs_lib.metrics.arcface import TEMPLATE, ArcFace, aligned, alignment
from nfs_lib.metrics.inception import Inception
from nfs_lib.metrics.syncnet import SyncNet, cut
from nfs_lib.parity.golden import fill_by_rule


@pytest.mark.parametrize(("layers", "blocks", "millions"), [(18, (2, 2, 2, 2), 24.03), (50, (3, 4, 14, 3), 43.59),
                                                            (100, (3, 13, 30, 3), 65.16)])
def test_arcface_has_insightfaces_names(layers, blocks, millions):
    with torch.device("meta"):
        state = ArcFace(layers).state_dict()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "prelu.weight", "fc.weight", "fc.bias"}
    expected |= {f"{name}.{part}" for name in ("bn1", "bn2", "features") for part in norm}
    for stage, count in enumerate(blocks, 1):
        for i in range(count):
            block = f"layer{stage}.{i}."
            expected |= {block + name for name in ("conv1.weight", "prelu.weight", "conv2.weight")}
            expected |= {f"{block}bn{k}.{part}" for k in (1, 2, 3) for part in norm}
            if i == 0:
                expected |= {block + "downsample.0.weight", *(f"{block}downsample.1.{part}" for part in norm)}
    assert state.keys() == expected
    learned = [v.numel() for k, v in state.items() if not k.endswith(("running_mean", "running_var", "tracked"))]
    assert sum(learned) / 1e6 == pytest.approx(millions, abs=0.01)


def test_syncnet_and_inception_have_the_official_names():
    with torch.device("meta"):
        sync, inception = SyncNet().state_dict(), Inception().state_dict()
    places = {(part, name.split(".")[1]) for name in sync for part in [name.split(".")[0]]}
    numbers = {"0", "1", "4", "5", "8", "9", "11", "12", "14", "15", "18", "19"}
    assert places == {(part, n) for part in ("netcnnaud", "netcnnlip") for n in numbers} | {
        (part, n) for part in ("netfcaud", "netfclip") for n in ("0", "1", "3")}
    assert sync["netcnnlip.0.weight"].shape == (96, 3, 5, 7, 7) and sync["netfcaud.3.weight"].shape == (1024, 512)
    blocks = {name.split(".")[0] for name in inception}
    assert blocks == {"Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "fc",
                      *(f"Mixed_{n}" for n in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))}
    assert inception["Mixed_7b.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert inception["Mixed_6c.branch7x7dbl_4.conv.weight"].shape == (160, 160, 7, 1)
    assert inception["Mixed_6a.branch3x3.conv.weight"].shape == (384, 288, 3, 3) and inception["fc.bias"].shape == (1008,)


# faces where a network expects them


def test_standard_face_is_deep3ds():
    golden = load_file(Path(__file__).parent / "goldens" / "networks" / "align" / "golden.safetensors")
    assert np.abs(golden["standard5"].numpy() - STANDARD).max() < 1e-7


def test_alignment_is_the_similarity_of_another_library():
    from skimage.transform import SimilarityTransform

    five = TEMPLATE * 2.3 + np.random.default_rng(0).normal(0, 6, (5, 2))
    assert np.allclose(alignment(five), SimilarityTransform.from_estimate(five, TEMPLATE).params[:2], atol=1e-9)


def test_aligned_faces_have_their_points_on_the_template():
    rows, columns = np.mgrid[:200, :240]
    turned = np.array([[1.5, -0.4], [0.4, 1.5]])
    five = TEMPLATE @ turned.T + (40, 10)
    spots = np.exp(-((columns - five[:, :1, None]) ** 2 + (rows - five[:, 1:, None]) ** 2) / 18)
    picture = torch.from_numpy(2 * spots.sum(0) - 1).float()[None, None].expand(2, 3, -1, -1)
    face = (aligned(picture, np.stack([five, five]))[1, 0].numpy() + 1) / 2
    y, x = np.mgrid[:112, :112]
    for px, py in TEMPLATE:
        weight = face * (np.hypot(x - px, y - py) < 8)
        assert (weight * x).sum() / weight.sum() == pytest.approx(px, abs=0.05)
        assert (weight * y).sum() / weight.sum() == pytest.approx(py, abs=0.05)


def test_arcface_refuses_faces_of_another_size():
    with pytest.raises(BadInput, match="aligned"):
        ArcFace(18)(torch.zeros(1, 3, 128, 128))
    with pytest.raises(BadInput, match="18, 50 and 100"):
        ArcFace(34)


def test_deep3d_crop_brings_the_standard_face_to_its_scale():
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(60, 140, (68, 2))
    five = 0.7 * 102 * STANDARD[:, :2] + (150, 120)  # a face seen straight, seen at 0.7 of the crop's scale; y up
    for place, point in zip((30, 48, 54), five[2:], strict=True):
        landmarks[place] = point
    landmarks[[36, 39]], landmarks[[42, 45]] = five[0], five[1]
    scale, centre = scale_and_centre(five_points(landmarks))
    assert scale == pytest.approx(71.4) and centre == pytest.approx([150, 120])
    face = align(Image.new("RGB", (300, 280)), landmarks)
    assert face.image.size == (224, 224) and face.box[:2] == (428, 400)
    assert five_points(face.landmarks)[2] == pytest.approx(102 * STANDARD[2, :2] + 112, abs=1)
    with pytest.raises(BadInput, match="68 points"):
        align(Image.new("RGB", (300, 280)), np.zeros((68, 2)))


# the backend


def paper_world(**parts):
    open_world = worlds.load("open")
    return SimpleNamespace(name="paper", landmarks=open_world.landmarks, **parts)


@torch.no_grad()
def test_each_network_gets_what_it_expects():
    torch.manual_seed(0)
    people = [portraits.portrait(9_360_500 + i, 256) for i in range(4)]
    pictures = torch.stack([torch.from_numpy(p.image).permute(2, 0, 1) / 127.5 - 1 for p in people])
    given = {}

    def arcface(faces):
        given["faces"] = faces
        return faces.flatten(1)[:, :512] + 3

    backend = load_backend(paper_world(arcface=arcface, inception=lambda x: 2 * x.mean((2, 3))))
    assert backend.name == "paper" and "ArcFace" in backend.label
    assert torch.equal(backend.features(pictures), 2 * pictures.mean((2, 3)))
    vectors = backend.identity(pictures)
    assert vectors.norm(dim=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    true = np.stack([five_points(p.landmarks) for p in people]) - 0.5
    assert given["faces"].shape == (4, 3, 112, 112)
    assert float((given["faces"] - aligned(pictures, true)).abs().mean()) < 0.03  # as the true landmarks would align them


@torch.no_grad()
def test_syncnet_sees_the_face_around_the_mouth():
    place = torch.stack(torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="xy")) + 0.5
    frames = torch.cat([place, torch.zeros(1, 256, 256)])[None].repeat(6, 1, 1, 1)  # where each pixel of the crop is from
    seen = []
    backend = load_backend(paper_world(syncnet=SimpleNamespace(lips=lambda x: seen.append(x) or x[4:].flatten(1)[:, :9])))
    backend.see(frames)
    x, y = seen[0][0, :2, :200]  # rows below are beyond the picture
    for seed in range(9_360_500, 9_360_504):
        mouth = portraits.portrait(seed, 256).landmarks[48:].mean(0)
        row, column = divmod(int(torch.hypot(x - mouth[0], y - mouth[1]).argmin()), 224)
        assert 0.45 < row / 224 < 0.62 and 0.38 < column / 224 < 0.62
    assert 0.65 < float(x[0, -1] - x[0, 0]) / 256 < 0.85


@torch.no_grad()
def test_lse_of_the_paper_backend_is_syncnets():
    torch.manual_seed(0)
    network, frames = SyncNet().eval(), torch.rand(8, 3, 256, 256) * 2 - 1
    wave = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    x, y, side = expected_box(None)
    expected = network.score(cut(frames, x, y, side / 2), wave)
    found = load_backend(paper_world(syncnet=network)).sync(frames, wave)
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_person_is_like_themself():
    picture = torch.from_numpy(portraits.portrait(9_360_510, 256).image).permute(2, 0, 1)[None] / 127.5 - 1
    paper = paper_world(arcface=fill_by_rule(ArcFace(18), 0))
    for backend in (load_backend(worlds.load("open")), load_backend(paper)):
        assert csim(backend.identity, picture, picture.repeat(3, 1, 1, 1)).tolist() == pytest.approx([1] * 3, abs=1e-5)


@pytest.mark.parametrize("part", ["inception", "arcface", "syncnet"])
def test_a_missing_file_is_named(part, monkeypatch, tmp_path):
    monkeypatch.setenv("NFS_DATA", str(tmp_path))
    with pytest.raises(MissingWeights, match=f"paper/{part}.safetensors isn't there"):
        getattr(worlds.World("paper"), part)
    backend, picture = load_backend(worlds.World("paper")), torch.zeros(6, 3, 256, 256)
    use = {"inception": backend.features, "arcface": backend.identity, "syncnet": backend.see}
    with pytest.raises(MissingWeights, match=f"{part}.safetensors"):
        use[part](picture)


def test_files_of_the_paper_world_are_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("NFS_DATA", str(tmp_path))
    (folder := tmp_path / "weights" / "paper").mkdir(parents=True)
    network = ArcFace(18)
    save_file(network.state_dict(), folder / "arcface.safetensors")
    content = (folder / "arcface.safetensors").read_bytes()
    entry = {"file": "arcface.safetensors", "sha256": checkpoints.hashlib.sha256(content).hexdigest(), "bytes": len(content),
             "licence": "", "made_by": "", "figures": {}, "config": {"layers": 18}}
    (folder / "manifest.json").write_text(json.dumps({"parts": {"arcface": entry}}))
    loaded = worlds.World("paper").arcface
    assert torch.equal(loaded.fc.weight, network.fc.weight) and not loaded.training


# photographs


def test_without_the_package_the_photo_descriptor_says_what_to_install(monkeypatch):
    photo._models.cache_clear()
    monkeypatch.setattr(photo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingWeights, match="pip install face-recognition-models"):
        photo.photo_distance(torch.zeros(1, 3, 256, 256), torch.zeros(2, 3, 256, 256))


def test_photo_distance_is_that_of_the_descriptors(monkeypatch):
    import dlib

    class Network:  # stands for the package's: the mean colour, as 128 numbers
        def compute_face_descriptor(self, pixels, box):
            assert (box.width() / pixels.shape[1]) == pytest.approx(129 / 256, abs=0.01) and isinstance(box, dlib.rectangle)
            return [pixels.mean() / 255] * 128

    monkeypatch.setattr(photo, "_models", lambda: (lambda pixels, box: box, Network()))
    frames = torch.stack([torch.full((3, 512, 512), v) for v in (-1.0, 0.0, 1.0)])
    assert photo.photo_distance(frames[:1], frames).tolist() == pytest.approx([0, 0.5 * 128**0.5, 128**0.5], rel=0.01)
