"""Comparing engines and precisions with ONNX Runtime on the CPU in float32, on real pictures."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engines.models import resolve
from engines.runtime import Engine, EngineError
from engines.runtime.choose import open_exactly
from engines.runtime.fixed import in_batches, pictures_at_once
from engines.runtime.precision import Precision, calibrate, calibration
from kernels.boxes import iou, nms
from stream.batches import Array
from stream.config import DetectorConfig, EmbedderConfig
from stream.engine_tools.samples import Samples, detector_inputs, embedder_inputs
from stream.errors import ConfigError
from stream.heads import Head, recognize
from stream.networks import Network, translated

Kind = Literal["detector", "embedder"]

# device, engine, precision: what there is to compare, the reference first
CANDIDATES: tuple[tuple[str, str, Precision], ...] = (
    ("cpu", "onnx", "fp32"),
    ("cpu", "onnx", "fp16"),
    ("cpu", "onnx", "int8"),
    ("cpu", "torch", "fp32"),
    ("cuda", "onnx", "fp32"),
    ("cuda", "onnx", "fp16"),
    ("cuda", "torch", "fp32"),
    ("cuda", "torch", "fp16"),
    ("cuda", "tensorrt", "fp32"),
    ("cuda", "tensorrt", "fp16"),
    ("cuda", "tensorrt", "int8"),
)
_SAME_BOX = 0.75  # overlap from which two boxes are one
_TIMED_S = 0.5  # of running, per engine, for its speed


@dataclass(frozen=True)
class Row:
    """One engine beside the reference.

    ``error_max`` and ``error_mean``: of the raw outputs, as a share of the reference's largest value.
    ``cosine_min`` and ``cosine_mean``: of an embedder's vectors, per picture. ``boxes``: of the boxes that a
    detector finds with either, the share that is the same (overlap 0.75 and class). ``per_second``:
    pictures, in batches of ``batch``. ``skipped`` says why there are no figures; ``note`` where int8 scales
    are from.
    """

    network: str
    kind: Kind
    engine: str
    device: str
    precision: str
    description: str = ""
    error_max: float | None = None
    error_mean: float | None = None
    cosine_min: float | None = None
    cosine_mean: float | None = None
    boxes: float | None = None
    per_second: float | None = None
    batch: int = 0
    pictures: int = 0
    note: str = ""
    skipped: str = ""


def compare(
    kind: Kind,
    model: str,
    samples: Samples,
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: int = 1,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Run a network on every engine there is, over the same pictures; the first row is the reference.

    Where the network was not calibrated for int8, half of the pictures calibrate it (for this comparison
    only), and the other half compares.

    Args:
        samples: others than those that the network was calibrated on, if it was: int8 fits what it has seen.
        engines, precisions: only these; empty is all.
        threads: CPU threads per engine. Raising it is faster and less comparable with a busy pipeline.
        on_row: told each row as it comes.

    Raises:
        ModelError: no such model, or the reference cannot run it.
        ConfigError: too few pictures.
    """
    try:
        file = resolve(model, kind)
    except EngineError as error:
        raise translated(error) from error
    if kind == "embedder":
        inputs = embedder_inputs(EmbedderConfig(model=model, mirror=False), samples.crops)
    else:
        inputs = detector_inputs(DetectorConfig(model=model), samples.frames)
    if len(inputs) < 2:
        raise ConfigError(f"engines check: expected at least 2 pictures for {file.name}, found {len(inputs)}")
    calibrating, compared = inputs[::2], inputs[1::2]
    reader = _Reader(kind, model, compared)
    rows: list[Row] = []
    expected: list[dict[str, Array]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for device, engine, precision in CANDIDATES:
            first = not rows
            asked = engine in (engines or (engine,)) and precision in (precisions or (precision,))
            if not (first or asked):
                continue
            row = Row(file.name, kind, engine, device, precision)
            try:
                cache, note = _calibrated(file.path, precision, calibrating, samples.origin, Path(scratch))
                opened = open_exactly(
                    file.path, engine=engine, device=device, precision=precision, threads=threads, cache=cache
                )
            except EngineError as error:
                if first:
                    raise translated(error) from error
                row = dataclasses.replace(row, skipped=str(error))
            else:
                try:
                    found = _outputs(opened, compared)
                    if first:
                        expected = found
                    row = _measured(row, opened, note, expected, found, reader, compared)
                except EngineError as error:
                    if first:
                        raise translated(error) from error
                    row = dataclasses.replace(row, skipped=str(error))
                finally:
                    opened.close()
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def _calibrated(
    path: Path, precision: Precision, pictures: Sequence[Array], origin: str, scratch: Path
) -> tuple[Path | None, str]:
    """The cache to take the network from, and where int8 scales are from: kept ones, or made for now."""
    if precision != "int8":
        return None, ""
    kept = calibration(path)
    if kept is not None:
        return None, f"calibrated on {kept.about['pictures']} other pictures of {kept.about['origin']}"
    from engines.runtime.cache import Cache
    from engines.runtime.onnxfile import describe

    cache = Cache("networks", scratch)
    if calibration(path, cache=cache) is None:
        name = describe(path).inputs[0].name
        calibrate(path, [{name: x} for x in pictures], origin, cache=cache)
    return scratch, f"calibrated for now on {len(pictures)} pictures of {origin}"


def _outputs(engine: Engine, pictures: Sequence[Array]) -> list[dict[str, Array]]:
    """What an engine gives for each picture (1, 3, H, W), also where its batch is fixed or there is none."""
    spec = engine.inputs[0]
    found: list[dict[str, Array]] = []
    for batch, count in in_batches(pictures, pictures_at_once(spec.shape)):
        outputs = engine.run(**{spec.name: batch})
        if batch.ndim == 3 or len(batch) == 1:
            found.append(outputs)
            continue
        found += [
            {name: v[i : i + 1] if len(v) == len(batch) else v for name, v in outputs.items()}
            for i in range(count)
        ]
    return found


def _measured(
    row: Row,
    engine: Engine,
    note: str,
    expected: Sequence[dict[str, Array]],
    found: Sequence[dict[str, Array]],
    reader: _Reader,
    pictures: Sequence[Array],
) -> Row:
    gaps, largest = [], 0.0
    for want, have in zip(expected, found, strict=True):
        for name, value in want.items():
            if value.dtype.kind == "f":
                gaps.append(np.abs(have[name].astype(np.float64) - value).ravel())
                largest = max(largest, float(np.abs(value).max(initial=0)))
    gap = np.concatenate(gaps)
    per_second, batch = _speed(engine, pictures)
    row = dataclasses.replace(
        row,
        description=engine.description,
        error_max=float(gap.max()) / max(largest, 1e-12),
        error_mean=float(gap.mean()) / max(largest, 1e-12),
        per_second=per_second,
        batch=batch,
        pictures=len(pictures),
        note=note,
    )
    if row.kind == "detector":
        return dataclasses.replace(row, boxes=reader.same_boxes(expected, found))
    cosines = [
        float((a * b).sum() / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
        for a, b in ((_vector(want), _vector(have)) for want, have in zip(expected, found, strict=True))
    ]
    return dataclasses.replace(row, cosine_min=min(cosines), cosine_mean=float(np.mean(cosines)))


def _vector(outputs: dict[str, Array]) -> Array:
    """The embedding among an embedder's outputs: the first that is a vector per picture."""
    first = next(v for v in outputs.values() if v.dtype.kind == "f" and v.reshape(len(v), -1).ndim == 2)
    return first.astype(np.float64).ravel()


def _speed(engine: Engine, pictures: Sequence[Array]) -> tuple[float, int]:
    """Pictures a second, and in batches of how many: 32 crops, or 8 frames; on a GPU within its memory."""
    spec = engine.inputs[0]
    alike = [x for x in pictures if x.shape == pictures[0].shape]
    most = 32 if pictures[0].shape[-1] <= 256 else 8
    fixed = pictures_at_once(spec.shape)
    batch = most if fixed is None else max(1, fixed)
    given: Any = np.concatenate([alike[i % len(alike)] for i in range(batch)]).astype(spec.dtype)
    given = given[0] if fixed == 0 else given
    wait: Callable[[], Any] = lambda: None  # noqa: E731
    if engine.device == "cuda":
        import cupy

        given, wait = cupy.asarray(given), cupy.cuda.Device().synchronize
    for _ in range(2 if engine.device == "cpu" else 5):
        engine.run(**{spec.name: given})
    wait()
    began, runs = time.perf_counter(), 0
    while runs < 1 or time.perf_counter() - began < _TIMED_S:
        engine.run(**{spec.name: given})
        runs += 1
        if runs % 50 == 0:
            wait()  # what is only enqueued does not count
    wait()
    return runs * batch / (time.perf_counter() - began), batch


class _Reader:
    """Reads boxes out of a detector's raw outputs; does nothing for an embedder."""

    def __init__(self, kind: Kind, model: str, pictures: Sequence[Array]) -> None:
        self._pictures = pictures
        self._config = DetectorConfig(model=model) if kind == "detector" else DetectorConfig()
        self._head: Head | None = None
        if kind == "detector":
            network = Network(model, "detector", device="cpu", threads=1, engine="onnx", precision="fp32")
            height, width = pictures[0].shape[-2:]
            trial = network.run(np.zeros((1, 3, height, width), np.float32))
            self._head = recognize(network, trial, height, width)
            found = network.literal("score")
            self._score = float(found) if isinstance(found, int | float) else 0.25
            network.close()

    def _boxes(self, outputs: dict[str, Array], picture: Array) -> tuple[Array, Array]:
        """Boxes (K, 4) and classes (K,) that are left after suppression."""
        assert self._head is not None
        plain = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in outputs.items()}
        (found,) = self._head.read(plain, picture.shape[-2], picture.shape[-1], self._score)
        keep = np.arange(len(found.scores))
        if self._head.needs_nms:
            limit = self._config.max_per_frame
            keep = nms(found.boxes, found.scores, found.classes, self._config.iou, limit)
        return found.boxes[keep], found.classes[keep]

    def same_boxes(
        self, expected: Sequence[dict[str, Array]], found: Sequence[dict[str, Array]]
    ) -> float | None:
        """Boxes of both that are one, as a share of those of either; None where neither found any."""
        same = either = 0
        for want, have, picture in zip(expected, found, self._pictures, strict=True):
            (a, a_class), (b, b_class) = self._boxes(want, picture), self._boxes(have, picture)
            pairs = 0
            if len(a) and len(b):
                overlap = iou(a, b) * (a_class[:, None] == b_class[None, :])
                for i in np.argsort(-overlap.max(1), kind="stable"):
                    j = int(overlap[i].argmax())
                    if overlap[i, j] >= _SAME_BOX:
                        pairs += 1
                        overlap[:, j] = 0
            same += pairs
            either += len(a) + len(b) - pairs
        return same / either if either else None
