"""The generative prior: a 3D-aware generator of StyleNeRF's architecture, and its discriminator."""

from nfs_lib.stylenerf.config import FFHQ_1024, OPEN, FieldConfig, GeneratorConfig
from nfs_lib.stylenerf.discriminator import Discriminator
from nfs_lib.stylenerf.generator import Generator, Rendered

__all__ = ["FFHQ_1024", "OPEN", "Discriminator", "FieldConfig", "Generator", "GeneratorConfig", "Rendered"]
