/* near.h: duals beyond the reach of the Hermite series, in double.  Included once per instruction set, before series.h.
 */
#ifndef NF_NEAR_H
#define NF_NEAR_H

enum { NEAR_ORDER = 16 };

#define NEAR_T double
#define NEAR_EPSILON DBL_EPSILON
#define NEAR_(name) name##_double
#include "near_powers.h"
#undef NEAR_T
#undef NEAR_
#undef NEAR_EPSILON
#define NEAR_T long double
#define NEAR_EPSILON LDBL_EPSILON
#define NEAR_(name) name##_long
#include "near_powers.h"
#undef NEAR_EPSILON
#undef NEAR_T
#undef NEAR_

/* 1/sqrt(q), E phi and its derivative with respect to log q */
typedef struct {
    double inverse, mean, mean_rate;
} nf_near_point;

/* The lanes of a chunk beyond the reach: where they are in it, rho, 1 - |rho|, and 1/sqrt(q) of the columns' points.  mean and
 * mean_rate: as in nf_near_point, where some point is below all panels (near_below). */
typedef struct {
    int n, lane[NF_LANES + 1]; /* one more, which near_add may write to */
    double rho[NF_LANES + 1], versine[NF_LANES + 1], inverse[NF_LANES + 1], mean[NF_LANES], mean_rate[NF_LANES];
} nf_near_lanes;

/* Appends a lane if it is beyond the reach, without a branch. */
static inline void near_add(nf_near_lanes *lanes, int lane, int beyond, double rho, double inverse)
{
    lanes->lane[lanes->n] = lane;
    lanes->rho[lanes->n] = rho;
    lanes->versine[lanes->n] = 1 - fabs(rho);
    lanes->inverse[lanes->n] = inverse;
    lanes->n += beyond;
}

/* Their duals E[phi phi] (0) and E[phi' phi'] (1), with the partial derivatives with respect to log q1, |rho| and log
 * q2.  found: whether there is a table. */
typedef struct {
    unsigned char found[NF_LANES];
    double of[2][NF_LANES], row[2][NF_LANES], rho[2][NF_LANES], column[2][NF_LANES];
} nf_near;

typedef double near_vector __attribute__((vector_size(NF_VECTOR_BYTES), aligned(sizeof(double)), may_alias));
enum { NEAR_VECTOR = NF_VECTOR_BYTES / sizeof(double), NEAR_VECTORS = 4, NEAR_BLOCK = NEAR_VECTORS * NEAR_VECTOR };

/* log2 of a normal number, to 1e-15: in a form that compilers vectorise */
static inline __attribute__((always_inline)) double near_log2(double x)
{
    uint64_t bits, exponent;
    double mantissa, power;
    memcpy(&bits, &x, sizeof bits);
    bits -= 0x3fe6a09e667f3bcdULL; /* of sqrt(1/2) */
    exponent = ((bits >> 52) + 1024) & 2047;
    bits = (bits & 0x000fffffffffffffULL) + 0x3fe6a09e667f3bcdULL;
    exponent |= 0x4330000000000000ULL; /* 2^52 + exponent as a double */
    memcpy(&mantissa, &bits, sizeof bits);
    memcpy(&power, &exponent, sizeof exponent);
    const double s = (mantissa - 1) / (mantissa + 1), z = s * s;
    double sum = 1.0 / 19;
    sum = sum * z + 1.0 / 17;
    sum = sum * z + 1.0 / 15;
    sum = sum * z + 1.0 / 13;
    sum = sum * z + 1.0 / 11;
    sum = sum * z + 1.0 / 9;
    sum = sum * z + 1.0 / 7;
    sum = sum * z + 1.0 / 5;
    sum = sum * z + 1.0 / 3;
    sum = sum * z + 1.0;
    return (power - 4503599627370496.0 - 1024) + sum * s * 2.885390081777926814719849362;
}

