"""Statistics of networks of finite width to order 1/n for activations without closed forms, by Hermite series.

Every moment of a pair is E[f(u) g(v)] = Σ_k f_k(q1) g_k(q2) ρ^k, where f and g are products of φ and φ', or derivatives
of φ, whose coefficients follow from those of φ, also where φ has kinks and the derivatives are distributions. The
recursions are those of docs/beyond.md in the entries that a pair needs, in NumPy over blocks of rows. Where both points
are one, the sums would be long or diverge, but one variance is left: its recursions are those of `_equal`.
"""

from __future__ import annotations

import math

import numpy as np

from ntkfast.engine.problem import Problem
from ntkfast.engine.statistics import NAMES
from ntkfast.networks import activations, quadrature
from ntkfast.support import arrays, memory, progress
from ntkfast.support.errors import PrecisionError

TERMS, TERMS_KINKED = 400, 2400  # a kink leaves powers of k, so that only those of ρ cut the series off
DERIVATIVES = 6  # φ to φ^(5)
FUNCTIONS = DERIVATIVES + 5
SQUARE, CUBE, MIXED, SQUARE_MIXED, SLOPE_SQUARE = range(DERIVATIVES, FUNCTIONS)  # φ², φ³, φφ', φ²φ', φ'²
LEAST = 1e-3  # variance: below, derivatives drown in rounding
ACCURACY = 1e-8  # of the last terms, relative to E[φ'²]
BLOCK = 2**14  # pairs at a time

WHICH = [(0, 0), (1, 1), (2, 0), (0, 2), (2, 2), (3, 1), (1, 3), (4, 0), (0, 4), (3, 3), (4, 2), (2, 4), (5, 1), (1, 5)]
WHICH += [(SQUARE, SQUARE), (CUBE, 0), (0, CUBE), (MIXED, MIXED), (SQUARE_MIXED, 1), (1, SQUARE_MIXED)]
WHICH += [(SLOPE_SQUARE, SLOPE_SQUARE)]


class PointSeries:
    """The coefficients of one activation at the variances of points, and what belongs to single points."""

    def __init__(self, activation, q, name):
        if q.min() < LEAST or not np.isfinite(q).all():
            raise PrecisionError(
                f"{name}: expected points whose variances stay above {LEAST:g} and finite, got {q.min():.3g}; below, "
                f"the Hermite series of the derivatives of {activation!r} are lost in rounding"
            )
        unique, place = np.unique(q, return_inverse=True)
        found = [_coefficients(activation, float(value)) for value in unique]
        self.q, self.coef = q, np.array([coef for coef, _ in found])[place]
        self.fourth, self.mixed, self.slope_fourth = np.array([moments for _, moments in found])[place].T
        self.value, self.rate, self.bend = self._of_square(SQUARE)  # E φ² and its derivatives with respect to q
        self.slope, self.slope_rate, self.slope_bend = self._of_square(SLOPE_SQUARE)  # E φ'²

    def _of_square(self, which):
        coef, q = self.coef[:, :, which], self.q
        return coef[:, 0], coef[:, 2] / (math.sqrt(2) * q), coef[:, 4] * math.sqrt(24) / (4 * q**2)

    def part(self, rows):
        """What the recursions of pairs need."""
        return {name: getattr(self, name)[rows] for name in ("value", "slope", "fourth", "rate", "bend")}


def _coefficients(activation, q):
    """(terms, functions): of φ and its derivatives, and of the products; and E φ⁴, E φ²φ'², E φ'⁴."""
    from ntkfast.networks.recurrence import long_hermite_sums  # numba

    terms = TERMS_KINKED if activation.kinks else TERMS
    gaussian = quadrature.gaussian(activation)
    z, w = gaussian.nodes(q, longest=8 / math.sqrt(terms + 64))
    f, g = gaussian.function(math.sqrt(q) * z), gaussian.derivative(math.sqrt(q) * z)
    sums = long_hermite_sums(z, w * np.array([f, f * f, f**3, f * g, f * f * g, g * g]), terms + DERIVATIVES)
    k, result, derivative = np.arange(terms + DERIVATIVES), [], sums[0]
    for _ in range(DERIVATIVES):
        result.append(derivative[:terms])
        derivative = np.append(np.sqrt(k[1:] / q) * derivative[1:], 0.0)
    return np.array([*result, *sums[1:, :terms]]).T, [w @ f**4, w @ (f * g) ** 2, w @ g**4]


def check_terms(activation, points, most):
    """Raise if the series of φ^(5) and φ' has not converged at correlations up to `most`."""
    last, terms = points.coef[:, -8:, :DERIVATIVES], points.coef.shape[1]
    rest = most**terms * min(terms, 1 / max(1 - most, 1 / terms))  # of a geometric series
    tail = np.abs(last[:, :, 5] * last[:, :, 1]).max(axis=1) * rest
    if (tail > ACCURACY * points.slope).any():
        where = tail.argmax()
        kinks = "; kinks keep it from converging for points that are nearly parallel" if activation.kinks else ""
        raise PrecisionError(
            f"net: {terms} terms of the Hermite series of {activation!r} leave an error of "
            f"{tail[where] / points.slope[where]:.1e} at a variance of {points.q[where]:.3g} and a correlation of "
            f"{most:.6g}{kinks}"
        )


