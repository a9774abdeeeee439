/* duals.h: the instructions of a kernel program, one C function each, for one chunk of lanes.
 *
 * Included once per precision.  Every function has the same arguments:
 *     rates       a compile-time constant: whether the rates are needed
 *     in          the instruction and its parameters
 *     row         point table entries of the one row point:  row[k*NF_NEXT], k-th number of this instruction
 *     col         those of the NF_WIDTH column points:       col[k*NF_NEXT + i]
 *     sigma, theta  (NF_WIDTH) the pair state; they may not overlap each other or the tables
 *     p           where rates go
 * It computes value = E[phi(u)phi(v)] and slope = E[phi'(u)phi'(v)], where (u,v) is Gaussian with variances q1 (row),
 * q2 (column) and covariance sigma, and passes them to NF_SET.  Without rates, the instruction's layer is applied in
 * place (sigma <- value, theta <- slope theta, then the four numbers); with rates, sigma is unchanged, theta is NULL,
 * and p receives value, slope and the partial derivatives passed to NF_RATES, all from the same formulas.  program.h
 * instantiates both.
 *
 * Number 0 of a dual is 1/sqrt(q); a point of variance 0 has 0 there and so correlates with nothing.
 * f_point(in, q, rows, number): the other numbers of a dual for one point of variance q; written once, in long double.
 */
#define NF_INLINE static inline __attribute__((always_inline))

/* The rates of a pair: partial derivatives with respect to (q1, q2, c), c the covariance.  Those that are infinite at
 * |rho| = 1 count as 0 there: they multiply the change of rho, and a perfect correlation remains perfect. */
typedef struct {
    NF_T value[NF_WIDTH], slope[NF_WIDTH];            /* E[phi phi], E[phi' phi'] */
    NF_T price[NF_WIDTH];                             /* d value/dc: the slope, unless phi jumps */
    NF_T bend[NF_WIDTH];                              /* d slope/dc = E[phi'' phi''] */
    NF_T value_row[NF_WIDTH], value_column[NF_WIDTH]; /* q1 d value/dq1 = q1 E[phi''(u) phi(v)]/2, and for q2 */
    NF_T slope_row[NF_WIDTH], slope_column[NF_WIDTH]; /* the same for the slope */
} NF_(partials);

#define NF_PAIR const nf_instr *in, const NF_T *row, const NF_T *col, NF_T *restrict sigma
#define NF_ARGS const int rates, NF_PAIR, NF_T *restrict theta, NF_(partials) *restrict p

/* |rho|; its sign is that of sigma.  Rounding may push a correlation past 1, which later layers would amplify: it then
 * counts as 1, and so does one that equals 1 to within its four roundings, so that pairs that are exactly there are
 * treated as such.  Here and below both points enter by products of their numbers, so that both orders of a pair give
 * the same bits.
 * NF_SQUARE: 1 - rho^2;  NF_APART: E[(u-v)^2].
 * Pairwise (pair.c), the row's numbers come after what is known of the pair: 1 - |rho| and E[(u-v)^2]. */
#ifdef NF_PAIRWISE
#define NF_ABS_RHO(i) (1 - row[-1])
#define NF_SQUARE(r) (row[-1] * (2 - row[-1]))
#define NF_APART(i) (row[-2])
#else
#if NF_PRECISION == 80 /* the diagonal: a point has correlation 1 with itself, exactly */
#define NF_ABS_RHO(i) ((NF_T)(row[0] > 0))
#else
#define NF_ABS_RHO(i) NF_(at_most_one)(fabs(sigma[i]) * NF_(finite)(row[0] * col[i]))
#endif
#define NF_SQUARE(r) ((1 - (r)) * (1 + (r)))
#define NF_APART(i) NF_(not_negative)((q1 - sigma[i]) + (q2[i] - sigma[i]))
#endif
/* E[(u-v)^2] and E[(u+v)^2], which rounding takes below 0 by the variances' epsilon: too much for an exponential if they
 * are large. */
