/* series_points.h: the numbers of one point for the instructions that sum a Hermite series (series.h).
 *
 * Included by points.c, in long double.  f_point writes the rows of the point table, and after them what the diagonal
 * needs: V = E[phi^2] and D = E[phi'^2].  f_rate: their derivatives with respect to log q.
 */

/* A standard deviation for the point of variance 0: the slope of phi at 0 is a_1 divided by it. */
#define SOME_STD 1e-15L

/* Where a_k goes among the numbers of a point: even ones first. */
static int place(const nf_terms *terms, int k)
{
    return 2 + k / 2 + (k & 1 ? terms->even : 0);
}

static int wanted(const nf_terms *terms, int k)
{
    return k / 2 < (k & 1 ? terms->odd : terms->even);
}

/* The point of variance 0: phi(0) and, over SOME_STD, phi'(0), each the mean of both sides where it jumps. */
static void numbers_at_zero(const nf_instr *in, const nf_terms *terms, long double value, long double slope, int rows,
                            long double *number)
{
    for (int k = 2; rows && k < in->n_rows; k++)
        number[k] = 0;
    if (rows && wanted(terms, 0))
        number[place(terms, 0)] = value;
    if (rows && wanted(terms, 1))
        number[place(terms, 1)] = slope * SOME_STD;
    if (rows && terms->slopes && wanted(terms, 0))
        number[place(terms, 0) + terms->even + terms->odd] = slope;
    number[1] = 1 / SOME_STD;
    number[in->n_rows] = value * value;
    number[in->n_rows + 1] = slope * slope;
}

static void polynomial_point(const nf_instr *in, long double q, int rows, long double *number)
{
    const nf_polynomial *phi = in->data;
    const long double s = q > 0 ? sqrtl(q) : SOME_STD;
    long double value = 0, slope = 0;
    number[1] = 1 / s;
    for (int k = 2; rows && k < in->n_rows; k++)
        number[k] = 0; /* there may be more terms than coefficients */
    for (int k = 0; k <= phi->degree; k++) {
        const long double *basis = phi->basis + k * (phi->degree + 1);
        long double a = 0;
        for (int j = phi->degree; j >= k; j--)
            a = a * s + basis[j];
        for (int j = 0; j < k; j++)
            a *= s;
        value += a * a;
        slope += k * a * a;
        if (rows && wanted(&phi->terms, k))
            number[place(&phi->terms, k)] = a;
    }
    number[in->n_rows] = value;
    number[in->n_rows + 1] = slope / (s * s);
}

/* int_low^high p f, for a polynomial f = (u + v z)^2 of one sign and an interval so short that p is smooth on it: the
 * terms of the closed form would cancel. */
static long double short_piece(long double u, long double v, long double low, long double high)
{
    static const long double x[3] = {0.238619186083196908630501721681L, 0.661209386466264513661399595020L,
                                     0.932469514203152027812301554494L};
    static const long double w[3] = {0.467913934572691047389870343990L, 0.360761573048138607569833513838L,
                                     0.171324492379170345040296142173L};
    const long double half = (high - low) / 2, middle = (high + low) / 2;
    long double sum = 0;
    for (int k = 0; k < 6; k++) {
        const long double z = middle + (k & 1 ? half : -half) * x[k / 2], f = u + v * z;
        sum += w[k / 2] * f * f * expl(-z * z / 2);
    }
    return sum * half / sqrtl(2 * NF_PI);
}

