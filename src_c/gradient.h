/* gradient.h: partial derivatives of the duals, and the program backwards over one row of a chunk.
 *
 * Included once per precision, after program.h; on the diagonal (points.c) one lane wide.  Derivatives of a dual at a
 * pair, all at fixed other arguments of (q1, q2, c): `price` is that of the value by c, which differs from the slope
 * where phi jumps.
 *
 * What is infinite at |rho| = 1 counts as 0 there: it multiplies the change of rho, and a point that correlates with
 * another perfectly goes on to do so.
 */
typedef struct {
    NF_T value[NF_WIDTH], slope[NF_WIDTH], price[NF_WIDTH]; /* E[phi phi], E[phi' phi'], d value/dc */
    NF_T bend[NF_WIDTH];                                    /* d slope/dc = E[phi'' phi''] */
    NF_T value_row[NF_WIDTH], value_column[NF_WIDTH];       /* q1 d value/dq1 = q1 E[phi''(u) phi(v)]/2, and of q2 */
    NF_T slope_row[NF_WIDTH], slope_column[NF_WIDTH];       /* the same of the slope */
} NF_(partials);

#define NF_PARTIALS                                                                                                    \
    const nf_instr *in, const NF_T *row, const NF_T *col, const NF_T *restrict sigma, NF_(partials) *restrict p

static void NF_(affine_partials)(NF_PARTIALS)
{
    const NF_T scale = NF_PRECISION == 80 && in->op == NF_DROPOUT ? (NF_T)in->param[0] : 1;
    (void)row, (void)col;
    memset(p, 0, sizeof *p);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        p->value[i] = scale * sigma[i];
        p->slope[i] = p->price[i] = scale;
    }
}

static void NF_(layer_norm_partials)(NF_PARTIALS)
{
    (void)in;
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T slope = row[0] * col[i], rho = copysign(NF_ABS_RHO(i), sigma[i]);
        p->value[i] = rho;
        p->slope[i] = p->price[i] = slope;
        p->bend[i] = 0;
        p->value_row[i] = p->value_column[i] = -NF_C(0.5) * rho;
        p->slope_row[i] = p->slope_column[i] = -NF_C(0.5) * slope;
    }
}

/* phi is homogeneous of degree n, so by Euler  q dK/dq = (n K - c K_c)/2,  q dK_c/dq = ((n-1) K_c - c K_cc)/2 for both
 * q; for n = 1:  K - c K_c = std1 std2 (a-b)^2 cos(alpha)/2 pi,  K_cc = (a-b)^2/(2 pi cos(alpha) std1 std2) */
static void NF_(piecewise_linear_partials)(NF_PARTIALS)
{
    const long double plus = in->param[0] + in->param[1], minus = in->param[0] - in->param[1];
    const NF_T even = (NF_T)(plus * plus / 4), odd = (NF_T)(minus * minus / (2 * NF_PI));
    const NF_T row_std = row[NF_NEXT], *col_std = col + NF_NEXT;
    NF_T r[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        r[i] = NF_ABS_RHO(i);
        square[i] = (1 - r[i]) * (1 + r[i]);
    }
    NF_(angles)(r, square, cosine, angle, 0);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T rho = copysign(r[i], sigma[i]), slope = even + odd * copysign(angle[i], sigma[i]);
        const NF_T std = row_std * col_std[i], inverse = cosine[i] > 0 ? 1 / cosine[i] : 0;
        p->value[i] = (odd * cosine[i] + rho * slope) * std;
        p->slope[i] = p->price[i] = slope;
        p->bend[i] = odd * inverse * row[0] * col[i];
        p->value_row[i] = p->value_column[i] = NF_C(0.5) * odd * cosine[i] * std;
        p->slope_row[i] = p->slope_column[i] = -NF_C(0.5) * odd * inverse * rho;
    }
}

