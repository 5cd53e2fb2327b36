"""Several processes that train one network: data parallel, started and joined by Lightning Fabric.

Every process holds the whole network and draws the whole batch, all of them the same one; each works through its share of the
rows, and before every step the gradients are averaged. So N processes do what one does with the same batch, up to rounding:
losses are means over rows, batch norms and the discriminator's deviations look at all processes' rows (`join`), and a loss
that compares all rows with each other gets them all (`gather`). One process alone takes none of these detours.

team = Team(device="cpu", devices=2)            # starts the other process, with the same command
mine = team.share(BATCH)                        # rows of this process
team.join(model)
for step in Loop(..., team=team):
    images = draw(step_rng(seed, step))[mine]   # drawn whole, then shared out
    team.backward(loss(model(images)), model)
    optimiser.step()
"""

import datetime
import warnings
from contextlib import AbstractContextManager
from typing import Any, Union

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib import cpu
from nfs_lib.errors import BadInput
from nfs_lib.stylenerf.discriminator import Discriminator, batch_deviation


class Team:
    """What a training runs on, and how often it saves.

    device: "cpu", "cuda", "mps", or one of several as "cuda:1". devices: processes on this machine, each with a device of its
    own; nodes: machines. On each of several machines start the same command, with MASTER_ADDR, MASTER_PORT and NODE_RANK (0
    for the first) in the environment and the run's folder on a disk that all see; torchrun and Slurm set what they need
    themselves. precision: "32-true" or "bf16-mixed"; None: bfloat16 where the processor multiplies it natively. save_every:
    minutes.
    Raises BadInput if there is no such device here.
    """

    def __init__(self, device: str = "cpu", devices: int = 1, nodes: int = 1, precision: str | None = None,
                 save_every: float = 3.0) -> None:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy

        kind, _, index = device.partition(":")
        if index and devices > 1:
            raise BadInput(f"--device {device} is one device, but --devices {devices} were asked for: give --device {kind}")
        several = DDPStrategy(timeout=datetime.timedelta(days=1))  # the first process may render for hours
        try:
            self.fabric: Any = Fabric(accelerator=kind, devices=[int(index)] if index and kind != "cpu" else devices,
                                      num_nodes=nodes, strategy=several if devices * nodes > 1 else "auto",
                                      precision=precision or "32-true")  # type: ignore[arg-type]
        except (RuntimeError, ValueError) as error:
            reason = str(error).split(". ")[0]
            raise BadInput(f"--device {device} can't be used here ({reason}): give another, or none for the CPU") from error
        warnings.filterwarnings("ignore", "torch.distributed.nn.functional", FutureWarning)  # how Fabric gathers
        self.fabric.launch()
        self.save_every = save_every
        self.options = "".join(f" --{name} {value}" for name, value in (("devices", devices), ("nodes", nodes)) if value > 1)
        self.options += f" --precision {precision}" if precision else ""
        cpu.chosen = self.fabric.autocast if precision else None

    @staticmethod
    def of(device: Union[str, "Team"]) -> "Team":
        """One process on this device, or the team itself."""
        return device if isinstance(device, Team) else Team(device)

    @property
    def device(self) -> torch.device:
        """This process's."""
        return self.fabric.device

    @property
    def size(self) -> int:
        """Processes, on all machines."""
        return self.fabric.world_size

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes logs, checkpoints and results."""
        return self.fabric.is_global_zero

    def first(self) -> AbstractContextManager:
        """A block that the leading process goes through before all others: what it makes, they find made."""
        return self.fabric.rank_zero_first()

    def share(self, rows: int, together: int = 1) -> slice:
        """This process's rows of a batch, of which so many neighbours stay together. Raises BadInput if it can't be divided."""
        if rows % (self.size * together):
            raise BadInput(f"a batch of {rows // together} can't be shared out evenly among {self.size} processes: "
                           f"let --devices times --nodes be a divisor of {rows // together}")
        each = rows // self.size
        return slice(self.fabric.global_rank * each, (self.fabric.global_rank + 1) * each)

    def join(self, model: nn.Module) -> None:
        """Let the layers that compare a batch's rows compare those of all processes; all must then use them in step."""
        for module in model.modules() if self.size > 1 else ():
            if type(module) in JOINED:
                module.__class__ = JOINED[type(module)]
                module.team = self  # type: ignore[assignment]

    def backward(self, loss: Tensor, *modules: nn.Module) -> None:
        """The modules' gradients of the loss, averaged over all processes."""
        self.fabric.backward(loss)
        if self.size > 1:
            gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
            flat = self.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
            for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                g.copy_(mean.view_as(g))

    def gather(self, rows: Float[Tensor, "n *d"]) -> Float[Tensor, "N *d"]:
        """All processes' rows, in the order of `share`; gradients flow back to where they come from."""
        return self.fabric.all_gather(rows, sync_grads=True).flatten(0, 1) if self.size > 1 else rows

    def mean(self, values: list[float]) -> list[float]:
        """Each value's mean over all processes."""
        if self.size == 1:
            return values
        return self.fabric.all_reduce(torch.tensor(values, device=self.device), reduce_op="mean").tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return any(self.mean([float(flag)]))


class JoinedBatchNorm(nn.BatchNorm2d):
    """A batch norm over the rows of all processes of `team`. torch's SyncBatchNorm does the same, but not on a CPU."""

    team: Team

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if not self.training:
            return super().forward(x)
        y, n = x.float(), x.numel() // x.shape[1] * self.team.size
        mean = self.team.gather(y.mean((0, 2, 3), keepdim=True)).mean(0)
        var = self.team.gather((y - mean).square().mean((0, 2, 3), keepdim=True)).mean(0)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            self.running_mean.lerp_(mean.flatten(), self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_(var.flatten() * n / (n - 1), self.momentum)  # type: ignore[union-attr, arg-type]
        scale = self.weight[:, None, None] * (var + self.eps).rsqrt()
        return ((y - mean) * scale + self.bias[:, None, None]).to(x.dtype)


class JoinedDiscriminator(Discriminator):
    """A discriminator that compares pictures with those of all processes of `team`."""

    team: Team

    def deviation(self, x: Float[Tensor, "B C 4 4"]) -> Float[Tensor, "B 1 4 4"]:
        everyone = batch_deviation(self.team.gather(x.float()), self.group)
        return everyone[self.team.share(len(everyone))].to(x.dtype)


JOINED: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: JoinedBatchNorm, Discriminator: JoinedDiscriminator}
