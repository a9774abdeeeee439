/* near_powers.h: the closed form near |rho| = 1 for truncated powers (nf_powers), one pair at a time.  Included by
 * near.h for double and for long double: its sums cancel for large variances.
 *
 * For u, v of variance 1 and correlation r, M_jk = E[(u-a)+^j (v-b)+^k] follows from Stein's lemma, one u or v at a time:
 *     M_jk = (j-1) M_(j-2)k + r k M_(j-1)(k-1) - a M_(j-1)k            for j >= 2, k >= 1
 * with densities at the thresholds where a power is 0 or 1, and M_00, the distribution function, from Price's theorem.
 * A Gaussian window exp(-(u-t)^2/2w^2 - (v-t')^2/2w^2) makes of the density another normal density.
 */
enum { NEAR_(POINTS) = 10 };

static inline NEAR_T NEAR_(density)(NEAR_T x)
{
    return (NEAR_T)0.398942280401432677939946L * exp(-(NEAR_T)0.5 * x * x);
}

static inline NEAR_T NEAR_(upper_tail)(NEAR_T x)
{
    return (NEAR_T)0.5 * erfc(x * (NEAR_T)0.707106781186547524400844L);
}

/* int_0^theta g(x) dx with s = sin theta <= 0.6 and g(x) = exp(-(a-b)^2/(2 sin^2 x) - ab/(1 + cos x))/2 pi, by which the
 * distribution function falls from its value at correlation 1 (Price's theorem).  With y = sin x the second part of exp
 * is a power series in y^2, and with the first the integrals int_0^s y^2k exp(-(a-b)^2/2y^2) dy remain, which have a
 * recurrence in k. */
static NEAR_T NEAR_(corner)(NEAR_T a, NEAR_T b, NEAR_T s)
{
    /* 1/(1 + sqrt(1-w)) = 1/2 + w/8 + ...: coefficients of w^k, k >= 1 */
    /* clang-format off */
    static const double half[NEAR_ORDER] = {
        0, 0.125, 0.0625, 0.0390625, 0.02734375, 0.0205078125, 0.01611328125, 0.013092041015625, 0.0109100341796875,
        0.009273529052734375, 0.0080089569091796875, 0.0070078372955322265625, 0.00619924068450927734375,
        0.0055350363254547119140625, 0.0049815326929092407226562, 0.0045145140029489994049072};
    /* clang-format on */
    const NEAR_T d = a - b, product = a * b, s2 = s * s;
    if (!(s2 > 0))
        return 0;
    const NEAR_T edge = exp(-(NEAR_T)0.5 * d * d / s2);
    const NEAR_T scale = (NEAR_T)0.159154943091895335769L * exp(-(NEAR_T)0.5 * product);
    if (edge == 0 || scale == 0)
        return 0;
    NEAR_T series[NEAR_ORDER], inverse_root[NEAR_ORDER]; /* of exp(-ab/(1+cos)), and of 1/cos = 1/sqrt(1-w) */
    NEAR_T root = 1, total = 0, term = 1, before, power = s;
    NEAR_T moment = s * edge - fabs(d) * (NEAR_T)2.506628274631000502415765L * NEAR_(upper_tail)(fabs(d) / s);
    for (int k = 0; k < NEAR_ORDER; k++) {
        NEAR_T sum = k == 0, over = 0;
        for (int j = 1; j <= k; j++)
            sum -= product * j * half[j] * series[k - j] / k;
        series[k] = sum;
        inverse_root[k] = root;
        root *= (2 * k + 1) / ((NEAR_T)2 * (k + 1));
        if (k > 0) {
            power *= s2;
            moment = (power * edge - d * d * moment) / (2 * k + 1);
        }
        for (int j = 0; j <= k; j++)
            over += series[j] * inverse_root[k - j];
        before = term;
        term = scale * over * moment;
        total += term;
        if (fabs(before) + fabs(term) < (NEAR_T)1e-3 * NEAR_EPSILON * total)
            break;
    }
    return total;
}

