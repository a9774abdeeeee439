/* duals.h: the instructions of a kernel program, one C function each, for one chunk of lanes.
 *
 * Included once per precision.  Every function has the same arguments:
 *     in          the instruction and its parameters
 *     row         point table entries of the one row point:  row[k*NF_NEXT], k-th number of this instruction
 *     col         those of the NF_WIDTH column points:       col[k*NF_NEXT + i]
 *     sigma, theta  (NF_WIDTH) the pair state, in place; they may not overlap each other or the tables
 * A dual replaces sigma by E[phi(u)phi(v)] and multiplies theta by E[phi'(u)phi'(v)], where (u,v) is Gaussian with
 * variances q1 (row), q2 (column) and covariance sigma.  Number 0 of a dual is 1/sqrt(q); a point of variance 0 has 0
 * there and so correlates with nothing.
 *
 * f_point(in, q, rows, number): the other numbers of a dual for one point of variance q; written once, in long double.
 */
#define NF_ARGS                                                                                                        \
    const nf_instr *in, const NF_T *row, const NF_T *col, NF_T *restrict sigma, NF_T *restrict theta

/* |rho|; its sign is that of sigma.  Rounding may push a correlation past 1, which the layers after would amplify: that
 * counts as 1, and so does what the four roundings in it cannot tell from 1, for the sake of pairs that are exactly there.
 * Multiplied in this order nothing overflows, however small the variances are. */
#if NF_PRECISION == 80 /* the diagonal: a point has correlation 1 with itself, exactly */
#define NF_ABS_RHO(i) ((NF_T)(row[0] > 0))
#else
#define NF_ABS_RHO(i) NF_(at_most_one)(fabs(sigma[i]) * row[0] * col[i])
#endif
static inline NF_T NF_(at_most_one)(NF_T r)
{
    return r >= 1 - 2 * NF_EPSILON ? 1 : r;
}

/* The affine layer that every instruction ends with: what it does to lane i, given E[phi phi] and E[phi' phi'] */
#define NF_LAYER                                                                                                       \
    const NF_T a_ = (NF_T)in->layer[0], b_ = (NF_T)in->layer[1], c_ = (NF_T)in->layer[2], d_ = (NF_T)in->layer[3];
#define NF_SET(i, value, slope)                                                                                        \
    do {                                                                                                               \
        const NF_T value_ = (value);                                                                                   \
        theta[i] = a_ * (slope) * theta[i] + (c_ * value_ + d_);                                                       \
        sigma[i] = a_ * value_ + b_;                                                                                   \
    } while (0)

/* the affine layer alone */
static void NF_(affine)(NF_ARGS)
{
    NF_LAYER
    (void)row, (void)col;
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        NF_SET(i, sigma[i], 1);
}

/* phi(x) = a min(x,0) + b max(x,0): relu (0,1), leaky relu (alpha,1), abs (-1,1), identity (1,1).
 * With rho = sin(alpha):  E[phi' phi'] = (a+b)^2/4 + (a-b)^2 alpha / 2 pi
 *                         E[phi phi]   = sqrt(q1 q2) (rho E[phi' phi'] + (a-b)^2 cos(alpha) / 2 pi)
 * Cho & Saul (2009), arc-cosine kernel of order 1.  angle is |alpha|.   numbers: 1/sqrt(q), sqrt(q) */
static void NF_(piecewise_linear)(NF_ARGS)
{
    const long double plus = in->param[0] + in->param[1], minus = in->param[0] - in->param[1];
    const NF_T even = (NF_T)(plus * plus / 4), odd = (NF_T)(minus * minus / (2 * NF_PI));
    const NF_T row_std = row[NF_NEXT], *col_std = col + NF_NEXT;
    NF_T r[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        r[i] = NF_ABS_RHO(i);
        square[i] = (1 - r[i]) * (1 + r[i]);
    }
    NF_(angles)(r, square, cosine, angle, 0);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T rho = copysign(r[i], sigma[i]), slope = even + odd * copysign(angle[i], sigma[i]);
        NF_SET(i, (odd * cosine[i] + rho * slope) * (row_std * col_std[i]), slope);
    }
}

/* phi(x) = a erf(b x) + c.  With g = 1/sqrt(1+2b^2 q), e = |b| sqrt(2q) g (so that e^2 + g^2 = 1), s = rho e1 e2:
 *     E[phi phi]   = 2 a^2/pi asin(s) + c^2
 *     E[phi' phi'] = 4 a^2 b^2/pi g1 g2 / sqrt(1-s^2),   1-s^2 = g1^2 + e1^2 (g2^2 + e2^2 (1-rho^2))
 * a sum of positive terms: nothing cancels at large q.  Williams (1997).   numbers: 1/sqrt(q), e, g */
