"""Building a serialized engine (a plan) from an ONNX file."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.runtime.base import EngineError, TensorSpec
from engines.runtime.cache import locked
from engines.runtime.devices import Gpu
from engines.runtime.progress import BuildState, OnProgress
from engines.runtime.tensorrt.flavour import Flavour
from engines.runtime.tensorrt.profiles import Profile

_TOLD = 3  # messages that an error repeats


class Messages:
    """What TensorRT says: kept, not printed. ``logger`` is what it is given."""

    def __init__(self, trt: Any) -> None:
        errors: list[str] = []

        class Logger(trt.ILogger):
            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.ERROR:
                    errors.append(" ".join(message.split()))

        self.logger = Logger()
        self._errors = errors

    def last(self) -> str:
        """The last errors in one line, empty where there were none."""
        return "; ".join(dict.fromkeys(self._errors[-_TOLD:]))[:600]


def build_plan(
    flavour: Flavour,
    network: Path,
    profiles: Sequence[Profile],
    inputs: Sequence[TensorSpec],
    *,
    name: str,
    gpu: Gpu | None = None,
    timings: Path | None = None,
    on_progress: OnProgress | None = None,
) -> bytes:
    """Parse ``network``, an ONNX file in the precision that the engine shall have, and build its plan.

    Args:
        profiles: shapes that it shall run at; more of them take longer.
        inputs: of the network, their free axes None.
        name: of the network, for messages.
        gpu: TensorRT-RTX: build for this one alone, in place of all from Ampere on.
        timings: file that measured kernel times are kept in, which makes the next build faster. TensorRT-RTX
            measures none.
        on_progress: told often how far it is.

    Raises:
        EngineError: the parser refuses the file (an unsupported operator, no ONNX file), or the build fails.
    """
    trt = flavour.module
    messages = Messages(trt)
    builder = trt.Builder(messages.logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    definition = builder.create_network(flags)
    parser = trt.OnnxParser(definition, messages.logger)
    if not parser.parse_from_file(str(network)):
        raise EngineError(f"{name}: {flavour} cannot take this network: {_refused(parser, messages)}")
    config = builder.create_builder_config()
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        for spec in inputs:
            shapes.set_shape(spec.name, *profile.shapes(spec))
        if config.add_optimization_profile(shapes) < 0:
            raise EngineError(f"{name}: {flavour} refuses the shapes {profile}: {messages.last()}")
    if flavour.rtx and gpu is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
    watch = Watch(trt, name, on_progress)
    config.progress_monitor = watch.monitor
    kept = None if flavour.rtx or timings is None else timings
    if kept is not None:
        _load_timings(config, kept)
    began = time.monotonic()
    plan = builder.build_serialized_network(definition, config)
    watch.reraise()
    if plan is None:
        raise EngineError(
            f"{name}: {flavour} could not build an engine: {messages.last() or 'no reason given'}"
        )
    if kept is not None:
        _save_timings(config, kept)
    if on_progress is not None:
        on_progress(BuildState(name, "", 1.0, time.monotonic() - began, 0.0, done=True))
    return bytes(plan)


def _refused(parser: Any, messages: Messages) -> str:
    """Why the parser refuses a file: the nodes and what is wrong with them."""
    reasons = []
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        node = f"{error.node_operator()} {error.node_name()!r}: " if error.node_operator() else ""
        reasons.append(node + " ".join(error.desc().split()))
    return "; ".join(dict.fromkeys(reasons[:_TOLD])) or messages.last() or "no reason given"


class Watch:
    """Progress of one build: phases in phases, each of so many steps, as shares of the whole.

    An exception in ``tell`` (Ctrl-C among them) stops the build, and :meth:`reraise` raises it afterwards:
    none may pass through TensorRT.
    """

    def __init__(self, trt: Any, name: str, tell: OnProgress | None) -> None:
        self._name, self._tell = name, tell
        self._began = time.monotonic()
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done
        self._best = 0.0
        self._error: BaseException | None = None
        watch = self

        class Monitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
                watch._phases[phase] = (parent, max(1, steps), 0)
                watch._say(phase)

            def step_complete(self, phase: str, step: int) -> bool:
                parent, steps, _ = watch._phases.get(phase, (None, step + 1, 0))
                watch._phases[phase] = (parent, steps, min(step + 1, steps))
                return watch._say(phase)

            def phase_finish(self, phase: str) -> None:
                watch._phases.pop(phase, None)

        self.monitor = Monitor()

    def _share(self, phase: str) -> float:
        """Share of a phase that is done, with that of the furthest phase inside its running step."""
        _, steps, done = self._phases[phase]
        inside = [self._share(other) for other, about in list(self._phases.items()) if about[0] == phase]
        return min(1.0, (done + max(inside, default=0.0)) / steps)

    def _say(self, phase: str) -> bool:
        try:
            if self._tell is not None and self._error is None:
                roots = [name for name, about in list(self._phases.items()) if about[0] is None]
                # a step counts when it is over: what went on inside it is gone by then, so never go back
                self._best = max([self._best, *(self._share(root) for root in roots)])
                elapsed = time.monotonic() - self._began
                left = elapsed * (1 - self._best) / self._best if self._best > 0.05 else None
                self._tell(BuildState(self._name, phase, self._best, elapsed, left))
        except BaseException as error:
            self._error = error
        return self._error is None

    def reraise(self) -> None:
        """Raise what stopped the build, if anything did."""
        if self._error is not None:
            raise self._error


def _load_timings(config: Any, path: Path) -> None:
    known = path.read_bytes() if path.is_file() else b""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timings = config.create_timing_cache(known) or config.create_timing_cache(b"")  # a damaged file
        config.set_timing_cache(timings, False)


def _save_timings(config: Any, path: Path) -> None:
    """Add this build's timings to those that other processes wrote meanwhile."""
    with locked(path.with_name(path.name + ".lock"), None):
        timings = config.get_timing_cache()
        others = config.create_timing_cache(path.read_bytes()) if path.is_file() else None
        if others:
            timings.combine(others, True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(bytes(timings.serialize()))
        part.replace(path)
