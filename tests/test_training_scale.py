"""Training by several processes, through kills, and as TensorBoard shows it."""

import dataclasses
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nfs_lib import worlds
from nfs_lib.camera import frontal
from nfs_lib.cli import main
from nfs_lib.cpu import mixed_precision
from nfs_lib.errors import BadInput
from nfs_lib.training import common, generator, lipaint, speech_clips, sync
from nfs_lib.training.common import Loop, in_workers, step_rng
from nfs_lib.training.team import Team

TINY = Path(__file__).parent / "tiny_training.py"
STEPS, KILLS = 60, 20


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """What one process makes of the tiny trainings."""
    out = tmp_path_factory.mktemp("tiny") / "one"
    subprocess.run([sys.executable, TINY, out, "1"], check=True)
    return out


def test_two_processes_have_the_losses_of_one(one):
    """Rays, patches, pictures with a discriminator that compares (Muon, Adam, running mean), in single precision; in double
    precision, batch norms and a loss over all rows."""
    two = one.parent / "two"
    subprocess.run([sys.executable, TINY, two, "2"], check=True, timeout=1800)
    for part, steps, near in (("generator", 50, 1e-4), ("identity", 12, 1e-9)):
        alone, together = lines(one / part), lines(two / part)
        assert [line["step"] for line in together] == list(range(1, steps + 1))    # and each step was written once
        for a, b in zip(alone, together, strict=True):
            assert a.keys() == b.keys()
            for name in a.keys() - {"seconds"}:
                assert b[name] == pytest.approx(a[name], abs=near), (part, a["step"], name)
        assert sorted(os.listdir(two / part)) == sorted(os.listdir(one / part))
    assert "--devices 2" in json.loads((two / "identity" / "manifest.json").read_text())["parts"]["identity"]["made_by"]


def live(out: Path) -> None:
    """A life of a training that saves after each step."""
    import tiny_training

    torch.set_num_threads(1)
    tiny_training.shrink(out.parent)
    generator.train(steps=STEPS, seed=3, resume=True, device=Team(save_every=0.0), out=out)


def test_killed_twenty_times(tmp_path, monkeypatch):
    """Kill -9 at any moment after the first checkpoint of each life: the last life ends in the weights of one that wasn't."""
    context, moment = multiprocessing.get_context("forkserver"), random.Random(0)
    monkeypatch.syspath_prepend(TINY.parent)
    context.set_forkserver_preload([                                                  # imported once, not at every start
        "nfs_lib.training.generator", "nfs_lib.training.identity", "lightning_fabric", "torch.utils.tensorboard"])
    out, kills = tmp_path / "killed", 0

    def saved() -> int:
        return (out / "last.pt").stat().st_mtime_ns if (out / "last.pt").is_file() else 0

    while kills < KILLS:
        before, child = saved(), context.Process(target=live, args=(out,))
        child.start()
        while saved() == before and child.is_alive():
            time.sleep(0.002)
        time.sleep(moment.uniform(0.0, 0.1))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL                                     # it hadn't ended by itself
        kills += 1
    steps = torch.load(out / "last.pt", weights_only=True)["step"]
    assert steps < STEPS
    for folder in (out, tmp_path / "whole"):
        child = context.Process(target=live, args=(folder,))
        child.start()
        child.join()
        assert child.exitcode == 0
    for name in ("generator.safetensors", "discriminator.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    states = [torch.load(folder / "last.pt", weights_only=True)["state"] for folder in (out, tmp_path / "whole")]
    assert same(*states)


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def short(out: Path, until: int | None = None, resume: bool = False) -> None:
    """20 steps whose figure is the step's square."""
    loop = Loop("short", 20, 0, {}, out, resume, log_every=2, until=until)
    for step in loop:
        loop.log(square=float(step**2), half=step / 2)


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return {name: [(e.step, e.value) for e in board.Scalars(name)] for name in board.Tags()["scalars"]}


def test_tensorboard_shows_the_log_each_step_once(tmp_path):
    short(tmp_path, until=12)
    checkpoint = (tmp_path / "last.pt").read_bytes()
    short(tmp_path, resume=True)
    (tmp_path / "last.pt").write_bytes(checkpoint)                                    # as if killed after a later line
    short(tmp_path, until=16, resume=True)
    wanted = [(step, ((step - 2) ** 2 + (step - 1) ** 2) / 2) for step in range(2, 17, 2)]
    found = shown(tmp_path)
    assert found["square"] == wanted and found.keys() == {"square", "half"}
    assert [(line["step"], line["square"]) for line in lines(tmp_path)] == wanted


def test_without_tensorboard(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    short(tmp_path)
    assert len(lines(tmp_path)) == 10 and not (tmp_path / "tensorboard").exists()
    assert "tensorboard" not in capsys.readouterr().err.lower()


def test_a_batch_that_cannot_be_shared_out(monkeypatch, tmp_path):
    monkeypatch.setattr(Team, "size", 4)
    with pytest.raises(BadInput, match="a batch of 2 can't be shared out evenly among 4 processes"):
        generator.train(steps=1, out=tmp_path)


def test_shares_are_the_batch(monkeypatch):
    team, found = Team(), []
    monkeypatch.setattr(Team, "size", 3)
    for rank in range(3):
        monkeypatch.setattr(type(team.fabric), "global_rank", rank)
        found += list(range(12))[team.share(12, together=2)]
    assert found == list(range(12))
    with pytest.raises(BadInput):
        team.share(9, together=2)


def test_a_device_that_is_not_there(capsys):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "abacus": False}
    for device in (name for name, yes in there.items() if not yes):
        assert main(["train", "identity", "--device", device]) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"nfs: --device {device} can't be used here") and message.count("\n") == 1
    assert main(["train", "identity", "--device", "cuda:0", "--devices", "2"]) == 2
    assert "give --device cuda" in capsys.readouterr().err