static inline __attribute__((always_inline)) void NF_(arc_cosine_partials_of)(const int n, NF_PARTIALS)
{
    const NF_T scale = (NF_T)(in->param[1] / (2 * NF_PI)), offset = (NF_T)in->param[2];
    const NF_T row_std = row[NF_NEXT], *col_std = col + NF_NEXT;
    NF_T r[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH];
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        r[i] = NF_ABS_RHO(i);
        square[i] = (1 - r[i]) * (1 + r[i]);
    }
    NF_(angles)(r, square, cosine, angle, 0);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T rho = copysign(r[i], sigma[i]), rest = (NF_T)(NF_PI / 2) + copysign(angle[i], sigma[i]);
        const NF_T std = row_std * col_std[i], first = cosine[i] > 0 ? row[0] * col[i] / cosine[i] : 0;
        const NF_T std2 = std * std, std3 = std2 * std;
        const NF_T power = n < 3 ? 1 : n == 3 ? std : n == 4 ? std2 : std3; /* n - 2 */
        const NF_T slope_power = n < 2 ? 1 : power * std, value_power = n < 1 ? 1 : slope_power * std;
        const NF_T value = scale * value_power * NF_(angular)(n, rho, cosine[i], rest);
        const NF_T slope = n > 0 ? scale * n * n * slope_power * NF_(angular)(n - 1, rho, cosine[i], rest) : 0;
        const NF_T bend = n == 0   ? 0
                          : n == 1 ? scale * first
                                   : scale * n * n * (n - 1) * (n - 1) * power * NF_(angular)(n - 2, rho, cosine[i], rest);
        const NF_T price = n > 0 ? slope : scale * first;
        p->value[i] = value + offset;
        p->slope[i] = slope;
        p->price[i] = price;
        p->bend[i] = bend;
        p->value_row[i] = p->value_column[i] = NF_C(0.5) * (n * value - sigma[i] * price);
        p->slope_row[i] = p->slope_column[i] = NF_C(0.5) * ((n - 1) * slope - sigma[i] * bend);
    }
}

static void NF_(arc_cosine_partials)(NF_PARTIALS)
{
    switch ((int)in->param[0]) {
#define NF_ORDER(n)                                                                                                    \
    case n:                                                                                                            \
        NF_(arc_cosine_partials_of)(n, in, row, col, sigma, p);                                                        \
        break;
        NF_ORDER(0) NF_ORDER(1) NF_ORDER(2) NF_ORDER(3) NF_ORDER(4) NF_ORDER(5)
#undef NF_ORDER
    }
}

/* The sine and the square of the cosine of erf, gelu and gaussian, as in duals.h */
#define NF_SINES                                                                                                       \
    NF_SIMD                                                                                                            \
    for (int i = 0; i < NF_WIDTH; i++) {                                                                               \
        const NF_T r = NF_ABS_RHO(i);                                                                                  \
        rest[i] = (1 - r) * (1 + r);                                                                                   \
        sine[i] = r * (e1 * e2[i]);                                                                                    \
        square[i] = g1 * g1 + e1 * e1 * (g2[i] * g2[i] + e2[i] * e2[i] * rest[i]) + NF_TINY;                           \
    }

/* With the letters of duals.h and k^2 = 1-s^2:  q1 dK/dq1 = -e1^2 c K'/2,  q1 dK'/dq1 = -e1^2 K'/2 k^2,
 * dK'/dc = 4 b^4 (g1 g2)^2 c K'/k^2 */
static void NF_(erf_partials)(NF_PARTIALS)
{
    const long double a = in->param[0], b = in->param[1], c = in->param[2];
    const NF_T scale = (NF_T)(2 * a * a / NF_PI), offset = (NF_T)(c * c), b4 = (NF_T)(4 * b * b * b * b);
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], slope_scale = (NF_T)(4 * a * a * b * b / NF_PI * g1);
    const NF_T *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT;
    NF_T sine[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH], rest[NF_WIDTH];
    NF_SINES
    NF_(angles)(sine, square, cosine, angle, 1);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T inverse = 1 / cosine[i], slope = slope_scale * g2[i] * inverse, g = g1 * g2[i] * inverse;
        const NF_T value_part = -NF_C(0.5) * sigma[i] * slope, slope_part = -NF_C(0.5) * slope * inverse * inverse;
        p->value[i] = scale * copysign(angle[i], sigma[i]) + offset;
        p->slope[i] = p->price[i] = slope;
        p->bend[i] = b4 * g * g * sigma[i] * slope;
        p->value_row[i] = e1 * e1 * value_part;
        p->value_column[i] = e2[i] * e2[i] * value_part;
        p->slope_row[i] = e1 * e1 * slope_part;
        p->slope_column[i] = e2[i] * e2[i] * slope_part;
    }
}

