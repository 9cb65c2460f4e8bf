"""Non-negative least squares of relative errors, and how far off its predictions are.

Errors count relatively, so that a short time weighs as much as a long one.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def solve(rows: Array, ms: Array) -> list[float]:
    """The coefficients, none negative, with the least squared relative error.

    Exact for few columns: the best is the unconstrained best of some of them.
    """
    relative = rows / ms[:, None]
    scale = norms(relative)
    best, least = np.zeros(rows.shape[1]), float(len(ms))
    columns = range(rows.shape[1])
    for kept in (list(c) for size in columns for c in combinations(columns, size + 1)):
        found = np.linalg.lstsq((relative / scale)[:, kept], np.ones(len(ms)), rcond=None)[0]
        squares = float(np.sum(((relative / scale)[:, kept] @ found - 1) ** 2))
        if squares < least and np.all(found >= 0):
            best, least = np.zeros(rows.shape[1]), squares
            best[kept] = found
    return [float(value) for value in best / scale]


def norms(rows: Array) -> Array:
    """Of the columns; never 0, so that they can be divided by."""
    found: Array = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    return found


def in_sample(rows: Array, ms: Array) -> Array:
    """Every point's time as fitted to all."""
    predicted: Array = rows @ np.array(solve(rows, ms))
    return predicted


def left_out(rows: Array, ms: Array) -> Array:
    """Every point's time as fitted to the others."""
    predicted = []
    for i in range(len(ms)):
        others = np.arange(len(ms)) != i
        predicted.append(rows[i] @ np.array(solve(rows[others], ms[others])))
    return np.array(predicted)


def mean_percent(rows: Array, ms: Array, predict: Callable[[Array, Array], Array]) -> float:
    """Mean absolute error in per cent of `ms`."""
    return float(np.mean(np.abs(predict(rows, ms) / ms - 1)) * 100)
