"""StyleNeRF: latent → style → radiance field → feature map → image (paper section 3.1, Eq. 1 and 2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib import camera as cam
from nfs_lib.camera import Camera
from nfs_lib.stylenerf.config import GeneratorConfig
from nfs_lib.stylenerf.field import BackgroundField, ForegroundField
from nfs_lib.stylenerf.layers import FullyConnected
from nfs_lib.stylenerf.rendering import importance_samples, ray_weights
from nfs_lib.stylenerf.upsampler import Upsampler

Deform = Callable[[Float[Tensor, "B P 3"]], Float[Tensor, "B P 3"]]
Behind = tuple[Float[Tensor, "#B R 3"], Float[Tensor, "#B R c"]]


@dataclass
class Rendered:
    """What R rays saw. features (B, R, c), rgb (B, R, 3), depth (B, R) mean depth of the foreground along the optical
    axis, alpha (B, R) its opacity, optical (B, R) its optical depth ∫σ, tau_fine (B, R, n_fine) the importance samples' places
    in [0, 1] in the order in which they were drawn (None where there are none)."""

    features: Float[Tensor, "B R c"]
    rgb: Float[Tensor, "B R 3"]
    depth: Float[Tensor, "B R"]
    alpha: Float[Tensor, "B R"]
    optical: Float[Tensor, "B R"]
    tau_fine: Float[Tensor, "B R m"] | None = None

    def maps(self) -> tuple[Float[Tensor, "B c r r"], Float[Tensor, "B 3 r r"]]:
        """Features (B, c, r, r) and RGB (B, 3, r, r), where the rays form a square grid."""
        b, n, _ = self.features.shape
        r = round(n**0.5)
        return (self.features.transpose(1, 2).reshape(b, -1, r, r), self.rgb.transpose(1, 2).reshape(b, 3, r, r))


@dataclass
class Samples:
    """The foreground along R rays, S samples in order of depth: depth t, density sigma (B, R, S), hidden features
    (B, R, S, h), the length |d| of a ray's direction (B, R), tau_fine as in `Rendered`."""

    depth: Float[Tensor, "B R S"]
    sigma: Float[Tensor, "B R S"]
    hidden: Float[Tensor, "B R S h"]
    length: Float[Tensor, "B R"]
    tau_fine: Float[Tensor, "B R m"] | None


class Mapping(nn.Module):
    """z → w: a small MLP, StyleGAN's mapping network."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.normalize, self.append_cdf = config.normalize_z, config.append_cdf
        n_in = config.z_dim * (2 if config.append_cdf else 1)
        hidden = max(config.w_dim, 256) if config.append_cdf else config.w_dim
        sizes = [n_in, *[hidden] * (config.mapping_layers - 1), config.w_dim]
        last = config.mapping_layers - 1
        self.layers = nn.ModuleList([FullyConnected(a, b, activate=config.normalize_z or i < last,
                                                    lr_mult=config.mapping_lr_mult)
                                     for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))])
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Float[Tensor, "B z"]) -> Float[Tensor, "B w"]:
        x = z * torch.rsqrt((z**2).mean(1, keepdim=True) + 1e-8) if self.normalize else z
        if self.append_cdf:
            x = torch.cat([x, 1.7 * torch.erf(z * 0.5**0.5)], -1)
        for layer in self.layers:
            x = layer(x)
        return x

    def truncate(self, ws: Float[Tensor, "B L w"], psi: float, cutoff: int | None = None) -> Float[Tensor, "B L w"]:
        """``w_avg + ψ·(w − w_avg)`` in the first `cutoff` slots (all of them by default): StyleGAN's truncation trick."""
        n = ws.shape[1] if cutoff is None else cutoff
        return torch.cat([torch.lerp(self.w_avg, ws[:, :n], psi), ws[:, n:]], 1)


