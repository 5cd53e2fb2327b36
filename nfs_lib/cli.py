"""The command `nfs`. Each sub-command calls one function of the library.

Exit codes: 0 done; 2 the input is at fault (one line says what, and what to do); 130 stopped by Ctrl-C;
1 anything else.
"""

import argparse
import errno
import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nfs_lib import __version__
from nfs_lib.errors import BadInput, NfsError

UNUSABLE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP)  # faults of a path that was given
PARTS = ("generator", "estimator", "audio2exp", "lipaint", "sync", "identity", "wav2lip")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        options = _parser().parse_args(argv)
        return options.run(options) or 0
    except NfsError as error:
        print("nfs: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nfs: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `nfs weights list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        if error.errno not in UNUSABLE or error.filename is None:
            traceback.print_exc()
            return 1
        print(f"nfs: {error.filename} can't be used ({error.strerror}); give another path", file=sys.stderr)
        return 2
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU; torch may not be loaded
            print("nfs: the device's memory is full; free some of it, or give another --device", file=sys.stderr)
            return 2
        traceback.print_exc()
        return 1


def _talk(options: argparse.Namespace) -> None:
    if options.audio is None and options.drive is None:
        raise BadInput("give speech (--audio), a video to copy (--drive), or both; see nfs talk --help")
    if options.poses and (options.orbit or options.yaw is not None or options.pitch is not None):
        raise BadInput("--poses says how the head turns: leave out --yaw, --pitch and --orbit; see nfs talk --help")
    from nfs_lib import paths, pipeline

    paths.check_output(options.out)  # before torch and the weights are loaded
    given = {
        "yaw": options.yaw and math.radians(options.yaw),
        "pitch": options.pitch and math.radians(options.pitch),
        "orbit": options.orbit,
        "poses": options.poses,
        "drive": options.drive,
        "lipaint": not options.no_lipaint,
        "official": options.method == "official",
        "momentum": options.momentum,
        "scale": options.scale,
        "mask_frames": options.mask_frames,
        "mark": not options.no_mark,
        "certificate": options.sign_with,
        "device": options.device,
    }
    pipeline.talk(
        options.image,
        options.audio,
        options.out,
        world=options.world,
        profile=options.profile,
        seed=options.seed,
        **{name: value for name, value in given.items() if value is not None},
    )


def _train(options: argparse.Namespace) -> None:
    if options.out == "" or (options.out and os.path.lexists(options.out) and not os.path.isdir(options.out)):
        raise BadInput(f"--out {options.out!r} isn't a folder; give a folder, there already or not")
    if options.recipe and options.part != "lipaint":
        raise BadInput(f"--recipe is LipaintNet's: leave it out, or nfs train lipaint --recipe {options.recipe}")
    from nfs_lib.training.team import Team

    part = importlib.import_module(f"nfs_lib.training.{options.part}")
    given = {"recipe": part.PAPER, "steps": part.PAPER_STEPS} if options.recipe else {}
    given |= {} if options.steps is None else {"steps": options.steps}
    team = Team(options.device, options.devices, options.nodes, options.precision, options.save_every)
    try:
        part.train(seed=options.seed, resume=options.resume, device=team, out=options.out, **given)
    except (NfsError, KeyboardInterrupt):
        if team.leads:
            raise
        sys.exit()  # the leading process meets the same, and reports it


def _report_to(path: Path | None) -> Callable[[Any], None]:
    """What writes figures as JSON to this file, whose place is checked now, before the work; it does nothing without one."""
    from nfs_lib.paths import check_output
    from nfs_lib.writing import replacing

    out = check_output(path, ".json") if path else None

    def write(figures: Any) -> None:
        if out:
            with replacing(out) as temporary:
                temporary.write_text(json.dumps(figures, indent=1) + "\n")

    return write


def _measure(options: argparse.Namespace) -> None:
    from nfs_lib import measure

    write = _report_to(options.json)
    figures = measure.report(only=options.only)
    print(json.dumps(figures, indent=1))
    write(figures)


def _ablate(options: argparse.Namespace) -> None:
    from nfs_lib.studies.ablation import ablate

    ablate(options.profile, options.out, workers=options.workers, scheduler=options.scheduler)


def _flip(options: argparse.Namespace) -> None:
    from nfs_lib.studies.flip import flip

    flip(options.profile, options.out)


def _external(options: argparse.Namespace) -> int:
    from nfs_lib.baselines import external

    return external.report(external.run(options.method, options.checkout, options.python, options.cases, options.seconds))


def _evaluate(options: argparse.Namespace) -> None:
    from nfs_lib.studies.evaluate import evaluate, printed

    print(printed(evaluate(options.folders, options.truth, options.out, options.world, options.workers, options.scheduler)))


def _prepare(options: argparse.Namespace) -> None:
    from nfs_lib.studies.prepare import prepare, printed

    print(printed(prepare(options.source, options.out), options.out))


def _bench(options: argparse.Namespace) -> None:
    from nfs_lib.bench import bench, heading, line

    write = _report_to(options.json)

    def show(key: str, row: dict[str, float]) -> None:
        first = f"{heading()}\n" if key == "machine" else ""
        print(first + line(key, row), flush=True)

    write(bench(options.only, options.world, show))


def _parity(options: argparse.Namespace) -> int:
    from nfs_lib import parity

    folder = options.dir or Path(__file__).resolve().parent.parent / "tests" / "goldens"
    results = parity.run(folder, options.only)
    print(*results, sep="\n")
    return 1 if any(result.ok is False for result in results) else 0


def _import(files: list[Path]) -> None:
    from nfs_lib.official.importing import import_file, missing

    for file in files:
        for part in import_file(file):
            print(f"paper/{part.name}  {part.bytes / 1e6:.2f} MB  from {file.name}  terms: {part.licence}", flush=True)
    for official in missing():
        print(f"still missing: {official.part}  {official.file}, {official.source}; without it {official.without}")


def _weights(options: argparse.Namespace) -> int:
    from nfs_lib.checkpoints import list_weights, verify_weights

    if (options.action == "import") != bool(options.files):
        raise BadInput("nfs weights import takes the files to import, list and verify take none; see nfs weights --help")
    if options.action == "import":
        _import(options.files)
        return 0

    parts, bad = list_weights(), 0
    for part in parts:
        line = f"{part.folder.name}/{part.name}  {part.bytes / 1e6:.2f} MB  {part.licence}  {part.made_by}"
        if options.action == "verify":
            state = verify_weights(part)
            bad += state != "ok"
            line = f"{part.folder.name}/{part.name}  {state}"
        print(line)
    if not parts:
        print("no weights here; see nfs train --help", file=sys.stderr)
    return 1 if bad or not parts else 0


def _inspect(options: argparse.Namespace) -> None:
    from nfs_lib.disclosure.inspect import inspect

    write = _report_to(options.json)
    found = inspect(options.video, options.inputs)
    print(*found["report"], sep="\n")
    write(found)


def _doctor(options: argparse.Namespace) -> int:
    from nfs_lib import doctor

    if options.licences:
        return _licences(options.json)
    if options.json:
        raise BadInput("--json goes with --licences; see nfs doctor --help")
    lines, well = doctor.report()
    print("\n".join(lines))
    return 0 if well else 1


def _licences(path: Path | None) -> int:
    from dataclasses import asdict

    from nfs_lib import licences

    write = _report_to(path)
    rows = licences.table()
    print(*map(licences.line, rows), sep="\n")
    write([asdict(row) for row in rows])
    return 0 if all(row.well for row in rows) else 1


def _paper(options: argparse.Namespace) -> None:
    from nfs_lib.studies import paper

    print(*paper.load_all(options.folder).values(), sep="\n")


def _number(low: float, high: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            wanted = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} given, {wanted} from {low:g} to {high:g} expected")
        return value

    return read


def _add_cluster(command: argparse.ArgumentParser) -> None:
    who = command.add_mutually_exclusive_group()
    who.add_argument("--workers", type=_number(1, 1024, int), metavar="N", help="processes that share the work (this one)")
    who.add_argument("--scheduler", metavar="ADDRESS", help="a dask cluster that runs already and sees the same files, "
                     "e.g. tcp://10.0.0.1:8786")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nfs", description="One portrait and one clip of speech become a talking head.")
    parser.add_argument("--version", action="version", version=f"nfs {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    profile = os.environ.get("NFS_PROFILE", "full")
    seed = _number(0, 2**31 - 1, int)

    talk = commands.add_parser("talk", help="make a video of a portrait that says a clip of speech")
    talk.set_defaults(run=_talk)
    talk.add_argument("--image", required=True, type=Path, help="a portrait: png, jpg or webp")
    talk.add_argument("--audio", type=Path, help="speech: wav, mp3, flac or ogg, 0.2 s to 10 min")
    talk.add_argument("--out", required=True, type=Path, help="the video to write, an .mp4")
    talk.add_argument("--world", default="open", choices=("open", "paper"), help="whose networks (open)")
    talk.add_argument("--as", default="paper", choices=("paper", "official"), dest="method",
                      help="as the paper says, or as its official code does (paper world only)")  # fmt: skip
    talk.add_argument(
        "--yaw", type=_number(-60, 60), metavar="DEG", help="turn the head to the image's right"
    )
    talk.add_argument("--pitch", type=_number(-40, 40), metavar="DEG", help="let the head look down")
    talk.add_argument("--orbit", action="store_true", help="turn the head to both sides during the clip")
    talk.add_argument(
        "--poses",
        type=Path,
        metavar="FILE",
        help="how the head turns: .csv or .json with yaw, pitch, roll in degrees, 25 a second, or a video; "
        "a short one is played back and forth",
    )
    talk.add_argument(
        "--drive",
        type=Path,
        metavar="VIDEO",
        help="copy the face of a video: its expressions, how it turns, and its sound unless --audio is given",
    )
    talk.add_argument("--profile", default=profile, choices=("fast", "full"), help="time against quality")
    talk.add_argument("--seed", default=0, type=seed, help="of everything random (0)")
    talk.add_argument("--device", default="cpu", help="makes the pictures: cpu, cuda, mps, or one of several as cuda:1 (cpu)")
    talk.add_argument("--no-mark", action="store_true", help="leave out the visible mark; watermark and manifest stay")
    talk.add_argument("--sign-with", type=Path, metavar="PEM",
                      help="your own private key and certificates, in one file (a throwaway test certificate)")  # fmt: skip
    without = talk.add_argument_group("parts of the paper, changed one by one")
    without.add_argument("--no-lipaint", action="store_true", help="leave the inner mouth to the generator")
    without.add_argument("--momentum", type=_number(0, 0.99), help="of the expression over time, alpha_m (Eq. 4)")
    without.add_argument("--scale", type=_number(0, 5), help="of the expression, lambda_exp (Eq. 5)")
    without.add_argument("--mask-frames", type=_number(1, 1000, int), help="mouth masks averaged (Eq. 13)")

    train = commands.add_parser("train", help="train one part of the open world from nothing")
    train.set_defaults(run=_train)
    train.add_argument("part", choices=PARTS)
    train.add_argument("--steps", type=_number(1, 10**9, int), help="optimiser steps (the part's own number)")
    train.add_argument("--seed", default=0, type=seed)
    train.add_argument("--resume", action="store_true", help="continue from the last checkpoint, if any")
    train.add_argument("--device", default="cpu", help="cpu, cuda, mps, or one of several as cuda:1 (cpu)")
    train.add_argument("--devices", default=1, type=_number(1, 1024, int), metavar="N",
                       help="processes on this machine, with a device each, that share every batch (1)")
    train.add_argument("--nodes", default=1, type=_number(1, 1024, int), metavar="M",
                       help="machines, each given this same command and MASTER_ADDR, MASTER_PORT, NODE_RANK (1)")
    train.add_argument("--precision", choices=("32-true", "bf16-mixed"), help="(bf16-mixed if the processor has bfloat16)")
    train.add_argument("--save-every", default=3.0, type=_number(0.0, 1e6), metavar="MINUTES",
                       help="time between checkpoints (3)")
    train.add_argument("--recipe", choices=("paper",), help="lipaint: 300,000 steps as in section 4.4 of the paper")
    train.add_argument("--out", help="folder for all that is written (runs/PART and data/weights/open)")

    measure = commands.add_parser("measure", help="the open world's figures on held-out seeds")
    measure.set_defaults(run=_measure)
    measure.add_argument("--json", type=Path, metavar="FILE", help="write them to a file too")
    measure.add_argument("--only", metavar="SECTION", help="one section, e.g. generator")

    for name, run, file, what in (("ablate", _ablate, "ablation", "what each part of the method buys, on held-out people"),
                                  ("flip", _flip, "flip", "what turning the head costs, ours and the baselines")):  # fmt: skip
        study = commands.add_parser(name, help=what)
        study.set_defaults(run=run)
        study.add_argument("--profile", default=profile, choices=("fast", "full"), help="time against certainty")
        study.add_argument("--out", default="figures", metavar="DIR", help=f"folder for {file}.csv and .png (figures)")
        if name == "ablate":
            _add_cluster(study)

    external = commands.add_parser("external", help="run a published method from your own checkout of its repository")
    external.set_defaults(run=_external)
    external.add_argument("method", help="wav2lip, makeittalk, pc-avs, audio2head or sadtalker")
    external.add_argument("cases", type=Path, metavar="CASES", help="folder with portraits/*.png and speech/*.wav")
    external.add_argument("--checkout", required=True, type=Path, metavar="DIR", help="the repository, with its weights")
    external.add_argument("--python", required=True, type=Path, metavar="PY", help="the python of its own environment")
    external.add_argument("--seconds", default=1800, type=_number(1, 1e6), help="most that one clip may take (1800)")

    inspect = commands.add_parser("inspect", help="whether a video is the kit's, what it was made from, whether it was changed")
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("video", type=Path, metavar="VIDEO", help="any video")
    inspect.add_argument("inputs", nargs="*", type=Path, metavar="INPUT",
                         help="what it may have been made from: portrait, speech, ...")  # fmt: skip
    inspect.add_argument("--json", type=Path, metavar="FILE", help="write all that was found to a file")

    evaluate = commands.add_parser("evaluate", help="a table of how good the videos of one or more methods are")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a method's videos, one for each clip")
    evaluate.add_argument(
        "--truth",
        type=Path,
        metavar="DIR",
        help="the true videos, under the same names (truth, beside the methods' folders); portraits beside it, if there, "
        "holds the pictures that the methods were given",
    )
    evaluate.add_argument(
        "--out",
        default="evaluation.csv",
        metavar="FILE",
        help="one row per method and clip; means and the table as a picture are written beside it (evaluation.csv)",
    )
    evaluate.add_argument("--world", default="open", choices=("open", "paper"), help="whose networks measure (open)")
    _add_cluster(evaluate)

    prepare = commands.add_parser("prepare", help="bring a data set's videos or portraits into shape for nfs evaluate")
    prepare.set_defaults(run=_prepare)
    prepare.add_argument("source", type=Path, metavar="SOURCE", help="folder of videos (HDTF) or portraits (Unsplash)")
    prepare.add_argument("out", type=Path, metavar="OUT", help="folder for the clips; run again, it goes on where it was")

    bench = commands.add_parser("bench", help="how fast it is, against plain references in the same run")
    bench.set_defaults(run=_bench)
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    bench.add_argument("--world", choices=("open", "paper"), help="whose rows (both worlds')")
    bench.add_argument("--only", metavar="NAME", help="one row, e.g. frame")

    parity = commands.add_parser("parity", help="compare with recorded numbers of the official code")
    parity.set_defaults(run=_parity)
    parity.add_argument("dir", nargs="?", type=Path, help="folder of golden numbers (those in tests/goldens)")
    parity.add_argument("--only", metavar="SET", help="one set")

    weights = commands.add_parser("weights", help="what weights are there, whether they are intact; import official ones")
    weights.set_defaults(run=_weights)
    weights.add_argument("action", choices=("list", "verify", "import"))
    weights.add_argument("files", nargs="*", type=Path, metavar="FILE",
                         help="official files to import into the paper world, or the folder of the face model's originals")

    paper = commands.add_parser("paper", help="check the csv files of the paper's tables and list what they lack")
    paper.set_defaults(run=_paper)
    paper.add_argument("--folder", type=Path, metavar="DIR", help="where table1.csv to table5.csv lie (data/paper)")

    doctor = commands.add_parser("doctor", help="what this machine has and lacks; the licences of all that the kit uses")
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("--licences", action="store_true", help="list the terms of every package, asset and weight instead")
    doctor.add_argument("--json", type=Path, metavar="FILE", help="with --licences: write the list to a file too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
