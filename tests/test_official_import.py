"""Official files become parts of the paper world: recognised by their content, checked, converted, written with a manifest."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.io import savemat

from nfs_lib.audio2exp import Audio2Exp
from nfs_lib.baselines.wav2lip import Wav2Lip
from nfs_lib.checkpoints import fill, find_part, load_tensors, read_manifest, verify_weights
from nfs_lib.cli import main
from nfs_lib.errors import BadInput, CorruptWeights, MissingWeights, UnsafeCheckpoint
from nfs_lib.face.bfm import Bfm
from nfs_lib.face.reconnet import ReconNet
from nfs_lib.lipaint import LipaintNet
from nfs_lib.lpips import Lpips
from nfs_lib.metrics.arcface import ArcFace
from nfs_lib.metrics.inception import Inception
from nfs_lib.metrics.syncnet import SyncNet
from nfs_lib.official.files import OFFICIAL, how_to_bring
from nfs_lib.official.importing import import_file, missing
from nfs_lib.official.readers import read
from nfs_lib.segmenter import BiSeNet
from nfs_lib.stylenerf import Discriminator, Generator, GeneratorConfig

GOLDENS = Path(__file__).parent / "goldens" / "stylenerf"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The paper world's folder in an empty data folder."""
    monkeypatch.setenv("NFS_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "weights" / "paper"


def big(module, prefix="", **arguments):
    """A state dict of a module's names and shapes that takes no memory."""
    with torch.device("meta"):
        state = module(**arguments).state_dict()
    return {prefix + name: torch.full((), 0.5, dtype=value.dtype if value.is_floating_point() else torch.int64)
            .expand(value.shape) for name, value in state.items()}  # fmt: skip


def without_counts(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


SADTALKER = {**big(Audio2Exp, "audio2exp.", n_exp=64), **big(ReconNet, "face_3drecon."), "generator.x": torch.zeros(1)}
VGG = {name.removeprefix("trunk."): value for name, value in big(Lpips, trunk="vgg").items()}
ALEX = {name.removeprefix("trunk."): value for name, value in big(Lpips, trunk="alex").items()}
CONTENTS = {
    "epoch_20": ({"net_recon": big(ReconNet), "opt_00": {"state": {}}, "sched_00": {}}, {"estimator": {}}),
    "SadTalker": (SADTALKER, {"estimator": {}, "audio2exp": {"n_exp": 64}}),
    "auido2exp": ({"model": big(Audio2Exp, "netG.", n_exp=64), "epoch": 300}, {"audio2exp": {"n_exp": 64}}),
    "seg": (big(BiSeNet), {"segmenter": {}}),
    "LipaintNet": ({"model_state_dict": big(LipaintNet), "epoch": 1}, {"lipaint": {"w_dim": 512, "n_exp": 64}}),
    "syncnet": (without_counts(big(SyncNet)), {"syncnet": {}}),
    "inception": (big(Inception), {"inception": {}}),
    **{f"arcface {n}": (big(ArcFace, layers=n), {"arcface": {"layers": n}}) for n in (18, 50)},
    "wav2lip": ({"state_dict": big(Wav2Lip, "module."), "optimizer": None, "global_step": 3}, {"wav2lip": {}}),
    "vgg16": ({k: v for k, v in VGG.items() if k[0] == "f"} | {"classifier.0.bias": torch.zeros(4)}, {"vgg16": {}}),
    "alexnet": ({k: v for k, v in ALEX.items() if k[0] == "f"} | {"classifier.1.bias": torch.zeros(4)}, {"alexnet": {}}),
    "vgg": ({k: v for k, v in VGG.items() if k.startswith("lin")}, {"lpips_vgg": {}}),
    "alex": ({k: v for k, v in ALEX.items() if k.startswith("lin")}, {"lpips_alex": {}}),
    "something else": ({"layer.weight": torch.zeros(2, 2)}, {}),
}  # fmt: skip


def taken(content):
    return {official.part: part for official in OFFICIAL if (part := official.take(content)) is not None}


@pytest.mark.parametrize("name", CONTENTS)
def test_each_file_is_recognised_by_its_content(name):
    content, expected = CONTENTS[name]
    parts = taken(content)
    assert {part: found.config for part, found in parts.items()} == expected
    for part, found in parts.items():
        assert len(found.tensors) > 3
        assert all(value.dtype in (torch.float32, torch.int64) for value in found.tensors.values()), part
        prefixes = ("module.", "netG.", "audio2exp.", "face_3drecon.", "classifier.")
        assert not any(key.startswith(prefixes) for key in found.tensors)


def test_tensors_that_are_not_the_official_ones_are_refused():
    good = big(LipaintNet)
    for wrong, message in (
        ({name: value for name, value in good.items() if name != "fc2.bias"}, "fc2.bias is missing"),
        ({name: value for name, value in good.items() if name != "fc1.weight"}, "isn't the official one"),
        (good | {"fc3.weight": torch.zeros(512, 511)}, r"fc3.weight is of shape \(512, 511\), \(512, 512\) expected"),
        (good | {"fc3.bias": torch.full((512,), torch.nan)}, "aren't finite, in fc3.bias"),
    ):
        with pytest.raises(CorruptWeights, match=message):
            taken({"model_state_dict": wrong})
    three = {name: value for name, value in big(ArcFace, layers=18).items() if not name.startswith("layer3.1.")}
    with pytest.raises(CorruptWeights, match="blocks"):
        taken(three)


def test_a_checkpoint_becomes_a_part(folder, tmp_path, capsys):
    net = LipaintNet()
    torch.save({"model_state_dict": net.state_dict(), "optimizer": {}}, tmp_path / "LipaintNet.pt")
    (part,) = import_file(tmp_path / "LipaintNet.pt")
    assert (part.name, part.path.parent, part.config) == ("lipaint", folder, {"w_dim": 512, "n_exp": 64})
    assert "MIT" in part.licence and part.made_by.startswith("nfs weights import LipaintNet.pt (sha256 ")
    assert find_part("paper", "lipaint") == part and verify_weights(part) == "ok"
    back = fill(LipaintNet(**part.config), part)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in back.state_dict().items())  # not rounded
    assert {path.name for path in folder.iterdir()} == {"lipaint.safetensors", "manifest.json"}
    before = part.path.read_bytes()
    import_file(tmp_path / "LipaintNet.pt")
    assert part.path.read_bytes() == before
    assert "lipaint" not in {official.part for official in missing()} and len(missing()) == len(OFFICIAL) - 1
    part.path.unlink()
    assert len(missing()) == len(OFFICIAL)


def test_links_lead_nowhere_else(folder, tmp_path):
    """A link in the weights' place is replaced, what it led to is left alone; a link to a file is that file; a pipe or a device
    isn't a file."""
    torch.save({"model_state_dict": LipaintNet().state_dict()}, tmp_path / "LipaintNet.pt")
    (tmp_path / "precious.txt").write_text("mine")
    folder.mkdir(parents=True)
    for name in ("lipaint.safetensors", "manifest.json"):
        (folder / name).symlink_to(tmp_path / "precious.txt" if name.startswith("lip") else tmp_path / "nowhere")
    (tmp_path / "link.pt").symlink_to(tmp_path / "LipaintNet.pt")
    (part,) = import_file(tmp_path / "link.pt")
    assert (tmp_path / "precious.txt").read_text() == "mine" and not (tmp_path / "nowhere").exists()
    assert not part.path.is_symlink() and verify_weights(part) == "ok"
    os.mkfifo(tmp_path / "pipe.pt")
    for odd in (tmp_path / "pipe.pt", "/dev/zero"):
        with pytest.raises(BadInput, match="isn't a regular file"):
            import_file(odd)


def test_two_parts_in_one_file(folder, tmp_path):
    """SadTalker's; here with an encoder of its right size and no estimator."""
    net = Audio2Exp(64)
    save_file({f"audio2exp.{name}": value for name, value in net.state_dict().items()}, tmp_path / "renamed.safetensors")
    (part,) = import_file(tmp_path / "renamed.safetensors")
    assert part.name == "audio2exp"
    fill(Audio2Exp(**part.config), part)


def test_the_official_generator_and_discriminator(folder):
    generator, discriminator = import_file(GOLDENS / "official_omegaconf.pkl")
    assert sorted(read_manifest(folder)) == ["discriminator", "generator"]
    content = read(GOLDENS / "official_omegaconf.pkl")
    net = fill(Generator(GeneratorConfig.from_dict(find_part("paper", "generator").config)), generator)
    assert torch.equal(net.mapping.w_avg, content["G_ema"].state_dict["mapping.w_avg"])
    arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in find_part("paper", "discriminator").config.items()}
    net = fill(Discriminator(**arguments), discriminator)
    total = sum(value.double().sum() for name, value in content["D"].state_dict.items() if "resample" not in name)
    ours = sum(value.double().sum() for name, value in net.state_dict().items() if "resample" not in name)
    assert float(ours) == pytest.approx(float(total) - float(content["D"].state_dict["alpha"]), rel=1e-6)