/* With the letters of duals.h, k^2 = 1-s^2, g = g1 g2 and W = g^2 (1 + 1/k^2) + g1^2 + e1^2 g2^2, all over 2 pi:
 *     q1 dK/dq1 = e1^2 (f2 g1 k + f1 f2 (1-rho^2)/2k - g s^2/k (1 + 1/2k^2))
 *     q1 dK'/dq1 = -e1^2 s/k (1/2 + W/2k^2 + g1^2 (1 + g2^2/k^4)),   dK'/dc = g/k (1 + W/k^2 + 2 g^2 s^2/k^4) */
static void NF_(gelu_partials)(NF_PARTIALS)
{
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], f1 = row[3 * NF_NEXT], turn = (NF_T)(1 / (2 * NF_PI));
    const NF_T *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT, *f2 = col + 3 * NF_NEXT;
    NF_T sine[NF_WIDTH], square[NF_WIDTH], cosine[NF_WIDTH], angle[NF_WIDTH], rest[NF_WIDTH];
    (void)in;
    NF_SINES
    NF_(angles)(sine, square, cosine, angle, 1);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T s = copysign(sine[i], sigma[i]), a = copysign(angle[i], sigma[i]);
        const NF_T inverse = 1 / cosine[i], inverse2 = inverse * inverse, g = g1 * g2[i], u = g * inverse, f = f1 * f2[i];
        const NF_T W = g * g + u * u + g1 * g1 + e1 * e1 * (g2[i] * g2[i]);
        const NF_T common = NF_C(0.5) * f * rest[i] * inverse - s * s * u * (1 + NF_C(0.5) * inverse2);
        const NF_T half = NF_C(0.5) + NF_C(0.5) * W * inverse2, over = -turn * s * inverse, u2 = u * u * inverse2;
        const NF_T slope = NF_C(0.25) + turn * (a + s * inverse * W);
        p->value[i] = NF_C(0.25) * sigma[i] + turn * (sigma[i] * a + s * s * u + f * cosine[i]);
        p->slope[i] = p->price[i] = slope;
        p->bend[i] = turn * u * (1 + W * inverse2 + 2 * s * s * u2);
        p->value_row[i] = turn * e1 * e1 * (f2[i] * g1 * cosine[i] + common);
        p->value_column[i] = turn * e2[i] * e2[i] * (f1 * g2[i] * cosine[i] + common);
        p->slope_row[i] = over * e1 * e1 * (half + g1 * g1 + u2);
        p->slope_column[i] = over * e2[i] * e2[i] * (half + g2[i] * g2[i] + u2);
    }
}

/* phi'' = -b^2 phi (sine) or b^2 phi (exponential), curve = half of that factor:
 *     dK/dq = curve K,  dK'/dq = curve K',  dK'/dc = E[phi'' phi''] = b^4 K */
static inline __attribute__((always_inline)) void
    NF_(eigen_partials)(NF_T curve, const NF_T *row, const NF_T *col, NF_(partials) *restrict p)
{
    const NF_T q1 = row[NF_NEXT], *q2 = col + NF_NEXT;
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        p->price[i] = p->slope[i];
        p->bend[i] = 4 * curve * curve * p->value[i];
        p->value_row[i] = curve * q1 * p->value[i];
        p->value_column[i] = curve * q2[i] * p->value[i];
        p->slope_row[i] = curve * q1 * p->slope[i];
        p->slope_column[i] = curve * q2[i] * p->slope[i];
    }
}