static inline NF_T NF_(not_negative)(NF_T x)
{
    return x < 0 ? 0 : x;
}
static inline NF_T NF_(at_most_one)(NF_T r)
{
    return r >= 1 - 2 * NF_EPSILON ? 1 : r;
}
static inline NF_T NF_(finite)(NF_T x) /* x >= 0 may overflow where sigma has underflowed to 0: their product is 0 */
{
    return x < NF_LARGE ? x : NF_LARGE;
}

/* The affine layer that every instruction ends with, and its application to lane i */
#define NF_LAYER                                                                                                       \
    const NF_T a_ = (NF_T)in->layer[0], b_ = (NF_T)in->layer[1], c_ = (NF_T)in->layer[2], d_ = (NF_T)in->layer[3];
#define NF_ADVANCE(i, value, slope)                                                                                    \
    do {                                                                                                               \
        const NF_T value_ = (value);                                                                                   \
        theta[i] = a_ * (slope) * theta[i] + (c_ * value_ + d_);                                                       \
        sigma[i] = a_ * value_ + b_;                                                                                   \
    } while (0)
#define NF_SET(i, value_is, slope_is)                                                                                  \
    do {                                                                                                               \
        if (rates) {                                                                                                   \
            p->value[i] = (value_is);                                                                                  \
            p->slope[i] = (slope_is);                                                                                  \
        } else {                                                                                                       \
            NF_ADVANCE(i, value_is, slope_is);                                                                         \
        }                                                                                                              \
    } while (0)
/* The partial derivatives, in the order of the struct; after NF_SET, which then leaves sigma unchanged */
#define NF_RATES(i, price_is, bend_is, value_row_is, value_column_is, slope_row_is, slope_column_is)                   \
    do {                                                                                                               \
        if (rates) {                                                                                                   \
            p->price[i] = (price_is);                                                                                  \
            p->bend[i] = (bend_is);                                                                                    \
            p->value_row[i] = (value_row_is);                                                                          \
            p->value_column[i] = (value_column_is);                                                                    \
            p->slope_row[i] = (slope_row_is);                                                                          \
            p->slope_column[i] = (slope_column_is);                                                                    \
        }                                                                                                              \
    } while (0)

/* the affine layer alone */
NF_INLINE void NF_(affine)(NF_ARGS)
{
    (void)row, (void)col;
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        NF_SET(i, sigma[i], 1);
        NF_RATES(i, 1, 0, 0, 0, 0, 0);
    }
}

/* phi(x) = a min(x,0) + b max(x,0): relu (0,1), leaky relu (alpha,1), abs (-1,1), identity (1,1).
 * With rho = sin(alpha):  E[phi' phi'] = (a+b)^2/4 + (a-b)^2 alpha / 2 pi
 *                         E[phi phi]   = sqrt(q1 q2) (rho E[phi' phi'] + (a-b)^2 cos(alpha) / 2 pi)
 * Cho & Saul (2009), arc-cosine kernel of order 1.  angle is |alpha|.
 * phi is homogeneous of degree n, so by Euler's theorem  q dK/dq = (n K - c K_c)/2,  q dK_c/dq = ((n-1) K_c - c K_cc)/2
 * for both q; for n = 1:  K - c K_c = std1 std2 (a-b)^2 cos(alpha)/2 pi,  K_cc = (a-b)^2/(2 pi cos(alpha) std1 std2).
 * numbers: 1/sqrt(q), sqrt(q) */
NF_INLINE void NF_(piecewise_linear)(NF_ARGS)
{
    const long double plus = in->param[0] + in->param[1], minus = in->param[0] - in->param[1];
    const NF_T even = (NF_T)(plus * plus / 4), odd = (NF_T)(minus * minus / (2 * NF_PI));
    const NF_T row_std = row[NF_NEXT], *col_std = col + NF_NEXT;
    NF_T r[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        r[i] = NF_ABS_RHO(i);
        square[i] = NF_SQUARE(r[i]);
    }
    NF_(angles)(r, square, cosine, angle, 0);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T slope = even + odd * copysign(angle[i], sigma[i]), value = odd * cosine[i] * (row_std * col_std[i]);
        const NF_T inverse = cosine[i] > 0 ? 1 / cosine[i] : 0, rho = copysign(r[i], sigma[i]);
        const NF_T value_part = NF_C(0.5) * value, slope_part = -NF_C(0.5) * odd * inverse * rho;
        NF_SET(i, value + sigma[i] * slope, slope);
        NF_RATES(i, slope, odd * inverse * row[0] * col[i], value_part, value_part, slope_part, slope_part);
    }
}

