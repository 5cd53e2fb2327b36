"""The cases of `test_bad_input_table`, run as `python bad_input_cases.py FOLDER OUTCOME`: a line of JSON for each."""

import dataclasses
import hashlib
import inspect
import json
import os
import resource
import struct
import sys
import time
import warnings
import zlib
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save, save_file

from fuzz.seeds import CORPUS
from fuzz.targets import TARGETS
from nfs_lib import alignment, audio, checkpoints, cropping, driving, images, inversion, pipeline, video, viz, worlds
from nfs_lib.audio2exp import Audio2Exp, speech_to_expression
from nfs_lib.inversion import Inversion
from nfs_lib.official import bfm_originals, readers
from nfs_lib.parity import run as parity
from nfs_lib.studies import paper, prepare, tables, user_study, votes
from nfs_lib.stylenerf import FieldConfig, Generator, GeneratorConfig
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz import blending, chance, deformation, face, lipaint, metrics, prior, pti
from nfs_lib.viz import sound as hearing
from nfs_lib.viz.debugger import Debugger, State

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
os.chdir(folder)
LONG, NAN = "x" * 5000, float("nan")


def put(name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    return path


def png(width, height, depth, colour, body=b"", claimed=None):
    def chunk(kind, content, length=None):
        return (
            struct.pack(">I", len(content) if length is None else length)
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body, claimed) + chunk(b"IEND", b"")


def wav(rate=16000, channels=1, bits=16, kind=1, data=b"", claimed=None, align=None):
    align = channels * bits // 8 if align is None else align
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    size = len(data) if claimed is None else claimed
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def table(**about):
    """A safetensors file by hand."""
    head = json.dumps(about).encode()
    return struct.pack("<Q", len(head)) + head


def part(**changed):
    entry = {"file": "a.safetensors", "sha256": "0", "bytes": 0, "licence": "", "made_by": "", "figures": {}, "config": {}}
    return json.dumps({"parts": {"sync": entry | changed}})


def manifest(text):
    put("m/a.safetensors", b"")
    put("m/manifest.json", text)
    return checkpoints.read_manifest(folder / "m")


def world_part(name, **config):
    """A part whose manifest says something else than its weights."""
    content = save({"x": torch.zeros(2)})
    put("data/weights/open/a.safetensors", content)
    about = {
        "file": "a.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "licence": "",
        "made_by": "nfs",
    }
    put("data/weights/open/manifest.json", json.dumps({"parts": {name: about | {"figures": {}, "config": config}}}))
    os.environ["NFS_DATA"] = str(folder / "data")
    try:
        return getattr(worlds.load("open"), name)
    finally:
        del os.environ["NFS_DATA"]


def inverted(**changed):
    """An inversion whose configuration isn't that of its tensors."""
    small = GeneratorConfig(
        z_dim=2,
        w_dim=2,
        z_bg_dim=2,
        mapping_layers=1,
        field=FieldConfig(4, 2, 1),
        feature_dim=4,
        ray_resolution=4,
        n_samples=2,
        n_fine=0,
        background_hidden=2,
        background_blocks=2,
        background_samples=1,
        background_frequencies=1,
        channels=(4,),
    )
    path = folder / "inverted.safetensors"
    inversion.save(Inversion(Generator(small), torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 3), None, {}, 0.0), path)
    save_file(
        load_file(path),
        path,
        {"inversion": json.dumps({"config": dataclasses.asdict(small) | changed, "losses": {}, "seconds": 0})},
    )
    return inversion.load(path)