/* E[phi phi] and E[phi' phi'] by the instruction itself */
static void NF_(values_of)(NF_PARTIALS)
{
    nf_instr alone = *in;
    alone.layer[0] = 1, alone.layer[1] = alone.layer[2] = alone.layer[3] = 0;
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        p->value[i] = sigma[i];
        p->slope[i] = 1;
    }
    NF_(instructions)[in->op](&alone, row, col, p->value, p->slope);
}

static void NF_(sine_partials)(NF_PARTIALS)
{
    NF_(values_of)(in, row, col, sigma, p);
    NF_(eigen_partials)((NF_T)(-in->param[1] * in->param[1] / 2), row, col, p);
}

static void NF_(exponential_partials)(NF_PARTIALS)
{
    NF_(values_of)(in, row, col, sigma, p);
    NF_(eigen_partials)((NF_T)(in->param[1] * in->param[1] / 2), row, col, p);
}

/* q1 dK/dq1 = -e1^2 K/2 k^2,  q1 dK'/dq1 = -3 e1^2 K'/2 k^2,  dK'/dc = 4 b^2 (g1 g2)^2 K/k^2 (1 + 3 s^2/k^2) */
static void NF_(gaussian_partials)(NF_PARTIALS)
{
    const long double a = in->param[0], b = in->param[1];
    const NF_T scale = (NF_T)(a * a), twice = (NF_T)(2 * fabsl(b));
    const NF_T e1 = row[NF_NEXT], g1 = row[2 * NF_NEXT], *e2 = col + NF_NEXT, *g2 = col + 2 * NF_NEXT;
    NF_T sine[NF_WIDTH], square[NF_WIDTH], rest[NF_WIDTH];
    NF_SINES
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T s = copysign(sine[i], sigma[i]), g = g1 * g2[i], over = 1 / square[i];
        const NF_T value = scale * g * sqrt(over), slope = twice * s * g * value * over, b2 = twice * g * twice * g;
        p->value[i] = value;
        p->slope[i] = p->price[i] = slope;
        p->bend[i] = b2 * value * over * (1 + 3 * s * s * over);
        p->value_row[i] = -NF_C(0.5) * e1 * e1 * value * over;
        p->value_column[i] = -NF_C(0.5) * e2[i] * e2[i] * value * over;
        p->slope_row[i] = -NF_C(1.5) * e1 * e1 * slope * over;
        p->slope_column[i] = -NF_C(1.5) * e2[i] * e2[i] * slope * over;
    }
}
#undef NF_SINES

/* The Hermite series V = sum_k a_k(q1) a_k(q2) rho^k, from the a_k in the table.  As 2 q da_k/dq = k a_k + w_k a_(k+2),
 * w_k^2 = (k+1)(k+2), with R = sum_k w_k a_(k+2)(q1) a_k(q2) rho^k
 *     dK'/dc = V''/q1 q2,   q1 dK/dq1 = R/2,   q1 dK'/dq1 = R'/2 sqrt(q1 q2)
 * at fixed c, derivatives by rho.  As in series.h the sums run over x = rho^2, one parity at a time, as many terms as the
 * largest |rho| needs.  On the diagonal (points.c) each instruction has its own way. */
#if NF_PRECISION != 80
typedef struct {
    NF_(vector) value, first, second, row, row_first, column, column_first;
} NF_(rates);

/* One parity: sums by Horner's rule with their derivatives by x (of the second one half), n terms of one vector of lanes */
static inline NF_(rates) NF_(rates_of)(int n, const NF_T (*a)[3], const NF_T *col, NF_(vector) x)
{
    NF_(rates) s = {0};
    NF_(vector) after = {0};
    for (int m = n - 1; m >= 0; m--) {
        const NF_(vector) b = *(const NF_(vector) *)(col + m * NF_NEXT);
        s.second = s.second * x + s.first;
        s.first = s.first * x + s.value;
        s.value = s.value * x + a[m][0] * b;
        s.row_first = s.row_first * x + s.row;
        s.row = s.row * x + a[m][1] * b;
        s.column_first = s.column_first * x + s.column;
        s.column = s.column * x + a[m][2] * after;
        after = b;
    }
    return s;
}

