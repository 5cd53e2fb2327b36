"""Notebook 07."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib.exercises.common import Verdict, as_tensor, close, compare


def parameters(answer: Any, w_dim: int = 512, n_exp: int = 64) -> Verdict:
    """How many numbers a LipaintNet of these sizes has to learn: four linear layers, the first of which sees w and β."""
    square = w_dim * w_dim
    first = (w_dim + n_exp) * w_dim
    mistakes = {
        "These are the weights; each layer also adds a bias, one number for each of its outputs.": first + 3 * square,
        "β is missing: the first layer sees w and β, side by side.": 4 * (square + w_dim),
        "β goes into the first layer only; the other three see what it made of it.": 4 * (first + w_dim),
        "There are four layers, fc1 to fc4.": first + 2 * square + 3 * w_dim,
        "That is the first layer alone.": first + w_dim,
    }
    right = torch.tensor(float(first + 3 * square + 4 * w_dim))
    return compare(answer, right, {hint: torch.tensor(float(n)) for hint, n in mistakes.items()},
                   "A million numbers, for the official sizes; none of them has to learn to draw, that is the generator's job.",
                   "A linear layer from n to m numbers has n · m weights and m biases. What are n and m of the four?",
                   tolerance=0.0)  # fmt: skip


def slots(answer: Any, ws: Float[Tensor, "1 L w"], ws_exp: Float[Tensor, "1 L w"], field: int) -> Verdict:
    """The styles of the picture that is blended in: the first `field` slots take w_exp, the rest keep w."""
    def cut(a: Tensor, b: Tensor, at: int) -> Tensor:
        return torch.cat([a[:, :at], b[:, at:]], 1)

    mistakes = {
        "Now the upsampler has w_exp and the field has w: the other way round.": cut(ws, ws_exp, field),
        "That gives w_exp to every slot, the upsampler's too.": ws_exp,
        "Nothing has changed yet: these are the portrait's own styles.": ws,
        "One slot too few has w_exp: `[:n]` ends before n.": cut(ws_exp, ws, field - 1),
        "One slot too many has w_exp: `[:n]` ends before n.": cut(ws_exp, ws, field + 1),
        "These are the field's slots alone; the upsampler needs its styles too.": ws_exp[:, :field],
    }
    return compare(answer, cut(ws_exp, ws, field), mistakes,
                   "The volume has the other expression, and is finished by the upsampler that finishes the rest of the face.",
                   "The shape is right, the numbers aren't. Slots 0 to n − 1 belong to the field.")  # fmt: skip


def landmark_loss(answer: Any, distance: Float[Tensor, "B 68"]) -> Verdict:
    """Eq. 10 from the distances of each landmark: the mouth's, 48 to 67, count five times."""
    weight = torch.ones(68)
    weight[48:] = 5
    total = (distance * weight).sum(1).mean()
    wrong = weight.flip(0)
    mistakes = {
        "All landmarks count the same here; those from 48 on should count five times.": distance.mean(),
        "Divide by the sum of the weights, not by 68: a weighted mean of equal distances is that distance.": total / 68,
        "This is a sum over the landmarks; a mean is wanted, over people and (with weights) over landmarks.": total,
        "This is a sum over people; a mean is wanted.": (distance * weight).sum() / weight.sum(),
        "The mouth's landmarks are the last twenty, from 48 on.": (distance * wrong).sum(1).mean() / wrong.sum(),
        "These are distances already: don't square them.": (distance.square() * weight).sum(1).mean() / weight.sum(),
        "That is the mouth alone; the rest of the face counts once.": distance[:, 48:].mean(),
        "One number is wanted: take the mean over people too.": (distance * weight).sum(1) / weight.sum(),
    }
    hint = "Weights: 1 for landmarks 0 to 47, 5 from 48 on. Then a weighted mean, and one over people."
    verdict = compare(answer, total / weight.sum(), mistakes, "Twenty of 68 landmarks, and two thirds of the loss: 100 / 148.",
                      hint)  # fmt: skip
    given = as_tensor(answer)
    if verdict.text == hint and given is not None and close(given, torch.tensor(100 / 148), 0.006):      # 2/3 and 0.68, too
        return Verdict(False, "That is the mouth's share when all distances are equal: right, but wanted is the loss of these "
                              "distances.")  # fmt: skip
    return verdict


def adversarial(answer: Any, logits: Float[Tensor, "B 1"]) -> Verdict:
    """Eq. 9 from the discriminator's logits: −log D with D = sigmoid(logit), mean over the batch."""
    p = torch.sigmoid(logits)
    mistakes = {
        "The sign: this grows the more D believes the picture, so LipaintNet would learn to be found out.":
            F.logsigmoid(logits).mean(),
        "−log(1 − D) is what D pays for believing a made picture; here D should believe it.": F.softplus(logits).mean(),
        "The logit is not yet a probability: D = sigmoid(logit), and the loss is −log D.": -logits.mean(),
        "That is D itself; the loss is −log D.": p.mean(),
        "That is 1 − D: it would do, but it hardly pulls where D is sure. The paper has −log D.": (1 - p).mean(),
        "−log of the mean isn't the mean of −log: a sure no would hardly count.": -p.mean().log(),
        "One number is wanted: the mean over the batch.": -p.log(),
    }
    return compare(answer, F.softplus(-logits).mean(), mistakes,
                   "And softplus(−logit) is the same without ever taking the logarithm of 0.",
                   "D = sigmoid(logit). Eq. 9 is the mean of −log D.")  # fmt: skip


def which_loss(answer: Any, right: int, names: list[str]) -> Verdict:
    """Which of the searches `names` (answer: its number, from 0) made the picture: what is wrong with it says what was off."""
    hints = {
        "all three": "With all three the person would still be the same one: look at the hair and the skin.",
        "without L_ldm": "Without L_ldm, β and the identity are still held by L_3DMM: the person would stay. This one didn't.",
        "without L_GAN": "D would be less content without L_GAN, but L_3DMM would keep the person. This one has changed.",
        "L_GAN alone": "The hair doesn't tell: without L_3DMM anyone may appear. Look at the mouth: with L_GAN alone nothing "
                       "asks for a smile, and this one smiles.",
        "without L_3DMM": "With L_ldm and L_GAN only, nobody asks who it is.",
    }
    mistakes = {hints[name]: torch.tensor(float(i)) for i, name in enumerate(names) if i != right}
    return compare(answer, torch.tensor(float(right)), mistakes,
                   "L_ldm got its mouth and L_GAN its approval; the person was L_3DMM's to keep, and it was off.",
                   f"A number from 0 to {len(names) - 1} is wanted, the place in the list.", tolerance=0.0)  # fmt: skip