/* 1 - s^2 for s = rho e, e = e1 e2, e1^2 + g1^2 = e2^2 + g2^2 = 1, g = g1 g2, sum = g1^2 + g2^2, square = 1 - rho^2.
 * Nothing cancels at large q: 1 - e^2 is written as sum - g^2, which is at least sum/2.  The squares of g1 and g2 are
 * numbers of the points: of products a b + c d, compilers round only one, and not the same one for both orders. */
NF_INLINE NF_T NF_(one_minus_square)(NF_T square, NF_T e, NF_T g, NF_T sum)
{
    return (sum - g * g) + e * e * square + NF_TINY;
}

/* phi(x) = a erf(b x) + offset.  With g = 1/sqrt(1+2b^2 q), e = |b| sqrt(2q) g (so that e^2 + g^2 = 1), s = rho e1 e2:
 *     E[phi phi]   = 2 a^2/pi asin(s) + offset^2
 *     E[phi' phi'] = 4 a^2 b^2/pi g1 g2/k,   k^2 = 1-s^2 = g1^2 + g2^2 - (g1 g2)^2 + (e1 e2)^2 (1-rho^2)
 * Williams (1997).  Rates, with K and K' for the two:
 *     q1 dK/dq1 = -e1^2 c K'/2,   q1 dK'/dq1 = -e1^2 K'/2 k^2,   dK'/dc = 4 b^4 (g1 g2)^2 c K'/k^2
 * numbers: 1/sqrt(q), e, g, g^2 */
NF_INLINE void NF_(erf)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1], k = in->param[2];
    const NF_T scale = (NF_T)(2 * a * a / NF_PI), offset = (NF_T)(k * k), b4 = (NF_T)(4 * b * b * b * b);
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], slope_scale = (NF_T)(4 * a * a * b * b / NF_PI);
    const NF_T *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT, g1_2 = row[3 * NF_NEXT], *g2_2 = col + 3 * NF_NEXT;
    NF_T sine[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i);
        sine[i] = r * (e1 * e2[i]);
        square[i] = NF_(one_minus_square)(NF_SQUARE(r), e1 * e2[i], g1 * g2[i], g1_2 + g2_2[i]);
    }
    NF_(angles)(sine, square, cosine, angle, 1);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T c = sigma[i], inverse = 1 / cosine[i], g = g1 * g2[i] * inverse, slope = slope_scale * g;
        const NF_T half = -NF_C(0.5) * slope, half_inverse2 = half * inverse * inverse;
        const NF_T e1_2 = e1 * e1, e2_2 = e2[i] * e2[i];
        NF_SET(i, scale * copysign(angle[i], c) + offset, slope);
        NF_RATES(i, slope, b4 * g * g * c * slope, e1_2 * half * c, e2_2 * half * c, e1_2 * half_inverse2,
                 e2_2 * half_inverse2);
    }
}

/* phi(x) = x Phi(x), Phi the normal distribution function.  With e^2 = q/(1+q), g^2 = 1/(1+q), f = q/sqrt(1+q),
 * s = rho e1 e2, k^2 = 1-s^2 as in erf with 2b^2 = 1:
 *     E[phi phi]   = c/4 + (c asin(s) + g1 g2 s^2/k + f1 f2 k) / 2 pi
 *     E[phi' phi'] = 1/4 + (asin(s) + s/k W) / 2 pi,   W = g1^2 + g2^2 + g^2/k^2,   g = g1 g2
 * Rates, all over 2 pi:
 *     q1 dK/dq1 = e1^2 (f2 g1 k + f1 f2 (1-rho^2)/2k - g s^2/k (1 + 1/2k^2))
 *     q1 dK'/dq1 = -e1^2 s/k (1/2 + W/2k^2 + g1^2 (1 + g2^2/k^4)),   dK'/dc = g/k (1 + W/k^2 + 2 g^2 s^2/k^4)
 * numbers: 1/sqrt(q), e, g, f, g^2 */
