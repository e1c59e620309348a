"""A picture: read from S3, its light evened out, cut into tiles; and what was found in it."""

import io
from typing import Annotated, Any

import boto3
import numpy as np
import numpy.typing as npt
from noob import Name
from PIL import Image

Pixels = npt.NDArray[Any]
"""Height x width."""
Tile = dict[str, Any]
"""Where it lies in its picture (`y`, `x`), its `core` (top, left, bottom, right) that no other tile
has, its `pixels`, and the `level` above which a pixel belongs to a thing."""


def read(uri: str) -> Annotated[Pixels, Name("pixels")]:
    """Fetch `s3://BUCKET/KEY`; return it in grey, with even light, and its things bright."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return even_out(np.asarray(Image.open(io.BytesIO(body)).convert("L")).astype(np.int32))


def even_out(pixels: Pixels, block: int = 64) -> Pixels:
    """Subtract the background: the median of each block, smoothly from one to the next.

    What is left reaches further up or further down; the other side is noise, and cut off.
    """
    height, width = pixels.shape
    rows, columns = np.arange(0, height, block), np.arange(0, width, block)
    medians = [[np.median(pixels[y : y + block, x : x + block]) for x in columns] for y in rows]
    middle = block / 2
    wide = [np.interp(np.arange(width), columns + middle, row) for row in medians]
    background = [np.interp(np.arange(height), rows + middle, row) for row in np.transpose(wide)]
    over = pixels - np.rint(np.transpose(background)).astype(np.int32)
    low, high = np.percentile(over, (1, 99))
    return np.clip(over if high > -low else -over, 0, 255).astype(np.uint8)


def cut(pixels: Pixels, core: int = 128, halo: int = 32) -> Annotated[list[Tile], Name("tiles")]:
    """Cut into squares that overlap by a halo, so that each thing is whole in one of them."""
    height, width = pixels.shape
    level = otsu(pixels) * 3 // 5  # the edge of a thing is dimmer than the thing
    tiles = []
    for top in range(0, height, core):
        for left in range(0, width, core):
            y, x = max(0, top - halo), max(0, left - halo)
            part = pixels[y : top + core + halo, x : left + core + halo]
            corners = (top, left, top + core, left + core)
            tiles.append({"y": y, "x": x, "core": corners, "pixels": part, "level": level})
    return tiles


def otsu(pixels: Pixels) -> int:
    """The level that parts dark from bright best (Otsu 1979)."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    below, shine = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    gap = shine / np.maximum(below, 1) - (shine[-1] - shine) / np.maximum(above, 1)
    return int(np.argmax(below * above * gap**2))


def summarise(
    uri: str, found: list[list[dict[str, Any]]]
) -> Annotated[dict[str, Any], Name("summary")]:
    """Everything that was found in one picture, the largest first."""
    things = [thing for tile in found for thing in tile]
    things.sort(key=lambda thing: (-thing["area"], thing["y"], thing["x"]))
    areas = [thing["area"] for thing in things] or [0]
    return {
        "picture": uri,
        "tiles": len(found),
        "count": len(things),
        "median_area": float(np.median(areas)),
        "largest_area": max(areas),
        "things": things,
    }
