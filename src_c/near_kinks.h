/* near_kinks.h: the closed form near |rho| = 1 for a piecewise linear phi, one pair at a time.  Included by near.h for
 * double and for long double: through cancellation its sums lose max(q) times their rounding.
 *
 * With theta = arccos |rho|, s = sin theta, a_i = t_i/sqrt(q1), b_j = t_j/sqrt(q2), Price's theorem twice gives
 *     K'(theta) = K'(0) - int_0^theta g,   K(theta) = K(0) - sqrt(q1 q2) (K'(0) (1 - cos theta) - int_0^theta
 *     (cos x - cos theta) g(x) dx),   g(x) = sum_ij c_i c_j / 2 pi exp(-(a-b)^2/(2 sin^2 x) - ab/(1 + cos x))
 * where K' is the dual of phi'.  With y = sin x the second factor of exp is a power series in y^2, and with the first
 * the integrals int_0^s y^2k exp(-(a-b)^2/2y^2) dy remain, which have a recurrence in k.  A negative rho turns phi(v)
 * into phi(-v').
 */
static inline NEAR_T NEAR_(density)(NEAR_T x)
{
    return (NEAR_T)0.398942280401432677939946L * exp(-(NEAR_T)0.5 * x * x);
}

static inline NEAR_T NEAR_(upper_tail)(NEAR_T x)
{
    return (NEAR_T)0.5 * erfc(x * (NEAR_T)0.707106781186547524400844L);
}

/* int_0^theta g and int_0^theta cos(x) g of one pair of kinks with c_i c_j = 1; s <= 0.6 */
static void NEAR_(corner)(NEAR_T a, NEAR_T b, NEAR_T s, NEAR_T *plain, NEAR_T *weighted)
{
    /* 1/(1 + sqrt(1-w)) = 1/2 + w/8 + ...: coefficients of w^k, k >= 1 */
    /* clang-format off */
    static const double half[NEAR_ORDER] = {
        0, 0.125, 0.0625, 0.0390625, 0.02734375, 0.0205078125, 0.01611328125, 0.013092041015625, 0.0109100341796875,
        0.009273529052734375, 0.0080089569091796875, 0.0070078372955322265625, 0.00619924068450927734375,
        0.0055350363254547119140625, 0.0049815326929092407226562, 0.0045145140029489994049072};
    /* clang-format on */
    const NEAR_T d = a - b, product = a * b, s2 = s * s;
    *plain = *weighted = 0;
    if (!(s2 > 0))
        return;
    const NEAR_T edge = exp(-(NEAR_T)0.5 * d * d / s2);
    const NEAR_T scale = (NEAR_T)0.159154943091895335769L * exp(-(NEAR_T)0.5 * product);
    if (edge == 0 || scale == 0)
        return;
    NEAR_T series[NEAR_ORDER], root = 1, total = 0; /* of exp(-ab/(1+cos)), and of that divided by cos = sqrt(1-w) */
    NEAR_T moment = s * edge - fabs(d) * (NEAR_T)2.506628274631000502415765L * NEAR_(upper_tail)(fabs(d) / s);
    NEAR_T power = s;
    NEAR_T inverse_root[NEAR_ORDER];
    for (int k = 0; k < NEAR_ORDER; k++) {
        NEAR_T sum = k == 0;
        for (int j = 1; j <= k; j++)
            sum -= product * j * half[j] * series[k - j] / k;
        series[k] = sum;
        inverse_root[k] = root;
        root *= (2 * k + 1) / ((NEAR_T)2 * (k + 1));
    }
    for (int k = 0; k < NEAR_ORDER; k++) {
        NEAR_T over = 0;
        if (k > 0) {
            power *= s2;
            moment = (power * edge - d * d * moment) / (2 * k + 1);
        }
        for (int j = 0; j <= k; j++)
            over += series[j] * inverse_root[k - j];
        *weighted += series[k] * moment;
        total += over * moment;
    }
    *plain = scale * total;
    *weighted *= scale;
}

static void NEAR_(near_kinks)(const nf_kinks *phi, NEAR_T inverse1, NEAR_T inverse2, NEAR_T rho, double *value,
                              double *slope)
{
    const int n = phi->n;
    const NEAR_T turn = rho < 0 ? -1 : 1, r = fabs(rho), std1 = 1 / inverse1, std2 = 1 / inverse2;
    const NEAR_T versine = 1 - r, s = sqrt(versine * (1 + r));
    NEAR_T base1 = (NEAR_T)phi->offset, slope1 = (NEAR_T)phi->slope, base2 = base1, slope2 = slope1;
    if (rho < 0) { /* phi(-v) = offset - sum c_j t_j - (slope + sum c_j) v + sum c_j max(v + t_j, 0) */
        slope2 = -slope2;
        for (int j = 0; j < n; j++) {
            base2 -= (NEAR_T)(phi->jump[j] * phi->at[j]);
            slope2 -= (NEAR_T)phi->jump[j];
        }
    }
    /* at rho = 1: E phi(std1 z) phi(std2 z) and E phi' phi' */
    NEAR_T v = base1 * base2 + slope1 * slope2 * std1 * std2, k = slope1 * slope2, plain = 0, weighted = 0;
    for (int i = 0; i < n; i++) {
        const NEAR_T t1 = (NEAR_T)phi->at[i], c = (NEAR_T)phi->jump[i], a = t1 * inverse1;
        const NEAR_T t2 = turn * t1, b = t2 * inverse2;
        const NEAR_T pa = NEAR_(density)(a), ta = NEAR_(upper_tail)(a);
        const NEAR_T pb = NEAR_(density)(b), tb = NEAR_(upper_tail)(b);
        v += c * (base2 * (std1 * pa - t1 * ta) + slope2 * std1 * std2 * ta); /* E (std1 z - t)+ (base2 + slope2 v) */
        v += c * (base1 * (std2 * pb - t2 * tb) + slope1 * std1 * std2 * tb);
        k += c * (slope2 * ta + slope1 * tb);
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const NEAR_T t1 = (NEAR_T)phi->at[i], t2 = turn * (NEAR_T)phi->at[j];
            const NEAR_T a = t1 * inverse1, b = t2 * inverse2, top = a > b ? a : b;
            const NEAR_T c = (NEAR_T)(phi->jump[i] * phi->jump[j]), p = NEAR_(density)(top), t = NEAR_(upper_tail)(top);
            NEAR_T corner_plain, corner_weighted;
            v += c * std1 * std2 * ((top - a - b) * p + (1 + a * b) * t);
            k += c * t;
            NEAR_(corner)(a, b, s, &corner_plain, &corner_weighted);
            plain += c * corner_plain;
            weighted += c * corner_weighted;
        }
    *value = (double)(v - std1 * std2 * (k * versine - (weighted - r * plain)));
    *slope = (double)(turn * (k - plain));
}
