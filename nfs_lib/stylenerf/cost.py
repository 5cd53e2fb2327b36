"""What a picture costs, in multiply-adds: counted from the sizes of the layers, so that no clock and no computer plays a part.

Left out: whatever is done once per picture rather than per ray or pixel (mapping, styles), activations, the fixed low-pass
filters, the products with one that enlarge by nearest neighbour, and the small background field. torch's own counter agrees
within 2 % (tests).
"""

from nfs_lib.stylenerf.config import GeneratorConfig


def sample_cost(config: GeneratorConfig) -> int:
    """Multiply-adds for the density and hidden features of one ray sample, and for adding it to its ray."""
    f = config.field
    encoded = 6 * f.n_frequencies + 3 * f.append_xyz
    return encoded * f.hidden + (f.n_blocks - 1) * f.hidden**2 + f.hidden + f.hidden


def field_cost(config: GeneratorConfig, rays: int) -> int:
    """Multiply-adds for the features and RGB of this many rays (Eq. 1); the heads are applied once per ray."""
    heads = config.field.hidden * config.feature_dim + 3 * config.feature_dim
    return rays * ((config.n_samples + config.n_fine) * sample_cost(config) + heads)


def upsampler_cost(config: GeneratorConfig) -> int:
    """Multiply-adds from the feature map to the picture (Eq. 2)."""
    total, side, n_in = 0, config.ray_resolution, config.feature_dim
    for n_out in config.channels:
        hidden = int(n_out * config.adapter_width)
        small, large = side**2, (2 * side) ** 2
        total += small * config.kernel**2 * n_in * n_out                          # conv0, before it doubles the size
        if "pixelshuffle" in config.upsample_mode:
            total += small * (n_out * hidden + hidden * 4 * n_out)
        else:
            total += large * (2 * n_out * hidden + hidden * n_out)               # as published; `upsampler.beside` saves some
        total += large * (config.kernel**2 * n_out**2 + 3 * n_out)                # conv1 and torgb
        side, n_in = 2 * side, n_out
    return total