def _equal(problem, layers, norms, inverse_widths, n_outputs):
    """The statistics of points with themselves (5, n): K, V and all others have one entry left."""
    a, b, c, d = map(float, problem.code.lines[0].numbers)
    H, zero = c * norms + d, np.zeros(len(norms))
    K, V, D, F, A, B, K1, H1 = a * norms + b, zero, zero, zero, zero, zero, zero, zero
    for line, p, n1 in zip(problem.code.lines[1:], layers, inverse_widths, strict=True):
        a, b, c, d = map(float, line.numbers)
        W = c * p.rate + a * H * p.slope_rate
        squares, mixed = p.fourth - p.value**2, p.mixed - p.value * p.slope
        of_omega = c * c * squares + 2 * c * a * H * mixed + (a * H) ** 2 * (p.slope_fourth - p.slope**2)
        H1 = a * p.slope * H1 + W * K1 + V * (c * p.bend + a * H * p.slope_bend) / 2 + a * p.slope_rate * (D + 2 * F)
        A = n1 * of_omega + W * (W * V + 2 * a * p.slope * D) + (a * p.slope) ** 2 * A
        B = a * a * (n1 * p.slope_fourth * H**2 + p.slope**2 * B)
        F = a * a * (n1 * p.mixed * H + p.rate**2 * F)
        D = a * (n1 * (c * squares + a * H * mixed) + p.rate * V * W) + a * a * p.rate * p.slope * D
        K1 = a * (p.rate * K1 + p.bend * V / 2)
        V = a * a * (n1 * squares + p.rate**2 * V)
        K, H = a * p.value + b, c * p.value + a * p.slope * H + d
    return np.array([H + H1, np.sqrt(A + 2 * B / n_outputs), np.sqrt(B), K + K1, np.sqrt(V)])


