"""Pictures can be made on another device than the face's geometry: on one that is pretended, and the same to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pretend_device
import pytest

from nfs_lib import cli, samples, worlds


def found_elsewhere(*args):
    """What `pretend_device.py` prints."""
    run = subprocess.run([sys.executable, pretend_device.__file__, *map(str, args)], env=os.environ | {"OMP_NUM_THREADS": "1"},
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_the_open_worlds_heads_speak_elsewhere():
    assert found_elsewhere() == {str(case): 0 for case in pretend_device.OPEN}


def test_the_pretended_device_forbids_what_a_gpu_does():
    snippet = """
import pretend_device as p, torch
p.set_up()
with p.Machine():
    a, b = torch.arange(3.0, device="far"), torch.arange(3.0)
    for fine in (a + torch.tensor(2.0), a[torch.tensor([0, 1])], a + b.to(a), a.cpu() + b):
        assert fine.isfinite().all()
    for wrong in (lambda: a + b, lambda: b + a[0], lambda: b[a.long()], lambda: torch.cat([a, b])):
        try:
            wrong()
        except RuntimeError as error:
            assert "two devices" in str(error)
        else:
            raise AssertionError("nothing said")
    try:
        a.numpy()
    except (RuntimeError, TypeError):
        print("fine")
"""
    here = Path(__file__).parent
    run = subprocess.run([sys.executable, "-c", snippet], cwd=here, capture_output=True, text=True, check=False)
    assert run.stdout == "fine\n", run.stderr[-2000:]


def test_parts_that_make_pictures_are_where_the_world_is():
    world = worlds.World("open", "meta")
    assert all(next(getattr(world, name).parameters()).is_meta for name in ("generator", "discriminator", "lipaint"))
    assert not any(next(getattr(world, name).parameters()).is_meta for name in ("estimator", "audio2exp"))


@pytest.mark.parametrize("device", ["cuda:99", "nix", "meta", "", "hpu", "privateuseone"])
def test_a_device_that_cannot_be_used(device, tmp_path, capsys):
    portrait, clip, out = samples.portrait_file(), samples.speech_file(), tmp_path / "v.mp4"
    args = ["talk", "--image", str(portrait), "--audio", str(clip), "--out", str(out), "--device", device]
    assert cli.main(args) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"the device {device!r} can't be used here" in last and "give another" in last
    assert not list(tmp_path.iterdir())
