"""What every training shares: steps that depend on (seed, step) only, exact resume, a log, the export.

model, optimiser = ...
team = Team.of(device)
loop = Loop("estimator", steps, seed, {"model": model, "optimiser": optimiser}, out, resume, team=team)
for step in loop:                               # starts at the resumed step
    set_learning_rate(optimiser, warm_cosine(step, steps, peak=1e-3))
    loss = ...batch(step_rng(seed, step))...
    team.backward(loss, model)
    loop.log(loss=loss)                         # mean over `log_every` steps -> log.jsonl, TensorBoard
export("estimator", model.state_dict(), figures, "nfs train estimator", seed, steps, loop.seconds,
       config={"width": 32}, out=out)
"""

import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from nfs_lib.checkpoints import write_part
from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.paths import data_folder
from nfs_lib.progress import progress
from nfs_lib.training.team import Team
from nfs_lib.writing import alone, cant_write, replacing

WORTH_WORKERS = 64  # jobs; starting processes takes as long as a few dozen renders


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint can hold: a module, an optimiser, an `Ema`."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def seed_everything(seed: int) -> None:
    """Seed torch's and numpy's global generators (used for the initial weights)."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  libraries may draw from it


def step_seed(seed: int, step: int) -> int:
    """A well-mixed 63-bit number from (seed, step): neighbouring steps get unrelated streams."""
    low, high = np.random.SeedSequence([seed, step]).generate_state(2, np.uint32)
    return int(low) | (int(high) >> 1) << 32


def step_rng(seed: int, step: int, device: str | torch.device = "cpu") -> torch.Generator:
    """The generator for everything drawn in `step`; the same after a resume as without one."""
    return torch.Generator(device).manual_seed(step_seed(seed, step))


def numpy_rng(seed: int, step: int) -> np.random.Generator:
    """As `step_rng`, for numpy."""
    return np.random.default_rng(step_seed(seed, step))


def warm_cosine(step: int, steps: int, peak: float, warmup: int = 100, final: float = 0.05) -> float:
    """Learning rate: linear from 0 to `peak` over `warmup` steps, then a cosine down to `final` * `peak`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group; a group with a "scale" entry gets rate * scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


class Ema:
    """Running mean of a module's weights (Polyak); buffers and integers are copied. `state` is for export."""

    def __init__(self, module: nn.Module, half_life: float) -> None:
        """half_life in steps: after so many, half of the mean is new."""
        self.decay = 0.5 ** (1.0 / half_life)
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Call after each optimiser step. The mean's length grows with the steps seen, up to half_life."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9.0))
        learnt = {name for name, _ in module.named_parameters()}
        for name, value in module.state_dict().items():
            if name in learnt:
                self.state[name].lerp_(value, 1.0 - decay)
            else:
                self.state[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.updates = int(state_dict["updates"])
        for name, value in state_dict["state"].items():
            self.state[name].copy_(value)


def run_folder(part: str, out: str | Path | None = None) -> Path:
    """Where checkpoint and log of a training lie: `out`, or runs/PART."""
    return Path(out) if out is not None else Path("runs") / part


def weights_folder(out: str | Path | None = None) -> Path:
    """Where finished weights and their manifest go: `out`, or data/weights/open."""
    return Path(out) if out is not None else data_folder() / "weights" / "open"


def end_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it does, however that came."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent:
            parent.join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait, daemon=True).start()


def in_workers(function: Callable[..., Any], jobs: Sequence[Any], title: str) -> list[Any]:
    """[function(job) for job in jobs], by one process per core if there are many jobs; the same list with any number."""
    if len(jobs) < WORTH_WORKERS:
        return [function(job) for job in progress(jobs, title)]
    # not fork: a child of a process whose OpenMP threads have run can hang
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
        return list(progress(pool.map(function, jobs, chunksize=8), title, total=len(jobs)))