def filmed(name, width=32, height=32, times=(0, 1, 2), codec="mjpeg", late=None, sound="pcm_s16le", layout="mono"):
    """A film of grey pictures; times: in 25ths of a second; late: when its sound begins."""
    with av.open(name, "w") as file:
        show = file.add_stream(codec, rate=25)
        show.width, show.height, show.pix_fmt = width, height, "yuvj420p"
        voice = late is not None and file.add_stream(sound, rate=16000, layout=layout)
        for at in times:
            frame = av.VideoFrame(width, height, "yuvj420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = at
            file.mux(show.encode(frame))
        file.mux(show.encode(None))
        if voice:
            count = voice.layout.nb_channels
            frame = av.AudioFrame.from_ndarray(np.ones((1, 1600 * count), np.int16), format="s16", layout=layout)
            frame.sample_rate, frame.pts = 16000, late * 16000
            for piece in av.AudioResampler(voice.format, layout, 16000).resample(frame):
                file.mux(voice.encode(piece))
            file.mux(voice.encode(None))
    return folder / name


DEEP = "[" * 100_000
PREPARED = {"made_by": "nfs prepare", "recipe": prepare.RECIPE, "clips": [], "skipped": [], "finished": {}}
HEAD = ",".join(user_study.FIELDS)


def prepared(**changed):
    put("o/manifest.json", json.dumps(PREPARED | changed))
    return prepare.opened(folder / "o")


os.mkfifo("pipe")
os.mkfifo("ballot_pipe.csv")
os.mkfifo("pipe.mp4")
put("text", "I am none of these\n" * 20)
put("empty", b"")
os.mkdir("folder")
tone = (0.3 * np.sin(np.arange(16000) * 0.1)).astype(np.float32)
soundfile.write("good.wav", tone, 16000)
Image.fromarray(np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)).save("good.png")
READERS = {
    "picture": images.load_portrait,
    "sound": audio.load_speech,
    "video": video.read_video,
    "frames": lambda p: list(video.stream_frames(p)),
    "video's sound": video.read_sound,
    "length": video.length,
    "poses": driving.read_poses,
    "checkpoint": readers.read,
    "inversion": inversion.load,
    "ballot": user_study.read_ballot,
    "study table": lambda p: tables.read_csv(p),
}
PATHS = {
    "missing": "nowhere",
    "folder": "folder",
    "pipe": "pipe",
    "device": "/dev/zero",
    "empty": "empty",
    "text": "text",
    "long name": LONG,
    "zero in the name": "a\0b",
    "under a file": "text/x",
    "None": None,
    "number": 3,
    "bytes": b"good.wav",
    "nothing": "",
    "loop": "loop",
}
os.symlink("loop", "loop")
CASES = {
    f"{reader} from {kind}": lambda read=read, path=path: read(path)
    for reader, read in READERS.items()
    for kind, path in PATHS.items()
}