/* By parts, twice:  a_k = sqrt(q) sum_j c_j h_(k-2)(t_j/sqrt q) p(t_j/sqrt q)/sqrt(k(k-1)) for k >= 2, p the density */
static void kinks_point(const nf_instr *in, long double q, int rows, long double *number)
{
    const nf_kinks *phi = in->data;
    const nf_terms *terms = &phi->terms;
    const long double s = q > 0 ? sqrtl(q) : SOME_STD;
    long double mean = phi->offset, slope = phi->slope, square = 0, slope_square = 0;
    const int n = 2 * (terms->even > terms->odd ? terms->even : terms->odd);
    number[1] = 1 / s;
    if (!(q > 0)) {
        for (int j = 0; j < phi->n; j++) {
            const long double t = phi->at[j], share = t < 0 ? 1 : t > 0 ? 0 : 0.5L;
            mean -= share * t * phi->jump[j];
            slope += share * phi->jump[j];
        }
        numbers_at_zero(in, terms, mean, slope, rows, number);
        return;
    }
    double sum[NF_MAX_ROWS] = {0};
    for (int j = 0; j < phi->n; j++) {
        const long double a = phi->at[j] / s, c = phi->jump[j], tail = erfcl(a / sqrtl(2)) / 2;
        const long double p = expl(-a * a / 2) / sqrtl(2 * NF_PI);
        double before = 0, h = 1, position = (double)a;
        const double weight = (double)(s * c * p);
        mean += c * (s * p - phi->at[j] * tail);
        slope += c * tail;
        for (int k = 2; rows && k < n && weight != 0; k++) { /* h = h_(k-2)(a) */
            sum[k] += weight * h * phi->inverse_root[k] * phi->inverse_root[k - 1];
            const double next = (position * h - phi->root[k - 2] * before) * phi->inverse_root[k - 1];
            before = h;
            h = next;
        }
    }
    /* E phi^2 and E phi'^2: phi is offset_i + slope_i x between the kinks, which are sorted */
    long double offset_here = phi->offset, slope_here = phi->slope, low = -INFINITY;
    for (int j = 0; j <= phi->n; j++) {
        const long double high = j < phi->n ? phi->at[j] / s : INFINITY, b = slope_here * s;
        const long double p_low = isinf(low) ? 0 : expl(-low * low / 2),
                          p_high = isinf(high) ? 0 : expl(-high * high / 2);
        const long double mass =
            low > 0 ? erfcl(low / sqrtl(2)) - erfcl(high / sqrtl(2)) : erfcl(-high / sqrtl(2)) - erfcl(-low / sqrtl(2));
        const long double first = (p_low - p_high) / sqrtl(2 * NF_PI);
        const long double ends = (p_low > 0 ? low * p_low : 0) - (p_high > 0 ? high * p_high : 0);
        const long double second = mass / 2 + ends / sqrtl(2 * NF_PI);
        if (high - low < 0.01L)
            square += short_piece(offset_here, b, low, high);
        else
            square += offset_here * offset_here * mass / 2 + 2 * offset_here * b * first + b * b * second;
        slope_square += slope_here * slope_here * mass / 2;
        if (j < phi->n) {
            offset_here -= phi->jump[j] * phi->at[j];
            slope_here += phi->jump[j];
            low = high;
        }
    }
    for (int k = 2; rows && k < n; k++)
        if (wanted(terms, k))
            number[place(terms, k)] = sum[k];
    if (rows && wanted(terms, 0))
        number[place(terms, 0)] = mean;
    if (rows && wanted(terms, 1))
        number[place(terms, 1)] = s * slope;
    number[in->n_rows] = square;
    number[in->n_rows + 1] = slope_square;
}

/* sum_k c[k] T_k(x), by Clenshaw */
static long double chebyshev_sum(int n, const double *c, long double x)
{
    long double b1 = 0, b2 = 0;
    for (int k = n - 1; k > 0; k--) {
        const long double b = c[k] + 2 * x * b1 - b2;
        b2 = b1;
        b1 = b;
    }
    return c[0] + x * b1 - b2;
}

static void series_point(const nf_instr *in, long double q, int rows, long double *number)
{
    const nf_panels *phi = in->data;
    const int n = in->n_rows - 2, step = phi->degree;
    const long double lowest = powl(4, (long double)phi->first / phi->per_unit);
    long double shrink = 1; /* below the lowest panel phi is affine: phi(x) - phi(0) goes like sqrt(q) */
    if (!(q > 0)) {
        numbers_at_zero(in, &phi->terms, phi->zero[0], phi->zero[1], rows, number);
        return;
    }
    number[1] = number[0];
    if (q < lowest) {
        shrink = phi->jumps_at_zero ? 1 : sqrtl(q / lowest);
        q = lowest;
    }
    const long double where = phi->per_unit * log2l(q) / 2 - phi->first;
    int panel = (int)where;
    panel = panel < phi->n ? panel : phi->n - 1;
    const long double xi = fminl(2 * (where - panel) - 1, 1);
    double sum[NF_MAX_ROWS] = {0}, before = 1, chebyshev = (double)xi;
    const double *coef = phi->coef + (int64_t)panel * step * n;
    const int n_rows = rows ? n : 1; /* the diagonal needs a_0 */
    for (int k = 0; k < n_rows; k++)
        sum[k] = coef[k] + coef[n + k] * chebyshev;
    for (int j = 2; j < step; j++) {
        const double next = 2 * (double)xi * chebyshev - before;
        before = chebyshev;
        chebyshev = next;
        for (int k = 0; k < n_rows; k++)
            sum[k] += coef[(int64_t)j * n + k] * chebyshev;
    }
    for (int k = 0; k < n_rows; k++)
        number[2 + k] = sum[k] * shrink;
    const double *moment = phi->moment + (int64_t)panel * 2 * step;
    long double square = chebyshev_sum(step, moment, xi);
    if (shrink < 1 && phi->terms.even > 0) {
        const long double mean = number[2] / shrink;
        const long double zero = phi->zero[0];
        square =
            zero * zero + 2 * zero * (mean - zero) * shrink + (square - zero * (2 * mean - zero)) * shrink * shrink;
        number[2] = zero + (mean - zero) * shrink;
    } else {
        square *= shrink * shrink;
    }
    if (rows && shrink < 1 && phi->terms.slopes) /* phi' does not shrink */
        for (int k = phi->terms.even + phi->terms.odd; k < n; k++)
            number[2 + k] /= shrink;
    number[in->n_rows] = square;
    number[in->n_rows + 1] = chebyshev_sum(step, moment + step, xi);
}

