"""GIST: the spatial envelope of a picture, as an embedder that needs no training and no file.

Source: Oliva and Torralba 2001, "Modeling the shape of the scene", IJCV 42(3). The picture's local contrast
is made even, it passes through Gabor filters of several scales and orientations, and the magnitude of each
response is averaged over the squares of a grid:

- Even contrast: with the logarithm of each channel ``i``, ``g`` a Gaussian low pass and ``h = 1 - g``,
  ``i' = (i * h) / (epsilon + sqrt((i * h)^2 * g))``, the square averaged over the channels.
- Filters, in the frequency domain, for scale ``s`` of centre frequency ``f_s`` and orientation ``t``:
  ``G(f) = exp(-2 pi^2 (sigma_x^2 (f_x' - f_s)^2 + sigma_y^2 f_y'^2))`` with ``f'`` the frequency turned by
  ``-t``. Only one half of the plane passes, so the response is complex and its magnitude has no ripples.
- Neighbours in frequency and in angle meet where each passes half.

Borders are mirrored, so that the frame of a crop is no edge.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from engines.runtime.base import Array, EngineError, Fallback, TensorSpec

Floats = NDArray[np.float32]
NAME = "gist"
VERSION = 1  # raised with every change that changes a number: embeddings of two versions are not compared


@dataclass(frozen=True)
class GistSettings:
    """How to describe a picture.

    Attributes:
        side: of the square picture in pixels. Raising it costs its square.
        orientations: of the filters at each scale, finest first. Raising one tells angles apart more finely,
            with more numbers.
        finest: centre frequency of the first scale, cycles per pixel (below .5).
        ratio: of a scale's frequency to the next one's. Raising it reaches coarser shapes.
        grid: squares along a side. Raising it says more exactly where something is, and shift tells more.
        colour: a description of each channel in place of one of their mean, as the paper has it; three times
            the numbers and time.
        cutoff: of the low pass of the local contrast, cycles per picture: as far below the coarsest filter as
            in the paper. Raising it leaves finer shapes.
        epsilon: contrast that is not made larger. Raising it leaves faint lines faint.
        border: pixels mirrored at each side.
    """

    side: int = 64
    orientations: tuple[int, ...] = (8, 8, 8, 8)
    finest: float = 0.3
    ratio: float = 1.85
    grid: int = 4
    colour: bool = False
    cutoff: float = 1.0
    epsilon: float = 0.2
    border: int = 16

    def __post_init__(self) -> None:
        if self.side % self.grid or self.side < 4 * self.grid:
            raise ValueError(f"GistSettings: expected a side of {self.grid} equal parts, got {self.side}")
        if not 0 < self.finest < 0.5 or self.ratio <= 1 or not self.orientations:
            raise ValueError("GistSettings: expected finest in 0..0.5, ratio above 1, and a scale at least")
        if not 0 <= self.border < self.side:
            raise ValueError(f"GistSettings: expected a border below the side, got {self.border}")

    @property
    def dimensions(self) -> int:
        """D: channels x filters x squares."""
        return (3 if self.colour else 1) * sum(self.orientations) * self.grid**2


def gabor_bank(settings: GistSettings) -> Floats:
    """(F, P, P) transfer functions over the frequencies of ``np.fft.fft2``, F scale by scale, 0..1.

    Orientation ``t`` of a scale passes waves that run along ``pi t / orientations`` from the x axis, y down;
    P is the side with its borders.
    """
    size = settings.side + 2 * settings.border
    axis = np.fft.fftfreq(size)
    fy, fx = np.meshgrid(axis, axis, indexing="ij")
    half = math.sqrt(math.log(2) / (2 * math.pi**2))  # sigma times the distance at which half passes
    filters = []
    for scale, count in enumerate(settings.orientations):
        centre = settings.finest / settings.ratio**scale
        along = half / (centre * (settings.ratio - 1) / (settings.ratio + 1))
        across = half / (centre * math.tan(math.pi / (2 * count)) if count > 1 else centre)
        for turn in range(count):
            angle = math.pi * turn / count
            x = fx * math.cos(angle) + fy * math.sin(angle)
            y = fy * math.cos(angle) - fx * math.sin(angle)
            filters.append(np.exp(-2 * math.pi**2 * (along**2 * (x - centre) ** 2 + across**2 * y**2)))
            filters[-1][0, 0] = 0.0  # brightness itself is no structure
    return np.stack(filters).astype(np.float32)


class Gist:
    """Describes pictures: float32 RGB in 0..1 (N, 3, side, side) -> (N, D) float32, not negative."""

    def __init__(self, settings: GistSettings | None = None) -> None:
        self.settings = settings or GistSettings()
        s = self.settings
        self._filters = gabor_bank(s)
        axis = np.fft.fftfreq(s.side + 2 * s.border)
        # The Gaussian passes half of the amplitude at the cutoff.
        cutoff = s.cutoff / s.side
        square = (axis[:, None] ** 2 + axis[None] ** 2) / cutoff**2
        self._low = np.exp(-math.log(2) * square).astype(np.float32)

    def __call__(self, images: Array) -> Floats:
        """Describe a batch; each picture by itself, so that the batch's size changes no number.

        Raises:
            ValueError: another shape than (N, 3, side, side).
        """
        s = self.settings
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != (3, s.side, s.side):
            raise ValueError(f"Gist: expected (N, 3, {s.side}, {s.side}), got {images.shape}")
        out = np.empty((len(images), s.dimensions), np.float32)
        for row, image in zip(out, images, strict=True):
            row[:] = self._describe(image)
        return out

    def even(self, image: Floats) -> Floats:
        """(C, side, side) 0..1 -> (C, P, P) of even local contrast, borders mirrored."""
        s = self.settings
        wide = np.pad(image, ((0, 0), (s.border, s.border), (s.border, s.border)), mode="symmetric")
        tones = np.log1p(255.0 * np.clip(wide, 0, 1)).astype(np.float32)
        detail = tones - self._smooth(tones)
        power = self._smooth((detail**2).mean(0, keepdims=True))
        even: Floats = detail / (s.epsilon + np.sqrt(np.maximum(power, 0)))
        return even

    def _smooth(self, maps: Floats) -> Floats:
        smooth: Floats = np.fft.ifft2(np.fft.fft2(maps) * self._low).real.astype(np.float32)
        return smooth

    def _describe(self, image: Floats) -> Floats:
        """(3, side, side) -> (D,): channel, scale, orientation, row and column of the grid, last fastest."""
        s = self.settings
        channels = image if s.colour else image.mean(0, keepdims=True)
        inner = slice(s.border, s.border + s.side)
        cell = s.side // s.grid
        parts = []
        for spectrum in np.fft.fft2(self.even(channels)):
            response = np.abs(np.fft.ifft2(spectrum * self._filters))[:, inner, inner]
            squares = response.reshape(len(response), s.grid, cell, s.grid, cell)
            parts.append(squares.mean((2, 4), dtype=np.float64).ravel())
        return np.concatenate(parts).astype(np.float32)


class GistEngine:
    """GIST where a network is expected: an ``Engine`` without a file. ``sha256`` stands for its settings."""

    def __init__(self, settings: GistSettings | None = None, *, device: str = "auto") -> None:
        self._gist = Gist(settings)
        s = self._gist.settings
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("images", "float32", (None, 3, s.side, s.side)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("embedding", "float32", (None, s.dimensions)),)
        self.metadata = {"imgsz": str([s.side, s.side]), "mean": "[0, 0, 0]", "std": "[1, 1, 1]"}
        self.description = f"NumPy {np.__version__}"
        self.device = "cpu"
        wanted = (Fallback("gist on cuda", "NumPy on the CPU", "GIST has no GPU version"),)
        self.fallbacks: tuple[Fallback, ...] = wanted if device == "cuda" else ()
        text = json.dumps({"name": NAME, "version": VERSION, **asdict(s)}, sort_keys=True)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def run(self, **arrays: Array) -> dict[str, Array]:
        """``images`` (N, 3, side, side) RGB in 0..1 -> ``embedding`` (N, D)."""
        if set(arrays) != {"images"}:
            raise EngineError(f"gist: expected the input 'images', got {', '.join(arrays) or 'none'}")
        return {"embedding": self._gist(arrays["images"])}

    def close(self) -> None:
        """Nothing to free."""