NF_INLINE void NF_(gelu)(NF_ARGS)
{
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], f1 = row[3 * NF_NEXT], turn = (NF_T)(1 / (2 * NF_PI));
    const NF_T *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT, *f2 = col + 3 * NF_NEXT;
    const NF_T g1_2 = row[4 * NF_NEXT], *g2_2 = col + 4 * NF_NEXT;
    NF_T sine[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH], rest[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i);
        rest[i] = NF_SQUARE(r);
        sine[i] = r * (e1 * e2[i]);
        square[i] = NF_(one_minus_square)(NF_SQUARE(r), e1 * e2[i], g1 * g2[i], g1_2 + g2_2[i]);
    }
    NF_(angles)(sine, square, cosine, angle, 1);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T c = sigma[i], s = copysign(sine[i], c), a = copysign(angle[i], c), inverse = 1 / cosine[i];
        const NF_T g = g1 * g2[i], f = f1 * f2[i], inverse2 = inverse * inverse, u = g * inverse, u2 = u * u * inverse2;
        const NF_T W = (g1_2 + g2_2[i]) + g * g * inverse2;
        const NF_T value = NF_C(0.25) * c + turn * (c * a + g * s * s * inverse + f * cosine[i]);
        const NF_T slope = NF_C(0.25) + turn * (a + s * inverse * W);
        const NF_T common = NF_C(0.5) * f * rest[i] * inverse - s * s * u * (1 + NF_C(0.5) * inverse2);
        const NF_T half = NF_C(0.5) + NF_C(0.5) * W * inverse2 + u2, over = -turn * s * inverse;
        const NF_T row2 = e1 * e1, col2 = e2[i] * e2[i];
        NF_SET(i, value, slope);
        NF_RATES(i, slope, turn * u * (1 + W * inverse2 + 2 * s * s * u2),
                 turn * row2 * (f2[i] * g1 * cosine[i] + common), turn * col2 * (f1 * g2[i] * cosine[i] + common),
                 over * row2 * (half + g1 * g1), over * col2 * (half + g2[i] * g2[i]));
    }
}

/* Where phi'' = k phi, with K and K' for value and slope:  dK/dq = k K/2,  dK'/dq = k K'/2,  dK'/dc = k^2 K */
#define NF_EIGEN_RATES(i, k, K, slope)                                                                                 \
    NF_RATES(i, slope, k * k * K, k / 2 * q1 * K, k / 2 * q2[i] * K, k / 2 * q1 * slope, k / 2 * q2[i] * slope)

/* Duals of A cos(b x) + B sin(b x) for k = -b^2 and of A cosh(b x) + B sinh(b x) for k = b^2, so that phi'' = k phi.
 * With E- = exp(k E[(u-v)^2]/2), E+ = exp(k E[(u+v)^2]/2), even = A^2/2 and odd = B^2/2 with the sign of k:
 *     E[phi phi] = even (E+ + E-) + odd (E+ - E-),   E[phi' phi'] = k (odd (E+ + E-) + even (E+ - E-))
 * The difference is E- (exp(2 k c) - 1).  Near c = q the differences q - c are exact. */