def face_arrays(vertices=6, faces=4):
    rng = np.random.default_rng(0)
    return {
        "meanshape": rng.normal(size=(1, 3 * vertices)), "meantex": rng.uniform(0, 255, (1, 3 * vertices)),
        "idBase": rng.normal(size=(3 * vertices, 80)), "exBase": rng.normal(size=(3 * vertices, 64)),
        "texBase": rng.normal(size=(3 * vertices, 80)), "tri": rng.integers(1, vertices + 1, (faces, 3)).astype("f8"),
        "point_buf": rng.integers(1, faces + 2, (vertices, 8)), "keypoints": rng.integers(1, vertices + 1, (1, 68)),
        "skinmask": np.ones((1, vertices), "u1"), "other": np.ones(3),
    }  # fmt: skip


def test_a_face_model(folder, tmp_path):
    arrays = face_arrays()
    savemat(tmp_path / "BFM09_model_info.mat", arrays)
    (part,) = import_file(tmp_path / "BFM09_model_info.mat")
    tensors = load_tensors(part)
    assert part.name == "face_model" and "other" not in tensors and Bfm(tensors).sizes == (80, 64, 80)
    assert np.array_equal(tensors["tri"].numpy(), arrays["tri"])
    assert np.allclose(tensors["idBase"].numpy(), arrays["idBase"], rtol=1e-6)
    for name, wrong in (("tri", arrays["tri"] - 1), ("texBase", arrays["texBase"][:5]), ("point_buf", arrays["point_buf"] * 9)):
        savemat(tmp_path / "wrong.mat", arrays | {name: wrong})
        with pytest.raises(CorruptWeights, match="wrong.mat: "):
            import_file(tmp_path / "wrong.mat")


