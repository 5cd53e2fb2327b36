"""Training the identity encoder on renders of the same people: `nfs train identity`.

A person is the shape of the head with hair, skin, eyes and beard; expression, pose, light, clothes and background are drawn
anew for every view. The loss is supervised contrastive (Khosla et al., 2020): views of one person attract each other.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from nfs_lib.cpu import keep_freed_memory, mixed_precision
from nfs_lib.metrics.identity import IdentityEncoder
from nfs_lib.training.common import (
    Ema,
    Loop,
    export,
    in_workers,
    numpy_rng,
    run_folder,
    seed_everything,
    set_learning_rate,
    step_rng,
    warm_cosine,
)
from nfs_lib.training.estimator import as_images, augment
from nfs_lib.training.team import Team
from nfs_lib.writing import intact, replacing

PEOPLE, VIEWS = 3000, 4
BATCH = 24  # people a step, two views each
TEMPERATURE = 0.1
HELD_OUT_SEED = 9_100_000
CHANGING = ("cloth_hue", "cloth_value", "collar", "light_side", "light_height", "light_contrast", "light_warmth")


def render_views(seed: int, views: int) -> UInt8[np.ndarray, "views 128 128 3"]:
    """One person (`seed`) seen `views` times, 128 pixels."""
    from nfs_lib import portraits
    from nfs_lib.portraits.chart import N_IDENTITY

    person, pictures = portraits.sample_latent(seed), []
    kept = np.zeros(len(person), bool)
    kept[:N_IDENTITY] = True
    first = N_IDENTITY + len(portraits.EXPRESSIONS)
    kept[first : first + len(portraits.APPEARANCE)] = [name not in CHANGING for name in portraits.APPEARANCE]
    rng = numpy_rng(seed, 1)
    for _ in range(views):
        z = np.where(kept, person, rng.standard_normal(len(person))).astype(np.float32)
        pose = portraits.sample_pose(int(rng.integers(2**31)))
        pictures.append(portraits.render(portraits.chart(z), pose, 128).image)
    return np.stack(pictures)


def load_people(path: Path, n: int, first_seed: int) -> UInt8[Tensor, "n 4 128 128 3"]:
    """n people in four views each from `path`, rendering them if the file isn't there (about 0.1 s a person)."""
    if not intact(path, np.load):
        path.parent.mkdir(parents=True, exist_ok=True)
        seeds = range(first_seed, first_seed + n)
        pictures = np.stack(in_workers(partial(render_views, views=VIEWS), seeds, "rendering people"))
        with replacing(path) as temporary:
            np.save(temporary, pictures)
    return torch.from_numpy(np.load(path))


def contrastive_loss(embedding: Float[Tensor, "n D"], person: Int[Tensor, " n"]) -> Tensor:
    """−log of the softmax share that each vector gives to the others of its own person, temperature 0.1.

    embedding: unit vectors; person (n,): who it is. Every person must occur twice at least.
    """
    similarity = embedding @ embedding.T / TEMPERATURE
    self_pair = torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
    share = similarity.masked_fill(self_pair, -torch.inf).log_softmax(1)
    same = (person[:, None] == person[None]) & ~self_pair
    return -(share.masked_fill(~same, 0).sum(1) / same.sum(1)).mean()


def train(
    steps: int = 2000, seed: int = 0, resume: bool = False, device: str | Team = "cpu", out: str | Path | None = None
) -> dict[str, float]:
    """Train, measure on held-out people, export; returns the figures.

    The pictures are rendered on the first call and kept in the run's folder (about five minutes on one core).
    """
    keep_freed_memory()
    team = Team.of(device)
    mine = team.share(2 * BATCH)
    with team.first():
        people = load_people(run_folder("identity", out) / f"people_{PEOPLE}.npy", PEOPLE, 0)
    seed_everything(seed)
    model = IdentityEncoder().to(team.device)
    team.join(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    ema = Ema(model, half_life=150)
    loop = Loop("identity", steps, seed, {"model": model, "optimiser": optimiser, "ema": ema}, out, resume, team=team)
    for step in loop:
        set_learning_rate(optimiser, warm_cosine(step, steps, peak=1e-3, final=0.02))
        rng = step_rng(seed, step)
        who = torch.randperm(len(people), generator=rng)[:BATCH].repeat_interleave(2)
        view = torch.stack([torch.randperm(VIEWS, generator=rng)[:2] for _ in range(BATCH)]).flatten()
        shuffled = torch.randperm(len(who), generator=rng)  # the augmentation treats quarters of a batch differently
        who, view = who[shuffled], view[shuffled]
        images = as_images(people[who, view]).to(team.device)
        if torch.rand((), generator=rng) < 0.5:
            images = images.flip(3)
        with mixed_precision(team.device.type):
            embedding = model(augment(images, rng)[mine])
        loss = contrastive_loss(team.gather(embedding), who.to(team.device))
        optimiser.zero_grad(set_to_none=True)
        team.backward(loss, model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        ema.update(model)
        loop.log(loss=loss)
    if not team.leads:
        return {}
    model.load_state_dict(ema.state)
    figures = measure_identity(model.cpu().eval())
    command = f"nfs train identity --steps {steps} --seed {seed}{team.options}"
    export("identity", model.state_dict(), figures, command, seed, steps, loop.seconds, config={"dimensions": 128}, out=out)
    return figures


@torch.no_grad()
def measure_identity(model: IdentityEncoder, n: int = 200) -> dict[str, float]:
    """Same or another person? On n people that no training used (seeds from 9,100,000), four views each.

    auc: probability that two views of one person have a larger cosine than views of two people (area under the ROC
    curve, over all pairs); equal_error_rate: share wrong at the threshold where both errors are equal; same_cosine and
    other_cosine: the two means.
    """
    views = np.stack([render_views(HELD_OUT_SEED + i, VIEWS) for i in range(n)])
    pictures = torch.from_numpy(views).flatten(0, 1)
    embedding = torch.cat([model(as_images(part)) for part in pictures.split(50)])
    cosine, who = embedding @ embedding.T, torch.arange(n).repeat_interleave(VIEWS)
    above = torch.ones_like(cosine, dtype=torch.bool).triu(1)
    same = cosine[above & (who[:, None] == who[None])]
    other = cosine[above & (who[:, None] != who[None])]
    return {**verification(same, other), "same_cosine": float(same.mean()), "other_cosine": float(other.mean())}


def verification(same: Float[Tensor, " n"], other: Float[Tensor, " m"]) -> dict[str, float]:
    """Area under the ROC curve (ties count half) and equal error rate of scores that should be larger for `same`."""
    same, other = same.double().sort().values, other.double().sort().values
    below = (torch.searchsorted(other, same) + torch.searchsorted(other, same, right=True)) / 2
    missed = torch.arange(len(same)) / len(same)  # share of `same` below each of its scores, taken as the threshold
    accepted = 1 - torch.searchsorted(other, same) / len(other)
    at = int((missed - accepted).abs().argmin())
    return {"auc": float(below.mean() / len(other)), "equal_error_rate": float((missed[at] + accepted[at]) / 2)}
