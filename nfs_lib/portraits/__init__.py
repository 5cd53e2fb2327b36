"""Synthetic portraits with ground truth: latent chart, hair, rasteriser, shading."""

from nfs_lib.portraits.chart import APPEARANCE, EXPRESSIONS, Z_BG, Z_DIM, Scene, chart
from nfs_lib.portraits.render import Portrait, portrait, portrait_pair, render, sample_latent, sample_pose
from nfs_lib.portraits.shading import REGIONS

__all__ = [
    "APPEARANCE",
    "EXPRESSIONS",
    "REGIONS",
    "Z_BG",
    "Z_DIM",
    "Portrait",
    "Scene",
    "chart",
    "portrait",
    "portrait_pair",
    "render",
    "sample_latent",
    "sample_pose",
]