static void NF_(sums_partials)(NF_PARTIALS)
{
    const nf_terms *terms = in->data;
    NF_T a[2][NF_MAX_ROWS / 2][3], rho[NF_WIDTH], top = 0; /* a_k, w_k a_(k+2) and w_k a_k of the row */
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i);
        rho[i] = copysign(r, sigma[i]);
        top = r > top ? r : top;
    }
    const int place = (int)(top * NF_BINS), bin = place < NF_BINS ? place : NF_BINS - 1;
    const int *n = terms->terms + 2 * bin;
    const NF_T *numbers[2] = {row + 2 * NF_NEXT, row + (2 + terms->even) * NF_NEXT};
    const NF_T *columns[2] = {col + 2 * NF_NEXT, col + (2 + terms->even) * NF_NEXT};
    for (int parity = 0; parity < 2; parity++)
        for (int m = 0; m < n[parity]; m++) {
            const int k = 2 * m + parity;
            const NF_T w = sqrt((NF_T)(k + 1) * (k + 2)), here = numbers[parity][m * NF_NEXT];
            a[parity][m][0] = here;
            a[parity][m][1] = m + 1 < n[parity] ? w * numbers[parity][(m + 1) * NF_NEXT] : 0;
            a[parity][m][2] = w * here;
        }
    for (int i = 0; i < NF_WIDTH; i += NF_(VECTOR)) {
#define NF_AT(array) (*(NF_(vector) *)((array) + i))
        const NF_(vector) r = NF_AT(rho), x = r * r, over = row[0] * *(const NF_(vector) *)(col + i);
        const NF_(vector) scale = *(const NF_(vector) *)(col + NF_NEXT + i);
        const NF_(rates) e = NF_(rates_of)(n[0], a[0], columns[0] + i, x);
        const NF_(rates) o = NF_(rates_of)(n[1], a[1], columns[1] + i, x);
        NF_AT(p->value) = e.value + r * o.value;
        NF_AT(p->slope) = NF_AT(p->price) = (2 * r * e.first + o.value + 2 * x * o.first) * row[NF_NEXT] * scale;
        NF_AT(p->bend) = (2 * e.first + 8 * x * e.second + r * (6 * o.first + 8 * x * o.second)) * over * over;
        NF_AT(p->value_row) = NF_C(0.5) * (e.row + r * o.row);
        NF_AT(p->value_column) = NF_C(0.5) * (e.column + r * o.column);
        NF_AT(p->slope_row) = NF_C(0.5) * over * (2 * r * e.row_first + o.row + 2 * x * o.row_first);
        NF_AT(p->slope_column) = NF_C(0.5) * over * (2 * r * e.column_first + o.column + 2 * x * o.column_first);
#undef NF_AT
    }
}

static void NF_(polynomial_partials)(NF_PARTIALS)
{
    NF_(sums_partials)(in, row, col, sigma, p);
}

/* The point's 1/sqrt(q), a_0, and as above q da_0/dq = a_2/sqrt(2), from its numbers */
static nf_near_point NF_(near_point)(const nf_terms *terms, const NF_T *numbers)
{
    const double half = sqrt(0.5);
    return terms->even ? (nf_near_point){numbers[0], numbers[2 * NF_NEXT], half * numbers[3 * NF_NEXT]}
                       : (nf_near_point){numbers[0], 0, 0};
}

/* Beyond the reach the tables are differentiated.  They hang on (q1, q2, theta): at fixed c, with c_theta = -sin(theta)
 * sqrt(q1 q2) for rho > 0, the derivatives by log q are less those by c times c/2. */
