"""Published methods, run from the user's own checkouts: `nfs external METHOD --checkout DIR --python PY CASES`.

CASES is the folder that `nfs evaluate` reads:

    CASES/portraits/<clip>.png     the picture given to every method
    CASES/speech/<clip>.wav        the speech
    CASES/truth/<clip>.mp4         the true video, where there is one
    CASES/<method>/<clip>.mp4      what a method made of them

What a method wrote is written anew with 25 frames a second and the clip's own speech, H.264 as the kit's own videos. A method
whose videos were made elsewhere needs no adapter: put them into CASES/<method>/ under the clips' names. Nothing of
these repositories comes with the kit; their terms are theirs (`Method.licence`).
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from nfs_lib.audio import load_speech
from nfs_lib.disclosure import Signs
from nfs_lib.errors import BadInput
from nfs_lib.images import load_portrait, to_uint8
from nfs_lib.progress import progress
from nfs_lib.video import stream_frames, write_video
from nfs_lib.writing import replacing


@dataclass(frozen=True)
class Method:
    """How a public repository is called for one clip, as its own scripts read it at `commit`.

    command: what follows the interpreter, run in the checkout. portrait, speech: where the clip's files are put first; texts:
    other files that it needs. result: the video that it writes, a path or a glob. In all of them {checkout} and {scratch} (an
    empty folder of the clip's own) are filled in. columns: the part of the picture's width that is the result; late: frames
    that the result lacks at its start. needs: what must be in the checkout.
    """

    repository: str
    commit: str
    licence: str
    command: tuple[str, ...]
    result: str
    note: str
    portrait: str = "{scratch}/portrait.png"
    speech: str = "{scratch}/speech.wav"
    texts: dict[str, str] = field(default_factory=dict)
    columns: tuple[float, float] = (0.0, 1.0)
    late: int = 0
    needs: tuple[str, ...] = ()


METHODS = {
    "wav2lip": Method(
        "https://github.com/Rudrabha/Wav2Lip", "5c90fa9", "no licence file; the README allows research and personal use only",
        ("inference.py", "--checkpoint_path", "checkpoints/wav2lip.pth", "--face", "{scratch}/portrait.png",
         "--audio", "{scratch}/speech.wav", "--outfile", "{scratch}/out.mp4"),
        "{scratch}/out.mp4",
        "The head stays still. Finds the face itself. Needs the folder temp/ in the checkout.",
        needs=("inference.py", "checkpoints/wav2lip.pth", "face_detection/detection/sfd/s3fd.pth", "temp"),
    ),
    "makeittalk": Method(
        "https://github.com/yzhou359/MakeItTalk", "fad2fe4", "CC BY-NC 4.0 (LICENSE.md); an Adobe notice in the scripts",
        ("main_end2end.py", "--jpg", "nfs_portrait.jpg"),
        "{checkout}/examples/nfs_portrait_pred_fls_nfs_speech_audio_embed.mp4",
        "Reads and writes in examples/ only, and animates every .wav there: there must be no other. Its video, 62.5 frames a "
        "second, shows portrait, result and landmarks side by side; the middle third is kept.",
        portrait="{checkout}/examples/nfs_portrait.jpg", speech="{checkout}/examples/nfs_speech.wav", columns=(1 / 3, 2 / 3),
        needs=("main_end2end.py", "examples/ckpt/ckpt_autovc.pth", "examples/ckpt/ckpt_content_branch.pth",
               "examples/ckpt/ckpt_speaker_branch.pth", "examples/ckpt/ckpt_116_i2i_comb.pth", "examples/dump"),
    ),
    "pc-avs": Method(
        "https://github.com/Hangz-nju-cuhk/Talking-Face_PC-AVS", "201d2b9", "CC BY 4.0",
        ("inference.py", "--name", "demo", "--meta_path_vox", "{scratch}/clip.csv", "--dataset_mode", "voxtest",
         "--netG", "modulate", "--netA", "resseaudio", "--netA_sync", "ressesync", "--netD", "multiscale", "--netV", "resnext",
         "--netE", "fan", "--model", "av", "--gpu_ids", "0", "--clip_len", "1", "--batchSize", "16", "--style_dim", "2560",
         "--nThreads", "4", "--input_id_feature", "--generate_interval", "1", "--style_feature_loss", "--use_audio", "1",
         "--noise_pose", "--driving_pose", "--gen_video", "--generate_from_audio_only"),
        "{checkout}/results/id_nfs_portrait_pose_nfs_portrait_audio_nfs_speech/G_Pose_Driven_.mp4",
        "The options are those of experiments/demo_vox.sh. The pose source is the portrait itself, so the head stays still. "
        "Expects faces cropped as in VoxCeleb2: its scripts/align_68.py makes such portraits. Starts two frames late.",
        portrait="{scratch}/nfs_portrait/000000.jpg", speech="{scratch}/nfs_speech.wav",
        texts={"{scratch}/clip.csv":
               "{scratch}/nfs_portrait 1 {scratch}/nfs_portrait 1 {scratch}/nfs_speech.wav None 0 None\n"},
        late=2, needs=("inference.py", "checkpoints/demo"),
    ),
    "audio2head": Method(
        "https://github.com/wangsuzhen/Audio2Head", "09e9b43", "no licence file",
        ("inference.py", "--audio_path", "{scratch}/speech.wav", "--img_path", "{scratch}/portrait.png",
         "--save_path", "{scratch}/out"),
        "{scratch}/out/portrait_speech.mp4",
        "Moves the head by itself. Needs a CUDA device, and the folder results/ in the checkout.",
        needs=("inference.py", "checkpoints/audio2head.pth.tar", "results"),
    ),
    "sadtalker": Method(
        "https://github.com/OpenTalker/SadTalker", "cd4c046", "Apache-2.0, third-party parts excepted",
        ("inference.py", "--driven_audio", "{scratch}/speech.wav", "--source_image", "{scratch}/portrait.png",
         "--result_dir", "{scratch}/out", "--preprocess", "resize"),
        "{scratch}/out/*.mp4",
        "Moves the head by itself. `resize` takes the whole portrait, so that the result keeps its framing.",
        needs=("inference.py", "checkpoints"),
    ),
}  # fmt: skip


def run(method: str, checkout: str | Path, python: str | Path, cases: str | Path, seconds: float = 1800) -> dict[str, str]:
    """Make CASES/<method>/<clip>.mp4 for every clip that isn't there yet; clip → "made", "there already", or what went wrong.

    python: the interpreter of the method's own environment. seconds: the time that one clip may take; a program that takes
    longer is ended with all that it started. What a program prints is kept in CASES/<method>/<clip>.log where it failed.
    Raises BadInput for an unknown method, or a checkout, interpreter or cases that aren't there.
    """
    if method not in METHODS:
        raise BadInput(f"there is no adapter for {method!r}; choose from {', '.join(METHODS)}")
    m, checkout, cases, python = METHODS[method], Path(checkout).resolve(), Path(cases), Path(python).absolute()
    if not python.is_file():
        raise BadInput(f"{python} isn't there; give the python of {method}'s own environment")
    if missing := [name for name in m.needs if not (checkout / name).exists()]:
        raise BadInput(f"{checkout} has no {missing[0]}; expected a checkout of {m.repository} with its weights as it says")
    wavs = sorted((cases / "speech").glob("*.wav"))
    if not wavs:
        raise BadInput(f"{cases}/speech holds no .wav; expected CASES/portraits/<clip>.png and CASES/speech/<clip>.wav")
    own = Path(m.speech.format(checkout=checkout, scratch=""))
    if checkout in own.parents and (others := [p.name for p in own.parent.glob("*.wav") if p != own]):
        raise BadInput(f"{own.parent} holds {others[0]}, which {method} would animate too; move all .wav files away first")
    folder, outcome = cases / method, {}
    folder.mkdir(exist_ok=True)
    for wav in progress(wavs, method):
        out = folder / f"{wav.stem}.mp4"
        try:
            outcome[wav.stem] = "there already" if out.is_file() else _clip(m, checkout, python, cases, wav, out, seconds)
        except BadInput as error:
            outcome[wav.stem] = str(error)
    return outcome


def _clip(m: Method, checkout: Path, python: Path, cases: Path, wav: Path, out: Path, seconds: float) -> str:
    """Run the method on one clip; "made". Raises BadInput if there is no video in the end. It gets no visible mark: it will be
    measured."""
    wave, log = load_speech(wav), out.with_suffix(".log")
    picture = load_portrait(cases / "portraits" / f"{wav.stem}.png")
    with _scratch() as scratch:
        def fill(text: str) -> str:
            return text.format(checkout=checkout, scratch=scratch)

        portrait, speech = Path(fill(m.portrait)), Path(fill(m.speech))
        result = Path(fill(m.result))
        placed = [portrait, speech, *(Path(fill(name)) for name in m.texts)]
        for path in placed:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            for stale in result.parent.glob(result.name):
                stale.unlink()
            Image.fromarray(to_uint8(picture)).save(portrait, quality=95, subsampling=0)
            speech.write_bytes(wav.read_bytes())
            for name, text in m.texts.items():
                Path(fill(name)).write_text(fill(text))
            with replacing(log) as temporary:
                with temporary.open("wb") as file:
                    ended = _call([str(python), *map(fill, m.command)], checkout, file, seconds)
            made = sorted(result.parent.glob(result.name))
            if not made:
                raise BadInput(f"{wav.stem}: {ended} and wrote no video; see {log}")
            frames = list(stream_frames(made[-1], longest_side=4096))
            left, right = (round(edge * frames[0].shape[1]) for edge in m.columns)
            write_video(out, [frame[:, left:right] for frame in frames[:1] * m.late + frames], wave,
                        signs=Signs(mark=False))
        finally:
            for path in placed:
                path.unlink(missing_ok=True)
    log.unlink()
    return "made"


@contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder whose path has neither blanks nor dots, which some of the scripts stumble over."""
    with tempfile.TemporaryDirectory(prefix="nfs_") as name:
        if " " in name or "." in name:
            raise BadInput(f"the temporary folder {name} has a blank or a dot in its path; set TMPDIR to one without")
        yield Path(name)


def _call(command: list[str], folder: Path, log, seconds: float) -> str:
    """Run a program; how it ended, in words. After `seconds` it is ended with the programs that it started."""
    try:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
    except OSError as error:
        raise BadInput(f"{command[0]} can't be run ({error.strerror}); give the python of the method's environment") from error
    with process:
        try:
            return f"the program ended with code {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            return f"the program took longer than {seconds:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def report(outcome: dict[str, str]) -> int:
    """Print a line per clip; 1 if one failed, else 0."""
    for clip, what in outcome.items():
        print(f"{clip}  {what}")
    failed = sum(what not in ("made", "there already") for what in outcome.values())
    print(f"{len(outcome) - failed} of {len(outcome)} videos are there", file=sys.stderr)
    return 1 if failed else 0