class Loop:
    """Iterates from the resumed step to `steps`; saves `last.pt` at the end and every so many seconds (None: as the team says).

    Of a team's processes the leading one writes; a figure is the mean over them all. If TensorBoard is installed, its files are
    a copy of log.jsonl, made anew at every start: no step is in them twice.

    Ctrl-C (or a polite kill) lets the running step end, saves, and raises KeyboardInterrupt. A kill that
    can't be caught costs at most `save_every` seconds of work: `last.pt` is replaced whole or not at all.
    Raises BadInput while another training writes to the same folder.
    until: end after so many of the steps, with a checkpoint, as if it had been stopped there. plan: what decides how the
    training goes beside part and seed, as options of the command (--steps); one that was begun with another isn't resumed.
    """

    def __init__(
        self,
        part: str,
        steps: int,
        seed: int,
        state: Mapping[str, Stateful],
        out: str | Path | None = None,
        resume: bool = False,
        save_every: float | None = None,
        log_every: int = 50,
        until: int | None = None,
        team: Team | None = None,
        plan: str = "",
    ) -> None:
        self.part, self.steps, self.seed, self.state = part, steps, seed, dict(state)
        self.plan = plan or f"--steps {steps}"
        self.team = team or Team()
        self.save_every = 60 * self.team.save_every if save_every is None else save_every
        self.log_every = log_every
        self.last = steps if until is None else min(until, steps)
        self.folder = run_folder(part, out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.step, self.seconds = 0, 0.0
        self._recent: dict[str, list[Tensor | float]] = {}
        self._board: Any = None
        self._interrupted = False
        if resume and (self.folder / "last.pt").is_file():
            self._load()

    def __iter__(self) -> Iterator[int]:
        with alone(self.folder) if self.team.leads else nullcontext():
            if self.team.leads:
                self._cut_log()
            yield from self._steps()

    def _steps(self) -> Iterator[int]:
        self._saved = self._tick = time.monotonic()
        restore, steps = self._catch_signals(), range(self.step, self.last)
        if self.team.leads:
            self._open_board()
        try:
            for step in progress(steps, self.part, total=self.steps, done=self.step) if self.team.leads else steps:
                yield step
                self.step = step + 1
                now = time.monotonic()
                self.seconds, self._tick = self.seconds + now - self._tick, now
                if self.step % self.log_every == 0 or self.step == self.steps:
                    self._write_log()
                self._interrupted = self.team.any(self._interrupted)  # all stop after the same step
                if self._interrupted or self.step == self.last or now - self._saved > self.save_every:
                    self.save()
                if self._interrupted:
                    if self.team.leads:
                        print(f"{self.part}: stopped at step {self.step}; continue with --resume", file=sys.stderr)
                    raise KeyboardInterrupt
        finally:
            restore()
            if self._board:
                with suppress(OSError):              # said already
                    self._board.close()

    def log(self, **figures: Tensor | float) -> None:
        """Note this step's figures (scalars)."""
        for name, value in figures.items():
            self._recent.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def save(self) -> None:
        """Write `last.pt`: all states, the next step, seconds spent, and the global random states."""
        self._saved = time.monotonic()
        if not self.team.leads:
            return
        kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
        checkpoint = {
            "part": self.part,
            "seed": self.seed,
            "plan": self.plan,
            "step": self.step,
            "recent": {name: [float(value) for value in values] for name, values in self._recent.items()},
            "seconds": self.seconds,
            "torch_rng": torch.get_rng_state(),
            "numpy_rng": [kind, torch.from_numpy(keys), int(position), int(has_gauss), float(cached)],
            "state": {name: part.state_dict() for name, part in self.state.items()},
        }
        with replacing(self.folder / "last.pt") as temporary:
            torch.save(checkpoint, temporary)

    def _load(self) -> None:
        path = self.folder / "last.pt"
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            whose = checkpoint["part"], checkpoint["seed"]
        except Exception as error:
            raise CorruptWeights(f"{path} isn't a training checkpoint; start without --resume") from error
        if whose != (self.part, self.seed):
            raise BadInput(
                f"{path} belongs to {checkpoint['part']} with seed {checkpoint['seed']}, not to {self.part} "
                f"with seed {self.seed}: give that seed, another --out, or no --resume"
            )
        if (plan := checkpoint.get("plan", self.plan)) != self.plan:
            raise BadInput(f"{path} was begun with {plan}, which decides how the training goes, not with {self.plan}: give "
                           "that again, another --out, or no --resume")
        for name, part in self.state.items():
            part.load_state_dict(checkpoint["state"][name])
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
        self._recent = checkpoint.get("recent", {})
        torch.set_rng_state(checkpoint["torch_rng"])
        kind, keys, *rest = checkpoint["numpy_rng"]
        np.random.set_state((kind, keys.numpy(), *rest))  # noqa: NPY002

    def _cut_log(self) -> None:
        """Drop the lines of steps that will be done again, and a half-written last line."""
        path, kept = self.folder / "log.jsonl", []
        for line in path.read_text().splitlines() if self.step and path.is_file() else []:
            try:
                kept += [line + "\n"] if json.loads(line)["step"] <= self.step else []
            except (ValueError, KeyError):
                continue
        with replacing(path) as temporary:
            temporary.write_text("".join(kept))

    def _write_log(self) -> None:
        means = [float(sum(map(float, values)) / len(values)) for values in self._recent.values()]
        line = {"step": self.step, "seconds": round(self.seconds, 1),
                **dict(zip(self._recent, self.team.mean(means), strict=True))}
        self._recent.clear()
        if self.team.leads:
            path = self.folder / "log.jsonl"
            try:
                with path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise cant_write(path, error) from error
            self._show(line)

    def _open_board(self) -> None:
        """TensorBoard's writer with the log so far; none if it isn't installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        shutil.rmtree(self.folder / "tensorboard", ignore_errors=True)
        try:
            self._board = SummaryWriter(self.folder / "tensorboard")
        except OSError as error:
            raise cant_write(self.folder / "tensorboard", error) from error
        for line in (self.folder / "log.jsonl").read_text().splitlines():
            self._show(json.loads(line))

    def _show(self, line: Mapping[str, float]) -> None:
        """One line of the log in TensorBoard, whose time is the training's own: the seconds that it took so far."""
        if self._board:
            try:
                for name in line.keys() - {"step", "seconds"}:
                    self._board.add_scalar(name, line[name], line["step"], walltime=line["seconds"])
                self._board.flush()
            except OSError as error:
                raise cant_write(self.folder / "tensorboard", error) from error

    def _catch_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def note(number: int, frame: object) -> None:
            self._interrupted = True
            restore()  # a second Ctrl-C acts at once

        for number in before:
            signal.signal(number, note)
        return restore


def export(
    part: str,
    state_dict: Mapping[str, Tensor],
    figures: Mapping[str, float],
    command: str,
    seed: int,
    steps: int,
    seconds: float,
    licence: str = "MIT",
    config: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
) -> Path:
    """Write PART.safetensors (floats as fp16) and its entry in manifest.json; returns the weights' path.

    figures: what was measured on held-out data; config: what `worlds.py` needs to rebuild the module;
    out: the training's --out folder, else data/weights/open.
    Raises ValueError, naming the tensor, if a weight is NaN, infinite, or too large for fp16.
    """
    tensors = {}
    for name, value in state_dict.items():
        dtype = torch.float16 if value.is_floating_point() else value.dtype
        tensors[name] = value.detach().cpu().to(dtype)
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"{part}: {name} isn't finite in fp16 (largest: {value.abs().max().item():.3g})")
    written = write_part(weights_folder(out), part, tensors, licence, command, dict(config or {}), seed=seed, steps=steps,
                         seconds=round(seconds), figures={name: float(value) for name, value in figures.items()})
    return written.path
