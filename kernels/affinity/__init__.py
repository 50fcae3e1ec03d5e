"""Affinity propagation: one contract, several implementations, and the strength that sets the count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from numpy.typing import ArrayLike

from kernels.affinity.contract import AffinityResult, Messages, place_of
from kernels.affinity.search import Probe, SearchResult, search_strength
from kernels.affinity.strength import StrengthMap, preference_range, strength_map

__all__ = [
    "AffinityResult",
    "Messages",
    "Probe",
    "SearchResult",
    "StrengthMap",
    "affinity_propagation",
    "preference_range",
    "search_strength",
    "strength_map",
]


def affinity_propagation(
    similarity: ArrayLike,
    preference: ArrayLike,
    *,
    damping: float = 0.5,
    max_iter: int = 1000,
    convergence_iter: int = 15,
    warm_start: Messages | None = None,
    seed: int = 0,
    device: Literal["cpu", "cuda", "reference"] | None = None,
) -> AffinityResult:
    """Cluster points by passing messages between them (Frey & Dueck, Science 315, 2007).

    Equations, with s the similarity whose diagonal is the preference::

        r(i,k) <- s(i,k) - max over k' != k of [a(i,k') + s(i,k')]
        a(i,k) <- min(0, r(k,k) + sum over i' not in {i,k} of max(0, r(i',k)))      i != k
        a(k,k) <- sum over i' != k of max(0, r(i',k))

    both damped: new = damping x old + (1 - damping) x computed. Exemplars are the points with
    a(k,k) + r(k,k) > 0; every point goes to its most similar exemplar, and the exemplar of every cluster is
    picked anew inside it, as scikit-learn and R's apcluster do.

    Ties (equal similarities, duplicate points) are broken by a seeded perturbation of the preferences, by
    less than the data are exact to (8e-6 of their size in float32, 1e-9 in float64). Where all similarities
    and preferences are equal the answer is one cluster, or N when the preference is larger. Oscillation is
    answered by raising the damping. Where scikit-learn converges, at the same damping and preference, the
    exemplars are its own, but for swinging problems at damping 0.5 (13 of 188 random ones, six of them with a
    worse net similarity here) and near ties (``bench/affinity_agreement.py``).

    Args:
        similarity: (N, N) float32 or float64, larger is more alike, symmetric or not; other real types
            are computed in float64 ("cuda": a float16 one is held as it is and computed with in float32).
            A CuPy array stays on its device. Not changed; its diagonal is not read. -inf off the diagonal
            forbids a pair: the one never has the other as its exemplar. Where messages leave a point none
            but forbidden exemplars, it becomes one (or follows another such point that does).
        preference: one number or (N,): how good an exemplar a point is from the start, in the unit of the
            similarity. Raising it gives more clusters. See :func:`preference_range`.
        damping: 0.5 <= damping < 1. Raising it is slower and oscillates less.
        max_iter: iterations at most. Raising it lets hard cases converge: of 3,000 random problems, a
            quarter of them plain noise, 79 % converge within 200 iterations, 95.8 % within 400 and 99.6 %
            within 1,000, the default (R apcluster's; scikit-learn's is 200).
        convergence_iter: iterations that the exemplars must hold still. Raising it is surer and slower.
        warm_start: messages to go on from, of the same shape and dtype, say those of the last run at another
            preference; they are not changed. The answer may be another one than from nothing, as a rule a
            better one.
        seed: of the perturbation, a whole number of at least 0.
        device: "cpu" (numba, all cores), "cuda" (the current NVIDIA GPU, through CuPy on its current
            stream; see :mod:`kernels.affinity.cuda`) or "reference" (NumPy). None: where the similarity is,
            "cuda" for a CuPy array, else "cpu". The result is the same but for rounding.

    Returns:
        A valid clustering in every case; ``converged`` False, with a ``warning`` that says what to do,
        where the exemplars did not hold still or there were none (then: the best single exemplar). For a
        CuPy similarity exemplars and labels are CuPy arrays; the messages are wherever the device is "cuda".

    Raises:
        ValueError: a wrong shape, NaN, +inf, a number out of its range or too large for the similarity's
            dtype, an unknown device.
        TypeError: a similarity or preference that is not real numbers, another argument of a wrong type, or
            a similarity on a GPU where another device is asked for.
        RuntimeError: device "cuda" without CuPy, a driver or a GPU; the message says what to install.
        MemoryError: the GPU has not enough for so many points.
    """
    run: Callable[..., AffinityResult]
    place = place_of(similarity, device, ("cpu", "cuda", "reference"))
    if place == "cpu":
        from kernels.affinity.cpu import affinity_propagation as run
    elif place == "cuda":
        from kernels.affinity.cuda import affinity_propagation as run
    else:
        from kernels.affinity.reference import affinity_propagation as run
    return run(
        similarity,
        preference,
        damping=damping,
        max_iter=max_iter,
        convergence_iter=convergence_iter,
        warm_start=warm_start,
        seed=seed,
    )
