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

/* Panel of a point, part of the panel and position on it */
static inline __attribute__((always_inline)) double panel_of(const nf_panels *phi, double inverse, double *part,
                                                             double *xi)
{
    const double place = -phi->per_unit * near_log2(inverse) - phi->first, last = phi->n - 1, parts = phi->parts;
    double panel = floor(place);
    panel = panel < 0 ? 0 : panel > last ? last : panel;
    const double along = parts * (place - panel);
    double here = floor(along);
    here = here < 0 ? 0 : here > parts - 1 ? parts - 1 : here;
    const double at = 2 * (along - here) - 1;
    *part = here;
    *xi = at < -1 ? -1 : at > 1 ? 1 : at;
    return panel;
}

typedef double near_four __attribute__((vector_size(32), aligned(8), may_alias));
enum { NEAR_FOURS = NF_MAX_NEAR / 4 };

/* Which derivatives are needed, a compile-time constant: those of the value alone have no d slope/d|rho|. */
typedef enum { NEAR_NO_RATES = 0, NEAR_OF_VALUE, NEAR_OF_SLOPE } near_rates;

/* T_k(x), k < 4 n, and, if needed, their derivatives: T_(k+4) = 2 T_4 T_k - T_(k-4) */
static inline __attribute__((always_inline)) void near_chebyshev(const near_rates rates, int n, double x, near_four *t,
                                                                 near_four *d)
{
    const double square = x * x, two = 2 * square - 1, four = 2 * two * two - 1, three = x * (2 * two - 1);
    const double of_four = 16 * x * two, of_three = 12 * square - 3;
    near_four before = {four, three, two, x}, rate_before = {of_four, of_three, 4 * x, 1};
    t[0] = (near_four){1, x, two, three};
    if (rates)
        d[0] = (near_four){0, 1, 4 * x, of_three};
    for (int k = 1; k < n; k++) {
        t[k] = 2 * four * t[k - 1] - before;
        before = t[k - 1];
        if (rates) {
            d[k] = 2 * (of_four * t[k - 1] + four * d[k - 1]) - rate_before;
            rate_before = d[k - 1];
        }
    }
}

static inline double near_total(near_four x)
{
    return (x[0] + x[1]) + (x[2] + x[3]);
}

/* One cell at one lane.  of: value and slope;  row, turn and column: their derivatives with respect to xi1, y's place
 * and xi2, as far as needed (see near_rates).  t1 ... d: Chebyshev polynomials in xi1, xi2 and the place, and their
 * derivatives. */
static inline __attribute__((always_inline)) void near_cell(const near_rates rates, const nf_cell *cell,
                                                            const double *coef, const double *t1, const double *d1,
                                                            const double *t2, const double *d2, const near_four *t,
                                                            const near_four *d, double of[2], double row[2],
                                                            double turn[2], double column[2])
{
    double weight[NF_NEAR_TERMS], by_row[NF_NEAR_TERMS], by_column[NF_NEAR_TERMS];
    near_four sums[2] = {{0}}, rows[2] = {{0}}, turns[2] = {{0}}, columns[2] = {{0}};
    const int n = rates == NEAR_OF_SLOPE ? 2 : rates == NEAR_OF_VALUE; /* how many of both have rates */
    for (int sum = 0, at = 0; at < cell->terms[0]; at += ++sum)
        for (int i = 0; i <= sum; i++) {
            weight[at + i] = t1[i] * t2[sum - i];
            if (rates) {
                by_row[at + i] = d1[i] * t2[sum - i];
                by_column[at + i] = t1[i] * d2[sum - i];
            }
        }
    for (int k = 0; k < cell->fours; k++) {
        near_four inner[2][NF_NEAR_STEP] = {{{0}}}, inner_row[2] = {{0}}, inner_column[2] = {{0}};
        for (int p = 0; p < cell->terms[k]; p += NF_NEAR_STEP, coef += 8 * NF_NEAR_STEP)
            for (int s = 0; s < NF_NEAR_STEP; s++)
                for (int w = 0; w < 2; w++) {
                    const near_four c = *(const near_four *)(coef + 8 * s + 4 * w);
                    inner[w][s] += weight[p + s] * c;
                    if (w < n) {
                        inner_row[w] += by_row[p + s] * c;
                        inner_column[w] += by_column[p + s] * c;
                    }
                }
        for (int w = 0; w < 2; w++) {
            near_four all = inner[w][0];
            for (int s = 1; s < NF_NEAR_STEP; s++)
                all += inner[w][s];
            sums[w] += t[k] * all;
            if (w < n) {
                turns[w] += d[k] * all;
                rows[w] += t[k] * inner_row[w];
                columns[w] += t[k] * inner_column[w];
            }
        }
    }
    for (int w = 0; w < 2; w++) {
        of[w] = near_total(sums[w]);
        if (w < n) {
            row[w] = near_total(rows[w]);
            turn[w] = near_total(turns[w]);
            column[w] = near_total(columns[w]);
        }
    }
}