def test_precision():
    def product(precision: str | None) -> torch.dtype:
        team = Team(precision=precision)
        with mixed_precision(team.device.type):
            return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    assert product("bf16-mixed") == torch.bfloat16 and product("32-true") == torch.float32
    assert product(None) == (torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32)


def test_workers_do_not_change_what_is_rendered(monkeypatch):
    clips = speech_clips.held_out_clips()
    alone = sync.render_talking(clips, 3, 4, 11, "one process")
    monkeypatch.setattr(common, "WORTH_WORKERS", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert all(torch.equal(a, b) for a, b in zip(alone, sync.render_talking(clips, 3, 4, 11, "two"), strict=True))
    assert in_workers(math.sqrt, range(40), "roots") == [math.sqrt(n) for n in range(40)]


def test_recipe_of_the_paper(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(lipaint, "train", lambda **options: calls.append(options))
    for more in ([], ["--steps", "9"]):
        assert main(["train", "lipaint", "--recipe", "paper", *more]) == 0
    recipe = calls[0]["recipe"]
    assert (calls[0]["steps"], recipe.batch, recipe.rate, calls[1]["steps"]) == (300_000, 8, 1e-5, 9)
    assert (recipe.landmarks, recipe.coefficients, recipe.adversarial, recipe.spread, recipe.warm) == (1.0, 1.0, 0.1, 1.0, 0.0)
    assert main(["train", "sync", "--recipe", "paper"]) == 2
    assert "--recipe is LipaintNet's" in capsys.readouterr().err


def test_recipe_of_the_paper_trains(monkeypatch, tmp_path):
    """Its rate is 1e-5 at every step; β is what the estimator reads, moved by up to 1 either way, inside what faces can do."""
    rates, cycles, honest = [], [], lipaint.turn
    monkeypatch.setattr(lipaint, "set_learning_rate", lambda optimiser, rate: rates.append(rate))
    monkeypatch.setattr(lipaint, "turn", lambda *args, **kwargs: cycles.append(honest(*args, **kwargs)) or cycles[-1])
    table = lipaint.expression_table(50, 0)
    monkeypatch.setattr(lipaint, "expression_table", lambda n, seed: table)
    recipe = dataclasses.replace(lipaint.PAPER, batch=1, check=1)
    lipaint.train(2, recipe=recipe, out=tmp_path)
    assert rates == [1e-5, 1e-5]
    moved = torch.cat([cycle.beta - cycle.read.expression for cycle in cycles]).flatten()
    inside = torch.cat([cycle.beta for cycle in cycles]).flatten()
    free = moved[(inside > 0) & (inside < 1)]
    assert inside.min() == 0 and inside.max() <= 1 and len(free) > 20 and free.abs().max() <= 1
    assert 0.1 < free.abs().mean()


def test_added_expression():
    world = worlds.load("open")
    net, noise = world.lipaint, 2 * torch.rand(1, 52, generator=step_rng(0, 0)) - 1
    w = world.generator.mapping(torch.randn(1, world.generator.config.z_dim, generator=step_rng(0, 1))).detach()
    z_bg = torch.zeros(1, world.generator.config.z_bg_dim)
    with torch.no_grad():
        cycle = lipaint.turn(net, world, w, noise, z_bg, frontal(1), added=True)
    assert torch.equal(cycle.wanted.expression, (cycle.read.expression + noise).clamp(0, 1))