/* Below the lowest panel phi(x) - phi(0) goes like sqrt(q), unless phi jumps at 0. */
static double shrink_of(const nf_panels *phi, double inverse)
{
    const double least = exp2(phi->first / phi->per_unit);
    return phi->jumps_at_zero || least * inverse <= 1 ? 1 : 1 / (least * inverse);
}

static inline int near_below(const nf_panels *phi, nf_near_point x, const nf_near_lanes *lanes)
{
    int below = x.inverse > phi->most_inverse;
    for (int k = 0; k < lanes->n; k++)
        below |= lanes->inverse[k] > phi->most_inverse;
    return below;
}

/* Panel and position on it of a point */
static inline __attribute__((always_inline)) double panel_of(const nf_panels *phi, double inverse, double *xi)
{
    const double place = -phi->per_unit * near_log2(inverse) - phi->first;
    double panel = floor(place);
    panel = panel < 0 ? 0 : panel > phi->n - 1 ? phi->n - 1 : panel;
    const double at = 2 * (place - panel) - 1;
    *xi = at < -1 ? -1 : at > 1 ? 1 : at;
    return panel;
}

/* T_k(x), k < n, and their derivatives */
static void chebyshev(int n, double x, double *t, double *rate)
{
    t[0] = 1, rate[0] = 0;
    for (int k = 1; k < n; k++) {
        t[k] = k == 1 ? x : 2 * x * t[k - 1] - t[k - 2];
        rate[k] = k == 1 ? 1 : 2 * (t[k - 1] + x * rate[k - 1]) - rate[k - 2];
    }
}

enum { NEAR_BLOCK_SIZE = 2 * NF_MAX_NEAR * NF_MAX_NEAR };
typedef near_vector near_vectors[NEAR_VECTORS];

/* sum[w] = sum_j coefficients[w][j] t[j] for both duals, whose coefficients are `apart` */
static inline __attribute__((always_inline)) void near_dot(int r, const double *coefficients, int apart,
                                                           const near_vectors *t, near_vectors sum[2])
{
    for (int w = 0; w < 2; w++)
        for (int v = 0; v < NEAR_VECTORS; v++)
            sum[w][v] = coefficients[w * apart] * t[0][v];
    for (int j = 1; j < r; j++)
        for (int w = 0; w < 2; w++)
            for (int v = 0; v < NEAR_VECTORS; v++)
                sum[w][v] += coefficients[w * apart + j] * t[j][v];
}

/* T_k(x), k < n, and, if needed, their derivatives */
static inline __attribute__((always_inline)) void near_chebyshev(const int rates, int n, const double *x,
                                                                 near_vectors *t, near_vectors *d)
{
    for (int v = 0; v < NEAR_VECTORS; v++) {
        const near_vector place = *(const near_vector *)(x + v * NEAR_VECTOR), one = 1 - (near_vector){0};
        near_vector before = {0}, rate_before = {0};
        t[0][v] = one;
        d[0][v] = before;
        for (int k = 1; k < n; k++) {
            const double twice = k > 1 ? 2 : 1;
            t[k][v] = twice * place * t[k - 1][v] - before;
            before = t[k - 1][v];
            if (rates) {
                d[k][v] = twice * (t[k - 1][v] + place * d[k - 1][v]) - rate_before;
                rate_before = d[k - 1][v];
            }
        }
    }
}

/* The table `block` of one panel at n lanes, in blocks of NEAR_BLOCK: at y and xi2, for one xi1.  First the Chebyshev
 * polynomials in xi1 are summed over, once for all lanes. */
