"""LPIPS against torchmetrics' code and heads, with trunks of random weights; the vectors whose distance it is; its files."""

import hashlib
import inspect
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchmetrics.functional.image import lpips as reference

from nfs_lib.errors import BadInput, CorruptWeights, MissingWeights
from nfs_lib.lpips import SCALE, SHIFT, Lpips, Trunk, load, unit
from nfs_lib.parity.golden import fill_by_rule

HEADS = Path(inspect.getfile(reference)).parent / "lpips_models"


def torchvisions(name):
    """The layers of torchvision's networks, restated: c is a convolution with a ReLU, p a pooling."""
    stages = (64, 2), (128, 2), (256, 3), (512, 3), (512, 3)
    plan = {"alexnet": "c64/11/4/2 p3 c192/5/1/2 p3 c384/3/1/1 c256/3/1/1 c256/3/1/1 p3",
            "vgg16": "".join(f"c{width}/3/1/1 " * n + "p2 " for width, n in stages)}
    layers, last = [], 3
    for word in plan[name].split():
        if word[0] == "p":
            layers.append(nn.MaxPool2d(int(word[1:]), 2))
        else:
            width, kernel, stride, padding = map(int, word[1:].split("/"))
            layers += [nn.Conv2d(last, width, kernel, stride, padding), nn.ReLU()]
            last = width
    return nn.Sequential(*layers)


def heads(trunk):
    return torch.load(HEADS / f"{trunk}.pth", map_location="cpu", weights_only=True)


@pytest.fixture(scope="module", params=["alex", "vgg"])
def pair(request):
    """Ours and torchmetrics' with the same random trunk and the published heads."""
    name = {"alex": "alexnet", "vgg": "vgg16"}[request.param]
    layers = fill_by_rule(torchvisions(name), 5)
    ours = Lpips(request.param).eval().requires_grad_(False)
    ours.trunk.load_state_dict({f"features.{k}": v for k, v in layers.state_dict().items()})
    ours.load_state_dict(heads(request.param), strict=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "_get_tv_model_features", lambda net, pretrained=False: layers)
        theirs = reference._LPIPS(net=request.param)
    return ours, theirs


def pictures(n=2, side=64):
    rng = torch.Generator().manual_seed(0)
    a = torch.rand(n, 3, side, side, generator=rng) * 2 - 1
    return a, (a + 0.4 * torch.randn(a.shape, generator=rng)).clamp(-1, 1)


def test_it_is_what_torchmetrics_says(pair):
    ours, theirs = pair
    a, b = pictures()
    found, expected = ours(a, b), theirs(a, b).flatten()
    assert found.shape == (2,) and float(expected.min()) > 0.01 and found[0] != found[1]
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert ours(a, a).tolist() == [0, 0]


def test_squared_distance_of_features_is_it(pair):
    ours, _ = pair
    a, b = pictures(side=48)
    difference = ours.features(a) - ours.features(b)
    assert difference.square().sum(1).tolist() == pytest.approx(ours(a, b).tolist(), rel=1e-4)


def test_features_of_pictures_up_to_255():
    """NVIDIA's compiled file takes 0 to 255: with ImageNet's mean and deviation, that is the same scaling."""
    assert (torch.tensor(SHIFT) + 1).tolist() == pytest.approx([2 * x for x in (0.485, 0.456, 0.406)])
    assert SCALE == pytest.approx([2 * x for x in (0.229, 0.224, 0.225)])


def test_trunks_have_torchvisions_names():
    for name, places, numbers in (("vgg", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), 14_714_688),
                                  ("alex", (0, 3, 6, 8, 10), 2_469_696)):
        with torch.device("meta"):
            state = Trunk(name).state_dict()
        assert state.keys() == {f"features.{i}.{part}" for i in places for part in ("weight", "bias")}
        assert sum(v.numel() for v in state.values()) == numbers


def test_where_nothing_is_active_the_gradient_is_finite():
    assert unit(torch.tensor([3.0, 4.0])[None, :, None, None]).flatten().tolist() == pytest.approx([0.6, 0.8])
    x = torch.zeros(1, 2, 1, 1, requires_grad=True)
    unit(x).sum().backward()
    assert unit(x).abs().max() == 0 and x.grad.isfinite().all()


def test_refusals():
    with pytest.raises(BadInput, match="vgg, alex"):
        Lpips("squeeze")
    with torch.device("meta"):
        network = Lpips("alex")
    with pytest.raises(BadInput, match="31 pixels"):
        network.directions(torch.zeros(1, 3, 30, 64))


# the files


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Puts parts of the paper world where the kit looks for them."""
    monkeypatch.setenv("NFS_DATA", str(tmp_path))
    folder = tmp_path / "weights" / "paper"
    folder.mkdir(parents=True)

    def put(**parts):
        entries = {}
        for name, tensors in parts.items():
            path = folder / f"{name}.safetensors"
            save_file(tensors, path)
            entries[name] = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "licence": "",
                             "bytes": path.stat().st_size, "made_by": "nfs weights import", "figures": {}, "config": {}}
        (folder / "manifest.json").write_text(json.dumps({"parts": entries}))

    return put


def test_loading_takes_the_trunk_and_leaves_the_classifier(bring):
    trunk = fill_by_rule(Trunk("alex"), 5).state_dict()
    with pytest.raises(MissingWeights, match="alexnet"):
        load("alex")
    bring(alexnet={**trunk, "classifier.1.weight": torch.zeros(2, 2)}, lpips_alex=heads("alex"))
    model = load("alex")
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, trunk[name]) for name, value in model.trunk.state_dict().items())
    assert torch.equal(model.lin3.weights(), heads("alex")["lin3.model.1.weight"][0])


@pytest.mark.parametrize("broken", ["a tensor less", "another shape"])
def test_other_networks_are_refused(bring, broken):
    given = heads("alex")
    if broken == "a tensor less":
        del given["lin2.model.1.weight"]
    else:
        given["lin2.model.1.weight"] = torch.zeros(1, 7, 1, 1)
    bring(alexnet=Trunk("alex").state_dict(), lpips_alex=given)
    with pytest.raises(CorruptWeights, match="lin2.model.1.weight"):
        load("alex")
