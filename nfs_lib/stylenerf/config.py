"""One architecture, two configurations: `OPEN` (small, trained by this kit) and `FFHQ_1024` (the official checkpoint's)."""

from dataclasses import dataclass, field
from typing import Any

from nfs_lib.camera import FOV


@dataclass(frozen=True)
class FieldConfig:
    """The foreground field: positional encoding, style-modulated layers, density.

    `append_xyz`, `first_frequency`, `style_shift` and density "softplus" are this kit's options for training on a CPU;
    the official values are the defaults.
    """

    hidden: int = 128
    n_blocks: int = 8                    # fc_in and n_blocks − 1 hidden layers
    n_frequencies: int = 10              # sin, cos of 2^k π p for k = first_frequency … first_frequency + n_frequencies − 1
    first_frequency: int = 0
    append_xyz: bool = False             # p / 0.12 as three more inputs
    style_shift: bool = False            # the style also shifts every layer's output
    density: str = "relu"                # or "softplus": softplus(raw) · density_scale
    density_scale: float = 1.0


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of every part of the generator (StyleNeRF, paper section 3.1).

    What a checkpoint of the authors says about itself becomes one of these in `stylenerf.official`.
    """

    z_dim: int = 512
    w_dim: int = 512
    z_bg_dim: int = 32
    mapping_layers: int = 8
    mapping_lr_mult: float = 0.01
    normalize_z: bool = True
    append_cdf: bool = False             # the mapping also sees Φ(z): helps where z is a chart of known quantities
    field: FieldConfig = field(default_factory=FieldConfig)
    feature_dim: int = 256
    ray_resolution: int = 32
    align_corner: bool = False           # the ray grid is every nth pixel of the image's corner-aligned one, not cells' centres
    fov: float = FOV                     # field of view, radians
    near: float = 0.88
    far: float = 1.12
    n_samples: int = 14
    n_fine: int = 14
    background: bool = True              # without it the last sample of a ray is a wall
    background_hidden: int = 64
    background_blocks: int = 4           # fc_in and background_blocks − 1 hidden layers
    background_samples: int = 4
    background_start: float = 0.5        # the inverse radius at which its samples begin; they end at infinity, 0
    background_frequencies: int = 10
    background_pitch: float = -0.2       # the frozen background camera's pose, radians
    channels: tuple[int, ...] = (512, 256, 128, 64, 32)    # of the blocks 64, 128, … up to the image's resolution
    kernel: int = 1
    upsample_mode: str = "nn_cat"        # or "pixelshuffle"; with "noblur" in the name: no low-pass filter after it
    adapter_width: float = 0.25          # hidden channels of the upsampling adapter, as a share of the block's
    clamp: float | None = 256.0
    magnitude_gain: bool = False         # conv0, conv1 divide their input by its usual size, a number kept with the weights
    noise: bool = False                  # conv0, conv1 add a fixed picture of noise, at a learned strength

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> "GeneratorConfig":
        """The configuration that ``dataclasses.asdict`` and JSON made a dictionary of (JSON has no tuples)."""
        return cls(**{**entries, "field": FieldConfig(**entries["field"]), "channels": tuple(entries["channels"])})

    @property
    def n_nerf_ws(self) -> int:
        """Style slots that the field consumes: one per layer, one for density, one for features."""
        return self.field.n_blocks + 2

    @property
    def num_ws(self) -> int:
        """Style slots in all: a block's torgb shares its slot with the next block's first convolution."""
        return self.n_nerf_ws + 2 * len(self.channels) + 1

    @property
    def resolution(self) -> int:
        """Side of the generated image in pixels."""
        return self.ray_resolution * 2 ** len(self.channels)


FFHQ_1024 = GeneratorConfig(magnitude_gain=True)
"""The yaml configuration of `ffhq_1024.pkl`: 21 style slots, the first 10 of them the field's."""

OPEN = GeneratorConfig(
    z_dim=56, w_dim=128, z_bg_dim=4, mapping_layers=3, mapping_lr_mult=1.0, normalize_z=False, append_cdf=True,
    field=FieldConfig(hidden=96, n_blocks=5, n_frequencies=6, first_frequency=2, append_xyz=True, style_shift=True,
                      density="softplus", density_scale=150.0),
    feature_dim=48, near=0.925, far=1.10, n_samples=18, n_fine=0, background_hidden=32, background_samples=1,
    background_frequencies=2, background_pitch=0.0, channels=(64, 32, 16), kernel=3, upsample_mode="pixelshuffle_noblur",
    adapter_width=1.0, clamp=None)
"""The open world's generator: 256 × 256 pixels, 25 frames per second within reach of a laptop's CPU."""