def run(problem: Problem, inverse_widths, n_outputs: int, get, results, show=None) -> None:
    """Write the statistics named in get into arrays (n, m); see `statistics.run`."""
    x, y = problem.points[0], problem.points[-1]
    lines = problem.code.lines
    functions = [line.activation or activations.identity() for line in lines[1:]]
    terms = max(TERMS_KINKED if activation.kinks else TERMS for activation in functions) if functions else 0
    count = sum(len(points.x) for points in problem.points)
    memory.require(
        len(functions) * count * terms * FUNCTIONS * 8,
        f"X: the Hermite series of {count} points in {len(functions)} layers",
        "; fewer points at a time need less",
    )
    sides = []
    for points in problem.points:
        a, b = map(float, lines[0].numbers[:2])
        q, layers = a * points.norms + b, []
        for line, activation in zip(lines[1:], functions, strict=True):
            layers.append(PointSeries(activation, q, points.name))
            q = float(line.numbers[0]) * layers[-1].value + float(line.numbers[1])
        sides.append(layers)
    equal = _equal(problem, sides[0], x.norms, inverse_widths, n_outputs)
    _, name = np.unique(np.concatenate([points.x for points in problem.points]), axis=0, return_inverse=True)
    names = name[: len(x.x)], name[-len(y.x) :]  # equal numbers for equal points
    size = max(1, BLOCK // len(y.x))
    with progress.reporter(show, "finite width") as report:
        for rows in arrays.blocks(len(x.x), size):
            columns = slice(rows.stop if problem.symmetric else len(y.x))
            products, same = x.x[rows] @ y.x[columns].T, names[0][rows, None] == names[1][columns]
            ends = sides[0], sides[-1], rows, columns
            found = _block(products, same, lines, functions, ends, inverse_widths, n_outputs)
            for output, result in zip(get, results, strict=True):
                which = NAMES.index(output)
                result[rows, columns] = np.where(same, equal[which, rows, None], found[which])
            if report is not None:
                report(rows.stop, len(x.x))
    if problem.symmetric:
        for result in results:
            arrays.mirror(result)


def _block(products, same, lines, functions, ends, inverse_widths, n_outputs):
    """The statistics of a rectangle (5, n, m), without a meaning where both points are the same."""
    from ntkfast.networks.pair_series import pair_series  # numba

    left, right, rows, columns = ends
    a, b, c, d = map(float, lines[0].numbers)
    K, H = a * products + b, c * products + d
    shape, zero = K.shape, np.zeros(K.shape)
    V = np.zeros((3, 3, *shape))
    D, F = np.zeros((3, *shape)), np.zeros((2, 2, *shape))
    K1 = np.zeros((3, *shape))
    A, cross, turned, H1 = zero, zero, zero, zero
    which = np.array(WHICH)
    for line, activation, one, other, n1 in zip(lines[1:], functions, left, right, inverse_widths, strict=True):
        a, b, c, d = map(float, line.numbers)
        rho = np.where(same, 0, np.clip(K / np.sqrt(np.outer(one.q[rows], other.q[columns])), -1, 1))
        most = float(np.abs(rho).max())
        check_terms(activation, one, most)
        check_terms(activation, other, most)
        moment = dict(zip(WHICH, pair_series(one.coef[rows], other.coef[columns], which, rho), strict=True))
        p = {key: value[:, None] + zero for key, value in one.part(rows).items()}
        q = {key: value + zero for key, value in other.part(columns).items()}

        # S, π of the pair with their derivatives with respect to (q1, c, q2): Price's theorem
        S, slope = moment[0, 0], moment[1, 1]
        dS = np.array([moment[2, 0] / 2, moment[1, 1], moment[0, 2] / 2])
        dslope = np.array([moment[3, 1] / 2, moment[2, 2], moment[1, 3] / 2])
        ddS = _symmetric(moment, (4, 0), (3, 1), (2, 2), (2, 2), (1, 3), (0, 4))
        ddslope = _symmetric(moment, (5, 1), (4, 2), (3, 3), (3, 3), (2, 4), (1, 5))
        J = np.array([[p["rate"], zero, zero], dS, [zero, zero, q["rate"]]])
        Omega, W = c * S + a * slope * H, c * dS + a * H * dslope

        # covariances of one unit's σσ, and with Ω of the pair
        squares = moment[SQUARE, SQUARE]
        means = np.array([p["value"], S, q["value"]])
        C = np.array(
            [
                [p["fourth"], moment[CUBE, 0], squares],
                [moment[CUBE, 0], squares, moment[0, CUBE]],
                [squares, moment[0, CUBE], q["fourth"]],
            ]
        )
        C -= means[:, None] * means
        mixed = np.array([moment[SQUARE_MIXED, 1], moment[MIXED, MIXED], moment[1, SQUARE_MIXED]])
        with_slope = mixed - means * slope
        to_omega = c * C[1] + a * H * with_slope
        slopes_squared = moment[SLOPE_SQUARE, SLOPE_SQUARE]
        of_omega = c * c * C[1, 1] + 2 * c * a * H * with_slope[1] + (a * H) ** 2 * (slopes_squared - slope**2)

        VW, VJ = np.einsum("pqij,qij->pij", V, W), np.einsum("pqij,rqij->prij", V, J)
        bend, bend_slope = (np.einsum("pqij,pqij->ij", V, second) / 2 for second in (ddS, ddslope))
        source = np.array([[mixed[0], mixed[1]], [mixed[1], mixed[2]]])
        left_rates = np.array([[p["rate"], zero], [2 * dS[0], slope]])
        right_rates = np.array([[slope, 2 * dS[2]], [zero, q["rate"]]])
        through_f = 2 * dslope[0] * F[0, 0] + 2 * dslope[2] * F[1, 1] + dslope[1] * (F[0, 1] + F[1, 0])
        H1 = a * slope * H1 + (W * K1).sum(axis=0) + c * bend + a * H * bend_slope
        H1 = H1 + a * ((dslope * D).sum(axis=0) + through_f)
        drift = (W * VW).sum(axis=0) + 2 * a * slope * (W * D).sum(axis=0)
        A = n1 * of_omega + drift + a * a * slope**2 * A
        own = n1 * slopes_squared * H**2
        cross = a * a * (own + p["slope"] * q["slope"] * cross)
        turned = a * a * (own + slope**2 * turned)
        F = a * a * (n1 * source * H + np.einsum("gkij,klij,hlij->ghij", left_rates, F, right_rates))
        D = a * (n1 * to_omega + np.einsum("pqij,qij->pij", J, VW)) + a * a * slope * np.einsum("pqij,qij->pij", J, D)
        K1 = a * (
            np.einsum("pqij,qij->pij", J, K1) + np.array([p["bend"] * V[0, 0] / 2, bend, q["bend"] * V[2, 2] / 2])
        )
        V = a * a * (n1 * C + np.einsum("pqij,qrij->prij", J, VJ))
        K, H = a * S + b, Omega + d
    variance = A + (cross + turned) / n_outputs
    std = [np.sqrt(np.maximum(values, 0)) for values in (variance, cross, V[1, 1])]
    return H + H1, std[0], std[1], K + K1[1], std[2]


def _symmetric(moment, first, first_c, cc, both, second_c, second):
    """Second derivatives with respect to (q1, c, q2) from the moments with two more derivatives each."""
    corner, side = moment[both] / 4, (moment[first_c] / 2, moment[second_c] / 2)
    return np.array(
        [
            [moment[first] / 4, side[0], corner],
            [side[0], moment[cc], side[1]],
            [corner, side[1], moment[second] / 4],
        ]
    )
