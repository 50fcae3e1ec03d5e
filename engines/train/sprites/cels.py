"""What a cel painter draws with: smooth outlines, flat paint, one shadow tone, an ink line.

:mod:`engines.train.sprites.beasts` composes its animals of these. Coordinates are free (y down): a sketch is
turned, fitted to the picture and painted at the end, so that who draws need not know how large it becomes.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageChops, ImageDraw

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
_OVER = 2  # supersampling
BARE = -1  # the group of parts that get no ink and no shadow tone of their own


def shade(colour: Colour, by: float) -> Colour:
    r, g, b = (max(0, min(255, round(c * by))) for c in colour)
    return r, g, b


def towards(a: Colour, b: Colour, share: float) -> Colour:
    r, g, b_ = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, b_


def hsv(hue: float, sat: float, value: float) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(hue % 1, min(1.0, max(0.0, sat)), min(1.0, max(0.0, value)))
    return int(r * 255), int(g * 255), int(b * 255)


@dataclass
class Palette:
    """The paints of one beast: hide or cloth, its second tone, skin or belly, accent of beak and feet."""

    main: Colour
    second: Colour
    light: Colour
    accent: Colour
    white: Colour
    black: Colour


def palette(rng: np.random.Generator, dark: float = 0.25) -> Palette:
    """Dark with that chance, otherwise saturated, faded as old film is, grey or natural."""
    kind = "dark" if rng.random() < dark else str(rng.choice(["full", "faded", "faded", "natural", "grey"]))
    hue = rng.uniform(0, 1)
    earthy = rng.choice([0.02, 0.06, 0.09, 0.12, 0.25, 0.33, 0.6, 0.75]) + rng.normal(0, 0.02)
    low = rng.uniform(0.7, 1.25)  # contrast of the second tone
    if kind == "dark":
        main = hsv(
            float(rng.choice([hue, 0.75, 0.65, 0.07])), rng.choice([0.0, 0.2, 0.5]), rng.uniform(0.04, 0.3)
        )
    elif kind == "full":
        main = hsv(hue, rng.uniform(0.5, 1), rng.uniform(0.4, 1))
    elif kind == "faded":
        main = hsv(earthy, rng.uniform(0.1, 0.5), rng.uniform(0.22, 0.65))
    elif kind == "natural":
        main = hsv(float(rng.uniform(0.03, 0.13)), rng.uniform(0.15, 0.75), rng.uniform(0.25, 0.95))
    else:
        main = hsv(0, 0, rng.uniform(0.1, 0.95))
    grey = 0.0 if kind == "grey" else 1.0
    fade = 0.5 if kind == "faded" else 1.0
    second = shade(main, low) if rng.random() < 0.6 else towards(main, hsv(hue + 0.4, 0.5 * grey, 0.5), 0.5)
    light = hsv(
        rng.uniform(0.02, 0.13),
        rng.uniform(0.15, 0.6) * grey * fade,
        rng.uniform(0.5, 1) * (0.6 + 0.4 * fade),
    )
    accent = hsv(
        float(rng.choice([0.12, 0.08, 0.02, 0.97, hue])),
        rng.uniform(0.4, 1) * grey * fade,
        rng.uniform(0.45, 1),
    )
    white = towards((250, 248, 240), main, 0.25 * (1 - fade) * 2 + rng.uniform(0, 0.1))
    return Palette(main, second, light, accent, white, shade(main, 0.15))


def curve(points: ArrayLike, per: int = 5, closed: bool = True) -> Floats:
    """Catmull-Rom through (n, 2) points, ``per`` samples between two: (m, 2)."""
    p = np.asarray(points, np.float64)
    ends = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    p = np.vstack([ends[0], p, ends[1]])
    a, b, c, d = (q[:, None] for q in (p[:-3], p[1:-2], p[2:-1], p[3:]))
    t = (np.arange(per) / per)[None, :, None]
    out = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    flat: Floats = out.reshape(-1, 2)
    return flat if closed else np.vstack([flat, p[-2:-1]])


def sides(path: ArrayLike, widths: ArrayLike, per: int = 6) -> tuple[Floats, Floats, Floats]:
    """A smooth band along (n, 2) points, ``widths`` to either side: middle, left and right, (m, 2) each."""
    p = curve(path, per, closed=False)
    w = np.asarray(widths, np.float64)
    w = np.interp(np.linspace(0, 1, len(p)), np.linspace(0, 1, len(w)), w)[:, None]
    tangent = np.gradient(p, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    return p, p + w * normal, p - w * normal


def tube(path: ArrayLike, widths: ArrayLike, per: int = 6) -> Floats:
    """The band of :func:`sides` as one outline, round at its end."""
    _, left, right = sides(path, widths, per)
    t = np.linspace(0, np.pi, 7)[1:-1, None]
    ends = []
    for k, a, b in ((-1, left, right), (0, right, left)):
        middle, across = 0.5 * (a[k] + b[k]), 0.5 * (a[k] - b[k])
        ends.append(middle + np.cos(t) * across + np.sin(t) * np.array([across[1], -across[0]]))
    return np.vstack([left, ends[0], right[::-1], ends[1]])


def blob(rng: np.random.Generator, at: ArrayLike, rx: float, ry: float, wobble: float = 0.06) -> Floats:
    """A hand-drawn ellipse: (m, 2)."""
    t = np.linspace(0, 2 * np.pi, 9)[:-1] + rng.uniform(0, 1)
    r = 1 + rng.normal(0, wobble, 8)
    return curve(np.asarray(at) + np.stack([rx * r * np.cos(t), ry * r * np.sin(t)], 1), 4)


def turned(
    points: ArrayLike, angle: float, at: ArrayLike = (0.0, 0.0), size: float = 1.0, flip: float = 1.0
) -> Floats:
    """Local points mirrored (``flip`` -1), turned, enlarged and put at a place: (n, 2)."""
    p = np.asarray(points, np.float64) * [flip, 1.0] * size
    c, s = np.cos(angle), np.sin(angle)
    out: Floats = p @ np.array([[c, s], [-s, c]]) + np.asarray(at)
    return out


@dataclass
class _Part:
    points: Floats
    colour: Colour
    group: int
    width: float = 0.0  # of a stroke; 0: filled


@dataclass
class Sketch:
    """Parts from back to front; those of one group share one outline."""

    parts: list[_Part] = field(default_factory=list)
    seen: list[Floats] = field(default_factory=list)  # of the face
    _groups: int = 0

    def group(self) -> int:
        self._groups += 1
        return self._groups

    def fill(self, points: ArrayLike, colour: Colour, group: int | None = None) -> None:
        self.parts.append(
            _Part(np.asarray(points, np.float64), colour, self.group() if group is None else group)
        )

    def stroke(self, points: ArrayLike, colour: Colour, width: float) -> None:
        self.parts.append(_Part(np.asarray(points, np.float64), colour, self.group(), width))

    def face(self, points: ArrayLike) -> None:
        """What belongs to the face: an outline (n, 2), or two corners of a box, whose ellipse is meant."""
        p = np.asarray(points, np.float64)
        if len(p) == 2:  # corners would fold into a line when the figure turns
            t = np.linspace(0, 2 * np.pi, 13)[:-1]
            p = p.mean(0) + 0.5 * (p[1] - p[0]) * np.stack([np.cos(t), np.sin(t)], 1)
        self.seen.append(p)

    def turn(self, angle: float, squash: float = 1.0, flip: float = 1.0) -> None:
        """Everything mirrored, narrowed and turned."""
        for part in self.parts:
            part.points = turned(part.points * [squash, 1.0], angle, flip=flip)
        self.seen = [turned(p * [squash, 1.0], angle, flip=flip) for p in self.seen]

    def paint(
        self, rng: np.random.Generator, side: int, ink: float, toned: bool
    ) -> tuple[Bytes, Floats | None]:
        """RGBA (side, side, 4) and the face's points in it; ``ink`` is the line's width in pixels or 0."""
        n = side * _OVER
        low = np.min([p.points.min(0) - p.width / 2 for p in self.parts], axis=0)
        high = np.max([p.points.max(0) + p.width / 2 for p in self.parts], axis=0)
        margin = _OVER * (ink + 1.5)
        scale = (n - 2 * margin) / max(float((high - low).max()), 1e-6)
        shift = n / 2 - scale * (low + high) / 2
        image = Image.new("RGBA", (n, n))
        draw = ImageDraw.Draw(image)
        line = (22, 18, 22) if rng.random() < 0.7 else shade(self.parts[0].colour, rng.uniform(0.2, 0.6))
        light = turned([1.0, 0.0], rng.uniform(-2.6, -0.5))
        depth, tone = rng.uniform(0.1, 0.3), rng.uniform(0.55, 0.85)
        for _, run in groupby(self.parts, key=lambda p: p.group):
            parts = [(p, p.points * scale + shift) for p in run]
            for part, points in parts:
                if ink and not part.width and part.group != BARE:
                    joint = (
                        "curve" if ink > 1 and len(points) > 8 else None
                    )  # dear, and seen on wide lines alone
                    ring = list(map(tuple, np.vstack([points, points[:2]]).tolist()))
                    draw.line(ring, fill=line, width=round(2 * _OVER * ink), joint=joint)
            for part, points in parts:
                flat = points.ravel().tolist()
                if part.width:
                    draw.line(flat, fill=part.colour, width=max(1, round(part.width * scale)))
                else:
                    draw.polygon(flat, fill=part.colour)
            if toned and not parts[0][0].width and parts[0][0].group != BARE:
                _tone(image, [q for _, q in parts], depth * light, tone)
        rgba = np.asarray(image.resize((side, side), Image.Resampling.BOX))
        return rgba, np.vstack(self.seen) * (scale / _OVER) + shift / _OVER if self.seen else None


def _tone(image: Image.Image, shapes: list[Floats], light: Floats, tone: float) -> None:
    """A darker copy of shapes that share an outline, on the side away from the light."""
    every = np.vstack(shapes)
    low, high = np.floor(every.min(0)), np.ceil(every.max(0))
    if float((high - low).min()) < 14:  # an eye, a claw: painters leave these flat
        return
    size = (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)
    own, lit = Image.new("L", size), Image.new("L", size)
    a, b = ImageDraw.Draw(own), ImageDraw.Draw(lit)
    by = light * float((high - low).min())
    for shape in shapes:
        a.polygon((shape - low).ravel().tolist(), fill=255)
        b.polygon((shape - low + by).ravel().tolist(), fill=255)
    box = (int(low[0]), int(low[1]), int(low[0]) + size[0], int(low[1]) + size[1])
    paint, dark = image.crop(box), Image.new("RGBA", size, (*[round(255 * tone)] * 3, 255))
    image.paste(ImageChops.multiply(paint, dark), box, ImageChops.subtract(own, lit))


def polar(angle: float, length: float = 1.0) -> Floats:
    """The vector of that length at ``angle`` degrees, 0 to the right, 90 down."""
    a = np.deg2rad(angle)
    return np.array([length * np.cos(a), length * np.sin(a)])


def between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))