NF_INLINE void NF_(two_exponentials)(NF_T k, NF_T even, NF_T odd, NF_ARGS)
{
    const NF_T q1 = row[NF_NEXT], *q2 = col + NF_NEXT, half = k / 2;
    NF_T minus[NF_WIDTH], plus[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        minus[i] = NF_(exponential_of)(half * NF_APART(i));
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        plus[i] = NF_(exponential_of)(half * NF_(not_negative)((q1 + sigma[i]) + (q2[i] + sigma[i])));
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T sum = minus[i] + plus[i], x = 2 * k * sigma[i], small = minus[i] * NF_(small_expm1)(x);
        const NF_T difference = fabs(x) < NF_SMALL ? small : plus[i] - minus[i];
        const NF_T value = even * sum + odd * difference, slope = k * (odd * sum + even * difference);
        NF_SET(i, value, slope);
        NF_EIGEN_RATES(i, k, value, slope);
    }
}

/* phi(x) = a sin(b x + k), k given as cos 2k: A = a sin k, B = a cos k.   numbers: 1/sqrt(q), q */
NF_INLINE void NF_(sine)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1], quarter = a * a / 4;
    NF_(two_exponentials)((NF_T)(-b * b), (NF_T)(quarter * (1 - in->param[2])), (NF_T)(-quarter * (1 + in->param[2])),
                          rates, in, row, col, sigma, theta, p);
}

/* phi(x) = A cosh(b x) + B sinh(b x), the parameters being (A, B, b).   numbers: 1/sqrt(q), q */
NF_INLINE void NF_(hyperbolic)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1], rate = in->param[2];
    NF_(two_exponentials)((NF_T)(rate * rate), (NF_T)(a * a / 2), (NF_T)(b * b / 2), rates, in, row, col, sigma, theta,
                          p);
}

/* phi(x) = a exp(b x):  E[phi phi] = a^2 exp(b^2 E[(u+v)^2]/2),  E[phi' phi'] = b^2 E[phi phi].
 * numbers: 1/sqrt(q), q */
NF_INLINE void NF_(exponential)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1];
    const NF_T scale = (NF_T)(a * a), b2 = (NF_T)(b * b), half = (NF_T)(b * b / 2);
    const NF_T q1 = row[NF_NEXT], *q2 = col + NF_NEXT;
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T value = scale * NF_(exponential_of)(half * ((q1 + sigma[i]) + (q2[i] + sigma[i])));
        const NF_T slope = b2 * value;
        NF_SET(i, value, slope);
        NF_EIGEN_RATES(i, b2, value, slope);
    }
}

/* phi(x) = a exp(b x^2), b < 0.  With e^2 = -2bq/(1-2bq), g^2 = 1/(1-2bq), s = rho e1 e2, k^2 = 1-s^2 as in erf:
 *     E[phi phi] = a^2 g1 g2/k,   E[phi' phi'] = 2|b| a^2 s (g1 g2)^2/k^3
 *     q1 dK/dq1 = -e1^2 K/2 k^2,   q1 dK'/dq1 = -3 e1^2 K'/2 k^2,   dK'/dc = 4 b^2 (g1 g2)^2 K/k^2 (1 + 3 s^2/k^2)
 * numbers: 1/sqrt(q), e, g, g^2 */
NF_INLINE void NF_(gaussian)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1];
    const NF_T scale = (NF_T)(a * a), twice = (NF_T)(2 * fabsl(b));
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT;
    const NF_T g1_2 = row[3 * NF_NEXT], *g2_2 = col + 3 * NF_NEXT;
    NF_T sine[NF_WIDTH], inverse[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i);
        sine[i] = r * (e1 * e2[i]);
        inverse[i] = 1 / NF_(one_minus_square)(NF_SQUARE(r), e1 * e2[i], g1 * g2[i], g1_2 + g2_2[i]);
    }
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T s = copysign(sine[i], sigma[i]), g = g1 * g2[i], over = inverse[i];
        const NF_T value = scale * g * sqrt(over), slope = twice * s * g * value * over;
        const NF_T value_part = -NF_C(0.5) * value * over, slope_part = -NF_C(1.5) * slope * over;
        const NF_T row2 = e1 * e1, col2 = e2[i] * e2[i], b2 = twice * g * twice * g;
        NF_SET(i, value, slope);
        NF_RATES(i, slope, b2 * value * over * (1 + 3 * s * s * over), row2 * value_part, col2 * value_part,
                 row2 * slope_part, col2 * slope_part);
    }
}