zeros = zlib.compress(b"\0" * 10**7)
sound = (tone * 9000).astype("<i2").tobytes()
CASES |= {
    # pictures
    "png of 100,000 x 100,000": lambda: images.load_portrait(put("a.png", png(100_000, 100_000, 8, 2, zeros))),
    "png of 2^31 - 1": lambda: images.load_portrait(put("a.png", png(2**31 - 1, 2**31 - 1, 16, 6))),
    "png without pixels": lambda: images.load_portrait(put("a.png", png(0, 0, 8, 2, zeros))),
    "png that promises more than it has": lambda: images.load_portrait(put("a.png", png(13_000, 13_000, 8, 2, zeros))),
    "png whose data promise gigabytes": lambda: images.load_portrait(put("a.png", png(40, 40, 8, 4, b"x", 0xE6FDFFDC))),
    "png of unknown colours": lambda: images.load_portrait(put("a.png", png(40, 40, 8, 5, zeros))),
    "a program for Ghostscript": lambda: images.load_portrait(
        put("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n")
    ),
    "svg": lambda: images.load_portrait(put("a.png", '<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>')),
    "tiff": lambda: (Image.new("RGB", (64, 64)).save("a.tiff"), images.load_portrait("a.tiff")),
    # sounds
    "wav of rate 0": lambda: audio.load_speech(put("a.wav", wav(0, data=sound))),
    "wav of rate 2^31": lambda: audio.load_speech(put("a.wav", wav(2**31, data=sound))),
    "wav of rate 2^32 - 1": lambda: audio.load_speech(put("a.wav", wav(2**32 - 1, data=sound))),
    "wav of one sample a second": lambda: audio.load_speech(put("a.wav", wav(1, data=sound))),
    "wav without channels": lambda: audio.load_speech(put("a.wav", wav(channels=0, data=sound))),
    "wav of 65,535 channels": lambda: audio.load_speech(put("a.wav", wav(channels=65535, data=sound, align=0xFFFF))),
    "wav of no bits": lambda: audio.load_speech(put("a.wav", wav(bits=0, data=sound))),
    "wav that promises 4 GB and has nothing": lambda: audio.load_speech(put("a.wav", wav(claimed=2**32 - 1))),
    "wav of NaN": lambda: audio.load_speech(put("a.wav", wav(bits=32, kind=3, data=np.full(8000, NAN, "<f4").tobytes()))),
    "wav of infinity at another rate": lambda: audio.load_speech(
        put("a.wav", wav(44100, bits=32, kind=3, data=np.full(44100, np.inf, "<f4").tobytes()))
    ),
    "a list of other files": lambda: audio.load_speech(
        put("a.wav", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    ),
    # videos
    "video too large": lambda: list(video.stream_frames(filmed("huge.mov", 9000, 4000, (0,)))),
    "video with 16 channels in planes": lambda: video.read_sound(
        filmed("many.mkv", late=0, sound="wavpack", layout="hexadecagonal")
    ),
    "video that stands still for a day": lambda: list(video.stream_frames(filmed("still.mkv", times=(0, 86400 * 25)))),
    "video whose sound begins a day later": lambda: video.read_sound(filmed("late.mkv", late=86400)),
    # poses
    "poses of 30 MB": lambda: driving.read_poses(put("a.csv", "yaw,pitch,roll\n" + "0,0,0\n" * 5_000_000)),
    "poses of a huge whole number": lambda: driving.read_poses(
        put("a.json", '[{"yaw": %s, "pitch": 0, "roll": 0}]' % ("9" * 5000))
    ),
    "poses at 10^400 a second": lambda: driving.read_poses(
        put("a.json", '{"fps": 1e400, "yaw": [1], "pitch": [1], "roll": [1]}')
    ),
    "poses in UTF-16": lambda: driving.read_poses(put("a.csv", "yaw,pitch,roll\n1,2,3\n".encode("utf-16"))),
    # weights
    "manifest in brackets": lambda: manifest(DEEP),
    "manifest of a list": lambda: manifest('{"parts": []}'),
    "manifest in Latin-1": lambda: manifest(b'{"parts": {"\xe9": {}}}'),
    "manifest with a number for a file": lambda: manifest(part(file=3)),
    "manifest with a folder for a file": lambda: manifest(part(file="..")),
    "manifest with a zero in a name": lambda: manifest(part(file="a\0b")),
    "manifest with text for bytes": lambda: manifest(part(bytes="many")),
    "manifest with a list for a configuration": lambda: manifest(part(config=[])),
    "manifest with an unknown entry": lambda: manifest(part(more=1)),
    "manifest with an infinite size": lambda: manifest(part(bytes=float("inf"))),
    "part with an unknown option": lambda: world_part("sync", nothing=1),
    "part without its options": lambda: world_part("generator"),
    "part of 10^9 numbers a layer": lambda: world_part("audio2exp", n_exp=10**9),
    "part of 90,000 x 90,000": lambda: world_part("lipaint", w_dim=90_000, n_exp=90_000),
    "part of negative size": lambda: world_part("audio2exp", n_exp=-3),
    "part with text for a size": lambda: world_part("audio2exp", n_exp="many"),
    "part with other weights": lambda: world_part("audio2exp", n_exp=4),
    "inversion of 10^9 layers": lambda: inverted(mapping_layers=10**9),
    "inversion of 99,999 x 99,999": lambda: inverted(z_dim=99_999, w_dim=99_999),
    "inversion with text for a size": lambda: inverted(w_dim="2"),
    "inversion without channels": lambda: inverted(channels=None),
    "inversion of no tensors": lambda: inversion.load(put("a.safetensors", table(__metadata__={"inversion": "{}"}))),
    "inversion of a list": lambda: inversion.load(put("a.safetensors", table(__metadata__={"inversion": "[]"}))),
    "checkpoint of 10^18 numbers": lambda: readers.read(
        put("a.pth", table(x={"dtype": "F32", "shape": [10**18], "data_offsets": [0, 0]}))
    ),
    "expression basis of 2^31 components": lambda: bfm_originals.expression_basis(
        put("Exp_Pca.bin", struct.pack("<i", 2**31 - 1) + bytes(8))
    ),
    "expression basis of nothing": lambda: bfm_originals.expression_basis(put("Exp_Pca.bin", b"")),
    "deviations of words": lambda: bfm_originals.numbers(put("std_exp.txt", "one two")),
    "deviations that aren't text": lambda: bfm_originals.numbers(put("std_exp.txt", b"\xff\xfe\0")),
    # tables and other text
    "study table in UTF-16": lambda: tables.read_csv(put("a.csv", "# nfs flip\na,b\n1,2\n".encode("utf-16"))),
    "study table of one huge cell": lambda: tables.read_csv(put("a.csv", '# nfs flip\na,b\n1,"' + "x" * 200_000 + '"\n')),
    "ballots of a folder with a pipe": lambda: votes.analyse(folder),
    "ballot of one huge cell": lambda: user_study.read_ballot(put("ballot_x.csv", HEAD + "\n" + "x" * 200_000 + "\n")),
    "paper's table in a pipe": lambda: (os.mkfifo("table1.csv"), paper.load(1, folder)),
    "prepared: brackets": lambda: (put("o/manifest.json", DEEP), prepare.opened(folder / "o")),
    "prepared: a pipe": lambda: (os.mkdir("p"), os.mkfifo("p/manifest.json"), prepare.opened(folder / "p")),
    "prepared: a clip that lies elsewhere": lambda: prepared(
        clips=[{"source": "a", "clip": "../../precious", "start": 0, "end": 8}]
    ),
    "prepared: a clip without a name": lambda: prepared(clips=[{"source": "a", "start": 0, "end": 8}]),
    "prepared: a time in words": lambda: prepared(clips=[{"source": "a", "clip": "a", "start": "now", "end": 8}]),
    "prepared: numbers for entries": lambda: prepared(skipped=[3]),
    "goldens: brackets": lambda: parity(put("g1/index.json", DEEP).parent),
    "goldens: a list": lambda: parity(put("g2/index.json", "[]").parent),
    "goldens: an entry that lacks all": lambda: parity(put("g3/index.json", '{"seed": 1, "sets": {"audio": {}}}').parent),
    "goldens: tensors that aren't": lambda: (
        put("g4/lipaint/golden.safetensors", "text"),
        parity(put("g4/index.json", '{"seed": 1, "sets": {"lipaint": {}}}').parent),
    ),
}


# arrays
frames = np.zeros((2, 32, 32, 3), np.uint8)
net = Audio2Exp(6).eval()
head = object.__new__(TalkingHead)
head.face = type("Face", (), {"expression": torch.zeros(1, 6)})
small = type("Small", (), {"config": type("Config", (), {"resolution": 64})})
grey = torch.zeros(3, 64, 64)
grey[:, :20] = 0.5
B, T, V = torch.zeros(6), torch.zeros(2, 3), torch.zeros(1, 3)
P, Q = torch.zeros(4, 3), torch.rand(5, 3)
cut = cropping.crop_portrait


def film(pictures=frames, **more):
    return video.write_video("out.mp4", pictures, **more)


def say(wave=tone, beta=B, **more):
    return speech_to_expression(net, wave, beta, **more)


def turn(betas=torch.zeros(2, 6), poses=T):  # noqa: B008
    return list(head.frames(betas, poses))


def put_in(image=grey, pose=V, **more):
    return inversion.invert(small, image, pose, **more)


def talk(**more):
    return pipeline.talk("good.png", "good.wav", "out.mp4", **more)


CASES |= {
    "frames of floats": lambda: film(frames.astype(np.float32)),
    "frames of NaN": lambda: film(np.full((2, 32, 32, 3), NAN, np.float32)),
    "frames with channels first": lambda: film(frames.transpose(0, 3, 1, 2)),
    "frames with alpha": lambda: film(np.zeros((2, 32, 32, 4), np.uint8)),
    "grey frames": lambda: film(frames[..., 0]),
    "frames that are tensors": lambda: film(torch.from_numpy(frames)),
    "frames that are lists": lambda: film([[1, 2], [3]]),
    "frames without pixels": lambda: film(np.zeros((2, 0, 0, 3), np.uint8)),
    "frames too wide": lambda: film(np.zeros((1, 2, 20_000, 3), np.uint8)),
    "frames of two sizes": lambda: film([frames[0], frames[0, :16]]),
    "no frames": lambda: film([]),
    "sound of doubles": lambda: film(audio=tone.astype(np.float64)),
    "sound of int16": lambda: film(audio=(tone * 9000).astype(np.int16)),
    "sound of NaN": lambda: film(audio=tone * np.float32(NAN)),
    "sound in stereo": lambda: film(audio=np.zeros((100, 2), np.float32)),
    "fps 0": lambda: film(fps=0),
    "fps -1": lambda: film(fps=-1),
    "fps 25.5": lambda: film(fps=25.5),
    "fps 10^9": lambda: film(fps=10**9),
    "speech of doubles": lambda: say(tone.astype(np.float64)),
    "speech of int16": lambda: say((tone * 9000).astype(np.int16)),
    "speech in int16's range": lambda: say(tone * 9000),
    "speech of NaN": lambda: say(tone * np.float32(NAN)),
    "speech of less than a frame": lambda: say(tone[:639]),
    "speech in stereo": lambda: say(np.zeros((8000, 2), np.float32)),
    "speech that is a tensor": lambda: say(torch.from_numpy(tone)),
    "no speech": lambda: say(None),
    "expression of doubles": lambda: say(beta=torch.zeros(6).double()),
    "expression of another model": lambda: say(beta=torch.zeros(52)),
    "expression of NaN": lambda: say(beta=torch.zeros(6) * NAN),
    "expression on another device": lambda: say(beta=torch.zeros(6, device="meta")),
    "expression in numpy": lambda: say(beta=np.zeros(6, np.float32)),
    "momentum NaN": lambda: say(momentum=NAN),
    "momentum 5": lambda: say(momentum=5.0),
    "momentum in words": lambda: say(momentum="half"),
    "scale infinite": lambda: say(scale=float("inf")),
    "head: doubles": lambda: turn(torch.zeros(2, 6).double()),
    "head: NaN": lambda: turn(torch.zeros(2, 6) * NAN),
    "head: another model's": lambda: turn(torch.zeros(2, 64)),
    "head: poses in degrees": lambda: turn(poses=torch.full((2, 3), 30.0)),
    "head: poses of NaN": lambda: turn(poses=torch.zeros(2, 3) * NAN),
    "head: more poses than expressions": lambda: turn(poses=torch.zeros(3, 3)),
    "head: no frames": lambda: turn(torch.zeros(0, 6), torch.zeros(0, 3)),
    "head: numpy": lambda: turn(np.zeros((2, 6), np.float32)),
    "head: another device": lambda: turn(torch.zeros(2, 6, device="meta")),
    "invert: bytes": lambda: put_in(((grey + 1) * 127).byte()),
    "invert: doubles": lambda: put_in(grey.double()),
    "invert: numpy": lambda: put_in(grey.numpy()),
    "invert: NaN": lambda: put_in(grey * NAN),
    "invert: another device": lambda: put_in(grey.to("meta")),
    "invert: a batch": lambda: put_in(grey[None]),
    "invert: pose of NaN": lambda: put_in(pose=torch.zeros(1, 3) * NAN),
    "invert: pose of doubles": lambda: put_in(pose=torch.zeros(1, 3).double()),
    "invert: pose without batch": lambda: put_in(pose=torch.zeros(3)),
    "invert: profile": lambda: put_in(profile="quick"),
    "crop: bytes": lambda: cut(((grey + 1) * 127).byte()),
    "crop: 0 to 255": lambda: cut((grey + 1) * 127),
    "crop: doubles": lambda: cut(grey.double()),
    "crop: NaN": lambda: cut(grey * NAN),
    "crop: channels last": lambda: cut(grey.permute(1, 2, 0)),
    "crop: numpy": lambda: cut(grey.numpy()),
    "crop: another device": lambda: cut(grey.to("meta")),
    "save: NaN": lambda: images.save_image("out.png", grey * NAN),
    "save: grey": lambda: images.save_image("out.png", grey[0]),
    "save: an unknown kind": lambda: images.save_image("out.xyz", grey),
    "save: no folder": lambda: images.save_image("none/out.png", grey),
    "match: NaN": lambda: alignment.match(P * NAN, Q),
    "match: nothing": lambda: alignment.match(P, Q[:0]),
    "match: a rule": lambda: alignment.match(P, Q, "nearest"),
    "fill nothing": lambda: driving.fit_length(P[:0], 4),
    "fill to nothing": lambda: driving.fit_length(P, 0),
    "fill to less": lambda: driving.fit_length(P, -4),
    "world None": lambda: worlds.load(None),
    "world of a list": lambda: worlds.load([]),
    "talk: profile": lambda: talk(profile="quick"),
    "talk: seed": lambda: talk(seed=-1),
    "talk: seed 0.5": lambda: talk(seed=0.5),
    "talk: yaw in degrees": lambda: talk(yaw=30),
    "talk: pitch NaN": lambda: talk(pitch=NAN),
    "talk: momentum 1": lambda: talk(momentum=1.0),
    "talk: scale in words": lambda: talk(scale="large"),
    "talk: no masks": lambda: talk(mask_frames=0),
    "talk: masks 2.5": lambda: talk(mask_frames=2.5),
    "talk: world": lambda: talk(world="real"),
}
# what the notebooks' sliders and boxes call, with values that no slider has
WRONG_NUMBERS = {"NaN": NAN, "infinite": float("inf"), "far too large": 1e9, "far too small": -1e9, "in words": "half",
                 "none": None, "True": True, "a list": [0.5], "a tensor": torch.tensor([0.5, 0.5])}  # fmt: skip
BY_HAND = {
    viz.pose_face: ("jaw", "smile", "pucker", "yaw"), blending.play_blend: ("jaw", "grow", "hard", "space", "rgb"),
    chance.coverage: ("clips", "people", "alike", "shown"), chance.null_table: ("rows", "columns", "people", "table"),
    chance.power: ("share", "clips", "taste", "level"), deformation.play_lips: ("strength", "yaw", "planar", "sign"),
    face.face_with: ("mode_1", "mode_2", "mode_3", "jaw", "smile", "pucker", "yaw", "lamp"),
    lipaint.paint_mouth: ("jaw", "smile", "pucker", "strength", "yaw"),
    metrics.play: ("blur", "noise", "contrast", "late", "still"), pti.beside_truth: ("yaw",),
    prior.slide_person: ("identity_1", "identity_2", "skin", "length", "jaw_open", "yaw", "psi"),
    hearing.play: ("alpha_m", "lambda_exp", "smile"),
}  # fmt: skip
for function, arguments in BY_HAND.items():
    fixed = [None for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    for argument in arguments:
        flag = isinstance(inspect.signature(function).parameters[argument].default, bool)
        CASES |= {
            f"{function.__module__}.{function.__name__}: {argument} {kind}": partial(function, *fixed, **{argument: value})
            for kind, value in WRONG_NUMBERS.items()
            if not (flag and value is True)
        }
shown = object.__new__(Debugger)
shown.actions, shown.betas = {"none": [], "jawOpen": [0]}, None
CASES |= {
    f"debugger: {name} {value!r}": partial(shown._check, State(**{name: value}))
    for name in ("action", "strength", "time", "yaw", "pitch", "rule", "stride", "overlay")
    for value in (None, "half", NAN, 1e9, 30.5, [1])
}
# places to write to
for kind, path in {
    "long name": LONG + ".mp4",
    "name that leaves no room": "x" * 250 + ".mp4",
    "zero in the name": "a\0b.mp4",
    "None": None,
    "number": 3,
    "nothing": "",
    "pipe": "pipe.mp4",
    "device": "/dev/null",
    "under a file": "text/a.mp4",
}.items():
    CASES[f"write to {kind}"] = lambda path=path: video.write_video(path, frames)
# what must go through all the same
FINE = {
    "frames that aren't contiguous": lambda: film(np.zeros((2, 3, 32, 32), np.uint8).transpose(0, 2, 3, 1)[:, ::-1]),
    "sound that isn't contiguous": lambda: film(audio=tone[::-2]),
    "no sound at all": lambda: film(audio=np.zeros(0, np.float32)),
    "speech that isn't contiguous": lambda: say(tone[::-1]),
    "expression that isn't contiguous": lambda: say(beta=torch.zeros(12)[::2]),
    "match of strided points": lambda: alignment.match(torch.rand(8, 3)[::2], torch.rand(8, 6)[:, ::2]),
    "16 bits in one channel": lambda: images.load_portrait(
        put("ok.png", png(40, 40, 16, 0, zlib.compress((b"\0" + bytes(80)) * 40)))
    ),
    "wav that promises more than it has": lambda: audio.load_speech(put("ok.wav", wav(data=sound, claimed=2**31 - 1))),
    "wav of 33 channels": lambda: audio.load_speech(
        put("ok.wav", wav(channels=33, data=np.repeat(tone * 9000, 33).astype("<i2").tobytes()))
    ),
    "wav of a low rate": lambda: audio.load_speech(put("ok.wav", wav(1000, data=sound))),
    "names in other letters": lambda: images.load_portrait(put("头像 é😀.png", Path("good.png").read_bytes())),
    "sound named in other letters": lambda: audio.load_speech(put("声 ü.wav", Path("good.wav").read_bytes())),
    "video whose name isn't UTF-8": lambda: video.read_video(put("caf\udce9.mp4", filmed("cafe.mov").read_bytes())),
    "sound whose name isn't UTF-8": lambda: audio.load_speech(put("caf\udce9.wav", Path("good.wav").read_bytes())),
    "video named in other letters": lambda: video.read_video(film_named("фильм ñ.mp4")),
}


EITHER = {
    f"corpus: {path.parent.name}/{path.name}": lambda path=path: TARGETS[path.parent.name](path.read_bytes())
    for path in sorted(CORPUS.glob("*/*"))
}


def film_named(name):
    return video.write_video(name, frames, tone)


def size():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


resource.setrlimit(resource.RLIMIT_AS, (size() + 2**30, size() + 2**30))
if os.geteuid() == 0:
    os.chmod(folder, 0o777)
    os.chmod(folder.parent, 0o755)
put("locked", Path("good.wav").read_bytes()).chmod(0)
os.mkdir("shut")
put("shut/good.wav", Path("good.wav").read_bytes())
os.chmod("shut", 0)
with open(sys.argv[2], "w") as out:
    for name, case in (CASES | FINE | EITHER).items():
        expected = "refused" if name in CASES else "taken" if name in FINE else "either"
        before, start = {p for p in os.listdir(".") if p.startswith(".") or "out." in p}, time.process_time()
        try:
            case()
            result = ["", ""]
        except Exception as error:
            result = [type(error).__name__, str(error)]
        left = [p for p in os.listdir(".") if (p.startswith(".") or "out." in p) and p not in before] if name in CASES else []
        Path("out.mp4").unlink(missing_ok=True)
        print(json.dumps([name, *result, time.process_time() - start, left, expected]), file=out, flush=True)
    if os.geteuid() == 0:
        os.seteuid(65534)  # permissions don't bind root
    for reader, read in READERS.items():
        for path in ("locked", "shut/good.wav"):
            try:
                read(path)
                result = ["", ""]
            except Exception as error:
                result = [type(error).__name__, str(error)]
            print(json.dumps([f"{reader} from {path}", *result, 0.0, [], "refused"]), file=out, flush=True)
    if os.getuid() == 0:
        os.seteuid(0)
