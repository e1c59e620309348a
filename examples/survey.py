"""The nodes of survey.yaml: cut pictures into images; say what is in each."""

from collections.abc import Generator
from typing import Annotated, Any

from noob import Name

from examples.tiles.nodes import Thing, Tile, cut
from examples.tiles.pictures import grey


def images(
    names: list[str], core: int = 192, halo: int = 16
) -> Generator[tuple[Annotated[str, Name("place")], Annotated[Tile, Name("image")]]]:
    """One image an epoch, with where it is from."""
    for name in names:
        for tile in cut(name, grey(name), core=core, halo=halo):
            top, left, _, _ = tile["core"]
            yield f"{name} {left},{top}", tile


def report(place: str, things: list[Thing]) -> Annotated[dict[str, Any], Name("report")]:
    """How many things there are, and how large the largest is, in pixels."""
    areas = [thing["area"] for thing in things]
    return {"place": place, "count": len(things), "largest": max(areas, default=0)}
