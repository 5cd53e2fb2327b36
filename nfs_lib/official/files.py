"""The official files: what each is called, who publishes it, on what terms, and how its part is taken out."""

from dataclasses import dataclass

from nfs_lib.official.taking import (
    Take,
    arcface_layers,
    discriminator,
    face_model,
    generator,
    linear_heads,
    lipaint_sizes,
    module,
    trunk,
)


@dataclass(frozen=True)
class Official:
    """One part of the paper world, and the file that it comes in."""

    part: str  # its name in the manifest
    file: str  # the name that its authors gave it
    source: str  # who publishes it, and where
    terms: str
    without: str  # what the paper world lacks without it
    take: Take


STYLENERF = "StyleNeRF's authors, https://github.com/facebookresearch/StyleNeRF"
STYLENERF_TERMS = "CC BY-NC 4.0 and NVIDIA Source Code License: non-commercial"
TORCHVISION = "torchvision, https://github.com/pytorch/vision"
TORCHVISION_TERMS = "BSD 3-Clause (code); trained on ImageNet, whose terms are non-commercial research"
LPIPS = "the package lpips, https://github.com/richzhang/PerceptualSimilarity (lpips/weights/v0.1)"
PROJECTION = "projection onto the generator compares pictures with the kit's own loss instead"
TUNING = "tuning of the generator compares pictures with the kit's own loss instead"
NOTHING = "the paper world's videos can't be made"

OFFICIAL = (
    Official("generator", "ffhq_1024.pkl", STYLENERF, STYLENERF_TERMS, NOTHING, generator),
    Official("discriminator", "ffhq_1024.pkl", STYLENERF, STYLENERF_TERMS, "LipaintNet can't be trained", discriminator),
    Official(
        "face_model", "BFM_model_front.mat",
        "made with Deep3DFaceRecon_pytorch, https://github.com/sicxu/Deep3DFaceRecon_pytorch, from licensed originals "
        "(01_MorphableModel.mat of the University of Basel, https://faces.dmi.unibas.ch/bfm, and Exp_Pca.bin), whose folder "
        "can be imported too",
        "Basel Face Model 2009: by registration, non-commercial research, no redistribution, nor of files made from it",
        NOTHING, face_model,
    ),
    Official(
        "estimator", "epoch_20.pth",
        "Deep3DFaceRecon_pytorch, https://github.com/sicxu/Deep3DFaceRecon_pytorch (SadTalker's file holds the same network)",
        "none stated for the weights (code: MIT); needs the Basel Face Model", NOTHING,
        module("estimator", "final_layers.0.weight", "face.reconnet.ReconNet"),
    ),
    Official(
        "audio2exp", "SadTalker_V0.0.2_256.safetensors",
        "SadTalker, https://github.com/OpenTalker/SadTalker (older: auido2exp_00300-model.pth)",
        "Apache 2.0, third-party parts excepted; trained on VoxCeleb", "speech can't drive a head; a video can (--drive)",
        module("audio2exp", "mapping1.weight", "audio2exp.Audio2Exp", lambda state: {"n_exp": len(state["mapping1.weight"])}),
    ),
    Official(
        "segmenter", "seg.pth", "Barbershop, https://github.com/ZPdesu/Barbershop",
        "none stated for the weights (code: MIT)", "heads move as the paper says, but not --as official",
        module("segmenter", "cp.resnet.conv1.weight", "segmenter.BiSeNet"),
    ),
    Official(
        "lipaint", "LipaintNet.pt", "NeRFFaceSpeech's authors, https://github.com/rlgnswk/NeRFFaceSpeech_Code",
        "no separate terms (code: MIT; for research and education only)", "the inner mouth isn't painted (--no-lipaint)",
        module("lipaint", "fc4.weight", "lipaint.LipaintNet", lipaint_sizes),
    ),
    Official("vgg16", "vgg16-397923af.pth", TORCHVISION, TORCHVISION_TERMS, PROJECTION, trunk("vgg16", "vgg")),
    Official("lpips_vgg", "vgg.pth", LPIPS, "BSD 2-Clause", PROJECTION, linear_heads("lpips_vgg", "vgg")),
    Official("alexnet", "alexnet-owt-7be5be79.pth", TORCHVISION, TORCHVISION_TERMS, TUNING, trunk("alexnet", "alex")),
    Official("lpips_alex", "alex.pth", LPIPS, "BSD 2-Clause", TUNING, linear_heads("lpips_alex", "alex")),
    Official(
        "syncnet", "syncnet_v2.model", "syncnet_python, https://github.com/joonson/syncnet_python",
        "none stated for the weights (code: MIT)", "nfs evaluate has no LSE of the paper's kind",
        module("syncnet", "netcnnaud.0.weight", "metrics.syncnet.SyncNet"),
    ),
    Official(
        "inception", "pt_inception-2015-12-05-6726825d.pth", "pytorch-fid, https://github.com/mseitzer/pytorch-fid",
        "Apache 2.0 (code); converted from TensorFlow's", "nfs evaluate has no FID of the paper's kind",
        module("inception", "Conv2d_1a_3x3.conv.weight", "metrics.inception.Inception"),
    ),
    Official(
        "arcface", "backbone.pth", "insightface (arcface_torch), https://github.com/deepinsight/insightface",
        "non-commercial research", "nfs evaluate has no CSIM of the paper's kind",
        module("arcface", "layer1.0.prelu.weight", "metrics.arcface.ArcFace", arcface_layers),
    ),
    Official(
        "wav2lip", "wav2lip_gan.pth", "Wav2Lip, https://github.com/Rudrabha/Wav2Lip (or wav2lip.pth, its other network)",
        "personal, research and non-commercial use (trained on LRS2)", "the baseline Wav2Lip is missing",
        module("wav2lip", "face_encoder_blocks.0.0.conv_block.0.weight", "baselines.wav2lip.Wav2Lip"),
    ),
)  # fmt: skip


def how_to_bring(part: str) -> str:
    """Which file a part of the paper world comes in, whose it is, its terms, and the command that imports it."""
    known = {official.part: official for official in OFFICIAL}
    if part not in known:
        return f"The paper world has no part {part!r}"
    official = known[part]
    return (f"The paper world's {part} is yours to bring: {official.file}, from {official.source}. Terms: {official.terms}. "
            f"Fetch it, then run `nfs weights import {official.file}`")