static inline __attribute__((always_inline)) void near_cell(const int rates, const nf_panels *phi, const double *block,
                                                            const double *t1, const double *d1, int n, const double *y,
                                                            const double *xi2, nf_near *sum)
{
    const int r = phi->degree_near, m = phi->degree_angle, size = 2 * m * r;
    double value[NEAR_BLOCK_SIZE], rate[NEAR_BLOCK_SIZE];
    for (int k = 0; k < size; k++)
        value[k] = block[k], rate[k] = 0; /* T_0 = 1 */
    for (int i = 1; i < r; i++) {
        const double t = t1[i], d = d1[i], *from = block + (int64_t)i * size;
        NF_SIMD
        for (int k = 0; k < size; k++) {
            value[k] += t * from[k];
            if (rates)
                rate[k] += d * from[k];
        }
    }
    for (int at = 0; at < n; at += NEAR_BLOCK) {
        near_vectors t2[NF_MAX_NEAR], d2[NF_MAX_NEAR], t[NF_MAX_NEAR], d[NF_MAX_NEAR];
        near_vectors of[2] = {0}, row[2] = {0}, turn[2] = {0}, column[2] = {0};
        near_chebyshev(rates, r, xi2 + at, t2, d2);
        near_chebyshev(rates, m, y + at, t, d);
        for (int l = 0; l < m; l++) {
            near_vectors inner[2];
            near_dot(r, value + l * r, m * r, (const near_vectors *)t2, inner);
            for (int w = 0; w < 2; w++)
                for (int v = 0; v < NEAR_VECTORS; v++) {
                    of[w][v] += t[l][v] * inner[w][v];
                    if (rates)
                        turn[w][v] += d[l][v] * inner[w][v];
                }
            if (rates) {
                near_dot(r, rate + l * r, m * r, (const near_vectors *)t2, inner);
                for (int w = 0; w < 2; w++)
                    for (int v = 0; v < NEAR_VECTORS; v++)
                        row[w][v] += t[l][v] * inner[w][v];
                near_dot(r, value + l * r, m * r, (const near_vectors *)d2, inner);
                for (int w = 0; w < 2; w++)
                    for (int v = 0; v < NEAR_VECTORS; v++)
                        column[w][v] += t[l][v] * inner[w][v];
            }
        }
        for (int w = 0; w < 2; w++)
            for (int v = 0; v < NEAR_VECTORS; v++) {
                const int to = at + v * NEAR_VECTOR;
                *(near_vector *)(sum->of[w] + to) = of[w][v];
                if (rates) {
                    *(near_vector *)(sum->row[w] + to) = row[w][v];
                    *(near_vector *)(sum->rho[w] + to) = turn[w][v];
                    *(near_vector *)(sum->column[w] + to) = column[w][v];
                }
            }
    }
}

/* Lanes with a point of a variance below all panels: phi(u) = zero + s1 (phi(u/s1) - zero), and likewise phi(v) */
static void near_shrink(const int rates, const nf_panels *phi, nf_near_point x, const nf_near_lanes *lanes,
                        nf_near *sum)
{
    const double zero = phi->zero[0], m1 = x.mean - zero, s1 = shrink_of(phi, x.inverse);
    for (int k = 0; k < lanes->n; k++) {
        const double s2 = shrink_of(phi, lanes->inverse[k]), m2 = lanes->mean[k] - zero;
        double *of = &sum->of[0][k], *row = &sum->row[0][k], *column = &sum->column[0][k];
        if (!(s1 < 1 || s2 < 1))
            continue;
        *of = zero * (zero + m1 + m2) + s1 * s2 * (*of - zero * (zero + m1 / s1 + m2 / s2));
        if (!rates)
            continue;
        *row = s1 < 1 ? (*of - zero * lanes->mean[k]) / 2 : zero * x.mean_rate + s2 * (*row - zero * x.mean_rate);
        *column = s2 < 1 ? (*of - zero * x.mean) / 2
                         : zero * lanes->mean_rate[k] + s1 * (*column - zero * lanes->mean_rate[k]);
        sum->row[1][k] = s1 < 1 ? 0 : sum->row[1][k];
        sum->column[1][k] = s2 < 1 ? 0 : sum->column[1][k];
    }
}

