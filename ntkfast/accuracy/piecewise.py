"""Duals of φ that are polynomials between kinks, in mpmath, from the distribution function of a Gaussian pair.

φ is a number and powers (±x - t)₊^r that begin at a kink; their moments follow from that distribution function and
from densities by Stein's lemma.
"""

from functools import lru_cache

from ntkfast.accuracy.formulas import mp

DIGITS = 45
MOST_DIGITS = 400  # spent on the tails of a Gaussian, as far as float64 has numbers


def clipped(low, high, slope, at_zero):
    """at_zero + slope x, held between low and high."""
    low, high, slope, at_zero = (mp.mpf(value) for value in (low, high, slope, at_zero))
    return low, ((1, (low - at_zero) / slope, (0, slope)), (1, (high - at_zero) / slope, (0, -slope)))


def smelu(beta):
    beta = mp.mpf(beta)
    return 0, ((1, -beta, (0, 0, 1 / (4 * beta))), (1, beta, (0, 0, -1 / (4 * beta))))


def hard_swish():
    half, sixth = mp.mpf(1) / 2, mp.mpf(1) / 6
    return 0, ((1, mp.mpf(-3), (0, -half, sixth)), (1, mp.mpf(3), (0, -half, -sixth)))


def threshold(threshold, value):
    t, value = mp.mpf(threshold), mp.mpf(value)
    return value, ((1, t, (t - value, 1)),)


def outwards(t, jump):
    """jump + x above t, and the same of -x, negative, below -t."""
    t, jump = mp.mpf(t), mp.mpf(jump)
    return 0, ((1, t, (jump, 1)), (-1, t, (-jump, -1)))


# Each is (offset, terms) of offset + Σ over terms (side, t, coefficients) of Σ_r coefficients[r] (side x - t)₊^r.
PIECES = {
    "hardtanh": lambda low, high: clipped(low, high, 1, 0),
    "hardsigmoid": lambda: clipped(0, 1, mp.mpf(1) / 6, 0.5),
    "relu6": lambda: clipped(0, 6, 1, 0),
    "softshrink": lambda threshold: outwards(threshold, 0),
    "hardshrink": lambda threshold: outwards(threshold, threshold),
    "threshold": threshold,
    "squared_relu": lambda threshold: (0, ((1, mp.mpf(threshold), (0, 0, 1)),)),
    "smelu": smelu,
    "hard_swish": hard_swish,
}


