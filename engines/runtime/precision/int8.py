"""int8 by calibration: the network runs over pictures, and what its layers are given sets their scales.

The file gets QuantizeLinear and DequantizeLinear pairs, symmetric, weights per channel, biases left alone:
the form that TensorRT takes, and that ONNX Runtime runs on the CPU as well.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.runtime.base import EngineError, MissingRuntimeError
from engines.runtime.fixed import in_batches, pictures_at_once
from engines.runtime.precision.graph import import_onnx, last_layers, load_model, one_line, opset, tail

_LAYERS = ("Conv", "Gemm", "MatMul")
_OPSET = 21  # so that the rest may be float16


def quantize(path: Path, pictures: Iterable[Mapping[str, np.ndarray]]) -> Any:
    """The network with its convolutions and matrix products in int8; the rest stays float32.

    The first convolution, which sees the pixels, and the layers that boxes and scores come out of stay as
    they are, and so does what follows those: they cost little, and their error would be the result's.

    Args:
        path: an ONNX file in float32.
        pictures: inputs by name, (n, 3, H, W) with any n each: they are put together as the network takes
            them. More of them, and as varied as what it will see, make better scales; a hundred or so are
            enough.

    Returns:
        The quantized model (onnx.ModelProto), with the metadata of the file.

    Raises:
        MissingRuntimeError: onnx or onnxruntime is not installed.
        EngineError: no ONNX file, nothing to quantize, no pictures, or ones that do not fit.
    """
    onnx = import_onnx()
    try:
        from onnxruntime import quantization
    except ImportError as error:
        raise MissingRuntimeError(
            f"calibrating int8 needs ONNX Runtime, not installed here ({error}); pip install 'celstream[cpu]'"
        ) from error
    model = load_model(path)
    layers = [node.name for node in model.graph.node if node.op_type in _LAYERS]
    if not layers:
        raise EngineError(f"{path}: int8: expected a network with convolutions, found none")
    metadata = list(model.metadata_props)
    left = last_layers(model, tail(model)) | {layers[0]} if len(layers) > 2 else set()
    feed = _fed(path, model, pictures)
    first = next(feed, None)
    if first is None:
        raise EngineError(f"{path}: int8: expected pictures to calibrate with, got none")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        try:
            if opset(model) < _OPSET:
                model = onnx.version_converter.convert_version(model, _OPSET)
            onnx.save_model(model, str(source))
            quantization.quantize_static(
                str(source),
                str(target),
                _reader(quantization, first, feed),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_LAYERS),
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=sorted(left),
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                },
            )
            quantized = onnx.load(str(target))
        except EngineError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise EngineError(f"{path}: int8: calibrating failed: {one_line(error)}") from error
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(metadata)
    return quantized


def _fed(
    path: Path, model: Any, pictures: Iterable[Mapping[str, np.ndarray]]
) -> Iterator[Mapping[str, np.ndarray]]:
    """The pictures as the network takes them: in its own batches, where its file fixes them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:  # nothing is known of how they belong together
        yield from pictures
        return
    name, sides = inputs[0].name, inputs[0].type.tensor_type.shape.dim
    size = pictures_at_once([side.dim_value or None for side in sides])

    def arrays() -> Iterator[np.ndarray]:
        for given in pictures:
            if given.keys() != {name}:
                raise EngineError(f"{path}: int8: expected pictures for {name!r}, got {sorted(given)}")
            yield given[name]

    yield from ({name: batch} for batch, _ in in_batches(arrays(), size))


def _reader(quantization: Any, first: Mapping[str, np.ndarray], rest: Iterator[Mapping[str, Any]]) -> Any:
    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.waiting: Mapping[str, Any] | None = first

        def get_next(self) -> dict[str, np.ndarray] | None:
            given, self.waiting = self.waiting, None
            given = next(rest, None) if given is None else given
            if given is None:
                return None
            return {name: np.ascontiguousarray(array, np.float32) for name, array in given.items()}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the quantizer logs and prints: it advises steps that do not matter here."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
