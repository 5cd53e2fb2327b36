"""Small valid files, fuzz/corpus/TARGET/NAME, that the mutations start from: `python -m fuzz.seeds` writes them."""

import io
import json
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

CORPUS = Path(__file__).parent / "corpus"
RNG = np.random.default_rng(0)


def images() -> Iterator[tuple[str, bytes]]:
    pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8).repeat(5, 0).repeat(5, 1)
    rgb, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    exif[0x8769] = {0x9286: b"a comment"}
    palette = rgb.quantize(16)
    kinds: dict[str, tuple[Image.Image, dict]] = {
        "rgb.png": (rgb, {"exif": exif, "icc_profile": b"\0" * 128}),
        "palette.png": (palette, {"transparency": 0}),
        "grey16.png": (Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40), {}),
        "rgba.png": (rgb.convert("RGBA"), {}), "frames.png": (rgb, {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "bit.png": (rgb.convert("1"), {}), "grey_alpha.png": (rgb.convert("LA"), {}),
        "rgb.jpeg": (rgb, {"exif": exif, "quality": 60}), "progressive.jpeg": (rgb, {"progressive": True, "quality": 40}),
        "cmyk.jpeg": (rgb.convert("CMYK"), {"quality": 40}), "grey.jpeg": (rgb.convert("L"), {"quality": 40}),
        "lossy.webp": (rgb, {"exif": exif}), "lossless.webp": (rgb, {"lossless": True}),
        "frames.webp": (rgb, {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "still.gif": (palette, {"transparency": 3}),
        "frames.gif": (palette, {"save_all": True, "append_images": [palette.rotate(90)]}),
        "rgb.bmp": (rgb.resize((32, 32)), {}), "palette.bmp": (palette, {}),
    }  # fmt: skip
    for name, (image, options) in kinds.items():
        file = io.BytesIO()
        image.save(file, Path(name).suffix[1:], **options)
        yield name, file.getvalue()


def sounds() -> Iterator[tuple[str, bytes]]:
    for name, rate, seconds, options in (
        ("pcm16.wav", 8000, 0.25, {}), ("float.wav", 8000, 0.25, {"subtype": "FLOAT"}),
        ("adpcm.wav", 8000, 0.25, {"subtype": "IMA_ADPCM"}),
        ("mulaw.wav", 8000, 0.25, {"subtype": "ULAW"}), ("a.flac", 16000, 0.25, {}), ("vorbis.ogg", 16000, 0.25, {}),
        ("opus.ogg", 16000, 0.25, {"subtype": "OPUS"}), ("a.mp3", 16000, 0.3, {}), ("a.aiff", 8000, 0.25, {}),
        ("a.au", 8000, 0.25, {}),
    ):  # fmt: skip
        file, time = io.BytesIO(), np.arange(int(rate * seconds)) / rate
        soundfile.write(file, 0.4 * np.sin(2 * np.pi * 220 * time * (1 + time)), rate, format=name.split(".")[1], **options)
        yield name, file.getvalue()
    yield "aac.m4a", filmed("mp4", None, "aac")


def filmed(kind: str, picture: str | None, sound: str | None, frames: int = 4, side: int = 32) -> bytes:
    """A tiny film; of sound alone it lasts a quarter of a second."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=kind) as target:
        target.metadata["comment"] = "a comment"
        show = target.add_stream(picture, rate=25) if picture else None
        voice = target.add_stream(sound, rate=48000, layout="mono") if sound else None
        if show:
            show.width = show.height = side  # type: ignore[attr-defined]
            show.pix_fmt = "yuvj420p" if picture == "mjpeg" else "yuv420p"  # type: ignore[attr-defined]
        for i in range(frames if show else 0):
            pixels = np.full((side, side, 3), 40 * i, np.uint8)
            pixels[4 * i : 4 * i + 8] = 200
            target.mux(show.encode(av.VideoFrame.from_ndarray(pixels).reformat(format=show.pix_fmt)))  # type: ignore
        for i in range(12 if voice and not show else 4 if voice else 0):
            wave = 0.3 * np.sin(np.arange(1024 * i, 1024 * i + 1024, dtype=np.float32) * 0.05)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, 1024 * i
            target.mux(voice.encode(frame))  # type: ignore[union-attr]
        for stream in target.streams:
            target.mux(stream.encode(None))  # type: ignore[attr-defined]
    return file.getvalue()


def films() -> Iterator[tuple[str, bytes]]:
    for name, *codecs in (("h264.mp4", "libx264", "aac"), ("silent.mp4", "libx264", None), ("mpeg4.avi", "mpeg4", "libmp3lame"),
                          ("vp8.webm", "libvpx", "libopus"), ("h264.matroska", "libx264", "libopus"),
                          ("mjpeg.mov", "mjpeg", "aac")):  # fmt: skip
        yield name, filmed(name.split(".")[1], *codecs)


def tensors() -> dict[str, np.ndarray]:
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float16), "n": np.array(3)}


def weights() -> Iterator[tuple[str, bytes]]:
    from safetensors.numpy import save

    yield "three", save(tensors())
    yield "meta", save({"a": np.zeros((2, 2), np.int8)}, {"format": "pt"})
    yield "none", save({})


def official() -> Iterator[tuple[str, bytes]]:
    """Tables of the names by which parts are recognised."""
    from safetensors.numpy import save

    from nfs_lib.lpips import CHANNELS

    zeros = {name: np.zeros(shape, np.float32) for name, shape in (
        ("fc4.weight", (2, 3)), ("fc1.weight", (3, 5)), ("mapping1.weight", (2, 515)), ("layer1.0.prelu.weight", (4,)),
        ("final_layers.0.weight", (8, 2, 1, 1)), ("cp.resnet.conv1.weight", (1, 3, 7, 7)), ("netcnnaud.0.weight", (1, 1, 3, 3)),
        ("Conv2d_1a_3x3.conv.weight", (1, 3, 3, 3)), ("face_encoder_blocks.0.0.conv_block.0.weight", (1, 6, 7, 7)),
        ("features.0.weight", (1, 3, 3, 3)), ("idBase", (12, 2)), ("exBase", (12, 2)))}  # fmt: skip
    for name, value in zeros.items():
        yield name, save({name: value, f"module.{name}": value})
    yield "lin", save({f"lin{i}.model.1.weight": np.ones((1, c, 1, 1), np.float32) for i, c in enumerate(CHANNELS["alex"])})


def pickles() -> Iterator[tuple[str, bytes]]:
    """What stands inside torch's zip files."""
    import zipfile

    import torch

    state = {"model": OrderedDict(a=torch.arange(16.0), b=torch.ones(2, 2, dtype=torch.int8)), "step": 3, "name": "x"}
    for name, content in {
        "state": state,
        "parameter": {"p": torch.nn.Parameter(torch.zeros(16))},
        "sets": {"s": {1, 2}},
    }.items():
        file = io.BytesIO()
        torch.save(content, file)
        with zipfile.ZipFile(file) as archive:
            yield name, archive.read("archive/data.pkl")


def checkpoints() -> Iterator[tuple[str, bytes]]:
    """Files of every kind."""
    import scipy.io
    import torch

    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    for name, new in (("new.pth", True), ("old.pth", False)):
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=new)
        yield name, file.getvalue()
    for name, pressed in (("a.mat", False), ("pressed.mat", True)):
        file = io.BytesIO()
        scipy.io.savemat(file, {"idBase": np.eye(3), "tri": np.arange(6, dtype=np.int32), "text": "x"}, do_compression=pressed)
        yield name, file.getvalue()
    yield "a.safetensors", dict(weights())["three"]
    yield "plain.pkl", pickle.dumps({"G_ema": {"a": [1, 2.5, None]}}, 4)
    sys.path.append(str(Path(__file__).parent.parent / "scripts"))
    from official_stand_ins import persistence_module, persistent

    network = persistent(
        "Generator", {"alpha": torch.tensor(1.0), "b.weight": torch.ones(2)}, {"w_dim": 2, "kwargs": {"a": [1]}}
    )
    with persistence_module():
        yield "network.pkl", pickle.dumps({"G_ema": network}, 3)


def matrices() -> Iterator[tuple[str, bytes]]:
    """Elements of MATLAB's files, not compressed."""
    import scipy.io

    for name, value in {"double": np.eye(3), "int": np.arange(6, dtype=np.int32), "text": "x", "complex": np.eye(2) * 1j,
                        "cell": np.array([1, "a"], object), "struct": {"a": 1}}.items():  # fmt: skip
        file = io.BytesIO()
        scipy.io.savemat(file, {"idBase": value}, do_compression=False)
        yield name, file.getvalue()[128:]


def inversions() -> Iterator[tuple[str, bytes]]:
    import tempfile

    import torch

    from nfs_lib.inversion import Inversion, save
    from nfs_lib.stylenerf import FieldConfig, Generator, GeneratorConfig

    torch.manual_seed(0)
    config = GeneratorConfig(z_dim=2, w_dim=2, z_bg_dim=2, mapping_layers=1, field=FieldConfig(4, 2, 1), feature_dim=4,
                             ray_resolution=4, n_samples=2, n_fine=0, background_hidden=2, background_blocks=2,
                             background_samples=1, background_frequencies=1, channels=(4,))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        zero = torch.zeros
        save(Inversion(Generator(config), zero(1, 2), zero(1, 2), zero(1, 3), None, {"tune": []}, 0.0), path)
        yield "small", path.read_bytes()


MANIFEST = {"parts": {"sync": {"file": "sync.safetensors", "sha256": "0" * 64, "bytes": 0, "licence": "MIT", "made_by": "nfs",
                               "figures": {"a": 1.0}, "config": {"width": 2}, "seed": 0, "steps": 1,
                               "seconds": 0.5}}}  # fmt: skip
CLIP = {"source": "a.mp4", "sha256": "0", "clip": "a_0000", "start": 0.0, "end": 8.0, "frame": [4, 4], "crop": [[0, 0]],
        "size": 256, "face_seen": "1 of 1", "notes": []}  # fmt: skip
PREPARED = {"made_by": "nfs prepare", "recipe": {"fps": 25, "sample_rate": 16000, "seconds": 8}, "clips": [CLIP],
            "skipped": [{"source": "b.mp4", "sha256": "1", "reason": "it has no sound"}],
            "finished": {"a.mp4": "0"}}  # fmt: skip
TEXTS = {
    "poses_csv": {"a": "yaw,pitch,roll\n1,2,3\n-4.5,1e1,0\n", "order": 'roll,"yaw",pitch\r\n0,0,0\r\n',
                  "mark": "\ufeffyaw,pitch,roll\n1,2,3\n"},
    "poses_json": {"rows": '[{"yaw": 1, "pitch": -2.5, "roll": 0}, {"yaw": 2, "pitch": 1e1, "roll": 0}]',
                   "lists": '{"fps": 12.5, "yaw": [1, 2], "pitch": [0, 0], "roll": [0, 3]}'},
    "manifest": {"one": json.dumps(MANIFEST), "none": '{"parts": {}}'},
    "ballot": {"one": "participant,question,clip,order,choice,seconds,time,made_up\r\n"
                      "ann,lips,hello,ours;warp,ours,2.5,2026-01-02T03:04:05+00:00,no\r\n"},
    "paper_table": {"one": "method,FID,CSIM input,CSIM flipped,CSIM Δ,source\nunit,,cosine,cosine,,\n"
                           'direction,lower,higher,higher,zero,\nOurs,1.5,0.9,0.8,0.1,"Table 1, p. 7"\nOther,,,,,\n'},
    "study_table": {"one": "# nfs flip, 2 minutes\nrun,yaw,method,value\nown,0,ours,1.5\nown,30,ours,\n"},
    "prepared": {"one": json.dumps(PREPARED), "none": json.dumps(PREPARED | {"clips": [], "skipped": [], "finished": {}})},
    "time_stamps": {"one": "Radio11.mp4 00:30-01:00 01:30-1:02:30\nRadio1.mp4 0:0-0:9\n"},
    "goldens": {"one": '{"seed": 0, "sets": {"audio": {"tensors": {"mel": {"atol": 1e-5}}}, "other": {}}}'},
}  # fmt: skip
FILES = {"image": images, "audio": sounds, "video": films, "safetensors": weights, "official": official,
         "checkpoint": checkpoints, "torch_pickle": pickles, "matlab": matrices, "inversion": inversions}  # fmt: skip


def write(folder: Path = CORPUS) -> None:
    contents = {target: dict(make()) for target, make in FILES.items()}
    contents |= {target: {name: text.encode() for name, text in texts.items()} for target, texts in TEXTS.items()}
    for target, files in contents.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / target / name).write_bytes(content)
        print(f"{target:14s} {len(files):3d} files {sum(map(len, files.values())):8,d} bytes", file=sys.stderr)


if __name__ == "__main__":
    write()
