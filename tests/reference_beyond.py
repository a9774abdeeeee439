"""Finite-width statistics of one pair of points, straight from the recursions of docs/beyond.md, in mpmath.

Slow and plain: the full state (V, D, A, F, B, K1, H1) over the entries 11, 12, 22, in the covariances themselves.
Moments come from closed forms in the angle, or from a two-dimensional Gauss-Hermite rule, and every derivative with
respect to a covariance from numerical differentiation in mpmath's digits (`TwoSlopes`) or from derivatives of φ
(`Smooth`).
"""

import functools
import itertools

import mpmath as mp
import numpy as np

PAIRS = ((0, 0), (0, 1), (1, 1))


class TwoSlopes:
    """φ(x) = a min(x, 0) + b max(x, 0). K: (q1, c, q2)."""

    def __init__(self, a, b):
        self.a, self.b = mp.mpf(a), mp.mpf(b)
        self.moment = functools.lru_cache(lambda K, *points: self._moment(K, *points))

    def _moment(self, K, values, slopes):
        """E[Π φ(u_i) Π φ'(u_j)] for i in values, j in slopes: in polar coordinates."""
        q1, c, q2 = K
        theta = mp.acos(c / mp.sqrt(q1 * q2))  # the signs change at ±π/2 and theta ± π/2
        edges = [-mp.pi / 2, theta - mp.pi / 2, mp.pi / 2, theta + mp.pi / 2, 3 * mp.pi / 2]

        def integrand(phi):
            z = (mp.sqrt(q1) * mp.cos(phi), mp.sqrt(q2) * mp.cos(phi - theta))
            slope = [self.b if x > 0 else self.a for x in z]
            result = mp.mpf(1)
            for i in values:
                result *= slope[i] * z[i]
            for j in slopes:
                result *= slope[j]
            return result

        radial = {0: 1, 2: 2, 4: 8}[len(values)]
        total = mp.mpf(0)
        for left, right in itertools.pairwise(edges):
            if right > left:
                total += mp.quad(integrand, [left, right], maxdegree=3)
        return radial * total / (2 * mp.pi)

    def value(self, K, pair):
        """E[φφ] of a pair, as a function of K."""
        q1, c, q2 = K
        mean = (self.a**2 + self.b**2) / 2
        if pair == (0, 0):
            return mean * q1
        if pair == (1, 1):
            return mean * q2
        root = mp.sqrt(q1 * q2 - c * c)
        return (self.a - self.b) ** 2 * root / (2 * mp.pi) + c * self.slope(K, pair)

    def slope(self, K, pair):
        """E[φ'φ'] of a pair."""
        q1, c, q2 = K
        mean = (self.a**2 + self.b**2) / 2
        if pair != (0, 1):
            return mean
        return mean - (self.a - self.b) ** 2 * mp.acos(c / mp.sqrt(q1 * q2)) / (2 * mp.pi)


class Smooth:
    """φ by its derivatives, a list of functions of arrays, on a Gauss-Hermite rule of n² nodes."""

    def __init__(self, derivatives, n=60):
        x, w = np.polynomial.hermite_e.hermegauss(n)
        self.z = np.meshgrid(x, x, indexing="ij")
        self.w = np.outer(w, w) / (2 * np.pi)
        self.derivatives = derivatives

    def expectation(self, K, orders):
        """E[Π φ^(order)(u_i)] over (i, order) in orders."""
        q1, c, q2 = map(float, K)
        u = np.sqrt(q1) * self.z[0]
        v = c / np.sqrt(q1) * self.z[0] + np.sqrt(max(q2 - c * c / q1, 0.0)) * self.z[1]
        result = self.w.copy()
        for i, order in orders:
            result = result * self.derivatives[order]((u, v)[i])
        return mp.mpf(float(result.sum()))

    def moment(self, K, values, slopes):
        return self.expectation(K, [(i, 0) for i in values] + [(j, 1) for j in slopes])

    def value(self, K, pair):
        return self.moment(K, pair, ())

    def slope(self, K, pair):
        return self.moment(K, (), pair)


def sort(points):
    return tuple(sorted(points))


def _contracted(X, hessian):
    """½ X:∂²"""
    return sum(X[i, j] * hessian[i, j] for i in range(3) for j in range(3)) / 2


