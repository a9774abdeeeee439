"""Duals by plain quadrature in float64."""

import numpy as np


def pair_expectation(f, q1, q2, rho, kinks=()):
    """E[f(u)f(v)] in float64: u = √q1 z, v = √q2 (ρ z + √(1-ρ²) w), Gauss-Legendre panels in z and, for every z, in w.

    A plain oracle: it uses neither Hermite polynomials nor polar coordinates, on which the engine is built.
    """
    s1, s2 = np.sqrt(q1), np.sqrt(q2)
    features = np.concatenate([[0.0], *[[sign * 2.0**k for k in range(-8, 4)] for sign in (1, -1)], kinks])
    if abs(rho) == 1:
        z, w = panels(np.linspace(-9.5, 9.5, 77), features / s1, rho * features / s2)
        return float(np.sum(f(s1 * z) * f(rho * s2 * z) * w))
    s = np.sqrt((1 - rho) * (1 + rho))
    layers = [t / s2 / rho + s / abs(rho) * np.linspace(-9, 9, 37) for t in kinks if rho]  # where φ(v) bends
    z, w = panels(np.linspace(-9.5, 9.5, 77), features / s1, *layers)
    inner = np.empty_like(z)
    for i in range(0, len(z), 256):
        mean = s2 * rho * z[i : i + 256, None]
        cuts = np.clip((features - mean) / (s2 * s), -9.5, 9.5)
        edges = np.sort(np.hstack([np.broadcast_to(np.linspace(-9.5, 9.5, 39), (len(mean), 39)), cuts]))
        nodes, weights = legendre_panels(edges)
        inner[i : i + 256] = np.sum(f(mean + s2 * s * nodes) * weights, axis=1)
    return float(np.sum(f(s1 * z) * inner * w))


def panels(*breaks):
    """Nodes and Gaussian weights between all breaks within [-9.5, 9.5], beyond which the density is below 1e-20."""
    edges = np.unique(np.concatenate(breaks))
    edges = edges[np.abs(edges) <= 9.5]
    return (row.ravel() for row in legendre_panels(edges[None]))


def legendre_panels(edges):
    x, w = np.polynomial.legendre.leggauss(12)
    half, middle = np.diff(edges)[..., None] / 2, (edges[:, 1:] + edges[:, :-1])[..., None] / 2
    nodes = middle + half * x
    weights = half * w * np.exp(-0.5 * nodes**2) / np.sqrt(2 * np.pi)
    return nodes.reshape(len(edges), -1), weights.reshape(len(edges), -1)
