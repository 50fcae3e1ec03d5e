"""Who plays in a cartoon: character specs, random casts, poses, and drawing one to a sprite.

Everything is deterministic: the same spec, pose and height give the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray

from stream.cartoon.draw import Canvas, Color, grey, hsv, mix, shaded
from stream.errors import ConfigError

FAMILIES = ("human", "toddler", "animal", "quadruped", "bird", "blob", "robot", "creature", "flyer")
"""Body plans. Humans, toddlers, animals, robots and creatures stand on two legs."""

_WEIGHTS = (0.26, 0.08, 0.2, 0.12, 0.09, 0.07, 0.06, 0.08, 0.04)
LOOKS = ("flat", "cel", "hose", "bare", "cgi", "fur")
"""Kinds of look: flat colours, cel shadows, 1930s rubber hose, no outlines, soft CGI, CGI with fur."""
EXPRESSIONS = ("neutral", "happy", "angry", "sad", "surprised")


@dataclass(frozen=True)
class Look:
    """How a production draws everybody.

    `line` is the outline's width as a share of the character's height (0: no outlines), `shading` one of flat, cel,
    soft; `fur` the length of fur spikes as a share of the height; `texture` the strength of surface noise (0..1);
    `grey` draws in black and white; `hose` gives limbs without elbows and pie-cut eyes, as in the 1930s.
    """

    ink: Color = (28, 22, 30)
    line: float = 0.010
    shading: str = "flat"
    fur: float = 0.0
    texture: float = 0.0
    grey: bool = False
    hose: bool = False

    @classmethod
    def named(cls, kind: str, seed: int = 0) -> Look:
        """A look of one kind (see LOOKS), its ink and widths by `seed`. Raises ConfigError for an unknown kind."""
        if kind not in LOOKS:
            raise ConfigError(f"style: expected one of {', '.join(LOOKS)}, got {kind!r}; choose one of them")
        return cls._of(kind, np.random.default_rng([seed, 0x100C]))

    @classmethod
    def random(cls, rng: np.random.Generator) -> Look:
        """One of the looks of a century: flat or cel TV, rubber hose, no outlines, soft CGI with or without fur."""
        return cls._of(str(rng.choice(LOOKS, p=[0.24, 0.28, 0.13, 0.1, 0.12, 0.13])), rng)

    @classmethod
    def _of(cls, kind: str, rng: np.random.Generator) -> Look:
        tint = hsv(rng.random(), 0.5, 0.25)
        ink = mix((18, 14, 20), tint, float(rng.random()) * 0.8)
        line = float(rng.choice([0.005, 0.008, 0.011, 0.015]))
        if kind == "hose":
            return cls((12, 12, 12), max(line, 0.008), "flat", grey=bool(rng.random() < 0.8), hose=True)
        if kind == "bare":
            return cls(ink, 0.0, str(rng.choice(["flat", "cel"])))
        if kind == "cgi":
            return cls(ink, 0.0, "soft", texture=float(rng.uniform(0.0, 0.25)))
        if kind == "fur":
            return cls(
                ink, 0.0, "soft", fur=float(rng.uniform(0.006, 0.014)), texture=float(rng.uniform(0.3, 0.8))
            )
        return cls(ink, line, kind, grey=bool(rng.random() < 0.06))


@dataclass(frozen=True)
class Character:
    """A character's model sheet. Lengths are shares of the standing height before normalization.

    Raising `head` makes the head larger against the body (toddlers), `head_aspect` wider; `jaw` over 0 widens the
    lower face (pear), under 0 narrows it; `belly` fattens the torso's middle.
    """

    name: str
    family: str
    look: Look
    main: Color
    second: Color
    accent: Color
    hair_color: Color
    top: Color
    bottom: Color
    shoe: Color
    iris: Color
    head: float = 0.26
    head_aspect: float = 1.0
    head_box: float = 2.0
    jaw: float = 0.0
    neck: float = 0.03
    torso: float = 0.32
    shoulder: float = 0.26
    waist: float = 0.22
    hip: float = 0.24
    belly: float = 0.0
    leg: float = 0.38
    arm: float = 0.36
    limb: float = 0.07
    length: float = 0.6
    eyes: str = "oval"
    eye_size: float = 0.2
    eye_gap: float = 0.42
    eye_count: int = 2
    brows: float = 0.5
    nose: str = "dot"
    muzzle: float = 0.0
    ears: str = "none"
    ear_size: float = 0.5
    hair: str = "none"
    hat: str = "none"
    beard: str = "none"
    glasses: str = "none"
    clothes: str = "none"
    sleeves: float = 0.5
    pattern: str = "none"
    tail: str = "none"
    hands: str = "mitten"
    wings: str = "none"
    extra: str = "none"
    seed: int = 0


@dataclass(frozen=True)
class Pose:
    """One drawing of a character.

    `facing` -1 (left profile) .. 0 (to us) .. 1 (right profile); `back` turns it away from us. `phase` (0..1) is the
    walk cycle's and `stride` its amplitude (0: standing). `arms` are the left and right arm's angles from hanging
    (radians, up to about 3), `bends` their elbows (-1..1). `lean` is a shear, `squat` 0..1 folds the legs, `jump`
    0..1 tucks them, `stretch` over 0 lengthens the drawing and under 0 squashes it. `mouth` and `blink` are 0..1.
    """

    facing: float = 0.0
    back: bool = False
    phase: float = 0.0
    stride: float = 0.0
    arms: tuple[float, float] = (0.25, 0.25)
    bends: tuple[float, float] = (0.2, 0.2)
    lean: float = 0.0
    squat: float = 0.0
    jump: float = 0.0
    stretch: float = 0.0
    tilt: float = 0.0
    expression: str = "neutral"
    mouth: float = 0.0
    blink: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def random(cls, rng: np.random.Generator) -> Pose:
        """Any pose a scene may ask for; most face us or three quarters, a tenth show the back."""
        kind = rng.random()
        facing = float(
            rng.uniform(-0.35, 0.35) if kind < 0.3 else rng.uniform(0.3, 1.0) * rng.choice([-1, 1])
        )
        walking = rng.random() < 0.45
        lively = rng.random() < 0.4
        arms = rng.uniform(0.0, 2.9 if lively else 1.0, 2)
        bends = rng.uniform(-0.5, 0.9, 2)
        return cls(
            facing=facing,
            back=bool(rng.random() < 0.1),
            phase=float(rng.random()),
            stride=float(rng.uniform(0.4, 1.1)) if walking else 0.0,
            arms=(float(arms[0]), float(arms[1])),
            bends=(float(bends[0]), float(bends[1])),
            lean=float(rng.normal(0, 0.08)),
            squat=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.12 else 0.0,
            jump=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.1 else 0.0,
            stretch=float(rng.normal(0, 0.05)),
            tilt=float(rng.normal(0, 0.12)),
            expression=str(rng.choice(EXPRESSIONS)),
            mouth=float(rng.random()) if rng.random() < 0.5 else 0.0,
            blink=1.0 if rng.random() < 0.08 else 0.0,
            gaze=(float(rng.uniform(-1, 1)), float(rng.uniform(-0.6, 0.6))),
        )

    @classmethod
    def walk(cls, phase: float, facing: float = 1.0, stride: float = 0.8, **changes: object) -> Pose:
        """The walk cycle's drawing at `phase` (0..1), arms swinging against the legs; `changes` replace fields."""
        swing = float(np.sin(2 * np.pi * phase)) * stride * 0.7
        pose = cls(
            facing=facing,
            phase=phase % 1.0,
            stride=stride,
            arms=(0.15 - swing, 0.15 + swing),
            bends=(0.3, 0.3),
            lean=0.04 * facing,
            stretch=0.03 * float(np.cos(4 * np.pi * phase)),
        )
        return replace(pose, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn character: `rgba` uint8 (h, w, 4), tight to its visible alpha.

    `anchor` is the point between the feet (x, y in sprite pixels, may lie outside); `face` the box xyxy of the head's
    face in sprite pixels, None seen from behind.
    """

    rgba: NDArray[np.uint8]
    anchor: tuple[float, float]
    face: tuple[float, float, float, float] | None


def draw_character(character: Character, pose: Pose, height_px: float, supersample: int = 3) -> Sprite:
    """Draw `character` so that it would stand `height_px` pixels tall; a squat is lower, raised arms are higher.

    Raises ValueError when `height_px` is under 4. Raising `supersample` (1..4) smooths edges and costs time.
    """
    from stream.cartoon.anatomy import build

    if not height_px >= 4:
        raise ValueError(f"height_px: expected at least 4 pixels, got {height_px!r}")
    unit, line = _standing(character)
    canvas = Canvas(_ink(character), line, character.look.shading, character.look.fur / unit)
    face = build(canvas, _graded(character), pose)
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


_VISIBLE = [0] * 24 + [255] * 232


@lru_cache(maxsize=512)
def _standing(character: Character) -> tuple[float, float]:
    """(1 / standing height in canvas units, outline width in canvas units)."""
    from stream.cartoon.anatomy import build

    canvas = Canvas((0, 0, 0), 0.0)
    build(canvas, character, Pose())
    _, top, _, bottom = canvas.bounds()
    height = max(1e-3, bottom - top)
    return 1.0 / height, character.look.line * height


@lru_cache(maxsize=512)
def _graded(character: Character) -> Character:
    if not character.look.grey:
        return character
    names = ("main", "second", "accent", "hair_color", "top", "bottom", "shoe", "iris")
    return replace(character, **{name: grey(getattr(character, name)) for name in names})


def _ink(character: Character) -> Color:
    return grey(character.look.ink) if character.look.grey else character.look.ink


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
    """A cast of `count` visibly different characters in one look (a random one where None), "Character A", B, ...

    Each member is the candidate that differs most from those before it: another family or main hue, and another
    picture when both are drawn small. Raises ValueError when `count` is negative.
    """
    from stream.cartoon.casting import random_character

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
    """How a character looks from far: a 12x8 picture of it seen from the front and a colour histogram, 0..1 each."""
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


def random_character(
    rng: np.random.Generator, look: Look | None = None, family: str | None = None
) -> Character:
    """A character nobody has seen: any family, proportions, colours, accessories; see `stream.cartoon.casting`."""
    from stream.cartoon.casting import random_character as cast_one

    return cast_one(rng, look, family)


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
    "shaded",
    "signature",
]
