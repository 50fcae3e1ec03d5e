"""Turning crops into vectors."""

from __future__ import annotations

import dataclasses

import numpy as np

from engines.runtime import Fallback
from kernels.device import namespace_of, on_device, own_stream, to_host
from kernels.image import normalize, resize, resize_boxes
from stream.batches import Array, CropBatch
from stream.config import EmbedderConfig
from stream.errors import ModelError
from stream.networks import Network

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_FREE_SIZE = (224, 224)  # a network that leaves its size free and does not say what it was trained at


class Embedder:
    """The station that gives each crop its embedding.

    Any network (N, 3, H, W) -> (N, D) or (N, D, 1, 1), or 'gist', which is computed. Its input is RGB in 0..1
    less ``mean``, over ``std`` (metadata of the file, ImageNet's where it has none). With ``mirror`` the
    embedding of the mirrored crop is added; the sum is L2-normalized.

    Crops on a GPU stay there, and so do the embeddings until they are done; then they come to the host in one
    copy, and the station returns.

    Attributes:
        name: 'embed'.
        input_size: side of the square crops it takes, in pixels.
        dim: D.
    """

    name = "embed"

    def __init__(
        self, config: EmbedderConfig, *, device: str = "auto", threads: int = 0, engine: str = "auto"
    ) -> None:
        """Load ``config.model``, run it once to see what it puts out.

        Raises:
            ModelError: it is no embedder.
            ConfigError: ``device`` cannot be had.
            DependencyError: no runtime is installed.
        """
        self.config = config
        self._network = Network(
            config.model,
            "embedder",
            device=device,
            threads=threads,
            engine=engine,
            precision=config.precision,
        )
        height, width = self._network.image_size() or _FREE_SIZE
        self._height = self._network.height or height
        self._width = self._network.width or width
        self.input_size = max(self._height, self._width)
        self._mul, self._add = self._network.scaling(IMAGENET_MEAN, IMAGENET_STD)
        trial = np.zeros((1, 3, self._height, self._width), np.float32)
        outputs = self._network.tried(trial)
        fitting = [
            (name, value.shape[1])
            for name, value in outputs.items()
            if value.dtype.kind == "f"
            and value.shape[:1] == (1,)
            and (value.ndim == 2 or (value.ndim == 4 and value.shape[2:] == (1, 1)))
        ]
        if not fitting:
            shapes = ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in outputs.items())
            raise ModelError(
                f"{self._network.file.path}: expected an embedder, whose output for one image is (1, D) or"
                f" (1, D, 1, 1); found {shapes}"
            )
        self._output, self.dim = fitting[0]

    @property
    def model_hash(self) -> str:
        """sha256 of the network's file."""
        return self._network.file.sha256

    @property
    def device(self) -> str:
        """Where the network runs: 'cpu' or 'cuda'."""
        return self._network.engine.device

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """What was wanted of the device and could not be had, with the reason."""
        return self._network.engine.fallbacks

    @property
    def description(self) -> str:
        """The file, its sizes, and what runs it, for people."""
        mirror = ", with mirror" if self.config.mirror else ""
        return (
            f"{self._network} ({self._width}x{self._height} -> {self.dim}{mirror}) on"
            f" {self._network.engine.description}"
        )

    def __call__(self, batch: CropBatch) -> CropBatch:
        """The batch with ``embeddings``, (M, D) float32 of length 1.

        Crops on a GPU are let go: batches are kept until their segment is written, and nobody looks at their
        pixels any more. ``images`` is (M, 0, 0, 3) then.

        Raises:
            ModelError: the network fails, or puts out numbers that are not finite.
        """
        images = batch.images
        if on_device(images):
            images = np.empty((len(batch), 0, 0, 3), np.uint8)
        return dataclasses.replace(batch, images=images, embeddings=self.vectors(batch.images))

    def vectors(self, squares: Array) -> Array:
        """Square crops (M, S, S, 3) uint8 of side ``input_size`` -> (M, D) float32 of length 1, on the host.

        Raises:
            ModelError: as for calling it.
        """
        side = squares.shape[1]
        if len(squares) and side != self.input_size:
            raise ValueError(f"Embedder: expected crops of side {self.input_size}, got {side}")
        with own_stream(self.name, squares):
            return self._vectors(squares)

    def _vectors(self, squares: Array) -> Array:
        parts: list[Array] = []
        embeddings: Array | None = None
        step = self._network.batch or self.config.batch_size
        for start in range(0, len(squares), step):
            images = self._fitted(squares[start : start + step])
            vectors = self._embed(images, mirror=False)
            if self.config.mirror:
                vectors = vectors + self._embed(images, mirror=True)
            parts.append(vectors)
        total = namespace_of(parts[0]).concatenate(parts) if parts else np.empty((0, self.dim), np.float32)
        if on_device(total):  # a number that is not finite makes the embedding so, which shows as well
            embeddings = total = to_host(_of_length_one(total), "embeddings")
        if not np.isfinite(total).all():
            raise self._network.not_finite(f"output {self._output!r} has", "for these crops")
        return embeddings if embeddings is not None else _of_length_one(total)

    def _fitted(self, images: Array) -> Array:
        """Square crops in the network's shape, where that is no square."""
        if images.shape[1:3] == (self._height, self._width):
            return images
        whole = (0.0, 0.0, float(images.shape[2]), float(images.shape[1]))
        if on_device(images):
            n, height, width = len(images), self._height, self._width
            sizes = np.array([(height, width)] * n)
            return resize_boxes(images, range(n), [whole] * n, sizes).reshape(n, height, width, 3)
        return np.stack([resize(image, whole, self._height, self._width) for image in images])

    def _embed(self, images: Array, *, mirror: bool) -> Array:
        dtype = self._network.dtype_for(images)
        inputs = normalize(images, mul=self._mul, add=self._add, mirror=mirror, dtype=dtype)
        return self._network.run(self._network.placed(inputs))[self._output].reshape(len(images), -1)

    def close(self) -> None:
        """Free the network."""
        self._network.close()


def _of_length_one(total: Array) -> Array:
    """(M, D) float32, on the host or a GPU."""
    xp = namespace_of(total)
    length = xp.linalg.norm(total.astype(np.float64), axis=1, keepdims=True)
    return (total / xp.maximum(length, 1e-12)).astype(np.float32)