/* The table of a cell, its panel of y, and where in sum it goes: lane pick[k], or k where pick is NULL. */
static inline __attribute__((always_inline)) void near_fill(const int rates, const nf_panels *phi, int p1, int cell,
                                                            const double *t1, const double *d1, int n, const int *pick,
                                                            const double *y, double *place, double *xi2, nf_near *sum)
{
    const int r = phi->degree_near, m = phi->degree_angle, angle = cell % phi->n_angle, side = cell / phi->n_angle;
    const int p2 = side % phi->n, sign = side / phi->n;
    const double *block = phi->near ? phi->near[(sign * phi->n + p1) * phi->n + p2] : NULL;
    nf_near part;
    if (!block) {
        __atomic_store_n(&phi->missing[p1 * phi->n + p2], 1, __ATOMIC_RELAXED);
        for (int k = 0; k < n; k++)
            sum->found[pick ? pick[k] : k] = 0;
        return;
    }
    const double low = phi->edge[angle], scale = 2 / (phi->edge[angle + 1] - low), by_log = phi->per_unit / log(2);
    NF_SIMD
    for (int k = 0; k < n; k++)
        place[k] = (place[k] - low) * scale - 1;
    for (int k = n; k % NEAR_BLOCK; k++)
        place[k] = xi2[k] = 0;
    near_cell(rates, phi, block + (int64_t)angle * r * 2 * m * r, t1, d1, n, place, xi2, pick ? &part : sum);
    for (int k = 0; k < n; k++)
        sum->found[pick ? pick[k] : k] = 1;
    for (int w = 0; w < 2 && (pick || rates); w++)
        for (int k = 0; k < n; k++) {
            const int to = pick ? pick[k] : k;
            const nf_near *from = pick ? &part : sum;
            sum->of[w][to] = from->of[w][k];
            if (rates) {
                sum->row[w][to] = by_log * from->row[w][k];
                sum->column[w][to] = by_log * from->column[w][k];
                sum->rho[w][to] = -scale * from->rho[w][k] / (!phi->root ? 1 : y[to] > 0 ? y[to] : INFINITY);
            }
        }
}

/* The tables at all lanes.  rates, a compile-time constant: whether the derivatives are needed.  Lanes of a cell (sign
 * of rho, panel of q2, panel of y) share a table and are evaluated together. */
static inline __attribute__((always_inline)) void near_panels(const int rates, const nf_panels *phi, nf_near_point x,
                                                              const nf_near_lanes *lanes, nf_near *sum)
{
    const int n = lanes->n;
    double xi1, xi2[NF_LANES], y[NF_LANES], t1[NF_MAX_NEAR], d1[NF_MAX_NEAR], cells[NF_LANES], place[NF_LANES];
    int cell[NF_LANES], differ = 0;
    const int p1 = (int)panel_of(phi, x.inverse, &xi1);
    const double n_angle = phi->n_angle, turn = phi->n, root = phi->root;
    if (phi->near)
        chebyshev(phi->degree_near, xi1, t1, d1);
    NF_SIMD
    for (int k = 0; k < n; k++) {
        place[k] = y[k] = root ? sqrt(2 * lanes->versine[k]) : lanes->versine[k];
        cells[k] = n_angle * ((lanes->rho[k] < 0 ? turn : 0) + panel_of(phi, lanes->inverse[k], &xi2[k]));
    }
    for (int e = 1; e < phi->n_angle; e++) {
        const double edge = phi->edge[e];
        NF_SIMD
        for (int k = 0; k < n; k++)
            cells[k] += y[k] > edge ? 1 : 0;
    }
    NF_SIMD
    for (int k = 0; k < n; k++) {
        cell[k] = (int)cells[k];
        differ |= cell[k] != (int)cells[0];
    }
    if (!differ)
        near_fill(rates, phi, p1, cell[0], t1, d1, n, NULL, y, place, xi2, sum);
    for (int first = 0; first < n && differ; first++) {
        const int here = cell[first];
        int count = 0, pick[NF_LANES + 1];
        double places[NF_LANES + 1], columns[NF_LANES + 1];
        if (here < 0)
            continue;
        for (int k = first; k < n; k++) {
            const int among = cell[k] == here;
            pick[count] = k;
            places[count] = y[k];
            columns[count] = xi2[k];
            cell[k] = among ? -1 : cell[k];
            count += among;
        }
        near_fill(rates, phi, p1, here, t1, d1, count, pick, y, places, columns, sum);
    }
    if (near_below(phi, x, lanes))
        near_shrink(rates, phi, x, lanes, sum);
}

