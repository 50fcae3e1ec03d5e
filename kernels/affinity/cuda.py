"""Affinity propagation on an NVIDIA GPU: one fused pass over memory per iteration (``affinity.cu``).

A block of threads takes one row at a time. From the row's responsibilities, its old availabilities and the
column sums of the last pass follow the new availabilities; their two largest sums with the similarities give
the new responsibilities, whose positive parts feed the next column sums. Responsibilities are not stored: off
the diagonal they are a multiple of the similarities less one number per row, but for a few entries per row
(see ``affinity.cu``).

Bytes per iteration, T the size of the messages' type, S that of the similarity's:

- device memory: (S + 2 T) N^2; 12 N^2 in float32, 10 N^2 where the similarity is held in float16. The
  equations as they stand, fused, take 20 N^2. A run that goes on from given responsibilities reads these too
  (T N^2 more) until their weight, damping^n, is below rounding.
- a row is needed twice: for the availabilities, and, when its maximum is known, for the column sums. What
  fits is kept in shared memory (a row of N = 50,000 in float32 is 200 kB of the 227 kB of an H100 or H200);
  the rest of a longer row is read again, from the L2 as a rule. Short rows share a multiprocessor, so that
  one row's arithmetic hides behind another one's loads; where only one fits, the beginning of the next is
  fetched into the L2 meanwhile.
- the L2 also serves the column vector (T N^2) and the column sums of each block, which are touched only
  where a responsibility is positive (0.2 to 1.5 % of the pairs of clustered embeddings).

Column sums are added in an order that depends on the device but not on the run: the same input on the same
kind of device gives the same result. Memory above the similarity: T N^2 + O(N x multiprocessors), and T N^2
more where the messages are given out. So N = 100,000 in float32 takes 80 GB (120 GB with the messages given
out) and fits an H200; in float16 it takes 60 GB, and the exemplars are those of the rounded similarities.

The host looks at the exemplars only where :class:`kernels.affinity.watch.Watch` could act on them: every
third iteration while they change in new ways.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.affinity._device import Array, Matrix, Solution
from kernels.affinity._device_strength import map_on_device
from kernels.affinity._gpu import NAMES, CupyDevice, Device, plan
from kernels.affinity.contract import AffinityResult, Messages
from kernels.affinity.runs import cuda_runs
from kernels.affinity.search import SearchResult, check_map, check_range, search_or_default
from kernels.affinity.strength import StrengthMap
from kernels.affinity.watch import Watch

MAX_BATCH = 16  # iterations between two looks at most
_LONGEST = 1 << 30  # vectors are counted in 32 bits
_WIDTH = 16  # entries of a list to begin with


class _Passes:
    """The messages between two passes, on the device."""

    def __init__(self, device: Device, matrix: Matrix, floor: float) -> None:
        xp, n, dtype = device.xp, matrix.n, matrix.dtype
        self.device, self.matrix, self.xp = device, matrix, xp
        self.number = dtype.type
        self.kernel = NAMES[str(matrix.s.dtype)]
        self.sums_kernel = "sums_" + NAMES[str(dtype)]
        self.floor = self.number(floor)
        self.width = _WIDTH
        self.plan = plan(device, n, dtype, matrix.s.dtype, self.width)
        lane = 16 // dtype.itemsize
        self.stride = -(-n // lane) * lane
        self.a: Array = None
        self.partial = xp.zeros((self.plan.blocks, n), dtype)
        self.column = xp.zeros((lane, self.stride), dtype)
        self.own, self.others, self.own_availability = (xp.zeros(n, dtype) for _ in range(3))
        self.shift = xp.zeros(n, np.float64)
        self.used = xp.zeros(n, np.int32)
        self.where = xp.zeros((n, self.width), np.int32)
        self.extra = xp.zeros((n, self.width), dtype)
        # the longest list (int32) and, behind it, the flags of a batch of iterations: one copy to the host
        self.news = xp.zeros(4 + MAX_BATCH * n, np.uint8)
        self.most = self.news[:4].view(np.int32)
        self.longest = 0

    def begin(self, availability: Array, responsibility: Array | None) -> None:
        """Start from given messages; the availabilities are written over, the responsibilities read."""
        n = self.matrix.n
        self.a, self.r0 = availability, responsibility
        for vector in (self.own, self.others, self.column, self.shift, self.used):
            vector.fill(0)
        self.scale = self.weight = 0.0
        self.longest = 0
        self.keep = 1.0  # the first pass takes the availabilities as they are
        diagonal = slice(None, None, n + 1)
        self.own_availability[...] = self.a.ravel()[diagonal]
        if responsibility is not None:
            self.weight = 1.0
            self.own[...] = responsibility.ravel()[diagonal]

    def restart(self) -> None:
        """Forget all messages."""
        self.a.fill(0)
        self.begin(self.a, None)

    def _widen(self) -> None:
        """Twice the room for the lists."""
        pad = ((0, 0), (0, self.width))
        self.where, self.extra = self.xp.pad(self.where, pad), self.xp.pad(self.extra, pad)
        self.width *= 2
        plans = plan(self.device, self.matrix.n, self.matrix.dtype, self.matrix.s.dtype, self.width)
        if plans.blocks != self.plan.blocks:
            self.partial = self.xp.zeros((plans.blocks, self.matrix.n), self.matrix.dtype)
        self.plan = plans

    @property
    def _given(self) -> Any:
        return np.uint64(0) if self.r0 is None else self.r0  # a null pointer

    def iterate(self, count: int, damping: float, preference: Array) -> NDArray[np.bool_]:
        """So many iterations; the (count, N) flags a(k,k) + r(k,k) > 0 after each."""
        n = self.matrix.n
        while self.longest + count > self.width:  # a pass adds at most one entry to a row
            self._widen()
        self.most.fill(0)
        for step in range(count):
            self._one(damping, preference, self.news[4 + step * n : 4 + (step + 1) * n])
        news = self.device.to_host(self.news[: 4 + count * n])
        self.longest = int(news[:4].view(np.int32)[0])
        flags: NDArray[np.bool_] = news[4:].reshape(count, n).view(np.bool_)
        return flags

    def _one(self, damping: float, preference: Array, flags: Array) -> None:
        number, whole, n = self.number, np.int32, self.matrix.n
        weight = damping * self.weight
        if weight < float(np.finfo(number).eps) / 8:
            weight = 0.0
        scale = damping * self.scale + (1 - damping)
        self.device.launch(
            "pass_" + self.kernel, self.plan.blocks, (self.plan.threads, 1), self.plan.shared,
            (
                self.matrix.s, self.a, self._given, preference, self.column, self.others, self.own,
                self.shift, self.where, self.extra, self.used, self.partial, self.most, whole(n),
                whole(self.stride), whole(self.width), whole(self.plan.held), self.floor,
                number(self.keep), number(damping), number(self.scale), number(scale), number(self.weight),
                number(weight),
            ),
        )  # fmt: skip
        self.device.launch(
            self.sums_kernel, -(-n // 32), (32, 8), 0,
            (
                self.partial, self.own, self.others, self.column, self.own_availability, flags,
                whole(self.plan.blocks), whole(n), whole(self.stride), number(damping),
            ),
        )  # fmt: skip
        self.keep, self.scale, self.weight = damping, scale, weight
        if weight == 0:
            self.r0 = None

    def messages(self) -> Messages:
        """Both messages of the last iteration written out; the passes can go on from them only by `begin`."""
        number, whole, n = self.number, np.int32, self.matrix.n
        r = self.xp.empty((n, n), self.matrix.dtype)
        self.device.launch(
            "write_" + self.kernel, min(n, 8 * self.device.processors), (256, 1),
            2 * self.width * self.matrix.dtype.itemsize,
            (
                self.matrix.s, self.a, r, self._given, self.column, self.others, self.own, self.shift,
                self.where, self.extra, self.used, whole(n), whole(self.width), self.floor, number(self.keep),
                number(self.scale), number(self.weight),
            ),
        )  # fmt: skip
        return Messages(r, self.a)


class Solver:
    """Affinity propagation over one similarity on a GPU, at one preference after the other.

    The similarity is brought to the device and checked once; a run can go on from the last one's messages.

    Args:
        similarity: as for :func:`affinity_propagation`.
        seed: of the perturbation.
        device: what runs the kernels; None: the current CUDA device.

    Raises:
        RuntimeError: no CuPy, driver or device.
        ValueError, TypeError: what the similarity is refused for.
    """

    def __init__(self, similarity: ArrayLike | Array, *, seed: int = 0, device: Device | None = None) -> None:
        self.device = device or CupyDevice()
        self.seed = seed
        self.matrix = Matrix(similarity, self.device.xp, self.device.to_host)
        if self.matrix.n > _LONGEST:
            raise ValueError(f"similarity: expected at most {_LONGEST} points, got {self.matrix.n}")
        self.matrix.s = self._aligned(self.matrix.s)
        self._passes: _Passes | None = None

    def __enter__(self) -> Solver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the messages."""
        self._passes = None

    def _aligned(self, array: Array) -> Array:
        """C-ordered and beginning at a multiple of 16 bytes, as the kernels load it."""
        array = self.xp.ascontiguousarray(array)
        pointer = array.data.ptr if hasattr(array.data, "ptr") else array.ctypes.data
        return array if pointer % 16 == 0 else array.copy()

    @property
    def xp(self) -> Any:
        return self.device.xp

    def _own(self, array: Array, overwrite: bool) -> Array:
        """Given messages on the device; their memory is used only where that is allowed."""
        if isinstance(array, np.ndarray) and self.xp is not np:
            return self.xp.asarray(array)
        return self._aligned(array) if overwrite else self._aligned(array.copy(order="C"))

    def _begin(
        self, solution: Solution, warm_start: Messages | None, overwrite: bool, go_on: bool
    ) -> _Passes:
        floor = solution.problem.floor
        if self._passes is None:
            self._passes = _Passes(self.device, self.matrix, floor)
        passes = self._passes
        passes.floor = passes.number(floor)
        if warm_start is not None:
            responsibility = self._aligned(self.xp.asarray(warm_start.responsibility))
            passes.begin(self._own(warm_start.availability, overwrite), responsibility)
        elif passes.a is None:
            passes.begin(self.xp.zeros(self.matrix.s.shape, self.matrix.dtype), None)
        elif not go_on:
            passes.restart()
        return passes

    def solve(
        self,
        preference: ArrayLike | Array,
        *,
        damping: float = 0.5,
        max_iter: int = 1000,
        convergence_iter: int = 15,
        warm_start: Messages | None = None,
        overwrite_warm_start: bool = False,
        go_on: bool = False,
        give_messages: bool = False,
    ) -> AffinityResult:
        """One run; exemplars and labels are NumPy arrays. See :func:`affinity_propagation`.

        Args beyond it:
            go_on: start from the last run's messages, if there was one; a ``warm_start`` goes before it.
        """
        solution = self.matrix.settle(preference, damping, max_iter, convergence_iter, warm_start, self.seed)
        known = solution.trivial()
        if known is not None:
            messages = warm_start
            if messages is None and give_messages:
                messages = Messages(*(self.xp.zeros(self.matrix.s.shape, self.matrix.dtype) for _ in "ra"))
            return solution.finish(
                known, messages, n_iter=0, converged=True, damping=damping, asked_damping=damping
            )
        try:
            passes = self._begin(solution, warm_start, overwrite_warm_start, go_on)
            watch, converged = self._run(passes, solution, damping, max_iter, convergence_iter)
            messages = passes.messages() if give_messages else None
        except MemoryError as error:
            raise self._too_large(give_messages, error) from error
        if give_messages:
            self._passes = None  # its memory is the messages' now
        return solution.finish(
            np.flatnonzero(watch.exemplars),
            messages,
            n_iter=watch.n_iter,
            converged=converged,
            damping=watch.damping,
            asked_damping=damping,
        )

    def strengths(self) -> StrengthMap:
        """The map from strength to preference; see :func:`kernels.affinity.strength_map`."""
        return map_on_device(self.matrix, self.device)

    def _run(
        self, passes: _Passes, solution: Solution, damping: float, max_iter: int, convergence_iter: int
    ) -> tuple[Watch, bool]:
        n = self.matrix.n
        preference = self.xp.asarray(solution.problem.perturbed)
        watch = Watch(n, damping, convergence_iter, judge=solution)
        converged = False
        while watch.n_iter < max_iter and not converged:
            if watch.restart:
                passes.restart()
            count = min(watch.ahead(), MAX_BATCH, max_iter - watch.n_iter)
            for flags in passes.iterate(count, watch.damping, preference):
                converged = watch.update(flags)
        return watch, converged

    def _too_large(self, give_messages: bool, error: Exception) -> MemoryError:
        n, size = self.matrix.n, self.matrix.dtype.itemsize
        need = (self.matrix.s.dtype.itemsize + size * (1 + give_messages)) * n * n / 2**30
        advice = "give_messages=False, " if give_messages else ""
        return MemoryError(
            f"device 'cuda': {n} points take {need:.1f} GiB, the similarity included, more than the device "
            f"has free ({error}): take {advice}a float16 similarity, or the two-level run"
        )