@lru_cache(maxsize=4096)
@mp.workdps(DIGITS)
def dual(name, parameters, q1, q2, c):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] of an activation in PIECES; `parameters` as in Activation."""
    _, terms = PIECES[name](**dict(parameters))
    farthest = max(t * t for _, t, _ in terms) / (2 * min(q1, q2))  # of the densities exp(-t²/2q)
    lost = min(farthest / mp.ln10, MOST_DIGITS) + 2 * max(mp.log10(max(q1, q2)), 0)  # in tails; powers cancel
    with mp.workdps(DIGITS + int(lost)):
        offset, terms = PIECES[name](**dict(parameters))
        value, slope = offset**2, 0 * c
        for side, s, powers in terms:
            for q in (q1, q2) if offset else ():
                means = positive_part(-s, mp.sqrt(q), len(powers))
                value += offset * sum(b * mean for b, mean in zip(powers, means, strict=True))
            for other, t, its_powers in terms:
                M = moments(q1, q2, side * other * c, s, t, max(len(powers), len(its_powers)))
                for j, a in enumerate(powers):
                    for k, b in enumerate(its_powers):
                        value += a * b * M[j, k]
                        slope += side * other * j * k * a * b * M[j - 1, k - 1] if j and k else 0
        return value, slope


def moments(q1, q2, c, s, t, size):
    """{(j, k): E[(u - s)₊^j (v - t)₊^k]} for j, k < size, where power 0 is a step.

    By Stein's lemma, E[u f] = q1 E[∂f/∂u] + c E[∂f/∂v]; the derivative of a step is a delta.
    """
    r1, r2 = mp.sqrt(q1), mp.sqrt(q2)
    h, k = s / r1, t / r2
    rest = q1 * q2 - c * c
    if rest > 8 * mp.eps * q1 * q2:
        rho, sine = c / (r1 * r2), mp.sqrt(rest) / (r1 * r2)
    else:
        rho, sine = mp.sign(c), mp.mpf(0)
    at_s = [mp.npdf(h) / r1 * m for m in positive_part(r2 * (rho * h - k), r2 * sine, size)]
    at_t = [mp.npdf(k) / r2 * m for m in positive_part(r1 * (rho * k - h), r1 * sine, size)]
    M = {(0, 0): upper(h, k, rho, sine)}
    for n in range(1, size):
        M[0, n] = q2 * ((n - 1) * M[0, n - 2] if n > 1 else at_t[0]) + c * at_s[n - 1] - t * M[0, n - 1]
    for j in range(1, size):
        for n in range(size):
            first = (j - 1) * M[j - 2, n] if j > 1 else at_s[n]
            second = n * M[j - 1, n - 1] if n else at_t[j - 1]
            M[j, n] = q1 * first + c * second - s * M[j - 1, n]
    return M


def positive_part(mean, deviation, size):
    """E[w₊^k], k < size, of a Gaussian w; P(w > 0) for k = 0."""
    if deviation == 0:
        return [(1 + mp.sign(mean)) / 2, *(max(mean, 0) ** k for k in range(1, size))]
    x = mean / deviation
    found = [mp.ncdf(x)]
    found.append(mean * found[0] + deviation * mp.npdf(x))
    for k in range(2, size):
        found.append(mean * found[k - 1] + (k - 1) * deviation**2 * found[k - 2])
    return found


def upper(h, k, rho, sine):
    """P(z1 > h, z2 > k) of a standard Gaussian pair (Owen, 1956)."""
    if sine == 0:
        return mp.ncdf(-max(h, k)) if rho > 0 else max(mp.ncdf(-h) - mp.ncdf(k), 0)
    if h == k == 0:
        return mp.mpf(1) / 2 - mp.atan2(sine, rho) / (2 * mp.pi)
    half = 0 if (h >= 0) == (k >= 0) else mp.mpf(1) / 2
    tails = (mp.ncdf(-h) + mp.ncdf(-k)) / 2
    return tails - owen(h, (k - rho * h) / sine) - owen(k, (h - rho * k) / sine) - half


def owen(h, g):
    """Owen's T(h, g/h) = ∫ exp(-h²(1+x²)/2)/(1+x²) dx / 2π from 0 to g/h, by its series."""
    if h < 0 or g < 0:
        return owen(abs(h), abs(g)) * (1 if (h >= 0) == (g >= 0) else -1)
    if g > h:
        p, r = mp.ncdf(-h), mp.ncdf(-g)
        return (p + r) / 2 - p * r - owen(g, h)
    y = h * h / 2
    if y > mp.dps * mp.ln10 + 10:
        return mp.mpf(0)
    guard = 10 + int(y / mp.ln2)  # rounding grows by exp(y)
    bits = mp.prec + 20 + guard  # the series in integers, multiples of 2^-bits
    with mp.workprec(bits):
        a, y, term = (int(mp.ldexp(x, bits)) for x in (g / h, y, mp.exp(-y)))
    tail, power, square, total, j = (1 << bits) - term, a, a * a >> bits, 0, 0
    # tail = 1 - exp(-y) Σ y^i/i!, i <= j, which by rounding need not reach 0
    while (step := (tail * power >> bits) // (2 * j + 1)) >> guard > 0:
        total += -step if j % 2 else step
        j += 1
        term = (term * y >> bits) // j
        tail -= term
        power = power * square >> bits
    return (mp.atan(g / h) - mp.ldexp(total, -bits)) / (2 * mp.pi)