/* P(u > a, v > b); s = sqrt(1 - r^2) */
static NEAR_T NEAR_(orthant)(NEAR_T a, NEAR_T b, NEAR_T r, NEAR_T s)
{
    /* Gauss-Legendre, 20 points on (-1, 1) */
    static const double x[NEAR_(POINTS)] = {
        0.07652652113349733, 0.22778585114164507, 0.37370608871541955, 0.5108670019508271, 0.636053680726515,
        0.7463319064601508,  0.8391169718222188,  0.912234428251326,   0.9639719272779138, 0.993128599185094926};
    static const double w[NEAR_(POINTS)] = {
        0.15275338713072585, 0.14917298647260374, 0.14209610931838204, 0.13168863844917664, 0.11819453196151841,
        0.10193011981724044, 0.08327674157670475, 0.06267204833410907, 0.04060142980038694, 0.017614007139152118};
    if (s <= (NEAR_T)0.5) {
        const NEAR_T other = r < 0 ? -b : b, top = a > other ? a : other, plain = NEAR_(corner)(a, other, s);
        return r < 0 ? NEAR_(upper_tail)(a) - NEAR_(upper_tail)(top) + plain : NEAR_(upper_tail)(top) - plain;
    }
    const NEAR_T half = asin(r) / 2; /* int_0^asin(r) of the density along sin t */
    NEAR_T sum = 0;
    for (int i = 0; i < 2 * NEAR_(POINTS); i++) {
        const NEAR_T sine = sin(half * (1 + (i & 1 ? x[i / 2] : -x[i / 2])));
        sum += w[i / 2] * exp(-(a * a + b * b - 2 * a * b * sine) / (2 * (1 - sine * sine)));
    }
    return NEAR_(upper_tail)(a) * NEAR_(upper_tail)(b) + half * sum * (NEAR_T)0.159154943091895335769L;
}

/* scale E[(x-t)+^k] for k < n and x normal, mean - t = over, standard deviation s;  whole: of x - t everywhere */
static void NEAR_(conditional)(int n, NEAR_T scale, NEAR_T over, NEAR_T s, int whole, NEAR_T *e)
{
    const NEAR_T ratio = over / (s > 0 ? s : (NEAR_T)1e-300);
    e[0] = whole ? scale : scale * NEAR_(upper_tail)(-ratio);
    if (n > 1)
        e[1] = over * e[0] + (whole ? 0 : scale * s * NEAR_(density)(ratio));
    for (int k = 2; k < n; k++)
        e[k] = over * e[k - 1] + (k - 1) * s * s * e[k - 2];
}

/* M_jk for j, k < n.  whole1, whole2: u^j or v^k everywhere, a or b = 0. */
static void NEAR_(power_moments)(int n, NEAR_T a, NEAR_T b, NEAR_T r, NEAR_T s, int whole1, int whole2,
                                 NEAR_T (*m)[NF_MAX_POWERS])
{
    NEAR_T at_a[NF_MAX_POWERS], at_b[NF_MAX_POWERS]; /* at the threshold of one, powers of the other */
    /* r a - b and r b - a, which are divided by s: accurate even if they are tiny, with 1 - |r| from s */
    const NEAR_T turn = r < 0 ? -1 : 1, apart = a - turn * b, gap = s * s / (1 + fabs(r));
    NEAR_(conditional)(n, whole1 ? 0 : NEAR_(density)(a), turn * (apart - gap * a), s, whole2, at_a);
    NEAR_(conditional)(n, whole2 ? 0 : NEAR_(density)(b), -apart - turn * gap * b, s, whole1, at_b);
    if (whole1)
        m[0][0] = whole2 ? 1 : NEAR_(upper_tail)(b);
    else
        m[0][0] = whole2 ? NEAR_(upper_tail)(a) : NEAR_(orthant)(a, b, r, s);
    for (int k = 1; k < n; k++) {
        m[0][k] = (k > 1 ? (k - 1) * m[0][k - 2] : at_b[0]) + r * at_a[k - 1] - b * m[0][k - 1];
        m[k][0] = (k > 1 ? (k - 1) * m[k - 2][0] : at_a[0]) + r * at_b[k - 1] - a * m[k - 1][0];
    }
    for (int j = 1; j < n; j++)
        for (int k = 1; k < n; k++)
            m[j][k] = (j > 1 ? (j - 1) * m[j - 2][k] : at_a[k]) + r * k * m[j - 1][k - 1] - a * m[j - 1][k];
}

