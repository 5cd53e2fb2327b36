"""Parity of what looks at pictures: the segmenter, and the official projection."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from nfs_lib import pti, segmenter
from nfs_lib.blending import MaskMean
from nfs_lib.inversion import learning_rate, style_noise
from nfs_lib.parity.golden import Compared, GoldenSet


def check_segmenter(golden: GoldenSet) -> Compared:
    given, meta = golden.golden, golden.entry["meta"]
    model = segmenter.BiSeNet(given["logits"].shape[1])
    golden.fill(model)
    (image,) = (tensor for name, tensor in given.items() if name.startswith("image_"))  # its name tells its size
    seen = segmenter.prepare(image, side=given["argmax"].shape[-1])
    fine, coarse = (int(re.findall(r"\d+", meta[name])[0]) for name in ("logits", "aux"))  # "every 4th pixel"
    with torch.no_grad():
        scores, aux16, aux32 = model.all_scores(seen)
    yield "net_input_row0", seen[:, :, 0]
    yield "logits", scores[..., ::fine, ::fine]
    yield "aux16", aux16[..., ::coarse, ::coarse]
    yield "aux32", aux32[..., ::coarse, ::coarse]
    yield "argmax", scores.argmax(1)
    mean = MaskMean(7)
    masks = [1 - mean(segmenter.mouth(labels[0])) for labels in given["label_sequence"]]  # the official polarity
    yield "masks_smoothed", torch.stack(masks)[:, None, None]


def check_pti(golden: GoldenSet) -> Compared:
    """The toy generator of the set goes through the function that inverts portraits."""
    given = golden.golden
    a, b, c, v, target = (given[name] for name in ("A", "B", "C", "V", "target"))
    steps, side = len(given["lr"]), target.shape[-1]
    times = [step / steps for step in range(steps)]
    yield "lr", torch.tensor([learning_rate(t) for t in times], dtype=torch.float64)
    yield "w_noise_scale_over_std", torch.tensor([style_noise(t) for t in times], dtype=torch.float64)

    mean, spread = pti.style_statistics(lambda z: torch.tanh(z @ a), len(a))
    yield "w_avg", mean[0]
    yield "w_std", torch.tensor([spread]).double()
    noise = torch.empty(2 * side, 2 * side)

    def synthesis(w: Tensor, latents: list[Tensor]) -> Tensor:
        grain = 0.1 * F.avg_pool2d(noise[None, None], 2).flatten()
        return torch.tanh((w @ b + torch.cat(latents, 1) @ c).view(3, -1) + grain).view(1, *target.shape)

    def features(picture: Tensor) -> Tensor:
        return ((picture + 1) * 127.5).flatten(1) @ v

    w, (_, _, shape, appearance), losses = pti.project(
        synthesis,
        pti.feature_distance(features, target[None] / 127.5 - 1),
        mean,
        spread,
        (0, 0, *(given[name].shape[-1] for name in ("bg_shape_final", "bg_app_final"))),
        steps=steps,
        seed=golden.entry["meta"]["seed"],
        noise=[noise],
    )
    yield "loss_every50", torch.tensor(losses[:: steps // len(given["loss_every50"])]).double()
    yield "loss_last", torch.tensor(losses[-1:]).double()
    yield "w_final", w[0]
    yield "bg_shape_final", shape
    yield "bg_app_final", appearance
    buffer = given["noise_buffer"].clone()
    yield "noise_reg", pti.noise_penalty([buffer])[None]
    pti.normalise(buffer)
    yield "noise_normalised", buffer