def test_a_folder_of_originals_is_handed_to_their_converter(folder, tmp_path, monkeypatch):
    from nfs_lib.official import bfm_originals

    (tmp_path / "BFM").mkdir()
    with pytest.raises(MissingWeights, match="01_MorphableModel.mat"):
        import_file(tmp_path / "BFM")
    arrays = {name: value.astype("f4" if value.dtype.kind == "f" else "i4") for name, value in face_arrays().items()}
    monkeypatch.setattr(bfm_originals, "convert", lambda path: arrays)
    (part,) = import_file(tmp_path / "BFM")
    assert part.name == "face_model" and part.made_by == "nfs weights import BFM"


def test_what_cant_be_imported(folder, tmp_path):
    torch.save({"x": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(BadInput, match=r"none of the parts.*ffhq_1024.pkl.*seg.pth.*01_MorphableModel.mat"):
        import_file(tmp_path / "x.pth")
    with pytest.raises(UnsafeCheckpoint, match=r"malicious_system.pkl.*posix.system"):
        import_file(GOLDENS / "malicious_system.pkl")
    with pytest.raises(BadInput, match="doesn't exist"):
        import_file(tmp_path / "none.pth")
    assert not folder.exists()


def test_a_missing_part_says_where_it_comes_from(folder):
    for official in OFFICIAL:
        with pytest.raises(MissingWeights) as caught:
            find_part("paper", official.part)
        message = str(caught.value)
        assert f"{official.part}.safetensors isn't there" in message and f"`nfs weights import {official.file}`" in message
        assert official.source in message and official.terms in message and "https://" in message
    assert "no part 'hair'" in how_to_bring("hair")


def test_the_command(folder, tmp_path, capsys):
    torch.save({"model_state_dict": LipaintNet().state_dict()}, path := tmp_path / "LipaintNet.pt")
    assert main(["weights", "import", str(path)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("paper/lipaint  4.33 MB  from LipaintNet.pt")
    assert len(rest) == len(OFFICIAL) - 1 and all(line.startswith("still missing: ") for line in rest)
    assert any("ffhq_1024.pkl" in line and "can't be made" in line for line in rest)
    assert main(["weights", "list"]) == 0 and "paper/lipaint" in capsys.readouterr().out
    assert main(["weights", "verify"]) == 0 and capsys.readouterr().out == "paper/lipaint  ok\n"
    entry = json.loads((folder / "manifest.json").read_text())["parts"]["lipaint"]
    assert set(entry) == {"file", "sha256", "bytes", "licence", "made_by", "figures", "config", "seed", "steps", "seconds"}
    content = bytearray((folder / "lipaint.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "lipaint.safetensors").write_bytes(content)
    assert main(["weights", "verify"]) == 1
    assert main(["weights", "import", str(path), str(GOLDENS / "malicious_deep.pkl")]) == 2
    out, err = capsys.readouterr()
    assert "posix.system" in err and err.count("\n") == 1
    for line in (["import"], ["list", "x"], ["verify", "x"]):
        assert main(["weights", *line]) == 2
        assert "--help" in capsys.readouterr().err


def test_the_manifest_of_the_open_world_is_written_alike(folder):
    """What `write_part` writes, `read_manifest` and the training's `export` can go on with."""
    from nfs_lib.checkpoints import write_part
    from nfs_lib.training.common import export

    write_part(folder, "a", {"x": torch.ones(2)}, licence="MIT", made_by="nfs weights import a", config={"n": 1})
    export("b", {"x": torch.ones(2)}, {"r": 1.0}, "nfs train b", 0, 1, 2.0, out=folder)
    write_part(folder, "c", {"x": torch.ones(2, 3).T}, licence="MIT", made_by="nfs weights import c", config={})
    parts = read_manifest(folder)
    assert list(parts) == ["a", "b", "c"] and parts["b"].figures == {"r": 1.0} and parts["a"].config == {"n": 1}
    assert load_file(parts["c"].path)["x"].shape == (3, 2)


def test_the_readme_lists_every_file():
    """Its name, who publishes it, its terms, and what is missing without it, all in one row."""
    rows = [line for line in (Path(__file__).parents[1] / "README.md").read_text().splitlines() if line.startswith("| `")]
    for official in OFFICIAL:
        assert any(all(text in row for text in (f"`{official.file}`", official.source, official.terms, official.without))
                   for row in rows), official.file  # fmt: skip
