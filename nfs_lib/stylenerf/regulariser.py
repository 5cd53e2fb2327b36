"""StyleNeRF's NeRF-path regulariser: the 2D part may sharpen what the volume shows, but not invent things of its own.

At some pixels the picture is made a second time, without the 2D part ever seeing a neighbour: every sample of the pixel's ray
passes the 2D blocks by itself, as a point without upsampling, and the colours that come out are composited along the ray. The
loss is the squared distance of the two colours.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nfs_lib.camera import Camera
from nfs_lib.stylenerf.field import inverted_sphere
from nfs_lib.stylenerf.generator import Generator, Samples
from nfs_lib.stylenerf.rendering import ray_weights


def random_pixels(n: int, resolution: int, batch: int, rng: torch.Generator | None = None) -> Int[Tensor, "B m"]:
    """One pixel of each of n × n cells, the same place in every cell: numbers (B, n²) of the flattened image."""
    cell = resolution // n
    offset = (torch.rand(batch, 2, generator=rng) * cell).long()
    column, row = (torch.arange(n) * cell + offset[:, axis, None] for axis in (0, 1))
    return (row[:, :, None] * resolution + column[:, None]).flatten(1)


def pixel_places(generator: Generator, pixels: Int[Tensor, "B m"]) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B m"]]:
    """Image positions x, y in [−1, 1] of pixels of the full image."""
    x, y = generator.grid(generator.config.resolution)
    return x[0, pixels], y[0, pixels]


def sample_features(generator: Generator, samples: Samples, ws: Float[Tensor, "B L w"]
                    ) -> tuple[Float[Tensor, "B R S 3"], Float[Tensor, "B R S c"]]:
    """RGB and features of every sample of the foreground: the heads, which rendering applies once a ray."""
    b, r, s, h = samples.hidden.shape
    flat = samples.hidden.reshape(b, r * s, h)
    rgb, features = generator.foreground.head(flat, flat.new_ones(b, r * s), ws)
    return rgb.view(b, r, s, -1), features.view(b, r, s, -1)


def path_loss(generator: Generator, image: Float[Tensor, "B 3 H W"], ws: Float[Tensor, "B L w"], z_bg: Float[Tensor, "B z"],
              camera: Camera, pixels: Int[Tensor, "B m"], background: Camera | None = None) -> Float[Tensor, "B 1"]:
    """Twice the mean squared distance, over pixels, of the image's colour and the one made sample by sample (official code).

    image: the generator's, of the same styles, background latent and cameras. pixels: `random_pixels`.
    """
    x, y = pixel_places(generator, pixels)
    samples = generator.march(ws, camera, x, y)
    weights, transmittance = ray_weights(samples.sigma, samples.depth, samples.length, wall=not generator.config.background)
    rgb, features = sample_features(generator, samples, ws)
    if generator.config.background:
        origin, direction = generator.background_rays(x, y, len(ws), background)
        field = generator.background
        behind, hidden = field.march(inverted_sphere(origin, direction, -field.depth().to(x)), z_bg)
        behind_rgb, behind_features = field.head(hidden)
        weights = torch.cat([weights, behind * transmittance[..., None]], -1)
        rgb, features = torch.cat([rgb, behind_rgb], 2), torch.cat([features, behind_features], 2)
    colours = untiled(generator.upsampler(tiled(features), tiled(rgb), ws, enlarge=False)[-1], weights.shape[-1])
    seen = image.flatten(2).gather(2, pixels[:, None].expand(-1, 3, -1)).transpose(1, 2)
    made = (weights[..., None] * colours).sum(2)
    return 2 * ((seen - made) ** 2).sum(-1).mean(-1, keepdim=True)


def tiled(samples: Float[Tensor, "B R S c"]) -> Float[Tensor, "B c h w"]:
    """All samples as one picture: tiles of √R × √R, one for each sample of a ray, in rows of about √S.

    The layers are 1 × 1 convolutions in the published generators, so any arrangement would do; with larger ones the official
    code lets neighbours mix just like this.
    """
    b, r, s, c = samples.shape
    n, rows = round(math.sqrt(r)), tile_rows(s)
    return samples.view(b, n, n, rows, s // rows, c).permute(0, 5, 3, 1, 4, 2).reshape(b, c, rows * n, s // rows * n)


def untiled(picture: Float[Tensor, "B c h w"], s: int) -> Float[Tensor, "B R S c"]:
    """The inverse of `tiled`."""
    b, c, h, _ = picture.shape
    rows = tile_rows(s)
    n = h // rows
    return picture.view(b, c, rows, n, s // rows, n).permute(0, 3, 5, 2, 4, 1).reshape(b, n * n, s, c)


def tile_rows(s: int) -> int:
    """The largest divisor of s that is at most √s."""
    return max(i for i in range(1, math.isqrt(s) + 1) if s % i == 0)
