"""Contact sheets: what a detector found and missed, on the images it was measured with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engines.train.tune.measure import Found
from engines.train.tune.views import Picture
from kernels.boxes import iou
from stream.files import atomic_file

GREEN, BLUE, RED, ORANGE = (40, 200, 60), (50, 110, 255), (235, 40, 40), (255, 150, 0)
_WIDE, _COLUMNS, _MOST = 300, 4, 24  # pixels of a picture, pictures in a row, on a sheet
_HEAD = 22


@dataclass(frozen=True)
class Verdict:
    """Which true boxes of a picture were found (n,) and which of those found are right (m,), bool."""

    true: NDArray[np.bool_]
    found: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """Missed and false boxes."""
        return int((~self.true).sum() + (~self.found).sum())


def judge(picture: Picture, found: Found, overlap: float = 0.5) -> Verdict:
    """Match best score first: a box is right on a true one of its class that nobody has taken yet."""
    taken = np.zeros(len(picture.boxes), bool)
    right = np.zeros(len(found.boxes), bool)
    shared = iou(found.boxes, picture.boxes)
    for i in np.argsort(-found.scores, kind="stable"):
        free = np.where(taken | (picture.classes != found.classes[i]), -1.0, shared[i])
        if len(free) and free.max() >= overlap:
            taken[int(free.argmax())] = right[i] = True
    return Verdict(taken, right)


@dataclass(frozen=True)
class _Tile:
    telling: int  # its errors, or its hits where there are none
    name: str
    image: Image.Image


class Sheets:
    """Collects pictures and keeps the most telling: the worst for one sheet, the best for the other."""

    def __init__(self, class_names: tuple[str, ...], score: float) -> None:
        self.class_names, self.score = class_names, score
        self._worst: list[_Tile] = []
        self._best: list[_Tile] = []

    def add(self, name: str, picture: Picture, found: Found) -> None:
        """Draw a picture if it may come on a sheet; boxes below the score are left out."""
        keep = found.scores >= self.score
        found = Found(found.boxes[keep], found.scores[keep], found.classes[keep])
        verdict = judge(picture, found)
        telling = verdict.errors or int(verdict.true.sum())
        shelf = self._worst if verdict.errors else self._best
        if not telling or (len(shelf) == _MOST and telling <= shelf[-1].telling):
            return
        tile = _Tile(telling, name, _drawn(name, picture, found, verdict, self.class_names))
        shelf.append(tile)
        shelf.sort(key=lambda t: (-t.telling, t.name))
        del shelf[_MOST:]

    def write(self, folder: Path) -> list[Path]:
        """Write ``misses.jpg`` (the worst first) and ``hits.jpg`` (all right), those that have pictures."""
        written = []
        for name, tiles in (("misses.jpg", self._worst), ("hits.jpg", self._best)):
            path = folder / name
            if not tiles:
                path.unlink(missing_ok=True)  # of a former training
                continue
            with atomic_file(path) as out:
                _sheet(tile.image for tile in tiles).save(out, "JPEG", quality=90, subsampling=0)
            written.append(path)
        return written


def _drawn(
    name: str, picture: Picture, found: Found, verdict: Verdict, class_names: tuple[str, ...]
) -> Image.Image:
    source = Image.fromarray(picture.image)
    scale = _WIDE / source.width
    height = min(2 * _WIDE, max(1, round(source.height * scale)))
    scale = min(scale, height / source.height)
    small = source.resize((max(1, round(source.width * scale)), max(1, round(source.height * scale))))
    tile = Image.new("RGB", (_WIDE, height + _HEAD), "white")
    tile.paste(small, (0, _HEAD))
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(11)
    draw.text((3, 4), name[-48:], "black", font)
    shift = np.array([0, _HEAD, 0, _HEAD])
    for box, label, hit in zip(picture.boxes * scale + shift, picture.classes, verdict.true, strict=True):
        draw.rectangle(tuple(box.tolist()), outline=GREEN if hit else ORANGE, width=2)
        if not hit:
            _write(draw, box, f"missed {class_names[label]}", ORANGE, font)
    rows = zip(found.boxes * scale + shift, found.classes, found.scores, verdict.found, strict=True)
    for box, label, score, hit in rows:
        colour = BLUE if hit else RED
        draw.rectangle(tuple(box.tolist()), outline=colour, width=2)
        low = np.array([box[0], box[3] - 16])  # at the bottom: at the top are those missed
        _write(draw, low, f"{class_names[label]} {score:.2f}", colour, font)
    return tile


def _write(
    draw: ImageDraw.ImageDraw,
    box: NDArray[np.floating],
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    at = (float(box[0]) + 2, max(float(_HEAD), float(box[1]) + 1))
    draw.rectangle(draw.textbbox(at, text, font), fill=colour)
    draw.text(at, text, "white", font)


def _sheet(images: Iterable[Image.Image]) -> Image.Image:
    """Pictures in rows under a line that says what the colours mean."""
    tiles = list(images)
    rows = [tiles[i : i + _COLUMNS] for i in range(0, len(tiles), _COLUMNS)]
    gap = 6
    width = min(_COLUMNS, len(tiles)) * (_WIDE + gap) + gap
    height = _HEAD + gap + sum(max(t.height for t in row) + gap for row in rows)
    sheet = Image.new("RGB", (max(width, 420), height), "white")
    draw = ImageDraw.Draw(sheet)
    x = float(gap)
    font = ImageFont.load_default(13)
    for text, colour in (("true", GREEN), ("hit", BLUE), ("false", RED), ("missed", ORANGE)):
        draw.rectangle((x, 6, x + 12, 18), fill=colour)
        draw.text((x + 17, 4), text, "black", font)
        x += 30 + draw.textlength(text, font)
    y = _HEAD + gap
    for row in rows:
        for i, tile in enumerate(row):
            sheet.paste(tile, (gap + i * (_WIDE + gap), y))
        y += max(t.height for t in row) + gap
    return sheet
