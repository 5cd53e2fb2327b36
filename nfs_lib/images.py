"""Picture files to tensors and back. Inside the kit an image is float32 in [-1, 1], RGB, (3, H, W)."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from nfs_lib.checks import check_array
from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input, check_output
from nfs_lib.writing import replacing

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # nothing else is opened: some formats run programs
LARGEST_SIDE = 2048  # larger pictures are scaled down: a face needs no more
SMALLEST_SIDE = 32
LARGEST_RUNS = 10**7  # pixels of a bmp in run lengths, which Pillow decodes in Python: a small file could take a minute
MID_GREY = (128, 128, 128)  # what shows through transparent parts


def load_portrait(path: str | os.PathLike[str]) -> Float[Tensor, "3 H W"]:
    """Read a png, jpg or webp (also gif, bmp) as RGB in [-1, 1], upright, at most 2048 pixels on a side.

    The EXIF rotation is applied, an embedded colour profile is turned into sRGB, transparent parts become mid
    grey, 16-bit, palette and CMYK pictures are converted, and of an animation the first frame is taken.

    Raises BadInput if the file is missing, is a folder, isn't such a picture, is damaged, or is smaller than
    32 pixels on a side.
    """
    path = check_input(path, "a picture file (png, jpg or webp)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # up to 178 megapixels are fine
            with Image.open(path, formats=FORMATS) as image:
                size = image.size
                if [tile[0] for tile in image.tile] == ["bmp_rle"] and size[0] * size[1] > LARGEST_RUNS:
                    raise Image.DecompressionBombError
                small = _srgb(_shrunk(image))
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path} has more pixels than a photograph; scale it down first") from error
    except Image.UnidentifiedImageError as error:
        raise BadInput(f"{path} isn't a picture that can be read; save it as png, jpg or webp") from error
    except MemoryError as error:
        raise BadInput(f"{path} takes more memory than there is, or is damaged; scale it down or export it again") from error
    except Exception as error:  # a damaged file can make the decoders raise nearly anything
        raise BadInput(f"{path} is damaged or cut short ({error}); export or download it again") from error
    if min(small.size) < SMALLEST_SIDE:
        raise BadInput(
            f"{path} is {size[0]}x{size[1]} pixels; a portrait needs at least {SMALLEST_SIDE} on its shorter "
            f"side, when the longer one is at most {LARGEST_SIDE}"
        )
    pixels = torch.from_numpy(np.array(small, dtype=np.uint8))
    return pixels.permute(2, 0, 1).contiguous().float() / 127.5 - 1.0


def to_uint8(image: Float[Tensor, "*B 3 H W"]) -> UInt8[np.ndarray, "*B H W 3"]:
    """Images in [-1, 1] as rows of RGB bytes, for files and widgets; values outside are clipped."""
    pixels = ((image.detach() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous().cpu().numpy()


def save_image(path: str | os.PathLike[str], image: Float[Tensor, "3 H W"]) -> None:
    """Write an image in [-1, 1] to a png, jpg or webp file. Raises BadInput where that can't be."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg", ".webp"):
        raise BadInput(f"{path} doesn't end in .png, .jpg or .webp; give a name that does")
    check_array(image, f"the picture for {path}", "torch.float32", 3, "H", "W", device=getattr(image, "device", "cpu"))
    check_output(path, suffix)
    with replacing(Path(path)) as temporary:
        Image.fromarray(to_uint8(image)).save(temporary)


def _shrunk(image: Image.Image) -> Image.Image:
    """Upright, 8 bits a channel, at most LARGEST_SIDE; mode L, LA, RGB, RGBA or CMYK."""
    bound = (LARGEST_SIDE, LARGEST_SIDE)
    image.draft(None, bound)  # lets a JPEG decode at 1/2, 1/4 or 1/8 of its size
    image.load()
    if image.mode.startswith("I"):  # 16 bits; a plain convert would clip instead of scaling
        info, wide = image.info, np.asarray(image)
        narrow = np.empty(wide.shape, np.uint8)
        for row, given in zip(narrow, wide, strict=True):  # one at a time: as floats a large picture takes gigabytes
            row[:] = (given / 257.0).round().clip(0, 255)
        image = Image.fromarray(narrow)
        image.info = info
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):  # palettes, 1 bit, YCCK
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.has_transparency_data and "A" not in image.mode:  # one colour is named as transparent
        image = image.convert("RGBA")
    if max(image.size) > LARGEST_SIDE:
        image.thumbnail(bound, Image.Resampling.LANCZOS, reducing_gap=3.0)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _srgb(image: Image.Image) -> Image.Image:
    """Composited on mid grey, in sRGB as far as the file says what its numbers mean."""
    import io

    profile = image.info.get("icc_profile")
    if image.mode in ("LA", "RGBA"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (*MID_GREY, 255))
        image = Image.alpha_composite(ground, image).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile says nothing: take the numbers as sRGB
    return image.convert("RGB")