/* E[p(u) p(v)] and E[p'(u) p'(v)] and, if rates, E[u p'(u) p(v)] and E[p(u) v p'(v)], at this angle theta = arccos |rho|;
 * turn: the sign of rho */
static void NEAR_(near_powers)(const int rates, const nf_powers *p, NEAR_T q1, NEAR_T q2, NEAR_T theta, NEAR_T turn,
                               NEAR_T *sum)
{
    static const int row_of[4][2] = {{0, 0}, {1, 1}, {2, 0}, {0, 2}};
    const int row = p->order + 2, n = p->order + 1 + rates, n_sums = rates ? 4 : 2;
    const NEAR_T sine = sin(theta), overlap = q1 * q2 * sine * sine, c = turn * cos(theta) * sqrt(q1 * q2);
    const NEAR_T window = p->window, growth = 1 + window * (q1 + q2) + window * window * overlap;
    const NEAR_T v1 = (q1 + window * overlap) / growth, v2 = (q2 + window * overlap) / growth, both = c / growth;
    const NEAR_T std1 = sqrt(v1), std2 = sqrt(v2), s = fmin(sqrt(overlap / growth / (v1 * v2)), (NEAR_T)1);
    const NEAR_T r = both / (std1 * std2);
    NEAR_T m[NF_MAX_POWERS][NF_MAX_POWERS], power1[NF_MAX_POWERS] = {1}, power2[NF_MAX_POWERS] = {1};
    for (int k = 1; k < n; k++) {
        power1[k] = power1[k - 1] * std1;
        power2[k] = power2[k - 1] * std2;
    }
    for (int w = 0; w < n_sums; w++)
        sum[w] = 0;
    for (int i = 0; i < p->n; i++)
        for (int j = 0; j < p->n; j++) {
            const int whole1 = p->side[i] == 0, whole2 = p->side[j] == 0;
            const NEAR_T side1 = whole1 ? 1 : p->side[i], side2 = whole2 ? 1 : p->side[j];
            const NEAR_T t1 = p->at[i], t2 = p->at[j];
            NEAR_T factor = 1;
            if (window > 0) {
                const NEAR_T far = t1 * t1 * (1 + window * q2) - 2 * window * c * t1 * t2 + t2 * t2 * (1 + window * q1);
                factor = exp(-window * far / (2 * growth)) / sqrt(growth);
            }
            NEAR_(power_moments)(n, side1 * (t1 - window * (v1 * t1 + both * t2)) / std1,
                                 side2 * (t2 - window * (both * t1 + v2 * t2)) / std2, side1 * side2 * r, s, whole1,
                                 whole2, m);
            for (int w = 0; w < n_sums; w++) {
                const double *x = p->coef + (3 * i + row_of[w][0]) * row, *y = p->coef + (3 * j + row_of[w][1]) * row;
                NEAR_T total = 0;
                for (int k = 0; k < n; k++) {
                    NEAR_T inner = 0;
                    for (int l = 0; x[k] != 0 && l < n; l++)
                        inner += y[l] * power2[l] * m[k][l];
                    total += x[k] * power1[k] * inner;
                }
                sum[w] += factor * total;
            }
        }
}
