"""What the stages cost, counted from their sizes; multiply-adds as in `stylenerf.cost`, traffic layer by layer in float32.

The counts are of the work that the method states: what is skipped, or kept from an earlier frame, still counts, so that a
share above that of a plain run is a gain.
"""

from nfs_lib.bench.measuring import Work
from nfs_lib.stylenerf import GeneratorConfig
from nfs_lib.stylenerf.cost import field_cost, upsampler_cost

FLOAT = 4                                            # bytes


def field(c: GeneratorConfig, rays: int) -> Work:
    """The foreground's features of this many rays: encoding in, the hidden layers, density and features out."""
    f, samples = c.field, rays * (c.n_samples + c.n_fine)
    encoded = 6 * f.n_frequencies + 3 * f.append_xyz
    numbers = samples * (3 + 2 * encoded + 2 * f.n_blocks * f.hidden + 1) + rays * (f.hidden + c.feature_dim + 3)
    parameters = encoded * f.hidden + (f.n_blocks - 1) * f.hidden**2 + f.hidden * c.feature_dim
    return Work(field_cost(c, rays), FLOAT * (numbers + parameters))


def background(c: GeneratorConfig, rays: int) -> Work:
    """The background's features of this many rays."""
    hidden, encoded = c.background_hidden, 8 * c.background_frequencies + c.z_bg_dim
    samples = rays * c.background_samples
    macs = samples * (encoded * hidden + (c.background_blocks - 1) * hidden**2 + hidden)
    macs += rays * (hidden * c.feature_dim + 3 * c.feature_dim)
    numbers = samples * (4 + 2 * encoded + 2 * c.background_blocks * hidden + 1) + rays * (hidden + c.feature_dim + 3)
    return Work(macs, FLOAT * numbers)


def upsampler(c: GeneratorConfig, side: int | None = None) -> Work:
    """Feature map → picture. In each block: the first convolution, the enlargement, the second convolution, RGB. side: of the
    feature map, the ray grid's by default."""
    at = side or c.ray_resolution
    share = (at / c.ray_resolution) ** 2
    numbers, n_in = 0, c.feature_dim
    for n_out in c.channels:
        small, large = at**2, (2 * at) ** 2
        numbers += small * (n_in + n_out) + (small + large) * n_out + 2 * large * n_out      # conv0, enlargement, conv1
        numbers += large * (n_out + 3) + 3 * (small + large)                                 # torgb, RGB
        numbers += c.kernel**2 * (n_in + n_out) * n_out
        at, n_in = 2 * at, n_out
    return Work(upsampler_cost(c) * share, FLOAT * numbers)


def frame(c: GeneratorConfig, pictures: int) -> Work:
    """Two feature maps and `pictures` pictures: one in the open world, two where the segmenter looks at LipaintNet's."""
    rays, total = c.ray_resolution**2, Work(0, 0)
    for _ in range(2):
        total += field(c, rays) + background(c, rays)
    for _ in range(pictures):
        total += upsampler(c)
    return total


def blending(channels: int, side: int) -> Work:
    """Two maps read, one written."""
    return Work(2 * channels * side**2, FLOAT * 3 * channels * side**2)


def matching(points: int, vertices: int) -> Work:
    """The distances that a comparison of everything with everything makes: two coordinates each."""
    return Work(2 * points * vertices, FLOAT * (2 * points + 2 * vertices + points))
