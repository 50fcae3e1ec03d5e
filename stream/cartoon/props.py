"""Things that are not characters: trees, rocks, posts, furniture, vehicles, balls, signs, flowers, drawn
like them.

They share the characters' ink and shading on purpose: what tells a character from a ball or a barrel is the
drawing, not the style.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.cartoon.draw import Canvas
from stream.cartoon.growth import (
    draw_bush,
    draw_cactus,
    draw_cloud,
    draw_coral,
    draw_flower,
    draw_fruit,
    draw_mushroom,
    draw_rock,
    draw_seaweed,
    draw_tree,
)
from stream.cartoon.model import Look
from stream.cartoon.things import (
    draw_ball,
    draw_balloon,
    draw_barrel,
    draw_car,
    draw_chair,
    draw_clock,
    draw_crate,
    draw_fence,
    draw_hanging,
    draw_house,
    draw_hydrant,
    draw_lamp,
    draw_post,
    draw_sign,
    draw_sofa,
    draw_table,
    draw_vase,
)

Rng = np.random.Generator


_KINDS: dict[str, Callable[[Canvas, Rng], None]] = {
    "tree": draw_tree,
    "bush": draw_bush,
    "rock": draw_rock,
    "post": draw_post,
    "lamp": draw_lamp,
    "ball": draw_ball,
    "balloon": draw_balloon,
    "barrel": draw_barrel,
    "crate": draw_crate,
    "house": draw_house,
    "car": draw_car,
    "sign": draw_sign,
    "flower": draw_flower,
    "mushroom": draw_mushroom,
    "chair": draw_chair,
    "sofa": draw_sofa,
    "table": draw_table,
    "vase": draw_vase,
    "clock": draw_clock,
    "fence": draw_fence,
    "cactus": draw_cactus,
    "hydrant": draw_hydrant,
    "fruit": draw_fruit,
    "hanging": draw_hanging,
    "cloud": draw_cloud,
    "seaweed": draw_seaweed,
    "coral": draw_coral,
}
HEIGHTS = {
    "tree": 1.0, "house": 0.9, "car": 0.5, "lamp": 0.8, "sign": 0.6, "post": 0.5, "cactus": 0.7, "coral": 0.6,
    "seaweed": 0.8, "hanging": 0.55, "table": 0.45, "chair": 0.5, "sofa": 0.42, "balloon": 0.6, "fence": 0.38,
    "barrel": 0.42, "crate": 0.4, "bush": 0.36, "rock": 0.3, "hydrant": 0.4, "vase": 0.4, "mushroom": 0.28,
    "flower": 0.34, "ball": 0.26, "fruit": 0.22, "clock": 0.5, "cloud": 0.4,
}  # fmt: skip
"""How tall each kind stands beside a tree."""
PROPS = tuple(_KINDS)
"""Every kind of prop."""

OCCLUDERS = (
    "tree",
    "bush",
    "bush",
    "rock",
    "post",
    "barrel",
    "crate",
    "fence",
    "fence",
    "sofa",
    "table",
    "chair",
    "hydrant",
    "car",
)
"""Kinds that stand in front of characters; repeated kinds are likelier."""


def draw_prop(kind: str, rng: Rng, height: float, look: Look | None = None) -> NDArray[np.uint8]:
    """A prop about `height` pixels tall, uint8 RGBA (h, w, 4), standing on the picture's lower edge.

    Raises ValueError for a kind that is not in PROPS.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind: expected one of {', '.join(PROPS)}, got {kind!r}")
    look = look or Look.random(rng)
    canvas = Canvas(look.ink, look.line * 1.1, look.shading, look.fur * 1.5, 8 if height < 120 else 18)
    _KINDS[kind](canvas, rng)
    image, _, _ = canvas.paint(max(2.0, height), supersample=2 if height < 400 else 1)
    image = image.crop(image.getchannel("A").getbbox())
    rgba = np.array(image)
    if rng.random() < 0.5:
        rgba = np.ascontiguousarray(rgba[:, ::-1])
    if look.grey:
        luma = rgba[..., :3] @ np.array([0.299, 0.587, 0.114])
        rgba[..., :3] = luma[..., None].astype(np.uint8)
    return rgba


def foreground_prop(rng: Rng, height: float, look: Look | None = None) -> NDArray[np.uint8]:
    """A random prop to hide characters behind, uint8 RGBA (h, w, 4), about `height` pixels tall."""
    return draw_prop(str(rng.choice(OCCLUDERS)), rng, height, look)


__all__ = ["OCCLUDERS", "PROPS", "draw_prop", "foreground_prop"]
