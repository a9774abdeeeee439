/* near.h: duals where the Hermite series does not reach, one pair at a time, in double.  Included once per instruction
 * set, before series.h.
 *
 * With kinks (phi piecewise linear), theta = arccos |rho|, s = sin theta, a_i = t_i/sqrt(q1), b_j = t_j/sqrt(q2):
 * Price's theorem twice gives
 *     K'(theta) = K'(0) - int_0^theta g,   K(theta) = K(0) - sqrt(q1 q2) (K'(0) (1 - cos theta) - int_0^theta
 *     (cos x - cos theta) g(x) dx),   g(x) = sum_ij c_i c_j / 2 pi exp(-(a-b)^2/(2 sin^2 x) - ab/(1 + cos x))
 * where K' is the dual of phi'.  With y = sin x the second factor of exp is a power series in y^2 and the first leaves
 * int_0^s y^2k exp(-(a-b)^2/2y^2) dy, which has a recurrence in k.  A negative rho turns phi(v) into phi(-v').
 */
#ifndef NF_NEAR_H
#define NF_NEAR_H

enum { NEAR_ORDER = 16, NEAR_DEGREE = 16 };

static inline double density(double x)
{
    return 0.398942280401432677940 * exp(-0.5 * x * x);
}

static inline double upper_tail(double x)
{
    return 0.5 * erfc(x * 0.707106781186547524401);
}

/* int_0^theta g and int_0^theta cos(x) g of one pair of kinks with c_i c_j = 1; s <= 0.6 */
static void corner(double a, double b, double s, double *plain, double *weighted)
{
    /* 1/(1 + sqrt(1-w)) = 1/2 + w/8 + ...: coefficients of w^k, k >= 1 */
    static const double half[NEAR_ORDER] = {
        0, 0.125, 0.0625, 0.0390625, 0.02734375, 0.0205078125, 0.01611328125, 0.013092041015625, 0.0109100341796875,
        0.009273529052734375, 0.0080089569091796875, 0.0070078372955322265625, 0.00619924068450927734375,
        0.0055350363254547119140625, 0.0049815326929092407226562, 0.0045145140029489994049072};
    const double d = a - b, product = a * b, s2 = s * s;
    *plain = *weighted = 0;
    if (!(s2 > 0))
        return;
    const double edge = exp(-0.5 * d * d / s2);
    if (edge == 0)
        return;
    double series[NEAR_ORDER], root = 1, total = 0; /* of exp(-ab/(1+cos)), and that over cos = sqrt(1-w) */
    double moment = s * edge - fabs(d) * 2.50662827463100050242 * upper_tail(fabs(d) / s), power = s;
    double inverse_root[NEAR_ORDER];
    for (int k = 0; k < NEAR_ORDER; k++) {
        double sum = k == 0;
        for (int j = 1; j <= k; j++)
            sum -= product * j * half[j] * series[k - j] / k;
        series[k] = sum;
        inverse_root[k] = root;
        root *= (2 * k + 1) / (2.0 * (k + 1));
    }
    for (int k = 0; k < NEAR_ORDER; k++) {
        double over = 0;
        if (k > 0) {
            power *= s2;
            moment = (power * edge - d * d * moment) / (2 * k + 1);
        }
        for (int j = 0; j <= k; j++)
            over += series[j] * inverse_root[k - j];
        *weighted += series[k] * moment;
        total += over * moment;
    }
    const double scale = 0.159154943091895335769 * exp(-0.5 * product);
    *plain = scale * total;
    *weighted *= scale;
}

static void near_kinks(const nf_kinks *phi, double inverse1, double inverse2, double rho, double *value, double *slope)
{
    const int n = phi->n;
    const double turn = rho < 0 ? -1 : 1, r = fabs(rho), std1 = 1 / inverse1, std2 = 1 / inverse2;
    const double versine = 1 - r, s = sqrt(versine * (1 + r));
    double base1 = (double)phi->offset, slope1 = (double)phi->slope, base2 = base1, slope2 = slope1;
    if (rho < 0) { /* phi(-v) = offset - sum c_j t_j - (slope + sum c_j) v + sum c_j max(v + t_j, 0) */
        slope2 = -slope2;
        for (int j = 0; j < n; j++) {
            base2 -= (double)(phi->jump[j] * phi->at[j]);
            slope2 -= (double)phi->jump[j];
        }
    }
    /* at rho = 1: E phi(std1 z) phi(std2 z) and E phi' phi' */
    double v = base1 * base2 + slope1 * slope2 * std1 * std2, k = slope1 * slope2, plain = 0, weighted = 0;
    for (int i = 0; i < n; i++) {
        const double t1 = (double)phi->at[i], c = (double)phi->jump[i], a = t1 * inverse1;
        const double t2 = turn * t1, b = t2 * inverse2;
        const double pa = density(a), ta = upper_tail(a), pb = density(b), tb = upper_tail(b);
        v += c * (base2 * (std1 * pa - t1 * ta) + slope2 * std1 * std2 * ta); /* E (std1 z - t)+ (base2 + slope2 v) */
        v += c * (base1 * (std2 * pb - t2 * tb) + slope1 * std1 * std2 * tb);
        k += c * (slope2 * ta + slope1 * tb);
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const double t1 = (double)phi->at[i], t2 = turn * (double)phi->at[j];
            const double a = t1 * inverse1, b = t2 * inverse2, top = a > b ? a : b;
            const double c = (double)(phi->jump[i] * phi->jump[j]), p = density(top), t = upper_tail(top);
            double corner_plain, corner_weighted;
            v += c * std1 * std2 * ((top - a - b) * p + (1 + a * b) * t);
            k += c * t;
            corner(a, b, s, &corner_plain, &corner_weighted);
            plain += c * corner_plain;
            weighted += c * corner_weighted;
        }
    *value = v - std1 * std2 * (k * versine - (weighted - r * plain));
    *slope = turn * (k - plain);
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

static int near_panels(const nf_panels *phi, double inverse1, double inverse2, double rho, double *value,
                       double *slope)
{
    const int r = phi->degree_near, m = phi->degree_theta;
    const double theta = 2 * asin(sqrt(0.5 * (1 - fabs(rho))));
    double xi1, xi2, t1[NEAR_DEGREE], t2[NEAR_DEGREE], t[NEAR_DEGREE], sum[2] = {0};
    const int p1 = panel_of(phi, 1 / (inverse1 * inverse1), &xi1), p2 = panel_of(phi, 1 / (inverse2 * inverse2), &xi2);
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
            double inner[NEAR_DEGREE] = {0};
            const double *from = block + ((int64_t)i * 2 + w) * m * r;
            for (int l = 0; l < m; l++)
                for (int j = 0; j < r; j++)
                    inner[j] += t[l] * from[l * r + j];
            for (int j = 0; j < r; j++)
                sum[w] += t1[i] * t2[j] * inner[j];
        }
    *value = sum[0];
    *slope = sum[1];
    return 1;
}

/* E[phi phi] and E[phi' phi'] of one pair, given as 1/sqrt(q1), 1/sqrt(q2) and rho, |rho| beyond the reach.  0: there is
 * no table, and nothing is changed. */
static int near_field(const nf_instr *in, double inverse1, double inverse2, double rho, double *value, double *slope)
{
    if (in->op == NF_KINKS) {
        near_kinks(in->data, inverse1, inverse2, rho, value, slope);
        return 1;
    }
    return in->op == NF_SERIES && near_panels(in->data, inverse1, inverse2, rho, value, slope);
}

#endif
