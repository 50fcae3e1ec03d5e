"""The last step of affinity propagation: exemplars to clusters, as scikit-learn and R apcluster take it.

So results compare. Forbidden pairs (-inf) stay apart: inside the messages such a pair is a finite, hopelessly
low similarity (``Problem.floor``), so that a point may come out with none but forbidden exemplars; here it
becomes one itself, or follows another such point (:func:`cover`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernels.affinity.contract import AffinityResult, FloatArray, Messages, Problem, row_blocks


def trivial(problem: Problem) -> NDArray[np.int64] | None:
    """Exemplars of a problem that needs no messages (one point; all equal), or None.

    With all similarities and preferences equal every exemplar set of a size is as good as another, and
    the best size is either 1 or N; scikit-learn decides it the same way.
    """
    n = problem.similarity.shape[0]
    if n == 1:
        return np.zeros(1, np.int64)
    if not problem.equal:
        return None
    own = problem.preference[0] > max(problem.similarity[0, 1], problem.floor)
    return np.arange(n) if own else np.zeros(1, np.int64)


def assign(problem: Problem, exemplars: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) position in ``exemplars`` of every point's most similar one; an exemplar is its own."""
    s = problem.similarity
    n = s.shape[0]
    labels = np.empty(n, np.int64)
    for rows in row_blocks(n, len(exemplars), s.itemsize):
        labels[rows] = np.argmax(s[rows][:, exemplars], axis=1)
    labels[exemplars] = np.arange(len(exemplars))
    return labels


def cover(
    left: NDArray[np.int64],
    preference: FloatArray,
    similar: Callable[[NDArray[np.int64], NDArray[np.int64]], FloatArray],
) -> NDArray[np.int64]:
    """Exemplars among the points ``left`` (M,), so that each is one or may have one of them as its own.

    One by one the point that most of those still left may have as their exemplar; of equals, that with the
    largest sum of their similarities and its preference. Without forbidden pairs: the best single exemplar.
    Time M^2.

    Args:
        preference: (N,).
        similar: (R,) and (C,) point numbers to a new (R, C) array of similarities.
    """
    m = len(left)
    allowed, total = np.zeros(m, np.int64), preference[left].astype(np.float64)

    def add(rows: NDArray[np.int64], sign: int) -> None:
        for part in row_blocks(len(rows), m, 8):
            block = similar(left[rows[part]], left)
            block[np.arange(len(block)), rows[part]] = -np.inf
            may = block > -np.inf
            np.add(allowed, sign * may.sum(axis=0), out=allowed)
            np.add(total, sign * np.sum(block, axis=0, where=may, dtype=np.float64), out=total)

    chosen: list[int] = []
    rest = np.arange(m)
    if m:
        add(rest, 1)
    while len(rest):
        most = rest[allowed[rest] == allowed[rest].max()]
        best = int(most[np.argmax(total[most])])
        chosen.append(best)
        follows = similar(left[rest], left[[best]])[:, 0] > -np.inf
        follows[rest == best] = True
        gone, rest = rest[follows], rest[~follows]
        if len(rest):
            add(gone, -1)
    return left[chosen]


def _covered(problem: Problem, exemplars: NDArray[np.int64]) -> NDArray[np.int64]:
    """The exemplars (none is allowed) and those needed for the points to which all of them are forbidden."""
    s = problem.similarity
    left = np.arange(s.shape[0])
    if len(exemplars):
        lost = s[left, exemplars[assign(problem, exemplars)]] == -np.inf
        lost[exemplars] = False
        left = np.flatnonzero(lost)
    more = cover(left, problem.preference, lambda rows, columns: s[np.ix_(rows, columns)])
    return np.concatenate((exemplars, more)).astype(np.int64)


def _repick(problem: Problem, labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """In every cluster, the point with the largest sum of similarities from the cluster's points.

    A forbidden pair makes that -inf, and each cluster has its exemplar, to which none of it is forbidden.
    """
    s, p = problem.similarity, problem.preference
    chosen = np.empty(count, np.int64)
    order = np.argsort(labels, kind="stable")
    for k, members in enumerate(np.split(order, np.cumsum(np.bincount(labels, minlength=count))[:-1])):
        total = np.zeros(len(members), np.float64)
        for part in row_blocks(len(members), len(members), s.itemsize):
            block = s[np.ix_(members[part], members)]
            inside = np.arange(part.stop - part.start)
            block[inside, inside + part.start] = p[members[part]]
            total += block.sum(axis=0, dtype=np.float64)
        chosen[k] = members[np.argmax(total)]
    return chosen


def finish(
    problem: Problem,
    exemplars: NDArray[np.int64],
    messages: Messages | None,
    *,
    n_iter: int,
    converged: bool,
    damping: float,
    asked_damping: float,
) -> AffinityResult:
    """The last step: assign, pick each cluster's exemplar anew, assign again, number them.

    No point is left on an exemplar that is forbidden to it (-inf): of points to which every exemplar is
    forbidden some become exemplars too (:func:`cover`), and an exemplar picked anew is forbidden to none of
    its cluster. An empty set is answered with the best single exemplar, or as few as that rule allows.
    """
    s, p = problem.similarity, problem.preference
    empty = len(exemplars) == 0
    exemplars = _covered(problem, exemplars)
    if (2 if empty else 1) <= len(exemplars) < s.shape[0]:  # the best single one is the best
        exemplars = _repick(problem, assign(problem, exemplars), len(exemplars))
    exemplars = np.sort(exemplars)
    labels = assign(problem, exemplars)
    to = exemplars[labels]
    points = np.arange(s.shape[0])
    others = to != points
    net = float(s[points[others], to[others]].sum(dtype=np.float64))
    net += float(p[exemplars].sum(dtype=np.float64))
    warning = "" if converged else unconverged(n_iter, empty, damping, asked_damping)
    return AffinityResult(exemplars, labels, n_iter, converged, net, damping, messages, warning)


def unconverged(n_iter: int, empty: bool, damping: float, asked_damping: float) -> str:
    """The warning of a run that did not converge."""
    state = "no point became an exemplar" if empty else "the exemplars did not hold still"
    raised = f", raised from {asked_damping:g} as it oscillated" if damping > asked_damping else ""
    return (
        f"affinity propagation did not converge in {n_iter} iterations ({state}; damping {damping:.3g}"
        f"{raised}): raise max_iter or damping, or move the preference a little"
    )
