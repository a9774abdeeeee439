/* near.h: duals beyond the reach of the Hermite series, one pair at a time, in double.  Included once per instruction
 * set, before series.h.
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

/* Below the lowest panel phi(x) - phi(0) goes like sqrt(q), unless phi jumps at 0. */
static double shrink_of(const nf_panels *phi, double inverse)
{
    const double least = exp2((double)phi->first / phi->per_unit);
    return phi->jumps_at_zero || least * inverse <= 1 ? 1 : 1 / (least * inverse);
}

static int panel_of(const nf_panels *phi, double q, double *xi)
{
    const double place = phi->per_unit * 0.5 * log2(q) - phi->first;
    int panel = (int)floor(place);
    panel = panel < 0 ? 0 : panel >= phi->n ? phi->n - 1 : panel;
    *xi = 2 * (place - panel) - 1;
    *xi = *xi < -1 ? -1 : *xi > 1 ? 1 : *xi;
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

/* A dual, and its partial derivatives with respect to log q1, theta = arccos |rho| and log q2 */
typedef struct {
    double of, row, theta, column;
} nf_near;

/* A table specialised to one row, for all pairs of that row: its Chebyshev polynomials in xi1, or their derivatives,
 * are summed over.  A chunk of columns needs only a few of these; done for each pair, it would cost ten times as
 * much. */
enum { NF_NEAR_SLOTS = 8 };
typedef struct {
    const double *block;
    double value[2][NF_MAX_NEAR][NF_MAX_NEAR], rate[2][NF_MAX_NEAR][NF_MAX_NEAR];
} nf_near_slot;
typedef struct {
    int n; /* tables specialised so far; the slots are used in turn */
    nf_near_slot slots[NF_NEAR_SLOTS];
} nf_near_row;

static inline __attribute__((always_inline)) const nf_near_slot *
near_slot(const int rates, nf_near_row *row, const nf_panels *phi, const double *block, double xi1)
{
    const int r = phi->degree_near, m = phi->degree_theta;
    for (int s = 0; s < row->n && s < NF_NEAR_SLOTS; s++)
        if (row->slots[s].block == block)
            return &row->slots[s];
    nf_near_slot *slot = &row->slots[row->n++ % NF_NEAR_SLOTS];
    double t1[NF_MAX_NEAR], d1[NF_MAX_NEAR];
    chebyshev(r, xi1, t1, d1);
    memset(slot, 0, sizeof *slot);
    slot->block = block;
    for (int i = 0; i < r; i++)
        for (int w = 0; w < 2; w++)
            for (int l = 0; l < m; l++) {
                const double *from = block + (((int64_t)i * 2 + w) * m + l) * r;
                for (int j = 0; j < r; j++) {
                    slot->value[w][l][j] += t1[i] * from[j];
                    if (rates)
                        slot->rate[w][l][j] += d1[i] * from[j];
                }
            }
    return slot;
}

/* The tables at a pair: sum[0] is E[phi phi], sum[1] is E[phi' phi'].  rates, a compile-time constant: whether the
 * derivatives are needed.  row: for all pairs with this x.  0: there is no table, and nothing is changed. */
static inline __attribute__((always_inline)) int near_panels(const int rates, const nf_panels *phi, nf_near_point x,
                                                             nf_near_point y, double rho, nf_near_row *row,
                                                             nf_near *sum)
{
    const int r = phi->degree_near, m = phi->degree_theta;
    const double theta = 2 * asin(sqrt(0.5 * (1 - fabs(rho))));
    double xi1, xi2, t2[NF_MAX_NEAR] = {0}, d2[NF_MAX_NEAR] = {0}, t[NF_MAX_NEAR], d[NF_MAX_NEAR];
    const int p1 = panel_of(phi, 1 / (x.inverse * x.inverse), &xi1);
    const int p2 = panel_of(phi, 1 / (y.inverse * y.inverse), &xi2);
    const double *block = phi->near ? phi->near[((rho < 0) * phi->n + p1) * phi->n + p2] : NULL;
    if (!block) {
        __atomic_store_n(&phi->missing[p1 * phi->n + p2], 1, __ATOMIC_RELAXED);
        return 0;
    }
    int k = 0;
    while (k + 1 < phi->n_theta && theta > phi->edge[k + 1])
        k++;
    const nf_near_slot *slot = near_slot(rates, row, phi, block + (int64_t)k * r * 2 * m * r, xi1);
    const double width = phi->edge[k + 1] - phi->edge[k];
    chebyshev(r, xi2, t2, d2);
    chebyshev(m, (2 * theta - phi->edge[k] - phi->edge[k + 1]) / width, t, d);
    sum[0] = sum[1] = (nf_near){0};
    for (int w = 0; w < 2; w++) {
        double inner[NF_MAX_NEAR] = {0}, turned[NF_MAX_NEAR] = {0}, moved[NF_MAX_NEAR] = {0};
        for (int l = 0; l < m; l++)
            for (int j = 0; j < NF_MAX_NEAR; j++) { /* zeros after the last coefficient */
                inner[j] += t[l] * slot->value[w][l][j];
                if (rates) {
                    turned[j] += d[l] * slot->value[w][l][j];
                    moved[j] += t[l] * slot->rate[w][l][j];
                }
            }
        for (int j = 0; j < r; j++) {
            sum[w].of += t2[j] * inner[j];
            if (rates) {
                sum[w].row += t2[j] * moved[j];
                sum[w].column += d2[j] * inner[j];
                sum[w].theta += t2[j] * turned[j];
            }
        }
    }
    const double s1 = shrink_of(phi, x.inverse), s2 = shrink_of(phi, y.inverse);
    const double by_log = phi->per_unit / log(2), zero = phi->zero[0], m1 = x.mean - zero, m2 = y.mean - zero;
    for (int w = 0; w < 2 && rates; w++) {
        sum[w].row *= s1 < 1 ? 0 : by_log;
        sum[w].column *= s2 < 1 ? 0 : by_log;
        sum[w].theta *= 2 / width;
    }
    if (s1 < 1 || s2 < 1) { /* phi(u) = zero + s1 (phi(u/s1) - zero), and likewise phi(v) */
        nf_near *value = &sum[0];
        value->of = zero * (zero + m1 + m2) + s1 * s2 * (value->of - zero * (zero + m1 / s1 + m2 / s2));
        if (rates) {
            value->row =
                s1 < 1 ? (value->of - zero * y.mean) / 2 : zero * x.mean_rate + s2 * (value->row - zero * x.mean_rate);
            value->column = s2 < 1 ? (value->of - zero * x.mean) / 2
                                   : zero * y.mean_rate + s1 * (value->column - zero * y.mean_rate);
        }
    }
    return 1;
}

/* The truncated powers' part of the derivatives.  By Stein's lemma, at fixed theta, q1 dK/dq1 = E[u p'(u) p(v)]/2; those
 * of K' by differences in long double, at distances relative to theta, where it bends. */
static void powers_rates(const nf_powers *p, long double q1, long double q2, long double theta, long double turn,
                         nf_near *sum)
{
    static const double weight[2] = {8.0 / 12, -1.0 / 12};
    const long double by_log = 1e-3L * fmaxl(theta, 1e-7L), by_theta = 3e-3L * theta;
    long double of[4];
    near_powers_long(1, p, q1, q2, theta, turn, of);
    sum[0].row += (double)of[2] / 2;
    sum[0].column += (double)of[3] / 2;
    for (int k = 0; k < 4; k++) {
        const int far = 1 + k / 2, side = k & 1 ? -1 : 1;
        const long double scale = side * weight[far - 1], factor = expl(side * far * by_log);
        long double row[2], column[2], turned[2] = {0};
        near_powers_long(0, p, q1 * factor, q2, theta, turn, row);
        near_powers_long(0, p, q1, q2 * factor, theta, turn, column);
        if (theta > 1e-9L)
            near_powers_long(0, p, q1, q2, theta + side * far * by_theta, turn, turned);
        sum[1].row += (double)(scale * row[1] / by_log);
        sum[1].column += (double)(scale * column[1] / by_log);
        sum[1].theta += theta > 1e-9L ? (double)(scale * turned[1] / by_theta) : 0;
    }
}

/* E[p p] and E[p' p'] */
static void powers_of_pair(const nf_powers *p, nf_near_point x, nf_near_point y, double rho, double *sum)
{
    const double q1 = 1 / (x.inverse * x.inverse), q2 = 1 / (y.inverse * y.inverse), turn = rho < 0 ? -1 : 1;
    const double theta = 2 * asin(sqrt(0.5 * (1 - fabs(rho))));
    if (fmin(q1, q2) >= p->from && fmax(q1, q2) <= p->upto) {
        near_powers_double(0, p, q1, q2, theta, turn, sum);
    } else {
        long double longer[2];
        near_powers_long(0, p, q1, q2, theta, turn, longer);
        sum[0] = (double)longer[0], sum[1] = (double)longer[1];
    }
}

/* Tables and, where phi has them, truncated powers, as near_panels.  0: the series has to serve, and nothing is changed */
static inline __attribute__((always_inline)) int near_sums(const int rates, const nf_panels *phi, nf_near_point x,
                                                           nf_near_point y, double rho, nf_near_row *row, nf_near *sum)
{
    const nf_powers *p = phi->powers;
    double part[2];
    if (!p)
        return near_panels(rates, phi, x, y, rho, row, sum);
    if (shrink_of(phi, x.inverse) < 1 || shrink_of(phi, y.inverse) < 1) /* no kink is so near to 0 */
        return 0;
    sum[0] = sum[1] = (nf_near){0};
    if (!p->exact && !near_panels(rates, phi, x, y, rho, row, sum))
        return 0;
    powers_of_pair(p, x, y, rho, part);
    sum[0].of += part[0], sum[1].of += part[1];
    if (rates)
        powers_rates(p, 1 / (x.inverse * x.inverse), 1 / (y.inverse * y.inverse), 2 * asin(sqrt(0.5 * (1 - fabs(rho)))),
                     rho < 0 ? -1 : 1, sum);
    return 1;
}

/* E[phi phi] and E[phi' phi'] of a pair with |rho| beyond the reach.  0: there is no table, and nothing is changed. */
static int near_field(const nf_instr *in, nf_near_point x, nf_near_point y, double rho, nf_near_row *row, double *value,
                      double *slope)
{
    nf_near sum[2];
    double part[2];
    if (in->op == NF_KINKS) {
        powers_of_pair(((const nf_kinks *)in->data)->powers, x, y, rho, part);
        *value = part[0], *slope = part[1];
        return 1;
    }
    if (in->op != NF_SERIES || !near_sums(0, in->data, x, y, rho, row, sum))
        return 0;
    *value = sum[0].of;
    *slope = sum[1].of;
    return 1;
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
