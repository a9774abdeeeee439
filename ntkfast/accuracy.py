"""The accuracy of the named activations' duals, measured: the table of docs/accuracy.md."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ntkfast.infinite.dual import dual, dual_derivative
from ntkfast.networks import Activation, activations, pieces

VARIANCES = (0.01, 0.0147, 1.1, 3.7, 70.0, 100.0)
CORRELATIONS = (1, -1, 0.999999, -0.9999, 0.9995, -0.997, 0.99, 0.97, -0.95, 0.93, 0.9, -0.8, 0.6, 0.3, 0.0, -0.3)
PARAMETERS = {
    "abrelu": (-0.4, 1.3),
    "polynomial": ((0.3, -1.0, 0.5, 0.2),),
    "monomial": (3,),
    "hermite": (4,),
    "rectified_monomial": (2,),
}


@dataclass(frozen=True)
class Row:
    """Largest errors of E[φφ] and E[φ'φ'] off the diagonal, and on it; relative to the diagonal."""

    name: str
    method: str
    value: float
    slope: float
    diagonal: float


def pair_expectation(f, q1, q2, rho, kinks=()):
    """E[f(u)f(v)] in float64: u = √q1 z, v = √q2 (ρ z + √(1-ρ²) w), Gauss-Legendre panels in z and, for every z, in w.

    A plain oracle: it uses neither Hermite polynomials nor polar coordinates, on which the engine is built.
    """
    s1, s2 = np.sqrt(q1), np.sqrt(q2)
    features = np.concatenate([[0.0], *[[sign * 2.0**k for k in range(-8, 4)] for sign in (1, -1)], kinks])
    if abs(rho) == 1:
        z, w = panels(np.linspace(-13, 13, 105), features / s1, rho * features / s2)
        return float(np.sum(f(s1 * z) * f(rho * s2 * z) * w))
    s = np.sqrt((1 - rho) * (1 + rho))
    layers = [t / s2 / rho + s / abs(rho) * np.linspace(-9, 9, 37) for t in kinks if rho]  # where φ(v) bends
    z, w = panels(np.linspace(-13, 13, 105), features / s1, *layers)
    inner = np.empty_like(z)
    for i in range(0, len(z), 256):
        mean = s2 * rho * z[i : i + 256, None]
        cuts = np.clip((features - mean) / (s2 * s), -9.5, 9.5)
        edges = np.sort(np.hstack([np.broadcast_to(np.linspace(-9.5, 9.5, 39), (len(mean), 39)), cuts]))
        nodes, weights = legendre_panels(edges)
        inner[i : i + 256] = np.sum(f(mean + s2 * s * nodes) * weights, axis=1)
    return float(np.sum(f(s1 * z) * inner * w))


def panels(*breaks):
    """Nodes and Gaussian weights between all breaks within [-13, 13]."""
    edges = np.unique(np.concatenate(breaks))
    edges = edges[np.abs(edges) <= 13]
    return (row.ravel() for row in legendre_panels(edges[None]))


def legendre_panels(edges):
    x, w = np.polynomial.legendre.leggauss(12)
    half, middle = np.diff(edges)[..., None] / 2, (edges[:, 1:] + edges[:, :-1])[..., None] / 2
    nodes = middle + half * x
    weights = half * w * np.exp(-0.5 * nodes**2) / np.sqrt(2 * np.pi)
    return nodes.reshape(len(edges), -1), weights.reshape(len(edges), -1)


def measure(activation: Activation, n_pairs: int = 40, seed: int = 0) -> Row:
    """The errors at random pairs of variances in [0.01, 100] and correlations, both ends of ρ included."""
    rng = np.random.default_rng(seed)
    variances = [q for q in VARIANCES if _within_reach(activation, q)]
    q = rng.choice(variances, (n_pairs, 2))
    rho = np.resize(CORRELATIONS, n_pairs).astype(float)
    c = rho * np.sqrt(q[:, 0]) * np.sqrt(q[:, 1])
    ends = np.array(variances)
    errors, on_diagonal = [], []
    for function, expectation in ((activation.function, dual), (activation.derivative, dual_derivative)):
        exact = {value: pair_expectation(function, value, value, 1, activation.kinks) for value in variances}
        worst = 0.0
        for (q1, q2), r, got in zip(q, rho, expectation(activation, *q.T, c), strict=True):
            error = abs(got - pair_expectation(function, q1, q2, r, activation.kinks))
            worst = max(worst, error / (math.sqrt(exact[q1] * exact[q2]) or 1))
        errors.append(worst)
        on_diagonal += [
            abs(got - exact[value]) / (exact[value] or 1)
            for value, got in zip(variances, expectation(activation, ends, ends, ends), strict=True)
        ]
    return Row(repr(activation), _method(activation), *errors, max(on_diagonal))


def _within_reach(activation, q):
    """Whether the oracle covers all of φ(u)² at this variance: not if φ² grows as fast as the density of u falls."""
    z = np.linspace(-13, 13, 521)
    mass = activation(math.sqrt(q) * z) ** 2 * np.exp(-z * z / 2)
    return max(mass[0], mass[-1]) <= 1e-16 * mass.max()


def _method(activation):
    if pieces.of(activation):
        return "Hermite series, closed form near ρ = ±1"
    return "Hermite series, table near ρ = ±1" if activation.instruction.is_series else "closed form"


def rows() -> Iterator[Row]:
    """One row per name of the catalogue."""
    for name in activations.names():
        activation = getattr(activations, name)(*PARAMETERS.get(name, ()))
        if activation.is_elementwise:  # else there is no φ to integrate
            yield measure(activation)