static double angle_of(double versine)
{
    return 2 * asin(sqrt(0.5 * versine));
}

/* E[p p] and E[p' p'].  versine = 1 - |rho| may be known better than from rho. */
static void powers_of_pair(const nf_powers *p, double inverse1, double inverse2, double rho, double versine,
                           double *value, double *slope)
{
    const double q1 = 1 / (inverse1 * inverse1), q2 = 1 / (inverse2 * inverse2), turn = rho < 0 ? -1 : 1;
    if (fmin(q1, q2) >= p->from && fmax(q1, q2) <= p->upto) {
        double sum[2];
        near_powers_double(0, p, q1, q2, angle_of(versine), turn, sum);
        *value = sum[0], *slope = sum[1];
    } else {
        long double sum[2];
        near_powers_long(0, p, q1, q2, angle_of(versine), turn, sum);
        *value = (double)sum[0], *slope = (double)sum[1];
    }
}

/* Adds the powers' part of the derivatives at lane k.  By Stein's lemma, at fixed theta, q1 dK/dq1 = E[u p'(u) p(v)]/2;
 * those of K' by differences in long double, at distances relative to theta, where it bends. */
static void powers_rates(const nf_powers *p, double inverse1, const nf_near_lanes *lanes, int k, nf_near *sum)
{
    static const double weight[2] = {8.0 / 12, -1.0 / 12};
    const double inverse2 = lanes->inverse[k], turn = lanes->rho[k] < 0 ? -1 : 1;
    const long double q1 = 1 / (inverse1 * inverse1), q2 = 1 / (inverse2 * inverse2);
    const long double theta = angle_of(lanes->versine[k]), least = 1e-9L; /* below it K' does not bend */
    const long double by_log = 1e-3L * fmaxl(theta, 1e-7L), by_theta = 3e-3L * theta, sine = sinl(theta);
    long double of[4];
    near_powers_long(1, p, q1, q2, theta, turn, of);
    sum->row[0][k] += (double)of[2] / 2;
    sum->column[0][k] += (double)of[3] / 2;
    for (int i = 0; i < 4; i++) {
        const int far = 1 + i / 2, side = i & 1 ? -1 : 1;
        const long double scale = side * weight[far - 1], factor = expl(side * far * by_log);
        long double row[2], column[2], turned[2];
        near_powers_long(0, p, q1 * factor, q2, theta, turn, row);
        near_powers_long(0, p, q1, q2 * factor, theta, turn, column);
        sum->row[1][k] += (double)(scale * row[1] / by_log);
        sum->column[1][k] += (double)(scale * column[1] / by_log);
        if (theta > least) { /* d/d|rho| = -1/sin(theta) d/dtheta */
            near_powers_long(0, p, q1, q2, theta + side * far * by_theta, turn, turned);
            sum->rho[1][k] -= (double)(scale * turned[1] / (by_theta * sine));
        }
    }
}

/* Tables and, where phi has them, truncated powers, as near_panels.  Of sum->rho[0], which nobody needs, the powers'
 * part is left out. */
