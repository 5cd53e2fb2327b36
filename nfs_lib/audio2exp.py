"""Audio2Exp: what the face does while these sounds are spoken (paper, 4.1 and 4.2, Eq. 4-5).

The network is SadTalker's (`SimpleWrapperV2`) with its names in the state dict, so that its published
weights fit; only the number of expression coefficients E is free: 64 for the paper's face model, 52 for
the open world's named facial actions.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from nfs_lib.audio import FPS, SAMPLE_RATE, mel_windows
from nfs_lib.checks import check_array, check_number

# in, out, kernel, stride, padding, residual; (B, 1, 80, 16) in, (B, 512, 1, 1) out
ENCODER = (
    (1, 32, 3, 1, 1, False),  # 80 x 16
    (32, 32, 3, 1, 1, True),
    (32, 32, 3, 1, 1, True),
    (32, 64, 3, (3, 1), 1, False),  # 27 x 16
    (64, 64, 3, 1, 1, True),
    (64, 64, 3, 1, 1, True),
    (64, 128, 3, 3, 1, False),  # 9 x 6
    (128, 128, 3, 1, 1, True),
    (128, 128, 3, 1, 1, True),
    (128, 256, 3, (3, 2), 1, False),  # 3 x 3
    (256, 256, 3, 1, 1, True),
    (256, 512, 3, 1, 0, False),  # 1 x 1
    (512, 512, 1, 1, 0, False),
)


class ConvBlock(nn.Module):
    """Convolution, batch norm, (plus the input,) ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int | tuple[int, int],
        padding: int,
        residual: bool,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel, stride, padding), nn.BatchNorm2d(channels_out)
        )
        self.residual = residual

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


class Audio2Exp(nn.Module):
    """Mel window, reference expression, blink ratio -> expression. 2.85 M parameters at E = 64."""

    def __init__(self, n_exp: int = 52) -> None:
        super().__init__()
        self.n_exp = n_exp
        self.audio_encoder = nn.Sequential(*(ConvBlock(*shape) for shape in ENCODER))
        self.mapping1 = nn.Linear(512 + n_exp + 1, n_exp)

    def embed(self, audio: Float[Tensor, "N 1 80 16"]) -> Float[Tensor, "N 512"]:
        """What the network hears in each window: the part that depends on neither reference nor blink."""
        return self.audio_encoder(audio).flatten(1)

    def forward(
        self, audio: Float[Tensor, "N 1 80 16"], ref: Float[Tensor, "*r"], ratio: Float[Tensor, "*q"]
    ) -> Float[Tensor, "a b c"]:
        """Expression coefficients of N windows, unscaled.

        audio: mel windows of `audio.mel_windows`, with a channel axis.
        ref: N reference expressions, (1, N, E); or (1, E) for a single window.
        ratio: N blink ratios, any shape; this method always gives 0.

        Returns (1, N, E) for a reference (1, N, E). For a reference (1, E) it is (1, E, 1): the official
        network reshapes to (ref.shape[0], ref.shape[1], -1), and so does this one.
        """
        features = [self.embed(audio), ref.reshape(-1, self.n_exp), ratio.reshape(-1, 1)]
        return self.mapping1(torch.cat(features, dim=1)).reshape(ref.shape[0], ref.shape[1], -1)


def momentum_recursion(
    model: Audio2Exp,
    heard: Float[Tensor, "S T 512"],
    beta_init: Float[Tensor, "S E"],
    before: Float[Tensor, "S E"] | None = None,
    momentum: float = 0.5,
) -> Float[Tensor, "S T E"]:
    """Frame by frame (Eq. 4-5): p_t = Audio2Exp(a_t, r_t), r_t = (1 - momentum) beta_init + momentum p_{t-1}.

    heard: embedded windows of S clips; before: each clip's p_{-1}. Without it r_0 = beta_init. The head is
    linear, so that the part due to the sound is computed for all frames at once; the loop over frames stays.
    """
    by_sound, by_reference = model.mapping1.weight[:, :512], model.mapping1.weight[:, 512:-1]
    spoken = heard @ by_sound.T + model.mapping1.bias  # blink ratio 0
    reference = beta_init if before is None else (1.0 - momentum) * beta_init + momentum * before
    predicted = []
    for frame in spoken.unbind(1):
        predicted.append(frame + reference @ by_reference.T)
        reference = (1.0 - momentum) * beta_init + momentum * predicted[-1]
    return torch.stack(predicted, dim=1)


@torch.no_grad()
def speech_to_expression(
    model: Audio2Exp,
    speech: Float32[np.ndarray, " samples"] | Float32[np.ndarray, "T 80 16"],
    beta_init: Float[Tensor, " E"],
    momentum: float = 0.5,
    scale: float = 1.5,
) -> Float[Tensor, "T E"]:
    """Expression coefficients of every video frame (25 a second) of a clip.

    speech: a 16 kHz wave of at least one frame, or its mel windows.
    beta_init: the portrait's own expression; what speech doesn't drive keeps to it.
    momentum: alpha_m of Eq. 4, the share of the previous prediction in the reference. 0 has no memory.
    scale: lambda_exp. It multiplies the finished predictions, the static part included; the recursion
        runs on the unscaled ones, as in the authors' code.
    Raises BadInput for speech, an expression or numbers that aren't as described.
    """
    if getattr(speech, "ndim", 1) == 1:
        check_array(speech, "speech", "float32", "samples", limit=1.01)
        check_number(len(speech), "the number of samples of speech", SAMPLE_RATE // FPS, math.inf)
    else:
        check_array(speech, "mel windows of speech", "float32", "T", 80, 16)
    check_array(beta_init, "the portrait's expression", "torch.float32", model.n_exp, device=model.mapping1.weight.device)
    check_number(momentum, "momentum", 0, 1)
    check_number(scale, "scale", -100, 100)
    windows = mel_windows(speech) if speech.ndim == 1 else speech
    training = model.training
    model.eval()
    parts = torch.from_numpy(windows)[:, None].split(32)  # stays in the cache
    heard = torch.cat([model.embed(part.to(beta_init.device)) for part in parts])
    predicted = momentum_recursion(model, heard[None], beta_init[None], momentum=momentum)
    model.train(training)
    return scale * predicted[0]
