"""The pictures: those that scikit-image ships inside its package, so nothing is downloaded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
from PIL import Image
from scipy import ndimage
from skimage import color, filters, util

Grey = npt.NDArray[np.uint8]
"""Height x width, 0 to 255."""


@dataclass(frozen=True)
class Picture:
    """One picture, what there is to find in it, and how large that is."""

    file: str
    things: str
    smallest: int
    """Smallest area, in pixels, of a thing."""
    apart: int
    """Smallest distance, in pixels, between two centres; 0 where things don't touch."""
    dark: bool = False
    """Whether the things are darker than what is around them."""


PICTURES = {
    "coins": Picture("coins.png", "coins", smallest=200, apart=15),
    "hubble": Picture("hubble_deep_field.jpg", "galaxies", smallest=8, apart=0),
    "tissue": Picture("ihc.png", "cell nuclei", smallest=30, apart=7),
    "page": Picture("page.png", "letters", smallest=8, apart=0, dark=True),
}


def read(name: str) -> Image.Image:
    """The picture as it is in scikit-image's package, in colour."""
    folder = Path(skimage.__file__).parent / "data"
    return Image.open(folder / PICTURES[name].file).convert("RGB")


def grey(name: str) -> Grey:
    """The picture in one channel, with its things bright; for tissue, the stain of the nuclei."""
    pixels = np.asarray(read(name))
    if name == "tissue":
        stain = color.rgb2hed(pixels)[..., 0]
        low, high = stain.min(), np.percentile(stain, 99.8)
        one = np.clip((stain - low) / (high - low), 0, 1)
    else:
        one = color.rgb2gray(pixels)
    one = np.asarray(util.img_as_ubyte(one), dtype=np.uint8)
    return 255 - one if PICTURES[name].dark else one


def flatten(pixels: Grey) -> tuple[Grey, float]:
    """Take away uneven light; return the picture and the level above which a pixel is a thing.

    The level is Otsu's, or six robust standard deviations over the background (as astronomers
    do) where that is lower: where the things are few and small.
    """
    small = pixels[::4, ::4].astype(np.float32)
    background = ndimage.gaussian_filter(ndimage.percentile_filter(small, 20, size=21), 5)
    zoomed = Image.fromarray(background).resize(pixels.shape[::-1], Image.Resampling.BILINEAR)
    flat = np.clip(pixels - np.asarray(zoomed), 0, 255)
    spread = 1.4826 * float(np.median(np.abs(flat - np.median(flat))))
    over = float(np.median(flat)) + 6 * spread
    return flat.astype(np.uint8), round(min(over, float(filters.threshold_otsu(flat))), 2)