static void NF_(erf)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1], c = in->param[2];
    const NF_T value = (NF_T)(2 * a * a / NF_PI), offset = (NF_T)(c * c);
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], slope = (NF_T)(4 * a * a * b * b / NF_PI * g1);
    const NF_T *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT;
    NF_T sine[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i);
        sine[i] = r * (e1 * e2[i]);
        square[i] = g1 * g1 + e1 * e1 * (g2[i] * g2[i] + e2[i] * e2[i] * ((1 - r) * (1 + r))) + NF_TINY;
    }
    NF_(angles)(sine, square, cosine, angle, 1);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        NF_SET(i, value * copysign(angle[i], sigma[i]) + offset, slope * g2[i] / cosine[i]);
}

/* phi(x) = x Phi(x), Phi the normal distribution function.  With e^2 = q/(1+q), g^2 = 1/(1+q), f = q/sqrt(1+q),
 * s = rho e1 e2, k^2 = 1-s^2 as in erf with 2b^2 = 1:
 *     E[phi phi]   = c/4 + (c asin(s) + g1 g2 s^2/k + f1 f2 k) / 2 pi
 *     E[phi' phi'] = 1/4 + (asin(s) + s/k (g1^2 g2^2 (1 + 1/k^2) + g1^2 + e1^2 g2^2)) / 2 pi
 * numbers: 1/sqrt(q), e, g, f */
static void NF_(gelu)(NF_ARGS)
{
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], f1 = row[3 * NF_NEXT], turn = (NF_T)(1 / (2 * NF_PI));
    const NF_T *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT, *f2 = col + 3 * NF_NEXT;
    NF_T sine[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i);
        sine[i] = r * (e1 * e2[i]);
        square[i] = g1 * g1 + e1 * e1 * (g2[i] * g2[i] + e2[i] * e2[i] * ((1 - r) * (1 + r))) + NF_TINY;
    }
    NF_(angles)(sine, square, cosine, angle, 1);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T s = copysign(sine[i], sigma[i]), a = copysign(angle[i], sigma[i]);
        const NF_T inverse = 1 / cosine[i], g = g1 * g2[i];
        const NF_T value = NF_C(0.25) * sigma[i] + turn * (sigma[i] * a + g * s * s * inverse + f1 * f2[i] * cosine[i]);
        const NF_T rest = g * g * (1 + inverse * inverse) + g1 * g1 + e1 * e1 * (g2[i] * g2[i]);
        NF_SET(i, value, NF_C(0.25) + turn * (a + s * inverse * rest));
    }
}

/* phi(x) = a sin(b x + k), k given as cos 2k.  With E- = exp(-b^2 E[(u-v)^2]/2), E+ = exp(-b^2 E[(u+v)^2]/2):
 *     E[phi phi] = a^2/2 (E- - cos(2k) E+),   E[phi' phi'] = a^2 b^2/2 (E- + cos(2k) E+)
 * by the sum and the difference of E- and E+ = E- exp(-2 b^2 c).  Near c = q the differences q - c are exact.
 * numbers: 1/sqrt(q), q */
static void NF_(sine)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1];
    const NF_T b2 = (NF_T)(b * b), half = (NF_T)(-b * b / 2);
    const NF_T even = (NF_T)(a * a / 4 * (1 - in->param[2])), odd = (NF_T)(a * a / 4 * (1 + in->param[2]));
    const NF_T q1 = row[NF_NEXT], *q2 = col + NF_NEXT;
    NF_T minus[NF_WIDTH], plus[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        minus[i] = NF_(exponential_of)(half * ((q1 - sigma[i]) + (q2[i] - sigma[i])));
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        plus[i] = NF_(exponential_of)(half * ((q1 + sigma[i]) + (q2[i] + sigma[i])));
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T sum = minus[i] + plus[i], x = -2 * b2 * sigma[i], small = -minus[i] * NF_(small_expm1)(x);
        const NF_T difference = fabs(x) < NF_SMALL ? small : minus[i] - plus[i];
        NF_SET(i, even * sum + odd * difference, b2 * (odd * sum + even * difference));
    }
}

/* phi(x) = a exp(b x):  E[phi phi] = a^2 exp(b^2 E[(u+v)^2]/2),  E[phi' phi'] = b^2 E[phi phi].
 * numbers: 1/sqrt(q), q */
static void NF_(exponential)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1];
    const NF_T scale = (NF_T)(a * a), b2 = (NF_T)(b * b), half = (NF_T)(b * b / 2);
    const NF_T q1 = row[NF_NEXT], *q2 = col + NF_NEXT;
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T value = scale * NF_(exponential_of)(half * ((q1 + sigma[i]) + (q2[i] + sigma[i])));
        NF_SET(i, value, b2 * value);
    }
}