def _gradient(phi, function, K):
    """∂/∂K of function(K, pair) for each pair (rows)."""
    if isinstance(phi, Smooth):
        return _price(phi, function, K, 1)
    return mp.matrix([[_diff(lambda *k, p=pair: function(k, p), K, i) for i in range(3)] for pair in PAIRS])


def _hessian(phi, function, K):
    """∂²/∂K² for each pair: a list of 3 x 3 matrices."""
    if isinstance(phi, Smooth):
        return _price(phi, function, K, 2)
    return [
        mp.matrix([[_diff(lambda *k, p=pair: function(k, p), K, i, j) for j in range(3)] for i in range(3)])
        for pair in PAIRS
    ]


def _diff(function, K, *axes):
    order = [axes.count(i) for i in range(3)]
    return mp.diff(function, tuple(K), tuple(order)) if any(order) else function(*K)


def _price(phi, function, K, order):
    """Price's theorem: ∂_c E = E[∂_1∂_2 ·], ∂_q E = E[∂² ·]/2, on products φ^(i) φ^(j)."""
    start = 0 if function == phi.value else 1
    steps = [((0, 0), mp.mpf(1) / 2), ((0, 1), mp.mpf(1)), ((1, 1), mp.mpf(1) / 2)]

    def expand(terms, axis, pair):
        """terms: {(orders): weight}, orders of the two factors, which sit at the points `pair`."""
        (g, h), weight = steps[axis]
        for point in (g, h):
            grown = {}
            for orders, old in terms.items():
                for factor in range(2):
                    if pair[factor] == point:
                        new = tuple(o + (k == factor) for k, o in enumerate(orders))
                        grown[new] = grown.get(new, 0) + old
            terms = grown
        return {orders: weight * old for orders, old in terms.items()}

    def total(terms, pair):
        return sum(w * phi.expectation(K, list(zip(pair, orders, strict=True))) for orders, w in terms.items())

    results = []
    for pair in PAIRS:
        first = [expand({(start, start): 1}, i, pair) for i in range(3)]
        if order == 1:
            results.append([total(terms, pair) for terms in first])
        else:
            results.append(mp.matrix([[total(expand(first[i], j, pair), pair) for j in range(3)] for i in range(3)]))
    return mp.matrix(results) if order == 1 else results


