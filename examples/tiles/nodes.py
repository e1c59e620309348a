"""The nodes of the tube: cut, denoise, segment, measure, summarise. Plain functions of a tile.

A tile is its core, which no other tile has, and a halo around it, so that a thing at the core's
edge is seen whole. A thing belongs to the tile that has its centre in the core.
"""

from collections.abc import Generator
from typing import Annotated, Any

import numpy as np
from noob import Name
from scipy import ndimage
from skimage import feature, measure, morphology, restoration, segmentation

from examples.tiles.pictures import PICTURES, Grey, flatten, grey

Tile = dict[str, Any]
Thing = dict[str, Any]


def pictures(
    names: list[str],
) -> Generator[tuple[Annotated[str, Name("name")], Annotated[Grey, Name("pixels")]]]:
    """One picture an epoch, until there are no more."""
    for name in names:
        yield name, grey(name)


def cut(
    name: str, pixels: Grey, core: int = 64, halo: int = 32
) -> Annotated[list[Tile], Name("tiles")]:
    """Even out the light, then cut the picture into tiles of `core` + 2 x `halo` pixels a side."""
    flat, level = flatten(pixels)
    height, width = flat.shape
    tiles = []
    for top in range(0, height, core):
        for left in range(0, width, core):
            y, x = max(0, top - halo), max(0, left - halo)
            tile = flat[y : top + core + halo, x : left + core + halo]
            corner = (top, left, min(top + core, height), min(left + core, width))
            tiles.append(
                {"picture": name, "level": level, "y": y, "x": x, "core": corner, "pixels": tile}
            )
    return tiles


def denoise(tile: Tile, strength: float = 0.05) -> Annotated[Tile, Name("tile")]:
    """Average each pixel with those in like surroundings (non-local means, Buades 2005)."""
    noisy = tile["pixels"].astype(np.float32) / 255
    smooth = restoration.denoise_nl_means(noisy, patch_size=5, patch_distance=6, h=strength)
    return tile | {"smooth": smooth * 255}


def segment(tile: Tile) -> Annotated[Tile, Name("tile")]:
    """Give each thing in the tile a number; touching things are parted by a watershed."""
    picture = PICTURES[tile["picture"]]
    mask = tile["smooth"] > tile["level"]
    if picture.apart:
        mask = ndimage.binary_fill_holes(morphology.closing(mask, morphology.disk(2)))
    mask = morphology.remove_small_objects(mask, max_size=picture.smallest - 1)
    labels = measure.label(mask)
    if picture.apart:
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 2)
        peaks = feature.peak_local_max(depth, min_distance=picture.apart, labels=labels)
        markers = np.zeros(mask.shape, dtype=np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        labels = segmentation.watershed(-depth, markers, mask=mask)
    return tile | {"labels": labels}


def measure_things(tile: Tile) -> Annotated[list[Thing], Name("things")]:
    """Measure the things whose centre is in the tile's core, in the picture's coordinates."""
    top, left, bottom, right = tile["core"]
    things = []
    for region in measure.regionprops(tile["labels"], intensity_image=tile["pixels"]):
        y, x = region.centroid[0] + tile["y"], region.centroid[1] + tile["x"]
        if not (top <= y < bottom and left <= x < right):
            continue
        row, column = region.bbox[0] + tile["y"] - 1, region.bbox[1] + tile["x"] - 1
        outline = max(measure.find_contours(np.pad(region.image, 1), 0.5), key=len)
        things.append(
            {
                "x": round(float(x), 1),
                "y": round(float(y), 1),
                "area": int(region.area),
                "brightness": round(float(region.intensity_mean), 1),
                "roundness": round(1 - float(region.eccentricity), 3),
                "outline": [
                    [round(float(b + column), 1), round(float(a + row), 1)] for a, b in outline
                ],
            }
        )
    return things


def summarise(name: str, found: list[list[Thing]]) -> Annotated[dict[str, Any], Name("summary")]:
    """Everything found in one picture, largest first, with a few figures."""
    things = sorted((t for tile in found for t in tile), key=lambda t: (-t["area"], t["y"], t["x"]))
    areas = [thing["area"] for thing in things] or [0]
    return {
        "picture": name,
        "what": PICTURES[name].things,
        "tiles": len(found),
        "count": len(things),
        "median_area": float(np.median(areas)),
        "largest_area": max(areas),
        "brightness": round(float(np.mean([t["brightness"] for t in things] or [0.0])), 1),
        "things": things,
    }
