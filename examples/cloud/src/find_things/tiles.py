"""What is done with a tile, wherever it lands: take its noise away, outline what is in it."""

from typing import Annotated, Any

import numpy as np
from noob import Name

from find_things.pictures import Pixels, Tile

Thing = dict[str, Any]
"""Its centre (`x`, `y`), its `area` in pixels, and its `outline`, in the picture's coordinates."""

WEIGHTS = np.rint(255 * np.exp(-np.arange(4096) / 300)).astype(np.int32)
"""What a pixel counts, by how much its surroundings differ: the mean of the squares."""


def denoise(tile: Tile, reach: int = 7, patch: int = 2) -> Annotated[Tile, Name("tile")]:
    """Average each pixel with those in like surroundings (non-local means, Buades 2005).

    The heavy part: every worker takes the next tile that waits.
    """
    pixels = tile["pixels"].astype(np.int32)
    height, width = pixels.shape
    wide = np.pad(pixels, reach, mode="reflect")
    total, weights = np.zeros_like(pixels), np.zeros_like(pixels)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            other = wide[dy : dy + height, dx : dx + width]
            unlike = mean_around((pixels - other) ** 2, patch)
            weight = WEIGHTS[np.minimum(unlike, len(WEIGHTS) - 1)]
            total += weight * other
            weights += weight
    return tile | {"pixels": (total // weights).astype(np.uint8)}


def mean_around(values: Pixels, reach: int) -> Pixels:
    """The mean of the square around each pixel, of 2 x `reach` + 1 pixels a side."""
    side = 2 * reach + 1
    for axis in (0, 1):
        wide = np.pad(np.moveaxis(values, axis, 0), ((reach + 1, reach), (0, 0)), mode="reflect")
        sums = np.cumsum(wide, axis=0)
        values = np.moveaxis(sums[side:] - sums[:-side], 0, axis)
    return values // side**2


def find(tile: Tile, smallest: int = 12) -> Annotated[list[Thing], Name("things")]:
    """Outline the things whose centre is in the tile's core.

    Where a network would do this, it would want a GPU: the placement sends it to one.
    """
    top, left, bottom, right = tile["core"]
    outside = label(np.pad(tile["pixels"] <= tile["level"], 1, constant_values=True))
    numbers = label((outside != outside[0, 0])[1:-1, 1:-1])  # a thing's holes are a part of it
    things = []
    for number in np.unique(numbers[numbers > 0]):
        mask = numbers == number
        ys, xs = np.nonzero(mask)
        y, x = tile["y"] + int(ys.sum()) // ys.size, tile["x"] + int(xs.sum()) // xs.size
        if ys.size >= smallest and top <= y < bottom and left <= x < right:
            corners = [[tile["x"] + a, tile["y"] + b] for a, b in outline(mask)]
            things.append({"x": x, "y": y, "area": int(ys.size), "outline": corners})
    return things


def label(mask: Pixels) -> Pixels:
    """Give the pixels that hang together one number, and 0 to those outside of the mask.

    Each pixel takes the largest number beside it, then that of the pixel so numbered, until
    nothing changes.
    """
    height, width = mask.shape
    numbers = np.arange(1, mask.size + 1).reshape(mask.shape) * mask
    while True:
        wide = np.pad(numbers, 1)
        beside = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
        largest = np.max([wide[y : y + height, x : x + width] for y, x in beside], axis=0) * mask
        largest = np.append(0, largest)[largest]
        if np.array_equal(largest, numbers):
            return numbers
        numbers = largest


def outline(mask: Pixels) -> list[tuple[int, int]]:
    """Walk along the edge of a thing with the thing on the right; return the corners, x and y."""
    inside = np.pad(mask, 1)
    y, x = start = divmod(int(np.argmax(inside)), inside.shape[1])
    dy, dx = 0, 1
    corners: list[tuple[int, int]] = []
    while not corners or (y, x) != start:
        y, x = y + dy, x + dx
        on_left = inside[y + (dy - dx - 1) // 2, x + (dx + dy - 1) // 2]
        on_right = inside[y + (dy + dx - 1) // 2, x + (dx - dy - 1) // 2]
        if on_left or not on_right:  # an edge turns here
            corners.append((x - 1, y - 1))
            dy, dx = (-dx, dy) if on_left else (dx, -dy)
    return corners
