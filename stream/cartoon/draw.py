"""A small vector canvas for cel drawings: closed shapes with ink, flat, cel or soft shading, anti-aliased.

Shapes are collected in unit coordinates (x right, y down, any scale) and painted once, so that a drawing can
be measured before it is scaled. Ink is a second, grown polygon behind the fill: plain polygon fills are the
fastest thing Pillow does, and grouped parts share one silhouette as drawn cels do.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Color = tuple[int, int, int]

LIGHT = (-0.6, -0.8)
"""Direction towards the light, in canvas coordinates (up and to the left), as in most cel productions."""

_HOSE_STEPS = 9
_CAP_STEPS = 4


def hsv(hue: float, saturation: float, value: float) -> Color:
    """The 8-bit RGB colour of hue, saturation and value, each 0..1 (hue wraps around)."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, max(0.0, saturation)), min(1.0, max(0.0, value)))
    return round(r * 255), round(g * 255), round(b * 255)


def mix(a: Color, b: Color, share: float) -> Color:
    """Colour between a (share 0) and b (share 1)."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def shaded(color: Color, amount: float = 0.28) -> Color:
    """The colour in shadow: darker and a little towards blue-violet, as painters mix it."""
    return mix(color, (38, 24, 66), amount)


def lit(color: Color, amount: float = 0.25) -> Color:
    """The colour in light: towards a warm white."""
    return mix(color, (255, 250, 232), amount)


def grey(color: Color) -> Color:
    """The grey of the same luma (ITU-R BT.601)."""
    luma = round(0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2])
    return luma, luma, luma


@cache
def unit_circle(count: int) -> Points:
    """(count, 2) points of the unit circle, clockwise on the screen, starting at the right."""
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@cache
def _superellipse(count: int, exponent: float) -> Points:
    circle = unit_circle(count)
    power = 2.0 / exponent
    return np.asarray(np.sign(circle) * np.abs(circle) ** power)


def ellipse(
    x: float, y: float, rx: float, ry: float, rot: float = 0.0, exponent: float = 2.0, count: int = 32
) -> Points:
    """A (super)ellipse about (x, y). Raising `exponent` over 2 makes it boxier; `rot` is in radians."""
    unit = unit_circle(count) if exponent == 2.0 else _superellipse(count, exponent)
    points = unit * (rx, ry)
    if rot:
        c, s = np.cos(rot), np.sin(rot)
        points = points @ np.array([[c, s], [-s, c]])
    points += (x, y)
    return points


@cache
def _closed_basis(count: int, steps: int) -> Points:
    """Matrix (count*steps, count) that samples the closed Catmull-Rom spline through `count` points."""
    t = np.arange(steps) / steps
    weights = np.stack(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ],
        axis=1,
    )
    basis = np.zeros((count * steps, count))
    for i in range(count):
        for k in range(4):
            basis[i * steps : (i + 1) * steps, (i + k - 1) % count] += weights[:, k]
    return basis


def blob(points: list[tuple[float, float]] | Points, steps: int = 5) -> Points:
    """The smooth closed curve through the given points (Catmull-Rom)."""
    control = np.asarray(points, dtype=np.float64)
    return np.asarray(_closed_basis(len(control), steps) @ control)


@cache
def _hose_basis() -> tuple[Points, Points, Points]:
    t = np.linspace(0.0, 1.0, _HOSE_STEPS)
    position = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
    slope = np.stack([-2 * (1 - t), 2 - 4 * t, 2 * t], axis=1)
    angle = np.linspace(-np.pi / 2, np.pi / 2, _CAP_STEPS + 2)[1:-1]
    return position, slope, np.stack([np.cos(angle), np.sin(angle)], axis=1)


def hose(
    start: tuple[float, float],
    bend: tuple[float, float],
    end: tuple[float, float],
    width: float,
    end_width: float | None = None,
    grow: float = 0.0,
) -> Points:
    """A round-ended limb along the quadratic curve start-bend-end.

    `width` and `end_width` are the full widths at the two ends; `grow` adds to the half width everywhere.
    """
    position, slope, cap = _hose_basis()
    control = np.array([start, bend, end])
    centre = position @ control
    tangent = slope @ control
    length = np.sqrt((tangent * tangent).sum(axis=1, keepdims=True))
    tangent = tangent / np.maximum(length, 1e-9)
    normal = tangent[:, ::-1] * (-1.0, 1.0)
    last = width if end_width is None else end_width
    half = np.linspace(width / 2 + grow, last / 2 + grow, _HOSE_STEPS)[:, None]
    side = normal * half
    head = centre[-1] + half[-1] * (cap[:, :1] * tangent[-1] - cap[:, 1:] * normal[-1])
    tail = centre[0] - half[0] * (cap[:, :1] * tangent[0] - cap[:, 1:] * normal[0])
    return np.concatenate([centre + side, head, (centre - side)[::-1], tail])


def grown(points: Points, amount: float) -> Points:
    """The polygon moved outwards by `amount` along its normals (inwards where negative)."""
    after = np.concatenate([points[1:], points[:1]])
    tangent = after - np.concatenate([points[-1:], points[:-1]])
    x, y = points[:, 0], points[:, 1]
    area = float(x @ after[:, 1] - y @ after[:, 0])
    length = np.sqrt((tangent * tangent).sum(axis=1, keepdims=True))
    normal = tangent[:, ::-1] * ((1.0, -1.0) if area > 0 else (-1.0, 1.0))
    return np.asarray(points + normal * (amount / np.maximum(length, 1e-9)))


class Canvas:
    """Collects closed shapes, back to front, and paints them at any scale.

    `ink` is the outline colour, `line` its width in canvas units (0: no outlines), `shading` one of `flat`,
    `cel` (one hard shadow) or `soft` (a gradient, like a lit solid), `fuzz` the length of fur spikes on
    edges (0: none). `steps` is how many bands a soft gradient has: large drawings need more of them to look
    smooth.
    """

    def __init__(
        self, ink: Color, line: float, shading: str = "flat", fuzz: float = 0.0, steps: int = 6
    ) -> None:
        self.ink = ink
        self.line = line
        self.shading = shading
        self.fuzz = fuzz
        self.steps = steps
        self._ops: list[tuple[Points, Color]] = []
        self._group: list[tuple[Points, Color]] | None = None

    @contextmanager
    def group(self) -> Iterator[None]:
        """Parts added inside share one silhouette: ink first, then all fills."""
        if self._group is not None:
            yield
            return
        self._group = []
        try:
            yield
        finally:
            self._ops.extend(self._group)
            self._group = None

    def mark(self) -> int:
        """A place in the drawing order, for `rotate`."""
        return len(self._ops)

    def rotate(self, mark: int, angle: float, pivot: tuple[float, float]) -> None:
        """Rotate every shape added since `mark` by `angle` radians (clockwise on the screen) about
        `pivot`.
        """
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, s], [-s, c]])
        self._ops[mark:] = [((points - pivot) @ turn + pivot, color) for points, color in self._ops[mark:]]

    def raw(self, points: Points, color: Color) -> None:
        """A shape without ink or shading (pupils, stripes, highlights)."""
        (self._ops if self._group is None else self._group).append((points, color))

    def part(
        self, points: Points, color: Color, shade: bool = True, fuzzy: bool = False, line: float = 1.0
    ) -> None:
        """A closed shape with ink and, where `shade`, the canvas's shading (for shapes that are about
        convex).
        """
        if fuzzy and self.fuzz:
            points = self._furred(points)
        if self.line and line:
            self._ops.append((grown(points, self.line * line), self.ink))
        target = self._ops if self._group is None else self._group
        if self.shading == "flat" or not shade:
            target.append((points, color))
        elif self.shading == "cel":
            target.append((points, shaded(color)))
            pivot = points[np.argmax(points @ LIGHT)]
            target.append((pivot + (points - pivot) * 0.84, color))
        else:
            centre = points.mean(axis=0)
            pivot = centre + (points[np.argmax(points @ LIGHT)] - centre) * 0.55
            away = points - pivot
            dark, bright = shaded(color, 0.42), lit(color, 0.3)
            target.append((points, dark))
            for step in range(1, self.steps + 1):
                share = step / self.steps
                # A sphere's brightness falls off slowly at first, then fast towards its edge.
                target.append(
                    (pivot + away * (1.0 - share * share * 0.45 - share * 0.25), mix(dark, bright, share))
                )

    def limb(
        self,
        start: tuple[float, float],
        bend: tuple[float, float],
        end: tuple[float, float],
        width: float,
        color: Color,
        end_width: float | None = None,
        shade: bool = True,
    ) -> None:
        """A hose with ink and shading; see `hose`."""
        if self.line:
            self._ops.append((hose(start, bend, end, width, end_width, self.line), self.ink))
        target = self._ops if self._group is None else self._group
        full = hose(start, bend, end, width, end_width)
        if self.shading == "flat" or not shade:
            target.append((full, color))
            return
        narrow = -0.16 * min(width, end_width if end_width is not None else width)
        shift = np.array(LIGHT) * -narrow * 0.9
        inner = (
            hose(start, bend, end, width, end_width, narrow * (0.6 if self.shading == "cel" else 1.0)) + shift
        )
        if self.shading == "cel":
            target.append((full, shaded(color)))
            target.append((inner, color))
            return
        dark, bright = shaded(color, 0.4), lit(color, 0.25)
        target.append((full, dark))
        for step in range(1, 5):
            half = narrow * (0.5 * step)
            target.append(
                (
                    hose(start, bend, end, width, end_width, half) + shift * (0.35 * step),
                    mix(dark, bright, step / 4),
                )
            )

    def stroke(self, points: list[tuple[float, float]], width: float, color: Color | None = None) -> None:
        """A line through three points (start, bend of the quadratic curve, end), tapering to nothing like
        a pen's.
        """
        a, b, c = points
        self.raw(hose(a, b, c, width, width * 0.6), self.ink if color is None else color)

    def _furred(self, points: Points) -> Points:
        """Spikes along the edge: every second point of a denser polygon is moved outwards."""
        double = np.empty((len(points) * 4, 2))
        after = np.concatenate([points[1:], points[:1]])
        for k in range(4):
            double[k::4] = points + (after - points) * (k / 4)
        spiky = grown(double, self.fuzz)
        double[::2] = spiky[::2]
        return double

    def bounds(self) -> tuple[float, float, float, float]:
        """xyxy of all shapes in canvas units (0, 0, 0, 0 when empty)."""
        if not self._ops:
            return 0.0, 0.0, 0.0, 0.0
        points = np.concatenate([p for p, _ in self._ops])
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def paint(
        self, scale: float, lean: float = 0.0, stretch: tuple[float, float] = (1.0, 1.0), supersample: int = 3
    ) -> tuple[Image.Image, float, float]:
        """Paint everything `scale` pixels per unit: (RGBA image, x and y of the unit origin in its pixels).

        `lean` shifts each point by lean times its height over the origin, `stretch` scales x and y about it
        (squash and stretch). Raising `supersample` smooths edges and costs time with its square.
        """
        counts = [len(p) for p, _ in self._ops]
        points = np.concatenate([p for p, _ in self._ops]) * stretch
        if lean:
            points[:, 0] -= lean * points[:, 1]
        points *= scale * supersample
        low = np.floor(points.min(axis=0) / supersample).astype(int) - 1
        high = np.ceil(points.max(axis=0) / supersample).astype(int) + 2
        points -= low * supersample
        size = (int(high[0] - low[0]) * supersample, int(high[1] - low[1]) * supersample)
        image = Image.new("RGBA", size, (*self.ink, 0))
        pen = ImageDraw.Draw(image)
        flat = points.ravel().tolist()
        at = 0
        for count, (_, color) in zip(counts, self._ops, strict=True):
            pen.polygon(flat[at : at + 2 * count], fill=color)
            at += 2 * count
        if supersample > 1:
            image = image.reduce(supersample)
        return image, float(-low[0]), float(-low[1])
