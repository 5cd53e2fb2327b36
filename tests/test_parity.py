"""Parity with the official code's numbers, and that a wrong network would be noticed."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from nfs_lib import audio, parity
from nfs_lib.errors import BadInput
from nfs_lib.lipaint import LipaintNet
from nfs_lib.official.bfm_originals import read_mat
from nfs_lib.parity import golden

GOLDENS = Path(__file__).parent / "goldens"


INDEX = json.loads((GOLDENS / "networks" / "index.json").read_text())
GIVEN = {"mel", "ref", "ratio", "beta_init", "w", "exp", "frames_u8_14x14", "mfcc_windows", "lip_features_f16",
         "audio_features_f16", "image_u8_9x9", "real", "fake", "image_u8_8x8", "standard5", "landmarks68_y_up", "size_wh",
         "image_6x6", "label_sequence", "margin_min_quantile", "A", "B", "C", "V", "target", "noise_buffer", "image_u8_7x7",
         "coeffs", "fit_target", "photo_a", "photo_b", "photo_mask"}


@pytest.fixture(scope="module")
def all_sets():
    """Every set run once (the networks of the paper are large): results, names compared and networks filled, set by set."""
    compared, filled = {name: set() for name in parity.CHECKS}, {}
    fill = golden.fill_by_rule

    def recorded(name, check):
        def run(given):
            for tensor, value in check(given):
                compared[name].add(tensor)
                yield tensor, value

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "CHECKS", {name: recorded(name, check) for name, check in parity.CHECKS.items()})
        patch.setattr(golden, "fill_by_rule", lambda model, seed: filled.setdefault(type(model).__name__, fill(model, seed)))
        results = {result.name: result for result in parity.run(GOLDENS / "networks")}
    return results, compared, filled


def test_all_sets_pass(all_sets):
    results = all_sets[0]
    assert results.keys() == parity.CHECKS.keys() == INDEX["sets"].keys()
    for result in results.values():
        assert result.ok is True and 0 <= result.error <= result.tolerance, result
        assert "ok" in str(result)


def test_found_at_any_depth():
    assert [result.name for result in parity.run(GOLDENS.parent, only="lipaint")] == ["lipaint"]


def test_every_stored_output_is_compared(all_sets):
    for name, compared in all_sets[1].items():
        assert compared >= set(INDEX["sets"][name].get("tensors", ())) - (GIVEN if name != "audio" else set())
    assert "crop0" in all_sets[1]["align"]
    converted = read_mat(GOLDENS / "networks" / "bfm_convert" / "BFM_model_front.mat")
    assert all_sets[1]["bfm_convert"] == set(converted)


@pytest.mark.parametrize(("name", "kind"), [("audio2exp", "Audio2Exp"), ("lipaint", "LipaintNet"), ("syncnet", "SyncNet"),
                                            ("fid", "Inception"), ("csim", "ArcFace"), ("reconnet", "ReconNet"),
                                            ("segmenter", "BiSeNet")])
def test_the_rule_fills_as_the_goldens_say(all_sets, name, kind):
    fill, module = INDEX["sets"][name]["meta"]["fill"], all_sets[2][kind]
    entries = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(entries) == fill["n_tensors"] and not module.training
    assert sum(v.double().sum().item() for v in entries.values()) == pytest.approx(fill["sum_float64"], abs=1e-3)
    assert entries[fill["first_key"]].flatten()[:4].tolist() == pytest.approx(fill["first_values"])


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(GOLDENS / "networks", tmp_path / "deep" / "networks")
    return tmp_path


def test_uncovered_sets_fail_only_when_asked_for(copied, monkeypatch):
    monkeypatch.setattr(parity, "CHECKS", {"lipaint": parity.CHECKS["lipaint"]})  # the large networks were run above
    index = copied / "deep" / "networks" / "index.json"
    content = json.loads(index.read_text())
    content["sets"]["segmenter"] = content["sets"]["lipaint"]
    index.write_text(json.dumps(content))
    (elsewhere := copied / "othernet").mkdir()
    (elsewhere / "README.md").touch()
    (elsewhere / "x.safetensors").touch()
    results = {result.name: result for result in parity.run(copied)}
    assert results["segmenter"].ok is None and math.isnan(results["segmenter"].error)
    assert results["othernet"].ok is None
    assert "not yet covered" in str(results["segmenter"])
    for name in ("segmenter", "othernet"):
        (asked,) = parity.run(copied, only=name)
        assert asked.ok is False


def test_nothing_to_check(tmp_path):
    with pytest.raises(BadInput, match="no golden sets"):
        parity.run(tmp_path)
    with pytest.raises(BadInput, match="called lipsync"):
        parity.run(GOLDENS, only="lipsync")


def test_a_wrong_order_of_inputs_is_noticed(monkeypatch):
    def swapped(self, w, beta):
        x = torch.relu(self.fc1(torch.cat([beta, w], dim=1)))
        return w + self.fc4(torch.relu(self.fc3(torch.relu(self.fc2(x)))))

    monkeypatch.setattr(LipaintNet, "forward", swapped)
    (result,) = parity.run(GOLDENS, only="lipaint")
    assert result.ok is False and "OVER" in str(result)


def test_floor_instead_of_truncation_is_noticed(monkeypatch):
    def floored(frames, mel_frames):
        starts = torch.tensor([math.floor(80 * (i - 2) / 25) for i in range(frames)])
        return (starts[:, None] + torch.arange(16)).clamp(0, mel_frames - 1).numpy()

    monkeypatch.setattr(audio, "window_columns", floored)
    (result,) = parity.run(GOLDENS, only="audio")
    assert result.ok is False


def test_not_a_number_is_over_every_limit(monkeypatch):
    monkeypatch.setattr(LipaintNet, "forward", lambda self, w, beta: w * math.nan)
    (result,) = parity.run(GOLDENS, only="lipaint")
    assert result.ok is False and result.error == math.inf


def test_a_limit_in_percent_is_one_of_the_share_that_differs():
    theirs, limit = torch.arange(2000.0), "equal except at most 0.1 % of pixels"
    for wrong, ok in ((2, True), (3, False)):
        ours = theirs.clone()
        ours[:wrong] += 100
        entry = {"tolerance": {"labels": limit, "margin": "information only"}}
        given = golden.GoldenSet(Path(), 0, entry, {"labels": theirs, "margin": theirs})
        error, tolerance = golden.compare(given, lambda _, ours=ours: iter([("margin", 5 * ours), ("labels", ours)]))[:2]
        assert error == wrong / 2000 and tolerance == 0.001 and (error <= tolerance) is ok


def test_tensors_of_zeros_are_compared_too():
    given = golden.GoldenSet(Path(), 0, {"tolerance": {"default": 0.1}}, {"still": torch.zeros(3)})
    assert golden.compare(given, lambda _: iter([("still", torch.full((3,), 0.2))]))[0] == pytest.approx(0.2)


def test_a_limit_in_words_is_one_of_the_mean_difference(monkeypatch):
    from PIL import Image, ImageChops

    (result,) = parity.run(GOLDENS, only="align")
    assert result.ok is True
    resize = Image.Image.resize

    def shifted(picture, size, resample):
        return ImageChops.offset(resize(picture, size, resample), 2, 0)

    monkeypatch.setattr(Image.Image, "resize", shifted)
    (result,) = parity.run(GOLDENS, only="align")
    assert result.ok is False and result.tolerance == 1.5 and result.error > 1.5