/* phi(x) = max(x, 0)^n for n = 0 .. 5.  With theta = arccos rho,
 *     E[phi phi] = (q1 q2)^(n/2) J_n(theta)/2 pi,   J_n = P_n(rho) sin theta + Q_n(rho) (pi - theta)
 * times a plus k, the parameters being (n, a, k): the sign function is 4 J_0/2 pi - 1.  J_n is `angular`; the dual of
 * the derivative is n^2 times that of n-1, for n = 0 (a step) 0 by convention.  Cho & Saul (2009).  Rates by Euler's
 * theorem, as for piecewise_linear.   numbers: 1/sqrt(q), sqrt(q) */
NF_INLINE NF_T NF_(angular)(const int n, NF_T rho, NF_T sine, NF_T rest)
{
    const NF_T r2 = rho * rho;
    switch (n) {
    case 0:
        return rest;
    case 1:
        return sine + rho * rest;
    case 2:
        return 3 * rho * sine + (1 + 2 * r2) * rest;
    case 3:
        return (4 + 11 * r2) * sine + rho * (9 + 6 * r2) * rest;
    case 4:
        return rho * (55 + 50 * r2) * sine + (9 + r2 * (72 + 24 * r2)) * rest;
    case 5:
        return (64 + r2 * (607 + 274 * r2)) * sine + rho * (225 + r2 * (600 + 120 * r2)) * rest;
    }
    return 0;
}

/* x^n for n = 0 .. 5, a compile-time constant; 1 for n < 0 */
NF_INLINE NF_T NF_(power)(const int n, NF_T x)
{
    const NF_T x2 = n > 1 ? x * x : 1;
    return (n > 3 ? x2 * x2 : x2) * (n % 2 == 1 ? x : 1);
}

NF_INLINE void NF_(arc_cosine_of)(const int n, NF_ARGS)
{
    const NF_T scale = (NF_T)(in->param[1] / (2 * NF_PI)), slope_scale = scale * n * n, offset = (NF_T)in->param[2];
    const NF_T bend_scale = slope_scale * (n - 1) * (n - 1), row_std = row[NF_NEXT], *col_std = col + NF_NEXT;
    NF_T r[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        r[i] = NF_ABS_RHO(i);
        square[i] = NF_SQUARE(r[i]);
    }
    NF_(angles)(r, square, cosine, angle, 0);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T rho = copysign(r[i], sigma[i]), rest = (NF_T)(NF_PI / 2) + copysign(angle[i], sigma[i]);
        const NF_T std = row_std * col_std[i], inverse = cosine[i] > 0 ? row[0] * col[i] / cosine[i] : 0;
        const NF_T value = scale * NF_(power)(n, std) * NF_(angular)(n, rho, cosine[i], rest);
        const NF_T slope = n > 0 ? slope_scale * NF_(power)(n - 1, std) * NF_(angular)(n - 1, rho, cosine[i], rest) : 0;
        const NF_T price = n > 0 ? slope : scale * inverse;
        const NF_T bend = n > 1   ? bend_scale * NF_(power)(n - 2, std) * NF_(angular)(n - 2, rho, cosine[i], rest)
                          : n > 0 ? scale * inverse
                                  : 0;
        const NF_T value_part = NF_C(0.5) * (n * value - sigma[i] * price);
        const NF_T slope_part = NF_C(0.5) * ((n - 1) * slope - sigma[i] * bend);
        NF_SET(i, value + offset, slope);
        NF_RATES(i, price, bend, value_part, value_part, slope_part, slope_part);
    }
}

NF_INLINE void NF_(arc_cosine)(NF_ARGS)
{
    switch ((int)in->param[0]) {
#define NF_ORDER(n)                                                                                                    \
    case n:                                                                                                            \
        NF_(arc_cosine_of)(n, rates, in, row, col, sigma, theta, p);                                                   \
        break;
        NF_ORDER(0) NF_ORDER(1) NF_ORDER(2) NF_ORDER(3) NF_ORDER(4) NF_ORDER(5)
#undef NF_ORDER
    }
}

