"""The polynomials of vecmath.h: minimax fits by Remez exchange, in 60 digits.

Run it to see the coefficients and their errors:  python src_c/minimax.py   (needs mpmath)
"""

import mpmath as mp

mp.mp.dps = 60


def asin_core(z):
    """(asin(√z)/√z - 1)/z: the rest of asin after its first term."""
    if z < mp.mpf("1e-20"):
        return mp.mpf(1) / 6
    root = mp.sqrt(z)
    return (mp.asin(root) / root - 1) / z


def remez(f, weight, a, b, degree, rounds=30):
    """Coefficients (lowest first) of the polynomial p that minimises max |(p - f) weight| on [a, b]; that maximum."""
    m = degree + 2
    nodes = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * m)) for k in range(m)]
    for _ in range(rounds):
        system, values = mp.matrix(m, m), mp.matrix(m, 1)
        for i, x in enumerate(nodes):
            for j in range(degree + 1):
                system[i, j] = x**j
            system[i, degree + 1] = (-1) ** i / weight(x)
            values[i] = f(x)
        solution = mp.lu_solve(system, values)
        coefficients = [solution[j] for j in range(degree + 1)]
        extrema = _extrema(lambda x, c=coefficients: (mp.polyval(c[::-1], x) - f(x)) * weight(x), a, b, m)
        if len(extrema) < m:
            break
        nodes = [x for x, _ in extrema]
        largest = max(abs(e) for _, e in extrema)
        if largest / abs(solution[degree + 1]) - 1 < mp.mpf("1e-4"):
            break
    return coefficients, largest


def _extrema(error, a, b, m):
    """The m alternating extrema of the error on a fine grid."""
    size = 40 * m
    grid = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * k / size) for k in range(size + 1)]
    errors = [error(x) for x in grid]
    found = []
    for k, (x, e) in enumerate(zip(grid, errors, strict=True)):
        inside = 0 < k < size
        if inside and not (abs(e) >= abs(errors[k - 1]) and abs(e) >= abs(errors[k + 1])):
            continue
        if found and mp.sign(found[-1][1]) == mp.sign(e):
            if abs(e) > abs(found[-1][1]):
                found[-1] = (x, e)
        else:
            found.append((x, e))
    while len(found) > m:
        found.pop(0 if abs(found[0][1]) < abs(found[-1][1]) else -1)
    return found


def main():
    half, eighth = mp.mpf("0.50005"), mp.sin(mp.pi / 8) ** 2 * mp.mpf("1.001")

    def relative(z):  # of asin; floored near 0, where the first term dominates
        return max(z, mp.mpf("0.02")) / (1 + z * asin_core(z))

    def absolute(z):
        return max(z, mp.mpf("0.01")) ** mp.mpf("1.5")

    for title, weight, top, degree in (
        ("asin_half, double", relative, half, 17),
        ("asin_half, float", relative, half, 7),
        ("asin_eighth, double", absolute, eighth, 8),
        ("asin_eighth, float", absolute, eighth, 3),
    ):
        coefficients, error = remez(asin_core, weight, mp.mpf(0), top, degree)
        print(f"{title}: degree {degree}, error {mp.nstr(error, 3)}")
        for c in coefficients:
            print("   ", mp.nstr(c, 21))


if __name__ == "__main__":
    main()
