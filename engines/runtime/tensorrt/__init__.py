"""TensorRT, for data centres, and TensorRT-RTX, for graphics cards, behind one class.

Both take strongly typed networks: the precision is in the ONNX file (:mod:`engines.runtime.precision`). An
engine is built once per network, precision, shapes, version and GPU, and kept. TensorRT-RTX builds without a
GPU or driver; running needs both.
"""

from engines.runtime.tensorrt.engine import TensorRTEngine
from engines.runtime.tensorrt.flavour import Flavour, choose_flavour
from engines.runtime.tensorrt.plans import PlanError, get_plan, stale
from engines.runtime.tensorrt.profiles import Profile, default_profiles

__all__ = [
    "Flavour",
    "PlanError",
    "Profile",
    "TensorRTEngine",
    "choose_flavour",
    "default_profiles",
    "get_plan",
    "stale",
]