/* rate[0] and rate[1]: q dV/dq and q dD/dq of a point, from q and its numbers */

/* q da_k/dq from the powers of sqrt(q) in a_k */
static void polynomial_rate(const nf_instr *in, long double q, const long double *number, long double *rate)
{
    const nf_polynomial *phi = in->data;
    const long double s = sqrtl(q);
    (void)number;
    rate[0] = rate[1] = 0;
    for (int k = 0; k <= phi->degree; k++) {
        const long double *basis = phi->basis + k * (phi->degree + 1);
        long double a = 0, change = 0, power = 1;
        for (int j = 0; j <= phi->degree; j++) {
            a += basis[j] * power;
            change += 0.5L * j * basis[j] * power;
            power *= s;
        }
        rate[0] += 2 * a * change;
        rate[1] += q > 0 ? k * a * (2 * change - a) / q : 0;
    }
}

/* dV/dq = E[phi'^2 + phi phi''],  dD/dq = E[(phi'^2)'']/2 by parts: the density at the kinks */
static void kinks_rate(const nf_instr *in, long double q, const long double *number, long double *rate)
{
    const nf_kinks *phi = in->data;
    const long double s = sqrtl(q);
    long double slope = phi->slope;
    rate[0] = q * number[in->n_rows + 1];
    rate[1] = 0;
    for (int i = 0; q > 0 && i < phi->n; i++) {
        const long double t = phi->at[i], p = expl(-t * t / (2 * q)) / (s * sqrtl(2 * NF_PI)), jump = phi->jump[i];
        long double value = phi->offset + phi->slope * t;
        for (int j = 0; j < i; j++)
            value += phi->jump[j] * (t - phi->at[j]);
        rate[0] += q * jump * p * value;
        rate[1] += 0.5L * jump * (2 * slope + jump) * t * p;
        slope += jump;
    }
}

/* d/dx sum_k c[k] T_k(x) = sum_k k c[k] U_(k-1)(x), by Clenshaw */
static long double chebyshev_slope(int n, const double *c, long double x)
{
    long double b1 = 0, b2 = 0;
    for (int k = n - 1; k > 0; k--) {
        const long double b = k * c[k] + 2 * x * b1 - b2;
        b2 = b1;
        b1 = b;
    }
    return b1;
}

static void series_rate(const nf_instr *in, long double q, const long double *number, long double *rate)
{
    const nf_panels *phi = in->data;
    const long double value = number[in->n_rows], zero = phi->zero[0];
    const long double where = q > 0 ? phi->per_unit * log2l(q) / 2 - phi->first : -1;
    int panel = (int)where;
    rate[0] = rate[1] = 0;
    if (where < 0) { /* below all panels, where phi - phi(0) goes like sqrt(q) */
        const long double mean = phi->terms.even > 0 ? number[2] - zero : 0;
        if (!phi->jumps_at_zero)
            rate[0] = value - zero * zero - zero * mean;
        return;
    }
    panel = panel < phi->n ? panel : phi->n - 1;
    const long double xi = fminl(2 * (where - panel) - 1, 1), scale = phi->per_unit / logl(2);
    const double *moment = phi->moment + (int64_t)panel * 2 * phi->degree;
    rate[0] = scale * chebyshev_slope(phi->degree, moment, xi);
    rate[1] = scale * chebyshev_slope(phi->degree, moment + phi->degree, xi);
}

static void NF_(series_rates)(NF_PAIR, NF_(partials) *restrict p)
{
    long double rate[2];
    (void)col;
    if (in->op == NF_POLYNOMIAL)
        polynomial_rate(in, *sigma, row, rate);
    else if (in->op == NF_KINKS)
        kinks_rate(in, *sigma, row, rate);
    else
        series_rate(in, *sigma, row, rate);
    *p = (NF_(partials)){.value = {row[in->n_rows]}, .slope = {row[in->n_rows + 1]}};
    p->value_row[0] = rate[0];
    p->slope_row[0] = rate[1];
}
