"""Tubes of numpy arrays."""

from __future__ import annotations

from noob_cloud_testtubes.case import Case, chain, node, result


def _arrays() -> list[Case]:
    return [
        Case(
            "arrays",
            chain(
                "arrays",
                i=node("image", "value=src.index"),
                b=node("brighten", "image=i.image"),
                t=node("transpose", "image=b.value"),
                m=node("mean", "image=t.value"),
                s=node("numpy_scalars", "value=src.index"),
                out=result("t=t.value", "m=m.mean", "s=s.value"),
            ),
        ),
        Case(
            "array_tiles",
            chain(
                "array-tiles",
                i=node("image", "value=src.index", params={"side": 16}),
                many=node("tiles", "image=i.image"),
                m=node("map", "value=many.value"),
                a=node("mean", "image=m.value"),
                g=node("gather", "value=a.mean", "n=m.n"),
                out=result("g=g.value"),
            ),
            n=3,
        ),
        Case(
            "array_large",
            chain(
                "array-large",
                i=node("image", "value=src.index", params={"side": 300}),
                b=node("brighten", "image=i.image"),
                keep=node("Window", "value=b.value", params={"size": 2}),
                m=node("mean", "image=b.value"),
                out=result("m=m.mean", "keep=keep.window"),
            ),
            n=4,
        ),
        Case(
            "array_overwritten",
            chain(
                "array-overwritten",
                i=node("image", "value=src.index"),
                b=node("brighten", "image=i.image"),
                o=node("overwrite", "image=b.value"),
                out=result("o=o.value"),
            ),
            overwrites=True,
        ),
    ]


ARRAYS: tuple[Case, ...] = tuple(_arrays())
"""Tubes of numpy arrays."""