/* Lanes with a point of a variance below all panels: phi(u) = zero + s1 (phi(u/s1) - zero), and likewise phi(v) */
static void near_shrink(const near_rates rates, const nf_panels *phi, nf_near_point x, const nf_near_lanes *lanes,
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
        if (rates == NEAR_OF_VALUE)
            continue;
        sum->row[1][k] = s1 < 1 ? 0 : sum->row[1][k];
        sum->column[1][k] = s2 < 1 ? 0 : sum->column[1][k];
    }
}

/* The tables at all lanes. */
static inline __attribute__((always_inline)) void near_panels(const near_rates rates, const nf_panels *phi,
                                                              nf_near_point x, const nf_near_lanes *lanes, nf_near *sum)
{
    const int n = lanes->n;
    double xi1, part1, xi2[NF_LANES], part2[NF_LANES], y[NF_LANES], panel2[NF_LANES], angle[NF_LANES];
    near_four t1[NEAR_FOURS], d1[NEAR_FOURS], t2[NEAR_FOURS], d2[NEAR_FOURS], t[NEAR_FOURS], d[NEAR_FOURS];
    const int p1 = (int)panel_of(phi, x.inverse, &part1, &xi1);
    const double root = phi->root, by_log = phi->per_unit * phi->parts / log(2);
    near_chebyshev(rates, NEAR_FOURS, xi1, t1, d1);
    NF_SIMD
    for (int k = 0; k < n; k++) {
        y[k] = root ? sqrt(2 * lanes->versine[k]) : lanes->versine[k];
        panel2[k] = panel_of(phi, lanes->inverse[k], &part2[k], &xi2[k]);
        angle[k] = 0;
    }
    for (int e = 1; e < phi->n_angle; e++) {
        const double edge = phi->edge[e];
        NF_SIMD
        for (int k = 0; k < n; k++)
            angle[k] += y[k] > edge ? 1 : 0;
    }
    for (int k = 0; k < n; k++) {
        const int a = (int)angle[k], pair = p1 * phi->n + (int)panel2[k],
                  sign = lanes->rho[k] < 0 ? phi->n * phi->n : 0;
        const nf_cell *cell = phi->near ? &phi->near[(sign + pair) * phi->n_angle + a] : NULL;
        sum->found[k] = cell && cell->coef;
        if (!sum->found[k]) {
            __atomic_store_n(&phi->missing[pair], 1, __ATOMIC_RELAXED);
            continue;
        }
        const double low = phi->edge[a], scale = 2 / (phi->edge[a + 1] - low);
        const double *coef = cell->coef + ((int64_t)part1 * phi->parts + (int64_t)part2[k]) * cell->size;
        double of[2], row[2], turn[2], column[2];
        near_chebyshev(rates, NEAR_FOURS, xi2[k], t2, d2);
        near_chebyshev(rates, cell->fours, (y[k] - low) * scale - 1, t, d);
        near_cell(rates, cell, coef, (const double *)t1, (const double *)d1, (const double *)t2, (const double *)d2, t,
                  d, of, row, turn, column);
        for (int w = 0; w < 2; w++) {
            sum->of[w][k] = of[w];
            if (w < (int)rates) {
                sum->row[w][k] = by_log * row[w];
                sum->column[w][k] = by_log * column[w];
                sum->rho[w][k] = -scale * turn[w] / (!phi->root ? 1 : y[k] > 0 ? y[k] : INFINITY);
            }
        }
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
static void powers_rates(near_rates rates, const nf_powers *p, double inverse1, const nf_near_lanes *lanes, int k,
                         nf_near *sum)
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
    for (int i = 0; i < 4 && rates == NEAR_OF_SLOPE; i++) {
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
static inline __attribute__((always_inline)) void near_sums(const near_rates rates, const nf_panels *phi,
                                                            nf_near_point x, const nf_near_lanes *lanes, nf_near *sum)
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
            powers_rates(rates, p, x.inverse, lanes, k, sum);
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
    near_sums(NEAR_NO_RATES, in->data, x, &lanes, &sum);
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