static void NF_(series_partials)(NF_PARTIALS)
{
    const nf_terms *terms = in->data;
    nf_near sum[2];
    NF_(sums_partials)(in, row, col, sigma, p);
    for (int i = 0; i < NF_WIDTH; i++) {
        const double r = NF_ABS_RHO(i), sign = copysign(1.0, (double)sigma[i]);
        if (!(r > terms->reach))
            continue;
        const nf_near_point x = NF_(near_point)(terms, row), y = NF_(near_point)(terms, col + i);
        if (!near_panels(1, in->data, x, y, sign * r, sum))
            continue;
        const double sine = sqrt((1 - r) * (1 + r));
        const double bend = sine > 0 ? -sign * sum[1].theta / sine * x.inverse * y.inverse : 0, half = 0.5 * sigma[i];
        p->value[i] = (NF_T)sum[0].of;
        p->slope[i] = p->price[i] = (NF_T)sum[1].of;
        p->bend[i] = (NF_T)bend;
        p->value_row[i] = (NF_T)(sum[0].row - half * sum[1].of);
        p->value_column[i] = (NF_T)(sum[0].column - half * sum[1].of);
        p->slope_row[i] = (NF_T)(sum[1].row - half * bend);
        p->slope_column[i] = (NF_T)(sum[1].column - half * bend);
    }
}

static void NF_(kinks_partials)(NF_PARTIALS)
{
    const nf_terms *terms = in->data;
    NF_(sums_partials)(in, row, col, sigma, p);
    for (int i = 0; i < NF_WIDTH; i++) {
        const double r = NF_ABS_RHO(i);
        if (!(r > terms->reach))
            continue;
        const double sine = sqrt((1 - r) * (1 + r)), rho = copysign(r, (double)sigma[i]);
        double value, slope, of_row[3], of_column[3];
        near_field(in, (nf_near_point){row[0], 0, 0}, (nf_near_point){col[i], 0, 0}, rho, &value, &slope);
        kinks_rates(in->data, row[0], col[i], rho, sine, of_row);
        kinks_rates(in->data, col[i], row[0], rho, sine, of_column);
        p->value[i] = (NF_T)value;
        p->slope[i] = p->price[i] = (NF_T)slope;
        p->value_row[i] = (NF_T)of_row[0];
        p->slope_row[i] = (NF_T)of_row[1];
        p->bend[i] = (NF_T)of_row[2];
        p->value_column[i] = (NF_T)of_column[0];
        p->slope_column[i] = (NF_T)of_column[1];
    }
}
#else
static void NF_(diagonal_partials)(NF_PARTIALS, nf_rate *rate)
{
    long double rates[2];
    (void)col;
    rate(in, *sigma, row, rates);
    *p = (NF_(partials)){.value = {row[in->n_rows]}, .slope = {row[in->n_rows + 1]}};
    p->value_row[0] = rates[0];
    p->slope_row[0] = rates[1];
}
#define NF_ON_DIAGONAL(name)                                                                                           \
    static void NF_(name##_partials)(NF_PARTIALS)                                                                      \
    {                                                                                                                  \
        NF_(diagonal_partials)(in, row, col, sigma, p, name##_rate);                                                   \
    }
NF_ON_DIAGONAL(polynomial)
NF_ON_DIAGONAL(kinks)
NF_ON_DIAGONAL(series)
#undef NF_ON_DIAGONAL
#endif

/* ---- by number ------------------------------------------------------------------------------------------- */

typedef void NF_(partials_function)(NF_PARTIALS);
#define NF_PLAIN(NAME, name, function, params, rows) [NF_##NAME] = NF_(affine_partials),
#define NF_POINTER(NAME, name, function, params, rows) [NF_##NAME] = NF_(name##_partials),
static NF_(partials_function) *const NF_(partials_of)[NF_N_OPS] = {NF_STRUCTURE(NF_PLAIN) NF_DUALS(NF_POINTER)};
#undef NF_PLAIN
#undef NF_POINTER

#undef NF_PARTIALS
#undef NF_ABS_RHO
#undef NF_LAYER
#undef NF_SET
