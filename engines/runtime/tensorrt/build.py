"""Building a serialized engine (a plan) from an ONNX file."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engines.runtime.base import EngineError, TensorSpec
from engines.runtime.cache import locked
from engines.runtime.devices import Gpu
from engines.runtime.progress import BuildState, OnProgress
from engines.runtime.tensorrt.flavour import Flavour
from engines.runtime.tensorrt.pace import Pace
from engines.runtime.tensorrt.profiles import Profile

_TOLD = 3  # messages that an error repeats
_TELL_EVERY_S = 1.0  # also in the midst of a step, of which TensorRT says nothing


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


def started(make: Callable[[Any], Any], flavour: Flavour, messages: Messages) -> Any:
    """A builder or runtime of TensorRT's.

    Raises:
        EngineError: it does not start, as with a driver older than it needs; only its log says so.
    """
    try:
        return make(messages.logger)
    except (TypeError, RuntimeError) as error:
        raise EngineError(
            f"{flavour} does not start ({messages.last() or error}); update NVIDIA's driver, or use engine"
            " onnx or torch"
        ) from error


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
            measures none. What whole builds took is kept beside it, for both.
        on_progress: told at every step how far it is, and every second.

    Raises:
        EngineError: the parser refuses the file (an unsupported operator, no ONNX file), or the build fails.
    """
    trt = flavour.module
    messages = Messages(trt)
    builder = started(trt.Builder, flavour, messages)
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
    kept = None if flavour.rtx or timings is None else timings
    if kept is not None:
        _load_timings(config, kept)
    pace = None if timings is None else Pace(timings.with_suffix(".json"))
    size = definition.num_layers * len(profiles)
    with Watch(trt, name, on_progress, None if pace is None else pace.expected(size)) as watch:
        config.progress_monitor = watch.monitor
        plan = builder.build_serialized_network(definition, config)
        seconds = watch.elapsed_s
    watch.reraise()
    if plan is None:
        raise EngineError(
            f"{name}: {flavour} could not build an engine: {messages.last() or 'no reason given'}"
        )
    if kept is not None:
        _save_timings(config, kept)
    if pace is not None:
        pace.note(size, seconds)
    if on_progress is not None:
        on_progress(BuildState(name, "", seconds, done=True))
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
    """Tells where one build is: at its every step, and every second, while it is entered.

    An exception in ``tell`` (Ctrl-C among them) stops the build at its next step, and :meth:`reraise` raises
    it afterwards: none may pass through TensorRT.

    Args:
        expected_s: what the build will take, about, where that is known.
    """

    def __init__(self, trt: Any, name: str, tell: OnProgress | None, expected_s: float | None = None) -> None:
        self._name, self._tell, self._expected_s = name, tell, expected_s
        self._began = time.monotonic()
        self._phases: dict[str, tuple[int, int]] = {}  # that are running: steps done, and of how many
        self._between = "preparing"  # what it does while no phase is running
        self._error: BaseException | None = None
        self._lock = threading.Lock()  # TensorRT's threads and the clock's tell the same
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        watch = self

        class Monitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
                watch._phases[phase] = (0, steps)
                watch._between = "finishing"
                watch._say()

            def step_complete(self, phase: str, step: int) -> bool:
                _, steps = watch._phases.get(phase, (0, step + 1))
                watch._phases[phase] = (min(step + 1, steps), steps)
                return watch._say()

            def phase_finish(self, phase: str) -> None:
                watch._phases.pop(phase, None)

        self.monitor = Monitor()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began

    def __enter__(self) -> Watch:
        if self._tell is not None:
            self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._clock.is_alive():
            self._clock.join()

    def _tick(self) -> None:
        while not self._over.wait(_TELL_EVERY_S):
            self._say()

    def _say(self) -> bool:
        """Tell the phase that began last of those that are running; whether the build shall go on."""
        try:
            with self._lock:
                if self._tell is not None and self._error is None:
                    running = list(self._phases.items())
                    phase, (done, steps) = running[-1] if running else (self._between, (0, 1))
                    counted = (done, steps) if steps > 1 else None
                    self._tell(BuildState(self._name, phase, self.elapsed_s, self._expected_s, counted))
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
