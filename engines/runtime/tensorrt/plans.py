"""Plans that are built once: found by what they depend on, and checked before they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.runtime.base import EngineError
from engines.runtime.cache import Cache, Entry, Say
from engines.runtime.devices import Gpu
from engines.runtime.devices import gpu as this_gpu
from engines.runtime.onnxfile import Described, describe
from engines.runtime.precision import AS_IT_IS, Precision, prepare, recalibrated
from engines.runtime.progress import OnProgress
from engines.runtime.tensorrt.build import build_plan
from engines.runtime.tensorrt.flavour import Flavour, choose_flavour
from engines.runtime.tensorrt.profiles import Profile, default_profiles

ANY_GPU = "any GPU from Ampere on"
_FILE = "engine.plan"
_MAKER = 1  # raised when engines are built in another way, so that none of the older ones is used
_PORTABLE_FROM = (8, 0)


class PlanError(EngineError):
    """A plan does not fit this GPU or this version; the message says what it was built for."""


@dataclass(frozen=True)
class Plan:
    """A built engine on the disk: the plan's file, and what is known about it."""

    entry: Entry
    flavour: Flavour
    profiles: tuple[Profile, ...]
    network: Described

    @property
    def path(self) -> Path:
        return self.entry.path / _FILE

    @property
    def about(self) -> Mapping[str, Any]:
        return self.entry.about


def get_plan(
    path: str | Path,
    precision: Precision = "fp16",
    *,
    profiles: Sequence[Profile] | None = None,
    flavour: Flavour | None = None,
    for_this_gpu: bool = False,
    anew: bool = False,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
    say: Say | None = None,
) -> Plan:
    """The engine of an ONNX file, built where there is none yet for this network, GPU and version.

    Works without a GPU where TensorRT-RTX is installed: its plans run on any GPU from Ampere on.

    Args:
        precision: 'fp16' is twice as fast as 'fp32' or more, at an error of a thousandth; 'int8' needs a
            calibration.
        profiles: shapes to build for; None takes :func:`default_profiles`. More and larger ones take longer
            to build, and more device memory.
        flavour: None takes the installed one that serves the GPU.
        for_this_gpu: do not take a TensorRT-RTX plan that runs on others as well.
        anew: build although there is one.
        cache: folder in place of the user's.
        on_progress: told at every step and every second where the build is.
        say: told when another process is building the same.

    Raises:
        MissingRuntimeError: no TensorRT, or no onnx.
        EngineError: no ONNX file, an operator that TensorRT lacks, or a build that failed.
    """
    path = Path(path)
    gpu = this_gpu()
    flavour = flavour or choose_flavour(gpu)
    prepared = prepare(path, precision, rest="fp16", cache=Cache("networks", cache), say=say)
    network = describe(prepared.path)
    shapes = tuple(profiles or default_profiles(network.inputs, network.metadata))
    portable = flavour.rtx and not for_this_gpu and (gpu is None or gpu.capability >= _PORTABLE_FROM)
    target = None if portable else gpu
    key = {
        "model": prepared.model_sha256,
        "precision": prepared.precision,
        "recipe": prepared.recipe,
        "profiles": [asdict(profile) for profile in shapes],
        "flavour": flavour.name,
        "version": flavour.version,
        "device": ANY_GPU if target is None else str(target),
        "maker": _MAKER,
    }
    plans = Cache("engines", cache)
    name = f"{path.name} in {prepared.precision} for {flavour.name}"

    def make(folder: Path) -> dict[str, Any]:
        timings = (
            plans.folder.parent / "timings" / f"{flavour.name}-{flavour.version}-{_file_name(gpu)}.cache"
        )
        timings.parent.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_bytes(
            build_plan(
                flavour,
                prepared.path,
                shapes,
                network.inputs,
                name=name,
                gpu=target,
                timings=timings,
                on_progress=on_progress,
            )
        )
        return {
            "name": path.stem,
            "source": str(path.absolute()),
            "precision": prepared.precision,
            "shapes": [str(profile) for profile in shapes],
            "engine": str(flavour),
            "device": key["device"],
        }

    entry = plans.get(key, make, what=f"the engine of {name}", say=say, anew=anew)
    return Plan(entry, flavour, shapes, network)


def _file_name(gpu: Gpu | None) -> str:
    return "none" if gpu is None else "".join(c if c.isalnum() else "-" for c in str(gpu))


def load_plan(plan: Plan, runtime: Any, messages: Any) -> Any:
    """The engine (ICudaEngine) of a plan.

    Raises:
        PlanError: it does not fit this GPU, driver or version.
    """
    content = plan.path.read_bytes()
    why = _misfit(plan.flavour.module, runtime, content)
    engine = None if why else runtime.deserialize_cuda_engine(content)
    if engine is None:
        about, gpu = plan.about, this_gpu()
        raise PlanError(
            f"{plan.path}: this engine of {about['name']} does not fit: it was built with {about['engine']}"
            f" for {about['device']}, and here is {plan.flavour} on {gpu or 'no GPU'}"
            f" ({why or messages.last() or 'no reason given'}); celstream engines build --anew makes another"
        )
    return engine


def _misfit(trt: Any, runtime: Any, content: bytes) -> str:
    """Why TensorRT-RTX would refuse a plan, told before it tries; empty where it would not, or cannot say."""
    ask = getattr(runtime, "get_engine_validity", None)
    if ask is None:
        return ""
    validity, reasons = ask(content)
    if validity != trt.EngineValidity.INVALID:
        return ""
    known = trt.EngineInvalidityDiagnostics.__members__.items()
    found = [name.lower().replace("_", " ") for name, value in known if int(reasons) & int(value)]
    return ", ".join(found) or "invalid"


def stale(about: Mapping[str, Any], *, cache: Path | None = None) -> str:
    """Why an engine that was kept will not be used here again; empty where it may be.

    Args:
        cache: folder in place of the user's.
    """
    from engines.models import file_sha256
    from engines.runtime.tensorrt.flavour import installed

    key = about.get("key", {})
    source = Path(str(about.get("source", "")))
    if not source.is_file():
        return "its network is gone"
    if file_sha256(source) != key.get("model"):
        return "its network has changed"
    if key.get("maker") != _MAKER:
        return "another version of celstream built it"
    recipe = str(key.get("recipe"))
    if key.get("precision") == "int8" and recipe != AS_IT_IS:
        why = recalibrated(str(key.get("model")), recipe, cache=Cache("networks", cache))
        if why:
            return why
    mine = {flavour.name: flavour.version for flavour in installed()[0]}
    if key.get("flavour") not in mine:
        return f"{key.get('flavour')} is not installed"
    if mine[key["flavour"]] != key.get("version"):
        return f"{key['flavour']} is {mine[key['flavour']]} now"
    gpu = this_gpu()
    if key.get("device") != ANY_GPU and gpu is not None and key.get("device") != str(gpu):
        return f"the GPU here is {gpu}"
    return ""
