/* duals.h: the instructions of a kernel program, one C function each, for one chunk of lanes.
 *
 * Included once per precision.  Every function has the same arguments:
 *     in          the instruction and its parameters
 *     row, ldr    point table entries of the one row point:  row[k*ldr], k-th number of this instruction
 *     col, ldc    those of the NF_WIDTH column points:       col[k*ldc + i]
 *     sigma, theta  (NF_WIDTH) the pair state, in place; they may not overlap each other or the tables
 * A dual replaces sigma by E[phi(u)phi(v)] and multiplies theta by E[phi'(u)phi'(v)], where (u,v) is Gaussian with
 * variances q1 (row), q2 (column) and covariance sigma.  Number 0 of a dual is 1/sqrt(q); a point of variance 0 has 0
 * there and so correlates with nothing.
 *
 * f_point(in, q, number): the other numbers of a dual for one point of variance q; written once, in long double.
 */
#define NF_ARGS                                                                                                        \
    const nf_instr *in, const NF_T *row, int64_t ldr, const NF_T *col, int64_t ldc, NF_T *restrict sigma,              \
        NF_T *restrict theta

/* |rho|; its sign is that of sigma.  Rounding may push a correlation past 1, which the layers after would amplify: that
 * counts as 1.  Multiplied in this order nothing overflows, however small the variances are. */
#if NF_PRECISION == 80 /* the diagonal: a point has correlation 1 with itself, exactly */
#define NF_ABS_RHO(i) ((NF_T)(row[0] > 0))
#else
#define NF_ABS_RHO(i) NF_(at_most_one)(fabs(sigma[i]) * row[0] * col[i])
#endif
static inline NF_T NF_(at_most_one)(NF_T r)
{
    return r > 1 ? 1 : r;
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
    (void)row, (void)ldr, (void)col, (void)ldc;
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
    const NF_T row_std = row[ldr], *col_std = col + ldc;
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
    const NF_T e1 = row[ldr], g1 = row[2 * ldr], slope = (NF_T)(4 * a * a * b * b / NF_PI * g1);
    const NF_T *e2 = col + ldc, *g2 = col + 2 * ldc;
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

#if NF_PRECISION == 80

static void piecewise_linear_point(const nf_instr *in, long double q, long double *number)
{
    (void)in;
    number[1] = sqrtl(q);
}

static void erf_point(const nf_instr *in, long double q, long double *number)
{
    const long double b = in->param[1];
    number[2] = 1 / sqrtl(1 + 2 * b * b * q);
    number[1] = fabsl(b) * sqrtl(2 * q) * number[2];
}

#endif

typedef void NF_(instruction)(NF_ARGS);
#define NF_POINTER(NAME, function, params, rows) NF_(function),
static NF_(instruction) *const NF_(instructions)[NF_N_OPS] = {NF_AFFINE_LINE(NF_POINTER) NF_DUALS(NF_POINTER)};
#undef NF_POINTER

/* dot = a E[phi' phi']: what the instruction multiplies theta by, sigma untouched */
static void NF_(slope_of)(const nf_instr *in, const NF_T *row, int64_t ldr, const NF_T *col, int64_t ldc,
                          const NF_T *sigma, NF_T *dot)
{
    NF_T spare[NF_WIDTH];
    nf_instr slope = *in;
    slope.layer[1] = slope.layer[2] = slope.layer[3] = 0;
    for (int i = 0; i < NF_WIDTH; i++) {
        spare[i] = sigma[i];
        dot[i] = 1;
    }
    NF_(instructions)[in->op](&slope, row, ldr, col, ldc, spare, dot);
}

#undef NF_ABS_RHO
#undef NF_LAYER
#undef NF_SET
