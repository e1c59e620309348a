"""Draw the contact sheet: each picture with what was found, and the largest things one by one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from examples.tiles.pictures import read

Summary = dict[str, Any]
Read = Callable[[str], Image.Image]
"""Returns a picture by its name, in colour."""

WIDTH, MARGIN, GAP, CAPTION, THUMBNAIL = 1800, 40, 28, 58, 72
PAPER, INK, FAINT = (16, 18, 24), (236, 238, 242), (140, 147, 160)
COLOURS = ((255, 107, 61), (255, 214, 79), (86, 227, 159), (64, 170, 255))
"""Colours of an outline, from the largest thing of a picture to the smallest."""


def draw(summaries: Sequence[Summary], path: Path, *, subtitle: str, read: Read = read) -> None:
    """Write the sheet as a PNG: two pictures a row, scaled to one height."""
    rows = [summaries[i : i + 2] for i in range(0, len(summaries), 2)]
    panels = [_row(row, read) for row in rows]
    height = 2 * MARGIN + 70 + sum(panel.height + GAP for panel in panels)
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    total = sum(summary["count"] for summary in summaries)
    tiles = sum(summary["tiles"] for summary in summaries)
    pen.text((MARGIN, MARGIN - 8), f"{total} things found in {tiles} tiles", INK, _font(36))
    pen.text((WIDTH - MARGIN, MARGIN + 10), subtitle, FAINT, _font(20), anchor="ra")
    top = MARGIN + 70
    for panel in panels:
        sheet.paste(panel, (MARGIN, top))
        top += panel.height + GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _row(summaries: Sequence[Summary], read: Read) -> Image.Image:
    """Pictures side by side, as high as the row's width allows."""
    width = WIDTH - 2 * MARGIN
    pictures = [read(summary["picture"]) for summary in summaries]
    shapes = [picture.width / picture.height for picture in pictures]
    height = min(900, int((width - GAP * (len(shapes) - 1)) / sum(shapes)))
    row = Image.new("RGB", (width, height + CAPTION + THUMBNAIL + 12), PAPER)
    left = 0
    for summary, picture, shape in zip(summaries, pictures, shapes, strict=True):
        size = (int(height * shape), height)
        row.paste(_panel(summary, picture, size), (left, CAPTION))
        row.paste(_largest(summary, picture, size[0]), (left, CAPTION + height + 12))
        pen = ImageDraw.Draw(row)
        pen.text((left, 6), f"{summary['count']} {summary['what']}", INK, _font(28))
        facts = f"{summary['tiles']} tiles, median area {summary['median_area']:g} px"
        pen.text((left + size[0], 14), facts, FAINT, _font(18), anchor="ra")
        left += size[0] + GAP
    return row


def _panel(summary: Summary, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture with the outlines, drawn twice as large and halved, which smooths the lines."""
    scale = 2 * size[0] / picture.width
    canvas = picture.resize((2 * size[0], 2 * size[1]), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(canvas)
    things = summary["things"]
    for rank, thing in reversed(list(enumerate(things))):
        colour = _colour(rank / max(1, len(things) - 1))
        line = [((x + 0.5) * scale, (y + 0.5) * scale) for x, y in thing["outline"]]
        pen.line(line, fill=colour, width=4, joint="curve")
    for rank, thing in enumerate(things[: _thumbnails(size[0])]):
        if thing["area"] * scale**2 < 70**2:  # the number would hide it
            break
        spot = ((thing["x"] + 0.5) * scale, (thing["y"] + 0.5) * scale)
        pen.text(
            spot, str(rank + 1), INK, _font(32), anchor="mm", stroke_width=5, stroke_fill=PAPER
        )
    return canvas.resize(size, Image.Resampling.LANCZOS)


def _largest(summary: Summary, picture: Image.Image, width: int) -> Image.Image:
    """The largest things, numbered as in the picture."""
    strip = Image.new("RGB", (width, THUMBNAIL), PAPER)
    for rank, thing in enumerate(summary["things"][: _thumbnails(width)]):
        xs, ys = zip(*thing["outline"], strict=True)
        half = max(8.0, 0.6 * max(max(xs) - min(xs), max(ys) - min(ys)))
        middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        box = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
        crop = picture.resize(
            (THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC, box=_inside(box, picture.size)
        )
        left = rank * (THUMBNAIL + 6)
        strip.paste(crop, (left, 0))
        ImageDraw.Draw(strip).text(
            (left + 5, 3), str(rank + 1), INK, _font(16), stroke_width=2, stroke_fill=PAPER
        )
    return strip


def _thumbnails(width: int) -> int:
    return (width + 6) // (THUMBNAIL + 6)


def _inside(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The square box, moved (and, if it must be, made smaller) to lie within the picture."""
    side = min(box[2] - box[0], *size)
    left = min(max(0.0, box[0]), size[0] - side)
    top = min(max(0.0, box[1]), size[1] - side)
    return (left, top, left + side, top + side)


def _colour(share: float) -> tuple[int, ...]:
    """The colour at `share`, 0 to 1, of the way through COLOURS."""
    step, rest = divmod(share * (len(COLOURS) - 1), 1)
    first, last = COLOURS[int(step)], COLOURS[min(int(step) + 1, len(COLOURS) - 1)]
    return tuple(round(a + (b - a) * rest) for a, b in zip(first, last, strict=True))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
