"""Who plays in a cartoon: character specs, random casts, poses, and drawing one to a sprite.

Everything is deterministic: the same spec, pose and height give the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray

from stream.cartoon.anatomy import build
from stream.cartoon.casting import random_character
from stream.cartoon.draw import Canvas
from stream.cartoon.model import EXPRESSIONS, FAMILIES, LOOKS, Character, Look, Pose


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn character: `rgba` uint8 (h, w, 4), tight to its visible alpha.

    `anchor` is the point between the feet (x, y in sprite pixels, may lie outside); `face` the box xyxy of
    the head's face in sprite pixels, None seen from behind.
    """

    rgba: NDArray[np.uint8]
    anchor: tuple[float, float]
    face: tuple[float, float, float, float] | None


def draw_character(character: Character, pose: Pose, height_px: float, supersample: int = 3) -> Sprite:
    """Draw `character` so that it would stand `height_px` pixels tall; a squat is lower, raised arms are
    higher.

    Raises ValueError when `height_px` is under 4. Raising `supersample` (1..4) smooths edges and costs time.
    """
    if not height_px >= 4:
        raise ValueError(f"height_px: expected at least 4 pixels, got {height_px!r}")
    unit, line = _standing(character)
    canvas = Canvas(
        character.look.ink,
        line,
        character.look.shading,
        character.look.fur / unit,
        8 if height_px < 220 else 18,
    )
    face = build(canvas, character, pose)
    stretch = (1.0 - pose.stretch * 0.6, 1.0 + pose.stretch)
    scale = height_px * unit
    if supersample > 1 and height_px > 420:
        supersample = 2
    image, ox, oy = canvas.paint(scale, pose.lean, stretch, supersample)
    rgba = np.asarray(image)
    left, top, right, bottom = image.getchannel("A").point(_VISIBLE).getbbox() or (0, 0, 1, 1)
    rgba = np.array(rgba[top:bottom, left:right])
    if character.look.texture:
        _texture(rgba, character.seed, character.look.texture, height_px)
    if character.look.grey:
        rgba[..., :3] = (rgba[..., :3] @ _LUMA)[..., None].astype(np.uint8)
    box = None
    if face is not None and not pose.back:
        x1, y1, x2, y2 = face
        low, high = y1 * stretch[1], y2 * stretch[1]
        slide = -pose.lean * (low + high) / 2
        at = (x1 * stretch[0] + slide, low, x2 * stretch[0] + slide, high)
        px = [v * scale + o - c for v, o, c in zip(at, (ox, oy) * 2, (left, top) * 2, strict=True)]
        height, width = rgba.shape[:2]
        box = (max(0.0, px[0]), max(0.0, px[1]), min(float(width), px[2]), min(float(height), px[3]))
    return Sprite(rgba, (ox - left, oy - top), box)


_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_VISIBLE = [0] * 24 + [255] * 232


@lru_cache(maxsize=512)
def _standing(character: Character) -> tuple[float, float]:
    """(1 / standing height in canvas units, outline width in canvas units)."""
    canvas = Canvas((0, 0, 0), 0.0)
    build(canvas, character, Pose())
    _, top, _, bottom = canvas.bounds()
    look = character.look
    # Ink goes round the whole figure and fur stands on end: both count as height.
    height = max(1e-3, bottom - top) * (1.0 + 2.0 * look.line + look.fur)
    return 1.0 / height, look.line * height


@lru_cache(maxsize=64)
def _noise_tile(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    fine = rng.normal(0, 1, (256, 256)).astype(np.float32)
    # Fur lies in strands: averaging along one direction leaves short vertical streaks.
    strands = sum(np.roll(fine, (k, k // 2), (0, 1)) for k in range(5)) / np.sqrt(5)
    broad = np.repeat(np.repeat(rng.normal(0, 1, (32, 32)), 8, 0), 8, 1)
    return np.asarray(1.0 + 0.07 * strands + 0.04 * broad, dtype=np.float32)


def _texture(rgba: NDArray[np.uint8], seed: int, strength: float, height_px: float) -> None:
    height, width = rgba.shape[:2]
    tile = _noise_tile(seed % 16)
    rows, cols = np.arange(height) % 256, np.arange(width) % 256
    factor = 1.0 + (tile[np.ix_(rows, cols)] - 1.0) * strength
    rgba[..., :3] = np.minimum(rgba[..., :3] * factor[..., None], 255.0).astype(np.uint8)


def make_cast(count: int, seed: int, look: Look | None = None) -> tuple[Character, ...]:
    """A cast of `count` visibly different characters in one look (a random one where None), "Character A",
    B, ...

    Each member is the candidate that differs most from those before it: another family or main hue, and
    another picture when both are drawn small. Raises ValueError when `count` is negative.
    """
    if count < 0:
        raise ValueError(f"count: expected 0 or more characters, got {count}")
    rng = np.random.default_rng([seed, 0xCA57])
    look = look or Look.random(rng)
    cast: list[Character] = []
    seen: list[NDArray[np.float64]] = []
    for index in range(count):
        candidates = [random_character(rng, look) for _ in range(8)]
        signs = [signature(candidate) for candidate in candidates]
        best = 0
        if seen:
            gaps = [min(float(np.abs(sign - other).mean()) for other in seen) for sign in signs]
            families = [member.family for member in cast]
            gaps = [gap - 0.01 * families.count(c.family) for gap, c in zip(gaps, candidates, strict=True)]
            best = int(np.argmax(gaps))
        letter = ascii_uppercase[index % 26] * (1 + index // 26)
        cast.append(replace(candidates[best], name=f"Character {letter}"))
        seen.append(signs[best])
    return tuple(cast)


def signature(character: Character) -> NDArray[np.float64]:
    """How a character looks from far: a 12x8 picture of it seen from the front and a colour histogram,
    0..1 each.
    """
    sprite = draw_character(character, Pose(facing=0.3), 48, supersample=1)
    rgba = sprite.rgba.astype(np.float64) / 255.0
    height, width = rgba.shape[:2]
    canvas = np.full((48, 48, 3), 0.5)
    rows = np.minimum(np.arange(48) * height // 48, height - 1)
    span = max(width, height)
    cols = (np.arange(48) - 24) * span // 48 + width // 2
    inside = (cols >= 0) & (cols < width)
    picked = rgba[rows][:, cols[inside]]
    canvas[:, inside] += (picked[..., :3] - 0.5) * picked[..., 3:]
    small = canvas.reshape(12, 4, 8, 6, 3).mean(axis=(1, 3))
    body = rgba[rgba[..., 3] > 0.5][:, :3]
    if len(body) == 0:
        body = np.full((1, 3), 0.5)
    bins = (body * 3.999).astype(int) @ (16, 4, 1)
    histogram = np.bincount(bins, minlength=64) / len(body)
    return np.concatenate([small.ravel(), np.repeat(histogram, 4)])


__all__ = [
    "EXPRESSIONS",
    "FAMILIES",
    "LOOKS",
    "Character",
    "Look",
    "Pose",
    "Sprite",
    "draw_character",
    "make_cast",
    "random_character",
    "signature",
]
