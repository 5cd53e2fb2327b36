"""LSE: sound that is moved is found where it was moved to; SyncNet's windows and crops. (The official numbers: test_parity.)"""

import json

import numpy as np
import pytest
import torch

from nfs_lib import audio, portraits, samples, worlds
from nfs_lib.errors import BadInput
from nfs_lib.metrics import load_backend, lse
from nfs_lib.metrics.sync import distances, windows
from nfs_lib.metrics.syncnet import SyncNet, as_int16, track_crops, whole_frames
from nfs_lib.training import speech_clips, sync, visemes
from nfs_lib.training.estimator import as_images
from nfs_lib.training.speech import Phoneme

SHIFTS = range(-10, 11)


@pytest.fixture(scope="module")
def backend():
    return load_backend(worlds.load("open"))


@pytest.mark.parametrize("clip", [2, 9, 21])
def test_moved_sound_is_found_in_held_out_clips(clip):
    """All 24 clips whole, 21 shifts each: 504 of 504 found; their first 40 frames: 98 %, 25 frames: 88 %."""
    scorer, clips, names = worlds.load("open").sync, speech_clips.held_out_clips(), speech_clips.expression_names()
    start, end = clips.starts()[clip], clips.starts()[clip] + 48
    mouths = sync.render_clip(clips.actions[start:end], 9_200_500 + clip, names)
    with torch.no_grad():
        seen = scorer.see(windows(as_images(torch.from_numpy(mouths))))
        heard = scorer.hear(torch.from_numpy(clips.mel[clips.columns()[start:end]].transpose(0, 2, 1)))
        silence = scorer.hear(torch.full((1, 80, 16), -4.0))
    late = torch.cat([silence.expand(20, -1), heard, silence.expand(20, -1)])  # row 20 is frame 0
    found = [lse(seen, late[22 - k : 22 - k + len(seen)]).offset for k in SHIFTS]
    assert np.mean([offset == -k for offset, k in zip(found, SHIFTS, strict=True)]) >= 0.95


def test_moved_sound_is_found_in_a_video(backend):
    wave = audio.load_speech(samples.speech_file("moon"))
    sounds = json.loads(samples.speech_file("moon").with_suffix(".json").read_text())["sounds"]
    names, scene = speech_clips.expression_names(), portraits.chart(portraits.sample_latent(9_360_400))
    actions = visemes.facial_actions([Phoneme(*sound) for sound in sounds], wave, names)[12:62]
    faces = visemes.with_reference(actions, 0.5 * scene.expression, names)
    pose = portraits.sample_pose(9_360_400)
    frames = np.stack([portraits.render(scene.replace(expression=face), pose, 128).image for face in faces])
    frames = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
    seen, found = backend.see(frames), []
    for k in SHIFTS:
        heard = backend.hear(wave[(12 - k) * 640 : (12 - k + 50) * 640], len(frames))
        found.append(lse(seen[: len(heard)], heard).offset)
    assert np.mean([offset == -k for offset, k in zip(found, SHIFTS, strict=True)]) >= 0.95
    right, wrong = (backend.sync(frames, wave[a * 640 : (a + 50) * 640]) for a in (12, 50))
    assert right.offset == 0 and right.distance < wrong.distance and right.confidence > wrong.confidence


def test_sound_and_frames_of_unequal_length_are_cut(backend):
    torch.manual_seed(0)
    frames, wave = torch.rand(30, 3, 128, 128) * 2 - 1, audio.load_speech(samples.speech_file("moon"))
    cut = backend.sync(frames, wave[: 25 * 640 + 300])
    mel = torch.from_numpy(audio.mel_windows(wave[: 25 * 640 + 300]))
    assert cut == worlds.load("open").sync.score(frames[:25], mel)
    assert backend.see(frames).shape == (26, 128) and backend.hear(wave, 30).shape == (26, 128)
    with pytest.raises(BadInput, match="longer"):
        backend.hear(wave[:2000], 30)


def test_distances_hold_the_padding():
    rng = torch.Generator().manual_seed(0)
    lips, sound = torch.randn(4, 6, generator=rng), torch.randn(4, 6, generator=rng)
    each = distances(lips, sound, shift=2)
    assert each.shape == (4, 5)
    assert float(each[1, 3]) == pytest.approx(float((lips[1] - sound[2]).norm()), rel=1e-5)
    assert float(each[0, 1]) == pytest.approx(float(lips[0].norm()), rel=1e-5)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SyncNet().eval()


@torch.no_grad()
def test_a_clip_at_once_is_its_windows_one_by_one(network):
    frames = torch.rand(7, 3, 224, 224) * 2 - 1
    bgr = (frames[:, [2, 1, 0]] + 1) * 127.5
    each = [network.see(bgr[i : i + 5].transpose(0, 1)[None])[0, 0] for i in range(3)]
    assert torch.allclose(network.lips(frames), torch.stack(each), atol=1e-4)


@torch.no_grad()
def test_sound_is_heard_in_windows_of_20_columns_4_a_frame(network):
    wave = audio.load_speech(samples.speech_file("moon"))[: 14 * 640 + 100]
    mfcc = torch.from_numpy(audio.mfcc(as_int16(wave))).float()
    each = torch.stack([mfcc[None, :, 4 * i : 4 * i + 20] for i in range(9)])  # 14 frames: 14 − 5 windows
    assert torch.allclose(network.sound(wave, 99), network.hear(each), atol=1e-5)
    assert network.sound(wave, 8).shape == (3, 1024)
    with pytest.raises(BadInput, match="longer"):
        network.sound(wave, 5)


def test_samples_as_a_16_bit_file_holds_them(tmp_path):
    import soundfile

    wave = audio.load_speech(samples.speech_file("moon"))
    assert np.array_equal(as_int16(wave), soundfile.read(samples.speech_file("moon"), dtype="int16")[0])
    assert as_int16(np.array([1.0, -1.0], np.float32)).tolist() == [32767, -32768]


def test_the_two_protocols():
    across = torch.arange(160.0) + 0.5
    frames = torch.stack([across.expand(120, 160), (torch.arange(120.0) + 0.5)[:, None].expand(120, 160)])
    frames = torch.cat([frames, torch.zeros(1, 120, 160)])[None].repeat(15, 1, 1, 1)  # x, y in pixels, nothing
    whole = whole_frames(frames)
    assert whole.shape == (15, 3, 224, 224) and float(whole[0, 0, 0, 112]) == pytest.approx(112.5 * 160 / 224)
    boxes = np.tile([60.0, 40.0, 100.0, 80.0], (15, 1))  # b = 20 around (80, 60)
    boxes[7] += 30  # a slip of the detector
    crops = track_crops(frames, boxes)
    for i in (6, 7, 8):  # rows 40 … 96, columns 52 … 108, 56 pixels on 224
        x, y = crops[i, 0, 100, 50].item(), crops[i, 1, 100, 50].item()
        assert (x, y) == pytest.approx((52 + 50.5 / 4, 40 + 100.5 / 4), abs=1e-3)
    boxes = np.tile([-20.0, 40.0, 20.0, 80.0], (15, 1))  # reaches beyond the picture
    crop = track_crops(frames, boxes)[7]
    assert torch.allclose(crop[:, :, :20], torch.tensor(110 / 127.5 - 1)) and crop[0, 50, 200] > 10
    with pytest.raises(BadInput, match="one box per frame"):
        track_crops(frames, boxes[:14])