/* Division by the standard deviation over the features:  sigma <- sigma/sqrt(q1 q2), theta likewise.
 * numbers: 1/sqrt(q) */
NF_INLINE void NF_(layer_norm)(NF_ARGS)
{
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T slope = row[0] * col[i], rho = copysign(NF_ABS_RHO(i), sigma[i]);
        const NF_T value_part = -NF_C(0.5) * rho, slope_part = -NF_C(0.5) * slope;
        NF_SET(i, rho, slope);
        NF_RATES(i, slope, 0, value_part, value_part, slope_part, slope_part);
    }
}

/* The normalised exponential kernel of Shankar et al. (2020), parameters gamma and shift:
 *     value = sqrt(q1 q2) exp(gamma (rho + shift)),   slope = d value/dc = gamma exp(gamma (rho + shift))
 * numbers: 1/sqrt(q), sqrt(q) */
NF_INLINE void NF_(exp_normalized)(NF_ARGS)
{
    const NF_T gamma = (NF_T)in->param[0], offset = (NF_T)(in->param[0] * in->param[1]);
    const NF_T row_std = row[NF_NEXT], *col_std = col + NF_NEXT;
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T turn = gamma * copysign(NF_ABS_RHO(i), sigma[i]), e = NF_(exponential_of)(turn + offset);
        const NF_T value = row_std * col_std[i] * e, slope = gamma * e, bend = gamma * slope * row[0] * col[i];
        const NF_T value_part = NF_C(0.5) * (1 - turn) * value, slope_part = -NF_C(0.5) * turn * slope;
        NF_SET(i, value, slope);
        NF_RATES(i, slope, bend, value_part, value_part, slope_part, slope_part);
    }
}

/* Masks that are independent for each point: they multiply the diagonal by 1/(1-rate), the parameter, and change
 * nothing else. */
NF_INLINE void NF_(dropout)(NF_ARGS)
{
    const NF_T scale = NF_DIAGONAL ? (NF_T)in->param[0] : 1;
    (void)row, (void)col;
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        NF_SET(i, scale * sigma[i], scale);
        NF_RATES(i, scale, 0, 0, 0, 0, 0);
    }
}

#if NF_PRECISION == 80 && !defined(NF_PAIRWISE)

static void piecewise_linear_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)in, (void)rows;
    number[1] = sqrtl(q);
}

static void erf_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)rows;
    const long double b = in->param[1];
    number[2] = 1 / sqrtl(1 + 2 * b * b * q);
    number[1] = fabsl(b) * sqrtl(2 * q) * number[2];
    number[3] = number[2] * number[2];
}

static void gelu_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)in, (void)rows;
    number[2] = 1 / sqrtl(1 + q);
    number[1] = sqrtl(q) * number[2];
    number[3] = q * number[2];
    number[4] = number[2] * number[2];
}

static void sine_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)in, (void)rows;
    number[1] = q;
}

static void hyperbolic_point(const nf_instr *in, long double q, int rows, long double *number)
{
    sine_point(in, q, rows, number);
}

static void exponential_point(const nf_instr *in, long double q, int rows, long double *number)
{
    sine_point(in, q, rows, number);
}

static void gaussian_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)rows;
    const long double b2 = -2 * in->param[1];
    number[2] = 1 / sqrtl(1 + b2 * q);
    number[1] = sqrtl(b2 * q) * number[2];
    number[3] = number[2] * number[2];
}

static void arc_cosine_point(const nf_instr *in, long double q, int rows, long double *number)
{
    piecewise_linear_point(in, q, rows, number);
}

static void exp_normalized_point(const nf_instr *in, long double q, int rows, long double *number)
{
    piecewise_linear_point(in, q, rows, number);
}

static void layer_norm_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)in, (void)q, (void)rows, (void)number;
}

#endif
