"""The plain reference: the official code's loop, written in the straightforward way, for the same weights.

What is straightforward about it, and as the official scripts have it:

- three passes of the generator for each frame: one with the deformation, whose picture is thrown away; LipaintNet's, its full
  picture included; one with the deformation again, which is blended and enlarged;
- styles, modulated weights and the background are computed anew in each pass;
- the field's heads (features, RGB) are applied to every sample, and the samples' features are composited;
- coarse and fine samples are two calls of the field;
- the upsampler goes layer by layer at full size: both kinds of enlargement are made, put side by side, and convolved;
- a sample's vertex is found by ``torch.cdist`` and ``argmin``, once for as long as the camera stays (official code: once);
- the segmenter's mask is blended at 512 × 512, both feature maps enlarged to it and the blend made small again;
- no threads, memory layouts or precisions are chosen.

What would be slower in the official code and isn't done: each layer of the field is one matrix product for all samples, not
one for each of the 14 places along a ray; gains go into the weights; no random numbers are drawn. The open world blends where
its mask is, in the feature map: at 512 × 512 the picture would be another one.

graphs: the official field switches autograd on whatever the caller says, and after PTI all weights ask for gradients, so each
frame builds two graphs of the field's layers and drops them (stylenerf.md, 18). On in the paper world, off in the open world.

The cameras and their rays, the place of fine samples, the sphere of the background and, in the paper world, the segmenter are
the library's.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from nfs_lib import camera as cam
from nfs_lib.alignment import on_official_square
from nfs_lib.camera import HEAD_TO_NERF, Camera
from nfs_lib.stylenerf import Generator
from nfs_lib.stylenerf.field import BackgroundField, ForegroundField, inverted_sphere
from nfs_lib.stylenerf.generator import Rendered
from nfs_lib.stylenerf.layers import Conv, FullyConnected, ModulatedConv, ModulatedLinear
from nfs_lib.stylenerf.rendering import importance_samples
from nfs_lib.stylenerf.upsampler import StyledConv, Upsampler
from nfs_lib.talking_head import TalkingHead, seen_as

Deform = Callable[[Tensor], Tensor]

# layers


def leaky(x: Tensor, clamp: float | None = None) -> Tensor:
    """Leaky ReLU, its gain, its clamp: one after the other."""
    x = F.leaky_relu(x, 0.2) * math.sqrt(2)
    return x if clamp is None else x.clamp(-clamp, clamp)


def dense(layer: FullyConnected, x: Float[Tensor, "B i"]) -> Float[Tensor, "B o"]:
    """Equalised linear layer."""
    return F.linear(x, layer.weight * (layer.lr_mult / math.sqrt(layer.weight.shape[1])), layer.bias * layer.lr_mult)


def modulated(layer: ModulatedLinear, x: Float[Tensor, "B P i"], w: Float[Tensor, "B w"]) -> Float[Tensor, "B P o"]:
    """Modulated layer at P points; the weights are made for this call."""
    weight, bias = layer.weight * dense(layer.affine, w)[:, None], layer.bias.expand(len(w), -1)
    if layer.shift is not None:
        bias = bias + dense(layer.shift, w)
    if not layer.demodulate:
        return x @ (weight / math.sqrt(weight.shape[2])).transpose(1, 2) + bias[:, None]
    weight = weight * (weight.square().sum(2, keepdim=True) + 1e-8).rsqrt()
    return leaky(x @ weight.transpose(1, 2) + bias[:, None])


def convolved(layer: ModulatedConv, x: Float[Tensor, "B i H W"], w: Float[Tensor, "B w"], gain: Tensor | float = 1.0
              ) -> Float[Tensor, "B o H W"]:
    """Modulated convolution, pictures as groups (StyleGAN2)."""
    weight = layer.weight * dense(layer.affine, w)[:, None, :, None, None]
    if layer.demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    else:
        weight = weight / math.sqrt(layer.weight[0].numel())
    b, _, height, width = x.shape
    y = F.conv2d(x.reshape(1, -1, height, width), (weight * gain).flatten(0, 1), padding=weight.shape[-1] // 2, groups=b)
    return y.view(b, -1, height, width)


def pointwise(layer: Conv, x: Float[Tensor, "B i H W"]) -> Float[Tensor, "B o H W"]:
    """Equalised 1 × 1 convolution."""
    y = F.conv2d(x, layer.weight / math.sqrt(layer.weight.shape[1]), layer.bias)
    return leaky(y, layer.clamp) if layer.activate else y


def to_rgb(layer: Conv, features: Float[Tensor, "*P c"]) -> Float[Tensor, "*P 3"]:
    """The RGB of points from their features."""
    return F.linear(features, layer.weight.flatten(1) / math.sqrt(layer.weight.shape[1]), layer.bias)


def encoding(p: Float[Tensor, "*P c"], n: int, first: int = 0) -> Float[Tensor, "*P d"]:
    """sin and cos of 2^k π p, frequency by frequency."""
    return torch.cat([f(2.0**k * math.pi * p) for k in range(first, first + n) for f in (torch.sin, torch.cos)], -1)


# volume


def field(f: ForegroundField, p: Float[Tensor, "B P 3"], ws: Float[Tensor, "B L w"]
          ) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B P d"]]:
    """Density, and RGB and features side by side, of every point."""
    c = f.config
    x = encoding(p, c.n_frequencies, c.first_frequency)
    x = torch.cat([x, p / 0.12], -1) if c.append_xyz else x
    for i, layer in enumerate([f.fc_in, *f.blocks]):
        x = modulated(layer, x, ws[:, i])
    raw = modulated(f.sigma_out, x, ws[:, c.n_blocks]).squeeze(-1)
    features = modulated(f.feat_out, x, ws[:, c.n_blocks + 1])
    sigma = F.relu(raw) if c.density == "relu" else F.softplus(raw) * c.density_scale
    return sigma, torch.cat([to_rgb(f.to_rgb, features), features], -1)


def behind(f: BackgroundField, origin: Float[Tensor, "B 3"], direction: Float[Tensor, "B R 3"], z_bg: Float[Tensor, "B z"]
           ) -> Float[Tensor, "B R d"]:
    """RGB and features of the background along rays, from the heads of every sample."""
    depth = torch.linspace(-1, 0, f.samples) * f.start
    x = encoding(inverted_sphere(origin, direction, -depth), f.frequencies)
    x = torch.cat([x, z_bg[:, None, None].expand(*x.shape[:3], -1)], -1)
    for layer in [f.fc_in, *f.blocks]:
        x = F.relu(layer(x))
    features = f.feat_out(x)
    samples = torch.cat([to_rgb(f.to_rgb, features), features], -1)
    alpha = 1 - torch.exp(-F.relu(f.sigma_out(x).squeeze(-1)) * torch.cat([depth.diff(), depth.new_tensor([1e10])]))
    alpha = torch.cat([alpha[..., :-1], torch.ones_like(alpha[..., :1])], -1)
    return (shares(alpha)[0][..., None] * samples).sum(2)


def shares(alpha: Float[Tensor, "B R S"]) -> tuple[Float[Tensor, "B R S"], Float[Tensor, "B R"]]:
    """What each sample adds to its ray, and what light reaches the last one."""
    through = torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha + 1e-10], -1).cumprod(-1)[..., :-1]
    return alpha * through, through[..., -1]


def weights(sigma: Float[Tensor, "B R S"], depth: Float[Tensor, "B R S"], length: Float[Tensor, "B R"], wall: bool
            ) -> tuple[Float[Tensor, "B R S"], Float[Tensor, "B R"]]:
    """`shares` of the foreground's samples."""
    delta = torch.cat([depth.diff(dim=-1), torch.zeros_like(depth[..., :1])], -1) * length[..., None]
    alpha = 1 - torch.exp(-sigma * delta)
    return shares(torch.cat([alpha[..., :-1], torch.ones_like(alpha[..., :1])], -1) if wall else alpha)


