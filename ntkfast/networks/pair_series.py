"""A loop that numba compiles once, as in recurrence.py: sums of Hermite series over pairs."""

import numpy as np

from ntkfast.networks.recurrence import compiled


@compiled()
def pair_series(left, right, which, rho):
    """Σ_k left[i, k, f] right[j, k, g] rho[i, j]^k for each (f, g) in which: (len(which), n, m)."""
    n, m = rho.shape
    out = np.zeros((len(which), n, m))
    total = np.empty(len(which))
    for i in range(n):
        for j in range(m):
            total[:] = 0.0
            power = 1.0
            for k in range(left.shape[1]):
                for s in range(len(which)):
                    total[s] += left[i, k, which[s, 0]] * right[j, k, which[s, 1]] * power
                power *= rho[i, j]
                if abs(power) < 1e-30:
                    break
            out[:, i, j] = total
    return out
