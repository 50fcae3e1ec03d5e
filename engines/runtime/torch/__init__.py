"""ONNX files on torch. Importing this package needs torch; nothing else in ``engines/runtime`` does."""

from engines.runtime.torch.engine import TorchEngine

__all__ = ["TorchEngine"]