def render(g: Generator, ws: Float[Tensor, "B L w"], z_bg: Float[Tensor, "B z"], camera: Camera, deform: Deform | None = None,
           tau_fine: Float[Tensor, "B R m"] | None = None, *, places: tuple[Tensor, Tensor] | None = None,
           jitter: Float[Tensor, "B R n"] | None = None, graphs: bool = False) -> Rendered:
    """One pass of the volume; places: x, y of the rays, the whole grid by default; the other arguments as in
    `Generator.render_rays`. deform is called with the coarse samples, then with the fine ones."""
    c, (x, y) = g.config, g.grid() if places is None else places
    direction, origin = cam.pixel_directions(camera, x, y, c.fov), camera.eye[:, None, None]
    length = direction.norm(dim=-1)

    def sampled(depth: Tensor) -> tuple[Tensor, Tensor]:
        points = (origin + depth[..., None] * direction[:, :, None]).flatten(1, 2)
        points = points if deform is None else deform(points)
        with torch.set_grad_enabled(graphs or torch.is_grad_enabled()):
            sigma, features = field(g.foreground, points, ws)
        return sigma.view(depth.shape), features.view(*depth.shape, -1)

    depth = cam.sample_depths(c.near, c.far, c.n_samples, jitter=jitter).expand(*direction.shape[:2], -1)
    sigma, features = sampled(depth)
    if c.n_fine:
        if tau_fine is None:
            coarse = weights(sigma, depth, length, False)[0]
            tau_fine = importance_samples(torch.linspace(0, 1, c.n_samples), coarse, c.n_fine)
        fine = c.far * tau_fine + c.near * (1 - tau_fine)
        fine_sigma, fine_features = sampled(fine)
        depth, order = torch.cat([fine, depth], -1).sort(-1)
        sigma = torch.cat([fine_sigma, sigma], -1).gather(-1, order)
        features = torch.cat([fine_features, features], 2).gather(2, order[..., None].expand(*order.shape, features.shape[-1]))
    weight, transmittance = weights(sigma, depth, length, wall=not c.background)
    seen = (weight[..., None] * features).sum(2)
    if c.background:
        seen = seen + transmittance[..., None] * behind(g.background, *g.background_rays(x, y, len(ws)), z_bg)
    alpha = weight.sum(-1)
    return Rendered(seen[..., 3:], seen[..., :3], (weight * depth).sum(-1) / (alpha + 1e-4), alpha,
                    -torch.log(transmittance + 1e-12), tau_fine)