class Generator(nn.Module):
    """The 3D-aware generator. `config` says how large its parts are; see `stylenerf.config`."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.foreground = ForegroundField(config.field, config.w_dim, config.feature_dim)
        if config.background:
            self.background = BackgroundField(config)
        self.upsampler = Upsampler(config)

    @property
    def there(self) -> Tensor:
        """A tensor whose device and precision are the generator's: what meets it goes `.to(generator.there)`."""
        return self.mapping.w_avg

    def broadcast(self, w: Float[Tensor, "B w"]) -> Float[Tensor, "B L w"]:
        """One style for all slots: (B, num_ws, w_dim)."""
        return w[:, None].expand(-1, self.config.num_ws, -1)

    def render_rays(self, ws: Float[Tensor, "#B L w"], z_bg: Float[Tensor, "#B z"], camera: Camera, x: Float[Tensor, "#B R"],
                    y: Float[Tensor, "#B R"], deform: Deform | None = None, jitter: Tensor | None = None,
                    tau_fine: Float[Tensor, "B R m"] | None = None, background: Camera | None = None,
                    behind: Behind | None = None) -> Rendered:
        """Volume-render rays through image positions x (right), y (up) in [−1, 1]. One set of styles and one background latent
        (batch 1) serve all cameras.

        deform: moves the sample points (NeRF frame) before the field sees them: ray deformation, Eq. 7. Depths and cell
        lengths stay those of the straight ray. It is called with the coarse samples, and again with the fine ones; given
        tau_fine, once with all of them, (B, R·(n_samples + m), 3), on each ray the coarse ones first. jitter
        (B, R, n_samples) in [−0.5, 0.5]: training only. tau_fine (B, R, m) in [0, 1]: where the fine samples are, instead of
        drawing them by importance. background: the camera that sees the background, by default the frozen one; behind: what
        `self.behind` said that these rays see there.
        """
        s = self.march(ws, camera, x, y, deform, jitter, tau_fine)
        weights, transmittance = ray_weights(s.sigma, s.depth, s.length, wall=not self.config.background)
        alpha = weights.sum(-1)
        composited = (weights[..., None, :].to(s.hidden.dtype) @ s.hidden).squeeze(-2).float()
        rgb, features = self.foreground.head(composited, alpha, ws)
        if self.config.background:
            far_rgb, far = self.behind(x, y, z_bg, background) if behind is None else behind
            rgb, features = rgb + transmittance[..., None] * far_rgb, features + transmittance[..., None] * far
        return Rendered(features=features, rgb=rgb, depth=(weights * s.depth).sum(-1) / (alpha + 1e-4), alpha=alpha,
                        optical=-torch.log(transmittance + 1e-12), tau_fine=s.tau_fine)

    def march(self, ws: Float[Tensor, "#B L w"], camera: Camera, x: Float[Tensor, "#B R"], y: Float[Tensor, "#B R"],
              deform: Deform | None = None, jitter: Tensor | None = None, tau_fine: Float[Tensor, "B R m"] | None = None
              ) -> Samples:
        """The samples of the foreground along these rays, before compositing; arguments as in `render_rays`."""
        c = self.config
        direction = cam.pixel_directions(camera, x, y, c.fov)
        origin, length = camera.eye[:, None, None], direction.norm(dim=-1)
        depth = cam.sample_depths(c.near, c.far, c.n_samples, jitter=jitter).to(direction)
        depth = depth.expand(*direction.shape[:2], c.n_samples)

        def field(depth: Tensor) -> tuple[Tensor, Tensor]:
            return self._field(origin + depth[..., None] * direction[:, :, None], ws, deform)

        if tau_fine is not None:
            fine = c.far * tau_fine + c.near * (1 - tau_fine)
            all_sigma, all_hidden = field(torch.cat([depth, fine], -1))
            sigma, fine_sigma = all_sigma.split([c.n_samples, fine.shape[-1]], -1)
            hidden, fine_hidden = all_hidden.split([c.n_samples, fine.shape[-1]], -2)
        else:
            sigma, hidden = field(depth)
            if not c.n_fine:
                return Samples(depth, sigma, hidden, length, None)
            weights, _ = ray_weights(sigma, depth, length)
            tau_fine = importance_samples(torch.linspace(0, 1, c.n_samples).to(weights), weights, c.n_fine)
            fine = c.far * tau_fine + c.near * (1 - tau_fine)
            fine_sigma, fine_hidden = field(fine)
        depth, order = torch.cat([fine, depth], -1).sort(-1)
        sigma = torch.cat([fine_sigma, sigma], -1).gather(-1, order)
        hidden = torch.cat([fine_hidden, hidden], -2).gather(-2, order[..., None].expand(*order.shape, hidden.shape[-1]))
        return Samples(depth, sigma, hidden, length, tau_fine)

    def _field(self, points: Float[Tensor, "B R S 3"], ws: Tensor, deform: Deform | None) -> tuple[Tensor, Tensor]:
        b, r, s, _ = points.shape
        flat = points.reshape(b, r * s, 3)
        sigma, hidden = self.foreground(flat if deform is None else deform(flat), ws)
        return sigma.view(b, r, s), hidden.unflatten(1, (r, s))

    def behind(self, x: Float[Tensor, "#B R"], y: Float[Tensor, "#B R"], z_bg: Float[Tensor, "B z"],
               camera: Camera | None = None) -> Behind:
        """The background's RGB (B, R, 3) and features (B, R, c) in these directions. Seen by the frozen camera (None), it is
        the same in every frame."""
        return self.background(*self.background_rays(x, y, len(z_bg), camera), z_bg)

    def background_rays(self, x: Float[Tensor, "#B R"], y: Float[Tensor, "#B R"], batch: int, camera: Camera | None = None
                        ) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B R 3"]]:
        """Origin and directions of the rays that see the background through image positions x, y; camera: None for the frozen
        one."""
        if camera is None:
            pose = x.new_tensor([[0.0, self.config.background_pitch, 0.0]]).expand(batch, 3)
            camera = Camera.from_pose(pose)
        return camera.eye, cam.pixel_directions(camera, x, y, self.config.fov)

    def grid(self, resolution: int | None = None) -> tuple[Float[Tensor, "1 R"], Float[Tensor, "1 R"]]:
        """Image positions x, y in [−1, 1] of the ray grid, row-major from the top left.

        The centres of r × r cells; under `align_corner` every nth place of a grid that runs from −1 to 1 with one place for
        each of the image's pixels, so that the ray grid reaches the left and top edges but not the others.
        """
        r = resolution or self.config.ray_resolution
        u = (torch.arange(r) + 0.5) / r * 2 - 1
        if self.config.align_corner:
            pixels = max(r, self.config.resolution)
            u = torch.linspace(-1, 1, pixels)[torch.arange(r) * pixels // r]
        y, x = torch.meshgrid(-u, u, indexing="ij")
        return x.reshape(1, -1).to(self.there), y.reshape(1, -1).to(self.there)

    def features(self, ws: Float[Tensor, "#B L w"], z_bg: Float[Tensor, "#B z"], camera: Camera,
                 deform: Deform | None = None, tau_fine: Float[Tensor, "B R m"] | None = None,
                 background: Camera | None = None, behind: Behind | None = None) -> Rendered:
        """The whole feature map: one ray per cell of the 32 × 32 grid. Arguments as in `render_rays`."""
        return self.render_rays(ws, z_bg, camera, *self.grid(), deform=deform, tau_fine=tau_fine, background=background,
                                behind=behind)

    def upsample(self, features: Float[Tensor, "B c r r"], rgb: Float[Tensor, "B 3 r r"], ws: Float[Tensor, "#B L w"]
                 ) -> Float[Tensor, "B 3 H W"]:
        """Feature map and its RGB → image (Eq. 14), about [−1, 1], not clamped."""
        return self.upsampler(features, rgb, ws)[-1]

    def forward(self, ws: Float[Tensor, "B L w"], z_bg: Float[Tensor, "B z"], camera: Camera) -> Float[Tensor, "B 3 H W"]:
        """Styles, background latent and camera → image (B, 3, H, W)."""
        return self.upsample(*self.features(ws, z_bg, camera).maps(), ws)
