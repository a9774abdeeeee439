/* near.h: duals where the Hermite series does not reach, one pair at a time, in double.  Included once per instruction
 * set, before series.h.
 */
#ifndef NF_NEAR_H
#define NF_NEAR_H

enum { NEAR_ORDER = 16 };

#define NEAR_T double
#define NEAR_(name) name##_double
#include "near_kinks.h"
#undef NEAR_T
#undef NEAR_
#define NEAR_T long double
#define NEAR_(name) name##_long
#include "near_kinks.h"
#undef NEAR_T
#undef NEAR_

/* 1/sqrt(q) and E phi */
typedef struct {
    double inverse, mean;
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

static void chebyshev(int n, double x, double *t)
{
    double before = x;
    t[0] = 1;
    for (int k = 1; k < n; k++) {
        t[k] = k == 1 ? x : 2 * x * t[k - 1] - before;
        before = t[k - 1];
    }
}

static int near_panels(const nf_panels *phi, nf_near_point x, nf_near_point y, double rho, double *value,
                       double *slope)
{
    const int r = phi->degree_near, m = phi->degree_theta;
    const double theta = 2 * asin(sqrt(0.5 * (1 - fabs(rho))));
    double xi1, xi2, t1[NF_MAX_NEAR], t2[NF_MAX_NEAR], t[NF_MAX_NEAR], sum[2] = {0};
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
    block += (int64_t)k * r * 2 * m * r;
    chebyshev(r, xi1, t1);
    chebyshev(r, xi2, t2);
    chebyshev(m, (2 * theta - phi->edge[k] - phi->edge[k + 1]) / (phi->edge[k + 1] - phi->edge[k]), t);
    for (int i = 0; i < r; i++)
        for (int w = 0; w < 2; w++) {
            double inner[NF_MAX_NEAR] = {0};
            const double *from = block + ((int64_t)i * 2 + w) * m * r;
            for (int l = 0; l < m; l++)
                for (int j = 0; j < r; j++)
                    inner[j] += t[l] * from[l * r + j];
            for (int j = 0; j < r; j++)
                sum[w] += t1[i] * t2[j] * inner[j];
        }
    const double s1 = shrink_of(phi, x.inverse), s2 = shrink_of(phi, y.inverse);
    *value = sum[0];
    *slope = sum[1];
    if (s1 < 1 || s2 < 1) { /* phi(u) = zero + s1 (phi(u/s1) - zero), and so phi(v) */
        const double zero = phi->zero[0], m1 = x.mean - zero, m2 = y.mean - zero;
        *value = zero * (zero + m1 + m2) + s1 * s2 * (sum[0] - zero * (zero + m1 / s1 + m2 / s2));
    }
    return 1;
}

/* E[phi phi] and E[phi' phi'] of a pair with |rho| beyond the reach.  0: there is no table, and nothing is changed. */
static int near_field(const nf_instr *in, nf_near_point x, nf_near_point y, double rho, double *value, double *slope)
{
    if (in->op == NF_KINKS) {
        if (x.inverse * y.inverse < 1e-4)
            near_kinks_long(in->data, x.inverse, y.inverse, rho, value, slope);
        else
            near_kinks_double(in->data, x.inverse, y.inverse, rho, value, slope);
        return 1;
    }
    return in->op == NF_SERIES && near_panels(in->data, x, y, rho, value, slope);
}

/* Of a piecewise linear phi, with s1 = std of u, by Price's theorem and by parts: the kinks t_i with jumps c_i give
 *     q1 dK/dq1 = q1/2 sum_i c_i p(t_i) E[phi(v) | u = t_i],   dK'/dc = sum_i c_i p(t_i) sum_j c_j p(t_j | u = t_i)
 *     q1 dK'/dq1 = 1/2 sum_i c_i p(t_i) (t_i E[phi'(v) | u = t_i] - c sum_j c_j p(t_j | u = t_i))
 * p the densities of u, and of v given u.  rate: these three, in the order value, slope, dK'/dc. */
static void kinks_rates(const nf_kinks *phi, double inverse1, double inverse2, double rho, double sine, double *rate)
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
