"""Opening a network for a station: found by name or path, checked, its errors told as the project's own."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engines.classical import gist
from engines.models import Kind, ModelFile, resolve
from engines.runtime import DeviceError, Engine, EngineError, MissingRuntimeError, open_engine
from kernels.device import on_device, to_device, to_host
from stream.batches import Array
from stream.errors import CelstreamError, ConfigError, DependencyError, ModelError

_recorded: ContextVar[list[Array] | None] = ContextVar("recorded", default=None)


@contextlib.contextmanager
def recording() -> Iterator[list[Array]]:
    """Meanwhile, in this thread, everything that a network is run on is kept in the list that this gives.

    It is how calibration and the comparison of engines get exactly what the stations prepare.
    """
    kept: list[Array] = []
    token = _recorded.set(kept)
    try:
        yield kept
    finally:
        _recorded.reset(token)


def translated(error: EngineError) -> CelstreamError:
    if isinstance(error, MissingRuntimeError):
        return DependencyError(str(error))
    if isinstance(error, DeviceError):
        return ConfigError(str(error))
    return ModelError(str(error))


class Network:
    """An image network: one input (N, 3, H, W) float, or (3, H, W) for one image at a time.

    Attributes:
        file: where it came from, with its sha256.
        engine: what runs it.
        batch: images per call where the file fixes it, else None.
        height, width: input size where the file fixes it, else None.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        device: str,
        threads: int,
        engine: str = "auto",
        precision: str = "auto",
    ) -> None:
        """Find and load a network; the embedder 'gist' is computed and has no file.

        Args:
            device, threads, engine, precision: as for :func:`engines.runtime.open_engine`.

        Raises:
            ModelError: no such model, not ONNX, or its input is no picture; or it cannot be had in
                ``precision``.
            DependencyError: no runtime is installed.
            ConfigError: ``device`` 'cuda' cannot be had.
        """
        try:
            self.file: ModelFile
            self.engine: Engine
            if (name, kind) == (gist.NAME, "embedder"):
                computed = gist.GistEngine(device=device)
                self.file = ModelFile(name, kind, Path(name), computed.sha256, "Apache-2.0")
                self.engine = computed
            else:
                self.file = resolve(name, kind)
                self.engine = open_engine(
                    self.file.path, device=device, threads=threads, engine=engine, precision=precision
                )
        except EngineError as error:
            raise translated(error) from error
        self._takes_device_arrays = find_spec("cupy") is not None  # without it engines take the host's
        inputs = self.engine.inputs
        shape = inputs[0].shape if len(inputs) == 1 else ()
        self._stacked = len(shape) == 4
        if len(shape) == 3:
            shape = (1, *shape)
        if len(shape) != 4 or shape[1] not in (3, None) or inputs[0].dtype not in ("float32", "float16"):
            raise ModelError(
                f"{self.file.path}: expected a network with one input (N, 3, H, W) of float32 or float16,"
                f" found {', '.join(map(str, inputs))}; it is no {kind}"
            )
        self.batch, _, self.height, self.width = shape

    def __str__(self) -> str:
        return self.file.path.name

    @property
    def metadata(self) -> Mapping[str, str]:
        """The ONNX file's own key/value pairs."""
        return self.engine.metadata

    def dtype_for(self, images: Array) -> str:
        """In which type to prepare input from ``images``: on a GPU the network's own, else float32."""
        return self.engine.inputs[0].dtype if on_device(images) else "float32"

    def placed(self, images: Array) -> Array:
        """Input where the network runs: as it is, or copied there once."""
        if self.engine.device == "cpu":
            return to_host(images, "network input")
        return to_device(images) if self._takes_device_arrays else images

    def run(self, images: Array) -> dict[str, Array]:
        """Run on (n, 3, H, W) float32 (or the input's own dtype), ``n`` at most the fixed batch; outputs are
        float32 or integers.

        Arrays on the GPU give arrays on the GPU where the engine runs there. A fixed batch is filled up with
        zeros, and what belongs to them is cut off the outputs.
        """
        kept = _recorded.get()
        if kept is not None:
            kept.append(images.copy())
        n = len(images)
        if self.batch is not None and n < self.batch:
            filled = np.zeros((self.batch, *images.shape[1:]), images.dtype, like=images)
            filled[:n] = images
            images = filled
        try:
            outputs = self.engine.run(**{self.engine.inputs[0].name: images if self._stacked else images[0]})
        except EngineError as error:
            raise translated(error) from error
        for name, value in outputs.items():
            if value.dtype.kind == "f":
                outputs[name] = value = value.astype(np.float32, copy=False)
            if n < len(images) and value.ndim and len(value) == len(images):
                outputs[name] = value[:n]
        return outputs

    def literal(self, key: str) -> Any:
        """A metadata value read as a Python literal (numbers, lists, dicts), None where it is missing.

        Raises:
            ModelError: it is there and is no literal.
        """
        text = self.metadata.get(key)
        if text is None or not text.strip():
            return None
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ModelError(
                f"{self.file.path}: metadata {key!r}: expected a number, list or dict, found {text[:80]!r}"
            ) from error

    def image_size(self) -> tuple[int, int] | None:
        """Height and width of metadata ``imgsz`` ("640" or "[192, 320]"), None where it is missing."""
        value = self.literal("imgsz")
        if value is None:
            return None
        sides = (value, value) if isinstance(value, int) else value
        if isinstance(sides, list | tuple) and len(sides) == 1:
            sides = (sides[0], sides[0])
        if not (
            isinstance(sides, list | tuple)
            and len(sides) == 2
            and all(isinstance(side, int) and 1 <= side <= 16384 for side in sides)
        ):
            raise ModelError(
                f"{self.file.path}: metadata 'imgsz': expected a size or [height, width], found {value!r}"
            )
        return (sides[0], sides[1])

    def scaling(self, default_mean: Any, default_std: Any) -> tuple[Array, Array]:
        """``mul`` and ``add`` (3,) that turn 0..255 into the network's units.

        From metadata ``mean`` and ``std``: lists of three in 0..1 units (RGB), as torchvision writes them.
        """
        values = []
        for key, default in (("mean", default_mean), ("std", default_std)):
            value = self.literal(key)
            array = np.asarray(default if value is None else value, np.float32)
            if array.shape != (3,) or not np.isfinite(array).all() or (key == "std" and (array <= 0).any()):
                raise ModelError(
                    f"{self.file.path}: metadata {key!r}: expected three numbers in 0..1 units,"
                    f" found {value!r}"
                )
            values.append(array)
        mean, std = values
        return np.float32(1 / 255) / std, -mean / std

    def tried(self, black: Array) -> dict[str, Array]:
        """Outputs, on the host, for a black picture (1, 3, H, W) float32.

        Raises:
            ModelError: numbers that are not finite for it and for noise: no frame will do better.
        """
        outputs = {name: to_host(value, "trial") for name, value in self.run(black).items()}
        if not all(_finite(value) for value in outputs.values()):  # a length of 0 is divided by, maybe
            noise = np.random.default_rng(0).random(black.shape, np.float32)
            noisy = {name: to_host(value, "trial") for name, value in self.run(noise).items()}
            self.check_finite(noisy, "for a black picture and for noise")
        return outputs

    def check_finite(self, outputs: dict[str, Array], where: str) -> None:
        """Raise ModelError where an output on the host has infinite numbers or NaN."""
        for name, value in outputs.items():
            if not _finite(value):
                raise self.not_finite(f"output {name!r} has", where)

    def not_finite(self, which: str, where: str) -> ModelError:
        """The error for numbers that are not finite."""
        return ModelError(
            f"{self.file.path}: {which} numbers that are not finite {where}; if it is in float16, export it"
            " in float32, or else look for a division by zero in it"
        )

    def close(self) -> None:
        """Free the network."""
        self.engine.close()


def _finite(value: Array) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())