/* phi(x) = a exp(b x^2), b < 0.  With e^2 = -2bq/(1-2bq), g^2 = 1/(1-2bq), s = rho e1 e2, k^2 = 1-s^2 as in erf:
 *     E[phi phi] = a^2 g1 g2/k,   E[phi' phi'] = 2|b| a^2 s (g1 g2)^2/k^3
 * numbers: 1/sqrt(q), e, g */
static void NF_(gaussian)(NF_ARGS)
{
    const long double a = in->param[0], b = in->param[1];
    const NF_T scale = (NF_T)(a * a), twice = (NF_T)(2 * fabsl(b));
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT;
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i), s = copysign(r * (e1 * e2[i]), sigma[i]), g = g1 * g2[i];
        const NF_T square = g1 * g1 + e1 * e1 * (g2[i] * g2[i] + e2[i] * e2[i] * ((1 - r) * (1 + r))) + NF_TINY;
        const NF_T value = scale * g / sqrt(square);
        NF_SET(i, value, twice * s * g * value / square);
    }
}

/* phi(x) = max(x, 0)^n for n = 0 .. 5.  With theta = arccos rho,
 *     E[phi phi] = (q1 q2)^(n/2) J_n(theta)/2 pi,   J_n = P_n(rho) sin theta + Q_n(rho) (pi - theta)
 * times a plus k, the parameters being (n, a, k): the sign function is 4 J_0/2 pi - 1.  J_n is `angular`; the dual of the
 * derivative is n^2 times that of n-1, for n = 0 (a step) 0 by convention.  Cho & Saul (2009).
 * numbers: 1/sqrt(q), sqrt(q) */
static inline __attribute__((always_inline)) NF_T NF_(angular)(const int n, NF_T rho, NF_T sine, NF_T rest)
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

static inline __attribute__((always_inline)) void NF_(arc_cosine_of)(const int n, NF_ARGS)
{
    const NF_T scale = (NF_T)(in->param[1] / (2 * NF_PI)), slope_scale = scale * n * n, offset = (NF_T)in->param[2];
    const NF_T row_std = row[NF_NEXT], *col_std = col + NF_NEXT;
    NF_T r[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        r[i] = NF_ABS_RHO(i);
        square[i] = (1 - r[i]) * (1 + r[i]);
    }
    NF_(angles)(r, square, cosine, angle, 0);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T rho = copysign(r[i], sigma[i]), rest = (NF_T)(NF_PI / 2) + copysign(angle[i], sigma[i]);
        const NF_T std = row_std * col_std[i], std2 = n > 2 ? std * std : 0;
        const NF_T power = n < 2 ? 1 : n == 2 ? std : n == 3 ? std2 : n == 4 ? std2 * std : std2 * std2; /* n - 1 */
        const NF_T value = scale * (n > 0 ? power * std : 1) * NF_(angular)(n, rho, cosine[i], rest) + offset;
        NF_SET(i, value, n > 0 ? slope_scale * power * NF_(angular)(n - 1, rho, cosine[i], rest) : 0);
    }
}

static void NF_(arc_cosine)(NF_ARGS)
{
    switch ((int)in->param[0]) {
#define NF_ORDER(n)                                                                                                    \
    case n:                                                                                                            \
        NF_(arc_cosine_of)(n, in, row, col, sigma, theta);                                                   \
        break;
        NF_ORDER(0) NF_ORDER(1) NF_ORDER(2) NF_ORDER(3) NF_ORDER(4) NF_ORDER(5)
#undef NF_ORDER
    }
}

/* Division by the standard deviation over the features:  sigma <- sigma/sqrt(q1 q2), theta likewise.
 * numbers: 1/sqrt(q) */
static void NF_(layer_norm)(NF_ARGS)
{
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T slope = row[0] * col[i];
        NF_SET(i, copysign(NF_ABS_RHO(i), sigma[i]), slope);
    }
}

/* Masks that are independent for each point: they raise the diagonal by 1/(1-rate), the parameter, and nothing else. */
static void NF_(dropout)(NF_ARGS)
{
    const NF_T scale = NF_PRECISION == 80 ? (NF_T)in->param[0] : 1;
    (void)row, (void)col;
    NF_LAYER
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        NF_SET(i, scale * sigma[i], scale);
}

#if NF_PRECISION == 80

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
}

static void gelu_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)in, (void)rows;
    number[2] = 1 / sqrtl(1 + q);
    number[1] = sqrtl(q) * number[2];
    number[3] = q * number[2];
}

static void sine_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)in, (void)rows;
    number[1] = q;
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
}

static void arc_cosine_point(const nf_instr *in, long double q, int rows, long double *number)
{
    piecewise_linear_point(in, q, rows, number);
}

static void layer_norm_point(const nf_instr *in, long double q, int rows, long double *number)
{
    (void)in, (void)q, (void)rows, (void)number;
}

#endif
