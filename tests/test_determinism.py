"""The same seed, inputs and machine give the same frames, files and weights, to the last bit; docs/determinism.md says where
that ends. The child process starts with other hashes of strings and other global random numbers than this one.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from nfs_lib import inversion, pipeline, portraits, video, worlds
from nfs_lib.paths import data_folder
from nfs_lib.talking_head import TOGETHER, TalkingHead
from nfs_lib.training import lipaint

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def one_thread():
    """As the children have it: the number of threads changes the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def talk(folder, disturb=1):
    """`nfs talk --orbit` on 0.2 s of speech with two steps of PTI: digests of frames, file, and decoded frames."""
    torch.manual_seed(disturb)
    np.random.seed(disturb)  # noqa: NPY002
    folder.mkdir()
    wave, rate = soundfile.read(data_folder() / "samples/speech/hello.wav")
    soundfile.write(folder / "short.wav", wave[rate // 2 : int(0.7 * rate)], rate)
    drawn, write, steps = [], video.write_video, inversion.STEPS["fast"]

    def noted(path, frames, *sound, **signs):
        def each():
            for frame in frames:
                drawn.append(frame)
                yield frame

        return write(path, each(), *sound, **signs)

    try:
        video.write_video, inversion.STEPS["fast"] = noted, (1, 1)
        path = pipeline.talk(data_folder() / "samples/portraits/portrait_1.png", folder / "short.wav", folder / "talk.mp4",
                             orbit=True, profile="fast")  # fmt: skip
    finally:
        video.write_video, inversion.STEPS["fast"] = write, steps
    return {"frames": digest(np.stack(drawn)), "decoded": digest(video.read_video(path).frames),
            "portrait": digest(portraits.portrait(77).image)}  # fmt: skip


def test_talk_gives_the_same_frames_in_another_process(tmp_path):
    code = "import sys, json; from pathlib import Path; from tests.test_determinism import talk\nimport torch\n" + (
        "torch.set_num_threads(1); print(json.dumps(talk(Path(sys.argv[1]), disturb=2)))"
    )
    child = subprocess.run([sys.executable, "-c", code, tmp_path / "child"], cwd=ROOT, capture_output=True, text=True,
                           env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert child.returncode == 0, child.stderr
    here = talk(tmp_path / "here")
    assert json.loads(child.stdout) == here


@pytest.fixture(scope="module")
def open_world():
    return worlds.load("open")


@pytest.mark.parametrize("orbit", [True, False])
def test_a_frame_depends_on_nothing_that_was_drawn_before(open_world, orbit):
    """But for the mask's mean; and rendered one at a time it is the same to one grey level."""
    inverted = inversion.load(data_folder() / "samples/inversions/portrait_1.safetensors")
    betas = 0.3 * torch.rand(2 * TOGETHER, inverted.face.expression.shape[1], generator=torch.Generator().manual_seed(1))
    poses = pipeline.head_turn(inverted.face.pose, len(betas), None, None, orbit)

    def head():
        return TalkingHead(open_world, inverted, inverted.face)

    one = head()
    first, again = list(one.frames(betas, poses)), list(one.frames(betas, poses))
    assert np.array_equal(first, again)
    assert np.array_equal(first[:TOGETHER], list(head().frames(betas[:TOGETHER], poses[:TOGETHER])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nfs_lib.talking_head.TOGETHER", 1)
        single = np.array(list(head().frames(betas[:3], poses[:3])), int)
    assert np.abs(single - np.array(first[:3], int)).max() <= 1
    assert not np.array_equal(first[0], first[1])


def test_training_twice_gives_the_same_weights(tmp_path):
    def train(name, disturb):
        torch.manual_seed(disturb)
        np.random.seed(disturb)  # noqa: NPY002
        lipaint.train(3, 0, out=tmp_path / name, recipe=lipaint.Recipe(batch=1, check=1, warm=0.7))
        return (tmp_path / name / "lipaint.safetensors").read_bytes()

    assert train("first", 1) == train("second", 2)


def test_the_seed_counts(open_world):
    inverted = inversion.load(data_folder() / "samples/inversions/portrait_1.safetensors")
    picture = inverted.picture()[0]
    first, again, other = (inversion.project(open_world.generator, picture, inverted.pose, steps=1, seed=seed)[0]
                           for seed in (0, 0, 1))  # fmt: skip
    assert torch.equal(first, again) and not torch.equal(first, other)