static inline __attribute__((always_inline)) void near_sums(const int rates, const nf_panels *phi, nf_near_point x,
                                                            const nf_near_lanes *lanes, nf_near *sum)
{
    const nf_powers *p = phi->powers;
    if (!p || !p->exact) {
        near_panels(rates, phi, x, lanes, sum);
    } else {
        memset(sum, 0, sizeof *sum);
        memset(sum->found, 1, sizeof sum->found);
    }
    for (int k = 0; p && k < lanes->n; k++) {
        double value, slope;
        /* below all panels the series serves: no kink is so near to 0 */
        sum->found[k] &= shrink_of(phi, x.inverse) == 1 && shrink_of(phi, lanes->inverse[k]) == 1;
        if (!sum->found[k])
            continue;
        powers_of_pair(p, x.inverse, lanes->inverse[k], lanes->rho[k], lanes->versine[k], &value, &slope);
        sum->of[0][k] += value;
        sum->of[1][k] += slope;
        if (rates)
            powers_rates(p, x.inverse, lanes, k, sum);
    }
}

/* One pair beyond the reach, whose versine = 1 - |rho| may be known better than from rho.  0: there is no table, and
 * nothing is changed. */
static inline int near_field(const nf_instr *in, nf_near_point x, nf_near_point y, double rho, double versine,
                             double *value, double *slope)
{
    nf_near_lanes lanes;
    nf_near sum;
    if (in->op == NF_KINKS) {
        const nf_kinks *phi = in->data;
        powers_of_pair(phi->powers, x.inverse, y.inverse, rho, versine, value, slope);
        return 1;
    }
    if (in->op != NF_SERIES)
        return 0;
    lanes.n = 0;
    near_add(&lanes, 0, 1, rho, y.inverse);
    lanes.versine[0] = versine, lanes.mean[0] = y.mean, lanes.mean_rate[0] = y.mean_rate;
    near_sums(0, in->data, x, &lanes, &sum);
    if (sum.found[0])
        *value = sum.of[0][0], *slope = sum.of[1][0];
    return sum.found[0];
}

/* For a piecewise linear phi, with s1 = std of u, by Price's theorem and by parts: the kinks t_i with jumps c_i give
 *     q1 dK/dq1 = q1/2 sum_i c_i p(t_i) E[phi(v) | u = t_i],   dK'/dc = sum_i c_i p(t_i) sum_j c_j p(t_j | u = t_i)
 *     q1 dK'/dq1 = 1/2 sum_i c_i p(t_i) (t_i E[phi'(v) | u = t_i] - c sum_j c_j p(t_j | u = t_i))
 * p the densities of u, and of v given u.  rate: these three, in the order value, slope, dK'/dc. */
static inline void kinks_rates(const nf_kinks *phi, double inverse1, double inverse2, double rho, double sine,
                               double *rate)
{
    rate[0] = rate[1] = rate[2] = 0;
    if (!(inverse1 > 0 && inverse2 > 0))
        return;
    const double std1 = 1 / inverse1, std2 = 1 / inverse2, spread = std2 * sine;
    for (int i = 0; i < phi->n; i++) {
        const double t = (double)phi->at[i], weight = (double)phi->jump[i] * density_double(t * inverse1) * inverse1;
        const double mean = rho * std2 * inverse1 * t;
        double value = (double)phi->offset + (double)phi->slope * mean, slope = (double)phi->slope, together = 0;
        for (int j = 0; j < phi->n && weight != 0; j++) {
            const double beyond = mean - (double)phi->at[j], jump = (double)phi->jump[j];
            const double rounding = 1e-15 * fabs(t); /* at |rho| = 1 a kink meets itself */
            double share = beyond > rounding ? 1 : beyond < -rounding ? 0 : 0.5, p = 0;
            if (spread > 0) {
                share = upper_tail_double(-beyond / spread);
                p = density_double(beyond / spread) / spread;
            }
            value += jump * (beyond * share + spread * spread * p);
            slope += jump * share;
            together += jump * p;
        }
        rate[0] += 0.5 * weight * std1 * std1 * value;
        rate[1] += 0.5 * weight * (t * slope - rho * std1 * std2 * together);
        rate[2] += weight * together;
    }
}

#endif