def affinity_propagation(
    similarity: ArrayLike | Array,
    preference: ArrayLike | Array,
    *,
    damping: float = 0.5,
    max_iter: int = 1000,
    convergence_iter: int = 15,
    warm_start: Messages | None = None,
    seed: int = 0,
    overwrite_warm_start: bool = False,
    give_messages: bool = True,
    device: Device | None = None,
) -> AffinityResult:
    """Cluster by message passing; see :func:`kernels.affinity.affinity_propagation` for the contract.

    A similarity that is a CuPy array stays on its device, and exemplars and labels come as CuPy arrays; they
    come as NumPy arrays where it was one. Messages are CuPy arrays either way; a warm start takes both kinds.
    A float16 similarity is held as it is and computed with in float32: the exemplars are those of the rounded
    similarities.

    Args beyond it:
        overwrite_warm_start: continue in the memory of ``warm_start``, whose numbers are lost.
        give_messages: False leaves ``messages`` None, and takes a third less memory.
        device: what runs the kernels; None: the current CUDA device, on CuPy's current stream.

    Raises:
        RuntimeError: no CuPy, driver or device.
        MemoryError: the device has not enough.
    """
    with Solver(similarity, seed=seed, device=device) as solver:
        result = solver.solve(
            preference, damping=damping, max_iter=max_iter, convergence_iter=convergence_iter,
            warm_start=warm_start, overwrite_warm_start=overwrite_warm_start, give_messages=give_messages,
        )  # fmt: skip
    return _beside(similarity, result, solver.xp)