def statistics(x, y, layers, activations, widths, n_outputs=1):
    """A dict of ntk, nngp, ntk_mean, ntk_std, ntk_cross_std, nngp_mean, nngp_std for one pair.

    layers: (a, b, c, d) of each affine layer: K ← aK + b, H ← aπH + cK + d; a and c of the first one include 1/n_0.
    """
    x, y = [[mp.mpf(float(v)) for v in point] for point in (x, y)]
    G = [mp.fdot(x, x), mp.fdot(x, y), mp.fdot(y, y)]
    a, b, c, d = map(mp.mpf, layers[0])
    K, H = tuple(a * g + b for g in G), [c * g + d for g in G]
    zero = mp.matrix(3, 3)
    V, D, A = zero.copy(), zero.copy(), zero.copy()
    index = list(itertools.product(range(2), repeat=4))
    F, B = dict.fromkeys(index, mp.mpf(0)), dict.fromkeys(index, mp.mpf(0))
    K1, H1 = mp.matrix(3, 1), mp.matrix(3, 1)
    entry = {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}
    for (a, b, c, d), phi, n in zip(layers[1:], activations, widths, strict=True):
        a, b, c, d, n = map(mp.mpf, (a, b, c, d, n))
        S = [phi.value(K, pair) for pair in PAIRS]
        pi = [phi.slope(K, pair) for pair in PAIRS]
        J, dpi = _gradient(phi, phi.value, K), _gradient(phi, phi.slope, K)
        JJ, ddpi = _hessian(phi, phi.value, K), _hessian(phi, phi.slope, K)
        Omega = [c * S[P] + a * pi[P] * H[P] for P in range(3)]
        W = mp.matrix([[c * J[P, R] + a * H[P] * dpi[P, R] for R in range(3)] for P in range(3)])
        WW = [c * JJ[P] + a * H[P] * ddpi[P] for P in range(3)]

        Css, Cso, Coo = mp.matrix(3, 3), mp.matrix(3, 3), mp.matrix(3, 3)
        for P, Q in itertools.product(range(3), repeat=2):
            left, right = PAIRS[P], PAIRS[Q]
            ss, sp = phi.moment(K, sort(left + right), ()), phi.moment(K, left, right)
            ps, pp = phi.moment(K, right, left), phi.moment(K, (), sort(left + right))
            so = c * ss + a * H[Q] * sp
            oo = c * c * ss + c * a * (H[Q] * sp + H[P] * ps) + a * a * H[P] * H[Q] * pp
            Css[P, Q] = (ss - S[P] * S[Q]) / n
            Cso[P, Q] = (so - S[P] * Omega[Q]) / n
            Coo[P, Q] = (oo - Omega[P] * Omega[Q]) / n
        diagonal = mp.diag(pi)
        WD = a * (W * D) * diagonal
        newA = Coo + W * V * W.T + WD + WD.T + a * a * diagonal * A * diagonal
        newD = a * (Cso + J * V * W.T) + a * a * (J * D) * diagonal
        newV = a * a * (Css + J * V * J.T)

        newK1 = mp.matrix([a * ((J * K1)[P] + _contracted(V, JJ[P])) for P in range(3)])
        newH1 = mp.matrix(3, 1)
        for P, (i, k) in enumerate(PAIRS):
            # E[∂_g∂_h(σ'_i σ'_k)] F_gihk: second derivatives of a product are twice (g = h) or once those by K
            f = 2 * dpi[P, 0] * F[0, i, 0, k] + 2 * dpi[P, 2] * F[1, i, 1, k]
            f += dpi[P, 1] * (F[0, i, 1, k] + F[1, i, 0, k])
            newH1[P] = a * pi[P] * H1[P] + (W * K1)[P] + _contracted(V, WW[P])
            newH1[P] += a * sum(dpi[P, R] * D[R, P] for R in range(3)) + a * f

        lowered = {}  # E[∂_g(σ_i σ'_j)]
        for g, i, j in itertools.product(range(2), repeat=3):
            if i == j:  # σσ' is half the derivative of σ², and ½ E[(σ²)''] is the derivative of E[σ²] by q
                lowered[g, i, j] = J[entry[i, i], entry[i, i]] if g == i else mp.mpf(0)
            else:  # E[σ_i σ''_j], by Price's theorem, or E[σ'_i σ'_j]
                lowered[g, i, j] = 2 * J[1, entry[j, j]] if g == j else pi[1]
        newF, newB = {}, {}
        for i, j, k, m in index:
            total = phi.moment(K, sort((i, k)), sort((j, m))) * H[entry[j, m]] / n
            for g, h in itertools.product(range(2), repeat=2):
                total += lowered[g, i, j] * lowered[h, k, m] * F[g, j, h, m]
            newF[i, j, k, m] = a * a * total
            total = phi.moment(K, (), sort((i, j, k, m))) * H[entry[i, k]] * H[entry[j, m]] / n
            newB[i, j, k, m] = a * a * (total + pi[entry[i, j]] * pi[entry[k, m]] * B[i, j, k, m])
        V, D, A, F, B, K1, H1 = newV, newD, newA, newF, newB, newK1, newH1
        H = [Omega[P] + d for P in range(3)]
        K = tuple(a * S[P] + b for P in range(3))
    cross, turned = B[0, 0, 1, 1], B[0, 1, 1, 0]
    return {
        "ntk": H,
        "nngp": K,
        "ntk_mean": H[1] + H1[1],
        "nngp_mean": K[1] + K1[1],
        "ntk_std": mp.sqrt(A[1, 1] + (cross + turned) / n_outputs),
        "ntk_cross_std": mp.sqrt(cross),
        "nngp_std": mp.sqrt(V[1, 1]),
        "diagonal": [H1[0], H1[2], K1[0], K1[2]],
        "variances": [  # of Θ̂ at 11, 12, 22
            A[0, 0] + 2 * B[0, 0, 0, 0],
            A[1, 1] + cross + turned,
            A[2, 2] + 2 * B[1, 1, 1, 1],
        ],
    }