# picture


def low_pass(x: Float[Tensor, "B C H W"], gain: float) -> Float[Tensor, "B C H W"]:
    """The filter [1, 3, 3, 1] on both axes, a picture of the same size."""
    k = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return F.conv2d(F.pad(x, (2, 1, 2, 1)), (torch.outer(k, k) * gain).expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def twice(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2*H 2*W"]:
    """× 2 by zeros between and the filter."""
    large = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    large[:, :, ::2, ::2] = x
    return low_pass(large, 4.0)


def enlarged(layer: StyledConv, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2*H 2*W"]:
    """Nearest neighbour, plus the adapter's correction, then the filter."""
    near, (first, last) = F.interpolate(x, scale_factor=2.0), layer.adapter
    assert isinstance(first, Conv) and isinstance(last, Conv)
    if "pixelshuffle" in layer.mode:
        large = near + F.pixel_shuffle(pointwise(last, pointwise(first, x)), 2)
    else:
        p = F.pad(x, (1, 1, 1, 1))
        left, right, up, down = p[:, :, 1:-1, :-2], p[:, :, 1:-1, 2:], p[:, :, :-2, 1:-1], p[:, :, 2:, 1:-1]
        around = torch.stack([left + up, right + up, left + down, right + down], 2).flatten(1, 2) / 2
        large = near + pointwise(last, pointwise(first, torch.cat([near, F.pixel_shuffle(around, 2)], 1)))
    return large if "noblur" in layer.mode else low_pass(large, 1.0)


def styled(layer: StyledConv, x: Float[Tensor, "B i H W"], w: Float[Tensor, "B w"]) -> Tensor:
    """Modulated convolution, enlargement, noise, bias, activation."""
    x = convolved(layer.conv, x, w, layer.magnitude.rsqrt() if layer.scaled else 1.0)
    x = enlarged(layer, x) if layer.mode else x
    x = x + layer.noise_const * layer.noise_strength if layer.noisy else x
    return leaky(x + layer.bias[:, None, None], layer.clamp)


def upsample(u: Upsampler, features: Float[Tensor, "B c H W"], rgb: Float[Tensor, "B 3 H W"], ws: Float[Tensor, "B L w"]
             ) -> list[Tensor]:
    """RGB after each block; the last one is the picture."""
    x, pictures, layers = features, [], zip(u.conv0, u.conv1, u.torgb, u.rgb_bias, strict=True)
    for slot, (conv0, conv1, last, bias) in zip(range(u.first, ws.shape[1], 2), layers, strict=False):
        assert isinstance(conv0, StyledConv) and isinstance(conv1, StyledConv) and isinstance(last, ModulatedConv)
        x = styled(conv1, styled(conv0, x, ws[:, slot]), ws[:, slot + 1])
        step = convolved(last, x, ws[:, slot + 2]) + bias[:, None, None]
        rgb = twice(rgb) + (step if u.clamp is None else step.clamp(-u.clamp, u.clamp))
        pictures.append(rgb)
    return pictures


def pictures(g: Generator, ws: Float[Tensor, "B L w"], z_bg: Float[Tensor, "B z"], camera: Camera) -> list[Tensor]:
    """One pass: the volume's RGB and that after each block, as `inversion.pictures_of` has it."""
    features, rgb = render(g, ws, z_bg, camera).maps()
    return [rgb, *upsample(g.upsampler, features, rgb, ws)]


# method


def nearest(points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"]) -> Int[Tensor, "P"]:
    """Eq. 6: all distances on the XY plane, then the smallest."""
    return torch.cdist(vertices[:, :2], points[:, :2]).argmin(0)


def blend_at_512(deformed: Float[Tensor, "1 c r r"], inpainted: Float[Tensor, "1 c r r"], mask: Float[Tensor, "s s"]
                 ) -> Float[Tensor, "1 c r r"]:
    """Eq. 12 at the mask's size, bicubic both ways."""
    a, b = (F.interpolate(x, mask.shape, mode="bicubic", align_corners=False) for x in (deformed, inpainted))
    return F.interpolate((1 - mask) * a + mask * b, deformed.shape[2:], mode="bicubic", align_corners=False)


def lips(landmarks: Float[Tensor, "68 3"], camera: Camera, resolution: int, grow: float = 0.04) -> Float[Tensor, "r r"]:
    """The open world's mask: the widened outline of the lips, drawn eight times larger and averaged."""
    outer, fine = landmarks[48:60], resolution * 8
    outer = outer + grow * F.normalize(outer - outer.mean(0), dim=-1)
    picture = Image.new("L", (fine, fine))
    corners = cam.project(outer[None], camera, fine)[0, :, :2].tolist()
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in corners], fill=1)
    return F.avg_pool2d(torch.from_numpy(np.array(picture, np.float32))[None], 8)[0]


class Loop:
    """The official inner loop for a `TalkingHead`'s portrait and options (rule "paper" or "official")."""

    def __init__(self, head: TalkingHead, graphs: bool = False) -> None:
        self.head, self.graphs, self.masks = head, graphs, list[Tensor]()
        self.rest = self.vertices(head.face.expression)[head.chosen]
        self.camera: tuple[float, ...] = ()
        self.index: list[Tensor] = []
        self.tau_fine: Tensor | None = None

    def vertices(self, expression: Float[Tensor, "1 E"]) -> Float[Tensor, "V 3"]:
        """Eq. 3, all vertices."""
        model, identity = self.head.model, self.head.face.identity
        return (model.mean + torch.einsum("bk,kvc->bvc", identity, model.id_basis[: identity.shape[1]])
                + torch.einsum("be,evc->bvc", expression, model.exp_basis[: expression.shape[1]]))[0]

    def placed(self, vertices: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
        """Where they are matched; the anchors come after them."""
        head = self.head
        vertices = on_official_square(vertices) if head.square else vertices
        return vertices if head.anchors is None else torch.cat([vertices, head.anchors])

    def match(self, camera: Camera) -> None:
        """Eq. 6 for the coarse samples, then for the fine ones; kept while the camera stays."""
        head, g, c = self.head, self.head.inversion.generator, self.head.inversion.generator.config
        camera = cam.frontal() if head.rule == "official" else camera
        if seen_as(camera) == self.camera:
            return
        self.camera = seen_as(camera)
        direction = cam.pixel_directions(camera, *g.grid(), c.fov)
        depths = [cam.sample_depths(c.near, c.far, c.n_samples).expand(1, direction.shape[1], -1)]
        if c.n_fine:
            self.tau_fine = head.fine(camera)
            assert self.tau_fine is not None
            depths.append(c.far * self.tau_fine + c.near * (1 - self.tau_fine))
        self.index = []
        for depth in depths:
            points = camera.eye[:, None, None] + depth[..., None] * direction[:, :, None]
            self.index.append(nearest(cam.nerf_to_head(points[0].flatten(0, 1)), self.placed(self.rest)))

    @torch.no_grad()
    def frame(self, beta: Float[Tensor, "1 E"], camera: Camera) -> Float[Tensor, "3 H W"]:
        """One picture: three passes."""
        head, inv = self.head, self.head.inversion
        g, ws, n = inv.generator, inv.generator.broadcast(inv.w), inv.generator.config.n_nerf_ws
        self.match(camera)
        vertices = self.vertices(beta)
        delta = self.placed(self.rest) - self.placed(vertices[head.chosen])
        if head.planar:
            delta = delta * delta.new_tensor([1.0, 1.0, 0.0])
        g.foreground.requires_grad_(self.graphs)

        def deformed() -> tuple[Tensor, Tensor]:
            index = iter(self.index)                          # first the coarse samples', then the fine ones'
            move = lambda points: points + delta[next(index)] * HEAD_TO_NERF                      # noqa: E731
            return render(g, ws, inv.z_bg, camera, move, self.tau_fine, graphs=self.graphs).maps()

        upsample(g.upsampler, *deformed(), ws)                # as the official script: nobody looks at it
        styles = torch.cat([g.broadcast(head.world.lipaint(inv.w, beta))[:, :n], ws[:, n:]], 1)
        inpainted = render(g, styles, inv.z_bg, camera, None, self.tau_fine if head.rule == "official" else None,
                           graphs=self.graphs).maps()
        picture = upsample(g.upsampler, *inpainted, ws)[-1]
        if head.segmented:
            mask = head.world.segmenter.mouth(picture)[0]
        else:
            mask = lips(vertices[head.model.landmarks], camera, g.config.ray_resolution)
        self.masks = [*self.masks, mask][-head.mask_frames :]
        mask = torch.stack(self.masks).mean(0)
        features, rgb = deformed()
        g.foreground.requires_grad_(False)
        if head.segmented:
            features = blend_at_512(features, inpainted[0], mask)
        else:
            features = (1 - mask) * features + mask * inpainted[0]
        if head.blend_rgb:
            rgb = (1 - mask) * rgb + mask * inpainted[1]
        return upsample(g.upsampler, features, rgb, ws)[-1][0].clamp(-1, 1)

    def frames(self, betas: Float[Tensor, "T E"], poses: Float[Tensor, "T 3"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """All pictures of a clip, 8 bit, one by one."""
        self.masks = []
        for beta, pose in zip(betas, poses, strict=True):
            picture = self.frame(beta[None], Camera.from_pose(pose[None]))
            yield ((picture.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