def _beside(similarity: ArrayLike | Array, result: AffinityResult, xp: Any) -> AffinityResult:
    """Exemplars and labels where the similarity is."""
    if isinstance(similarity, np.ndarray) or not hasattr(similarity, "__cuda_array_interface__"):
        return result
    return replace(result, exemplars=xp.asarray(result.exemplars), labels=xp.asarray(result.labels))


def search_strength(
    similarity: ArrayLike | Array,
    clusters: tuple[int, int] | None = None,
    *,
    start: float | None = None,
    strengths: StrengthMap | None = None,
    damping: float = 0.5,
    max_iter: int = 400,
    convergence_iter: int = 15,
    max_probes: int = 25,
    seed: int = 0,
    device: Device | None = None,
) -> SearchResult:
    """Find a strength by its number of clusters; see :func:`kernels.affinity.search_strength`.

    The similarity is brought to the device once, all probes go on from the messages there.
    """
    with Solver(similarity, seed=seed, device=device) as solver:
        check_range((1, 1) if clusters is None else clusters, solver.matrix.n, max_probes)
        strengths = strengths or solver.strengths()
        check_map(strengths, solver.matrix.n)
        found = search_or_default(
            strengths, cuda_runs(solver, strengths, convergence_iter), clusters, start=start, damping=damping,
            max_iter=max_iter, max_probes=max_probes,
        )  # fmt: skip
    return replace(found, result=_beside(similarity, found.result, solver.xp))
