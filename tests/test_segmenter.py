"""The segmenter: names of its tensors, what it is shown, and what is read off its labels. Its numbers: test_parity."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nfs_lib import segmenter
from nfs_lib.blending import MaskMean, blend
from nfs_lib.parity.golden import fill_by_rule
from nfs_lib.segmenter import BiSeNet, mouth, prepare, torso_points

NETWORKS = Path(__file__).parent / "goldens" / "networks"


def test_the_official_file_would_fit():
    with torch.device("meta"):
        state = BiSeNet().state_dict()
    assert len(state) == 191
    assert sum(v.numel() for k, v in state.items() if not k.endswith(("running_mean", "running_var", "tracked"))) == 13_299_264
    groups = {".".join(name.split(".")[:2]) for name in state}
    heads = {f"conv_out{n}.{part}" for n in ("", "16", "32") for part in ("conv", "conv_out")}
    assert groups == heads | {"cp.resnet", "cp.arm16", "cp.arm32", "cp.conv_head16", "cp.conv_head32", "cp.conv_avg",
                              "ffm.convblk", "ffm.conv1", "ffm.conv2"}
    shapes = {"cp.resnet.layer3.0.downsample.0.weight": (256, 128, 1, 1), "cp.arm32.conv.conv.weight": (128, 512, 3, 3),
              "cp.arm16.conv_atten.weight": (128, 128, 1, 1), "cp.arm16.bn_atten.running_var": (128,),
              "ffm.conv2.weight": (256, 64, 1, 1), "conv_out16.conv.conv.weight": (64, 128, 3, 3)}
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "cp.resnet.fc.weight" not in state and "cp.resnet.layer1.0.downsample.0.weight" not in state


def test_without_the_training_heads_the_scores_are_the_same():
    seed = json.loads((NETWORKS / "index.json").read_text())["seed"]
    model, golden = fill_by_rule(BiSeNet(), seed), load_file(NETWORKS / "segmenter" / "golden.safetensors")
    seen = prepare(golden["image_6x6"], side=64)
    with torch.no_grad():
        assert torch.equal(model(seen), model.all_scores(seen)[0])


def test_the_dark_half_is_black_to_it_unless_mapped():
    grey = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])[:, None, None, None].expand(5, 3, 8, 8)
    mean, std = torch.tensor(segmenter.MEAN), torch.tensor(segmenter.STD)
    for official, levels in ((True, [0, 0, 0, 0.5, 1]), (False, [0, 0.25, 0.5, 0.75, 1])):
        seen = prepare(grey, official=official)
        assert seen.shape == (5, 3, 512, 512)
        assert torch.allclose(seen[:, :, 99, 5], (torch.tensor(levels)[:, None] - mean) / std, atol=1e-5)


def test_labels_name_the_largest_score(monkeypatch):
    picture = -torch.ones(1, 3, 64, 64)
    picture[0, 0, :, :32] = picture[0, 2, :, 32:] = 1  # red, blue
    monkeypatch.setattr(BiSeNet, "forward", lambda self, seen: torch.cat([seen[:, 1:2] - 9, seen], 1))
    with torch.device("meta"):
        network = BiSeNet()
    labels = network.labels(picture)
    assert labels.shape == (1, 512, 512) and labels[0, :, :250].unique().tolist() == [1]
    assert labels[0, :, 262:].unique().tolist() == [3]
    dark = torch.tensor([-0.2, -0.6, -0.8])[None, :, None, None].expand(1, 3, 64, 64)
    assert network.labels(dark).unique().tolist() == [3]  # of black, blue is the largest
    assert network.labels(dark, official=False).unique().tolist() == [1]
    monkeypatch.setattr(segmenter, "MOUTH", (3,))
    assert torch.equal(network.mouth(picture), (network.labels(picture) == 3).float())


def test_the_mouth_is_one_inside():
    labels = torch.arange(16).reshape(4, 4)
    assert mouth(labels).flatten().nonzero().flatten().tolist() == [7, 8, 9]
    smooth = MaskMean(2)
    smooth(mouth(torch.zeros_like(labels)))
    mixed = blend(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), smooth(mouth(labels)))
    assert mixed[0, 0].flatten()[[6, 7, 10]].tolist() == [0, 0.5, 0]


def test_torso_points_count_row_by_row_and_point_up():
    labels = torch.zeros(512, 512, dtype=torch.long)
    places = [(0, 0, 10), (0, 511, 1), (3, 5, 15), (3, 9, 14), (200, 1, 10), (256, 256, 14), (300, 0, 7), (400, 128, 15)]
    for row, column, label in places:
        labels[row, column] = label
    first, second, third = torso_points(labels, every=1)[:3].tolist()
    assert first == pytest.approx([-0.1, 0.1]) and second == pytest.approx([5 / 2560 - 0.1, 0.1 - 3 / 2560])
    assert third == pytest.approx([9 / 2560 - 0.1, 0.1 - 3 / 2560])
    assert torso_points(labels).tolist() == [pytest.approx([-0.1, 0.1]), pytest.approx([0, 0], abs=1e-7)]
    assert torso_points(torch.zeros_like(labels)).shape == (0, 2)
