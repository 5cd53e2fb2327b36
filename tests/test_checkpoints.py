"""Weights come back as they were exported, and a file that was touched is refused."""

import json

import pytest
import torch
from torch import nn

from nfs_lib import checkpoints, worlds
from nfs_lib.checkpoints import fill, find_part, load_tensors, read_manifest, verify_weights
from nfs_lib.cli import main
from nfs_lib.errors import BadInput, CorruptWeights, MissingWeights
from nfs_lib.training.common import export


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder in the place of the shipped one."""
    monkeypatch.setenv("NFS_DATA", str(tmp_path))
    return tmp_path / "weights" / "open"


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))


def ship(name="estimator", net=None):
    state = (net or small_net()).state_dict()
    return export(name, state, {"r": 0.97}, f"nfs train {name}", 3, 100, 12.3, config={"width": 4})


def test_export_and_back(folder):
    net = small_net()
    path = ship(net=net)
    assert path == folder / "estimator.safetensors"
    assert sorted(p.name for p in folder.iterdir()) == ["estimator.safetensors", "manifest.json"]
    part = find_part("open", "estimator")
    assert (part.config, part.figures, part.seed, part.steps, part.seconds) == (
        {"width": 4},
        {"r": 0.97},
        3,
        100,
        12,
    )
    assert part.made_by == "nfs train estimator" and part.bytes == path.stat().st_size
    back = fill(small_net(seed=1), part)
    assert not back.training
    for name, value in net.state_dict().items():
        got = back.state_dict()[name]
        assert got.dtype == value.dtype  # float32 again; the counter stays a whole number
        assert torch.equal(got, value.half().float() if value.is_floating_point() else value)


def test_exports_of_two_parts_share_a_manifest(folder):
    ship("sync")
    first = (folder / "sync.safetensors").read_bytes()
    ship("identity", small_net(1))
    ship("sync")
    assert sorted(read_manifest(folder)) == ["identity", "sync"]
    assert (folder / "sync.safetensors").read_bytes() == first  # the same weights give the same file


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_fp16_cant_hold_are_refused(folder, value):
    with pytest.raises(ValueError, match="bias isn't finite"):
        export("sync", {"bias": torch.tensor([value])}, {}, "nfs train sync", 0, 1, 1.0)
    assert not folder.exists()


def test_a_missing_part_names_file_and_command(folder):
    with pytest.raises(MissingWeights, match=r"generator\.safetensors.*nfs train generator"):
        _ = worlds.load("open").generator
    with pytest.raises(MissingWeights, match=r"discriminator\.safetensors.*nfs train generator"):
        _ = worlds.load("open").discriminator
    ship().unlink()
    with pytest.raises(MissingWeights, match=r"estimator\.safetensors.*nfs train estimator"):
        find_part("open", "estimator")


def test_every_flipped_byte_is_noticed(folder):
    path = ship()
    content = path.read_bytes()
    part = find_part("open", "estimator")
    for position in range(0, len(content), 97):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(CorruptWeights, match="check it out again"):
            load_tensors(part)
    for cut in (content[:-1], content + b"\0", b""):
        path.write_bytes(cut)
        assert verify_weights(part) == "corrupt"
    path.write_bytes(content)
    assert verify_weights(part) == "ok"


def test_a_file_that_is_no_safetensors_is_refused_though_its_sum_is_right(folder):
    import hashlib

    path, manifest = ship(), folder / "manifest.json"
    torch.save({"a": torch.zeros(3)}, path)
    entries = json.loads(manifest.read_text())
    entries["parts"]["estimator"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    entries["parts"]["estimator"]["bytes"] = path.stat().st_size
    manifest.write_text(json.dumps(entries))
    with pytest.raises(CorruptWeights, match="isn't a safetensors file"):
        load_tensors(find_part("open", "estimator"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": {"sync": {"file": "x"}}}', '{"parts": 3}'])
def test_a_broken_manifest(folder, text):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptWeights, match="manifest"):
        read_manifest(folder)


def test_a_manifest_can_name_no_file_elsewhere(folder):
    ship()
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("estimator.safetensors", "../../secret"))
    with pytest.raises(CorruptWeights, match="plain file name"):
        read_manifest(folder)


def test_weights_of_another_shape_dont_fit(folder):
    ship()
    with pytest.raises(CorruptWeights, match="doesn't fit this version's estimator"):
        fill(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), find_part("open", "estimator"))


def test_worlds_by_name():
    assert worlds.load() == worlds.load("open")
    assert worlds.load("paper") == worlds.load("paper") != worlds.load()
    with pytest.raises(BadInput, match="no world 'mars'"):
        worlds.load("mars")


def test_weights_commands(folder, capsys):
    assert main(["weights", "list"]) == 1
    path = ship()
    assert main(["weights", "list"]) == 0
    assert "open/estimator" in capsys.readouterr().out
    assert main(["weights", "verify"]) == 0
    assert "open/estimator  ok" in capsys.readouterr().out
    path.write_bytes(b"x")
    assert main(["weights", "verify"]) == 1
    assert "open/estimator  corrupt" in capsys.readouterr().out
    path.unlink()
    assert main(["weights", "verify"]) == 1
    assert "open/estimator  missing" in capsys.readouterr().out
    (folder / "manifest.json").write_text("?")
    assert main(["weights", "verify"]) == 2


def test_the_shipped_weights_are_intact_and_small():
    parts = checkpoints.list_weights()
    names = "audio2exp discriminator estimator generator identity lipaint sync wav2lip"
    assert [part.name for part in parts] == names.split()
    assert {part.name: verify_weights(part) for part in parts} == {part.name: "ok" for part in parts}
    assert sum(part.bytes for part in parts) < 25e6


def test_a_world_rebuilds_its_networks_from_the_manifest(folder):
    """Configuration and weights go through JSON and fp16, and give a network of the same form."""
    from dataclasses import asdict, replace

    from nfs_lib.audio2exp import Audio2Exp
    from nfs_lib.lipaint import LipaintNet
    from nfs_lib.stylenerf import OPEN, Discriminator, Generator

    small = replace(OPEN, channels=(8, 8), feature_dim=16, w_dim=16)
    made = {
        "generator": (Generator(small), asdict(small)),
        "discriminator": (Discriminator(32, (4, 8, 8)), {"resolution": 32, "channels": (4, 8, 8)}),
        "audio2exp": (Audio2Exp(n_exp=7), {"n_exp": 7}),
        "lipaint": (LipaintNet(16, 7), {"w_dim": 16, "n_exp": 7}),
    }
    for name, (net, config) in made.items():
        export(name, net.state_dict(), {}, f"nfs train {name}", 0, 1, 1.0, config=config)
    world = worlds.load("open")
    assert world.generator.config == small and world.generator is world.generator
    for name, (net, _) in made.items():
        for key, value in getattr(world, name).state_dict().items():
            assert torch.allclose(value, net.state_dict()[key], atol=1e-3, rtol=1e-3), (name, key)
