/* widths.h: statistics of networks of finite width to order 1/n for phi(x) = a min(x,0) + b max(x,0), a row of a chunk at
 * a time.  Included by kernels.h in double.  The recursions and their derivation: docs/beyond.md.
 *
 * Coordinates.  The outputs z1, z2 of a layer are divided by their standard deviations in the limit, and z2 changes sign
 * where the correlation is negative; so the mean covariance is that of angle theta in [0, pi/2].  The fluctuating
 * covariance G is described by
 *     p = (G11 + G22)/2,   m = (G11 - G22)/2,   delta = G11 + G22 - 2 G12,   of means 1, 0 and 2 (1 - cos theta),
 * in which all layers but the angle are linear, and in which nothing cancels where the points are nearly equal.  z itself is
 * described by s = (z1 + z2)/2 and d = (z1 - z2)/2. */
typedef struct {
    double delta[NF_LANES], sign[NF_LANES], h[NF_LANES]; /* 2 (1 - cos theta), the sign of z2, H */
    double pp[NF_LANES], pm[NF_LANES], pd[NF_LANES];     /* V: covariances of p, m, delta */
    double mm[NF_LANES], md[NF_LANES], dd[NF_LANES];
    double p_h[NF_LANES], m_h[NF_LANES], d_h[NF_LANES];                    /* D: of those with H */
    double var_h[NF_LANES], cross[NF_LANES], turned[NF_LANES];             /* A, B_1122, B_1221 */
    double f_ss[NF_LANES], f_sd[NF_LANES], f_ds[NF_LANES], f_dd[NF_LANES]; /* F_{g1h2} */
    double k1[NF_LANES], h1[NF_LANES];                                     /* the shifts of delta and H */
} width_state;

/* E[P^i M^j; sector] of the standard Gaussian pair (u, v) of angle theta, P = (u+v)/2, M = (u-v)/2 */
typedef struct {
    double one, p2, m2, p4, p2m2, m4;
} sector;

/* Sums over the four sectors of moments of f = (s1 u + s2 v)/2 and g = (s1 u - s2 v)/2 with the slopes of each sector; y
 * is s1 s2. */
typedef struct {
    double f4, g4, f2g2, f3g, fg3, yf2, yg2, yfg, y2;
} quartic;

NF_INLINE void add_sector(quartic *q, sector e, double s1, double s2)
{
    const double sp = 0.5 * (s1 + s2), sm = 0.5 * (s1 - s2);
    const double sp2 = sp * sp, sm2 = sm * sm, both = sp * sm, sum = sp2 + sm2, y = s1 * s2;
    const double middle = 6 * both * both * e.p2m2;
    q->f4 += sp2 * sp2 * e.p4 + middle + sm2 * sm2 * e.m4;
    q->g4 += sm2 * sm2 * e.p4 + middle + sp2 * sp2 * e.m4;
    q->f2g2 += both * both * (e.p4 + e.m4 + 2 * e.p2m2) + sum * sum * e.p2m2;
    q->f3g += both * (sp2 * e.p4 + sm2 * e.m4 + 3 * sum * e.p2m2);
    q->fg3 += both * (sm2 * e.p4 + sp2 * e.m4 + 3 * sum * e.p2m2);
    q->yf2 += y * (sp2 * e.p2 + sm2 * e.m2);
    q->yg2 += y * (sm2 * e.p2 + sp2 * e.m2);
    q->yfg += y * both * (e.p2 + e.m2);
    q->y2 += y * y * e.one;
}

/* The integral of sin^4 over [-theta/2, theta/2], to relative precision; x: the sine of theta/2, x2 its square; sine and
 * cosine: of theta.  c[k] = binom(2k, k)/(4^k (2k + 5)), from the series of t^4/sqrt(1 - t^2) at t = x. */
NF_INLINE double sin4_integral(double theta, double x2, double x, double sine, double cosine)
{
    static const double c[] = {0x1.999999999999ap-3, 0x1.2492492492492p-4, 0x1.5555555555555p-5, 0x1.d1745d1745d17p-6,
                               0x1.589d89d89d89ep-6, 0x1.0cccccccccccdp-6, 0x1.b2d2d2d2d2d2dp-7, 0x1.69435e50d7943p-7,
                               0x1.326db6db6db6ep-7, 0x1.083d37a6f4deap-7, 0x1.cde3d70a3d70ap-8, 0x1.983c71c71c71cp-8};
    double sum = c[11];
    for (int k = 10; k >= 0; k--)
        sum = c[k] + x2 * sum;
    const double series = 2 * x2 * x2 * x * sum;
    const double direct = 0.375 * theta - 0.5 * sine + 0.125 * sine * cosine;
    return x2 < 0.0625 ? series : direct;
}

/* One hidden layer and the affine layer after it; numbers of the row's point and of the chunk, see nf_width_side */
static void width_layer(const nf_hidden *layer, double row_alpha, double row_bias, double row_inverse,
                        const double *restrict alpha, const double *restrict bias, const double *restrict inverse,
                        width_state *restrict state)
{
    const double a1 = layer->below, b1 = layer->above, t = layer->trained, shift = layer->shift;
    const double n1 = layer->inverse_width, turn = 1 / (2 * (double)NF_PI), pi = (double)NF_PI;
    NF_SIMD
    for (int i = 0; i < NF_LANES; i++) {
        /* the angle */
        const double delta = state->delta[i], h = state->h[i], half = 0.5 * delta, cosine = 1 - half;
        const double x2 = 0.25 * delta, x = sqrt(x2), y2 = 1 - x2, y = sqrt(y2);
        const double theta = 2 * (x + x * x2 * asin_half_f64(x2)), sine = 2 * x * y;
        const double over_sine = sine > 0 ? 1 / sine : 0, over_cube = over_sine * over_sine * over_sine;
        const double i4 = sin4_integral(theta, x2, x, sine, cosine), i2 = (i4 + 0.5 * x2 * x * y) * (4.0 / 3);
        const double lag = 2 * i2; /* theta - sin theta */

        /* z2 with the sign of the layer before, then that of this one */
        const double a_flipped = state->sign[i] > 0 ? a1 : -b1, b_flipped = state->sign[i] > 0 ? b1 : -a1;
        const double p0_flipped = 0.5 * (b1 * b_flipped + a1 * a_flipped);
        const double tau_flipped = turn * (b1 - a1) * (b_flipped - a_flipped);
        const double r1 = row_alpha, r2 = alpha[i], both = r1 * r2;
        const double mean = p0_flipped * cosine + tau_flipped * (sine - theta * cosine);
        const double sign = both * mean + row_bias * bias[i] < 0 ? -1 : 1;
        const double a2 = sign * a_flipped, b2 = sign * b_flipped, tau = sign * tau_flipped;
        const double root = b1 + sign * a1; /* 1 - p0, without cancellation as a1^2 + b1^2 = 2 */
        const double lack = state->sign[i] > 0 ? 1 - sign : 0.5 * root * root, p0 = 1 - lack;
        const double slope = p0 - tau * theta, e = tau * sine; /* E[phi' phi'], E[phi''(u) phi(v)] */
        const double apart = 2 * lack + p0 * delta - 2 * tau * (theta * half - lag); /* E[(phi(u) - phi(v))^2] */
        const double kappa = 1 - 0.5 * apart;

        /* moments */
        const double rest = pi - theta, twice = 2 * sine * cosine, pm = x2 * y2;
        const sector same = {turn * rest,
                             turn * y2 * (rest + sine),
                             turn * x2 * (rest - sine),
                             turn * y2 * y2 * (3 * rest + 4 * sine - 0.5 * twice),
                             turn * pm * (rest + 0.5 * twice),
                             turn * x2 * x2 * (3 * rest - 4 * sine - 0.5 * twice)};
        const sector opposite = {turn * theta,
                                 turn * 2 * y2 * i2,
                                 turn * 2 * x2 * (theta - i2),
                                 turn * 8 * y2 * y2 * i4,
                                 turn * 8 * pm * (i2 - i4),
                                 turn * 8 * x2 * x2 * (theta - 2 * i2 + i4)};
        quartic q = {0, 0, 0, 0, 0, 0, 0, 0, 0};
        add_sector(&q, same, b1, b2);
        add_sector(&q, same, a1, a2);
        add_sector(&q, opposite, b1, a2);
        add_sector(&q, opposite, a1, b2);
        const double c_pp = q.f4 + 2 * q.f2g2 + q.g4 - 1, c_pm = 2 * (q.f3g + q.fg3);
        const double c_pd = 4 * (q.f2g2 + q.g4) - apart, c_mm = 4 * q.f2g2, c_md = 8 * q.fg3;
        const double c_dd = 16 * q.g4 - apart * apart;
        const double y_p = q.yf2 + q.yg2 - slope, y_m = 2 * q.yfg, y_d = 4 * q.yg2 - apart * slope;
        const double o_p = t * (c_pp - 0.5 * c_pd) + h * y_p, o_m = t * (c_pm - 0.5 * c_md) + h * y_m;
        const double o_d = t * (c_pd - 0.5 * c_dd) + h * y_d;
        const double o_o =
            t * t * (c_pp - c_pd + 0.25 * c_dd) + 2 * t * h * (y_p - 0.5 * y_d) + h * h * (q.y2 - slope * slope);

        /* J: d E[(phi(u) - phi(v))^2]/dp is j, its derivative by delta the slope;  W: derivatives of Omega */
        const double j = 2 * (lack + tau * lag), w_p = t * (e + slope) + h * tau * half * over_sine;
        const double w_d = -0.5 * (t * slope + h * tau * over_sine);
        const double pp = state->pp[i], pm_ = state->pm[i], pd = state->pd[i], mm = state->mm[i], md = state->md[i];
        const double dd = state->dd[i], p_h = state->p_h[i], m_h = state->m_h[i], d_h = state->d_h[i];
        const double v_p = pp * w_p + pd * w_d, v_m = pm_ * w_p + md * w_d, v_d = pd * w_p + dd * w_d;

        /* second derivatives of E[phi phi] and E[phi' phi'], contracted with V */
        const double bend = tau * over_sine * (-2 * half * mm + half * half * (pp + mm) - half * pd + 0.25 * dd);
        const double bend_slope =
            tau * over_cube * (2 * half * mm - half * half * (3 - half) * (pp + mm) + half * pd + 0.25 * cosine * dd);
        const double k1 = state->k1[i];
        const double h1 =
            slope * state->h1[i] + w_d * k1 + 0.5 * (t * bend + h * bend_slope) +
            tau * over_sine * ((half * p_h - 0.5 * d_h) + 2 * (half * state->f_ss[i] - (2 - half) * state->f_dd[i]));

        /* V and D of the features, before the affine layer */
        const double u_pp = n1 * c_pp + pp, u_pm = n1 * c_pm + pm_, u_pd = n1 * c_pd + j * pp + slope * pd;
        const double u_mm = n1 * c_mm + mm, u_md = n1 * c_md + j * pm_ + slope * md;
        const double u_dd = n1 * c_dd + j * (j * pp + 2 * slope * pd) + slope * slope * dd;
        const double x_p = n1 * o_p + v_p + slope * p_h, x_m = n1 * o_m + v_m + slope * m_h;
        const double x_d = n1 * o_d + j * v_p + slope * v_d + slope * (j * p_h + slope * d_h);

        /* F of the features */
        const double r_ss = 0.5 * (1 + e + slope), r_dd = 0.5 * (1 - e + slope), r_ds = 0.25 * j;
        const double r_sd = 0.5 * (lack + tau * (sine + theta));
        const double f_ss = state->f_ss[i], f_sd = state->f_sd[i], f_ds = state->f_ds[i], f_dd = state->f_dd[i];
        const double s_s = r_ss * f_ss + r_sd * f_ds, s_d = r_ss * f_sd + r_sd * f_dd;
        const double d_s = r_ds * f_ss + r_dd * f_ds, d_d = r_ds * f_sd + r_dd * f_dd;
        const double n1_h = n1 * h;
        const double g_ss = n1_h * q.yf2 + (r_ss * s_s - r_sd * s_d), g_sd = n1_h * q.yfg + (r_dd * s_d - r_ds * s_s);
        const double g_ds = n1_h * q.yfg + (r_ss * d_s - r_sd * d_d), g_dd = n1_h * q.yg2 + (r_dd * d_d - r_ds * d_s);

        /* the affine layer */
        const double mean_r = 0.5 * (r1 + r2), half_gap = 0.5 * (r1 - r2), gap2 = 4 * half_gap * half_gap;
        const double A = 0.5 * (r1 * r1 + r2 * r2), B = 2 * mean_r * half_gap;
        const double pp_A = A * u_pp + B * u_pm, pm_A = A * u_pm + B * u_mm, pd_A = A * u_pd + B * u_md;
        const double pp_B = B * u_pp + A * u_pm, pm_B = B * u_pm + A * u_mm, pd_B = B * u_pd + A * u_md;
        const double dp = gap2 * u_pp + 2 * B * u_pm + both * u_pd, dm = gap2 * u_pm + 2 * B * u_mm + both * u_md;
        const double dd_ = gap2 * u_pd + 2 * B * u_md + both * u_dd;
        state->pp[i] = A * pp_A + B * pm_A;
        state->pm[i] = B * pp_A + A * pm_A;
        state->pd[i] = gap2 * pp_A + 2 * B * pm_A + both * pd_A;
        state->mm[i] = B * pp_B + A * pm_B;
        state->md[i] = gap2 * pp_B + 2 * B * pm_B + both * pd_B;
        state->dd[i] = gap2 * dp + 2 * B * dm + both * dd_;
        state->p_h[i] = both * (A * x_p + B * x_m);
        state->m_h[i] = both * (B * x_p + A * x_m);
        state->d_h[i] = both * (gap2 * x_p + 2 * B * x_m + both * x_d);
        const double drift = w_p * (v_p + 2 * slope * p_h) + w_d * (v_d + 2 * slope * d_h);
        state->var_h[i] = both * both * (n1 * o_o + drift + slope * slope * state->var_h[i]);
        state->cross[i] = both * both * (n1_h * h * q.y2 + state->cross[i]);
        state->turned[i] = both * both * (n1_h * h * q.y2 + slope * slope * state->turned[i]);
        const double t_ss = mean_r * g_ss + half_gap * g_ds, t_sd = mean_r * g_sd + half_gap * g_dd;
        const double t_ds = half_gap * g_ss + mean_r * g_ds, t_dd = half_gap * g_sd + mean_r * g_dd;
        state->f_ss[i] = both * (mean_r * t_ss + half_gap * t_sd);
        state->f_sd[i] = both * (half_gap * t_ss + mean_r * t_sd);
        state->f_ds[i] = both * (mean_r * t_ds + half_gap * t_dd);
        state->f_dd[i] = both * (half_gap * t_ds + mean_r * t_dd);
        state->k1[i] = both * (slope * k1 - bend);
        state->h1[i] = both * h1;

        /* the means */
        const double bias_gap = row_bias - sign * bias[i];
        const double next = both * apart + gap2 + bias_gap * bias_gap;
        state->delta[i] = next < 0x1p-104 ? 0 : (next < 2 ? next : 2); /* an angle this small counts as 0 */
        state->h[i] = both * (t * kappa + slope * h) + sign * shift * (row_inverse * inverse[i]);
        state->sign[i] = sign;
    }
}

/* 2 (1 - |cos|) of nearly parallel points from the differences of what they are after the first layer */
static double near_delta(const nf_finite_width *map, int64_t row, int64_t column, double r1, double r2, double sign)
{
    const double *x = (const double *)map->rows.points.x + row * map->rows.points.ld;
    const double *y = (const double *)map->columns.points.x + column * map->columns.points.ld;
    double sum = 0, bias = r1 - sign * r2;
    for (int k = 0; k < map->d; k++) {
        const double gap = x[k] * r1 - sign * y[k] * r2;
        sum += gap * gap;
    }
    return map->first[0] * sum + map->first[1] * bias * bias;
}

static void width_start(const nf_finite_width *map, const nf_tile *tile, int row, int j, const double *products,
                        width_state *restrict state)
{
    const double near = 1e-4, *first = map->first, r1 = map->rows.numbers[tile->i0 + row];
    const double *r2 = map->columns.numbers + tile->j0 + j;
    memset(state, 0, sizeof *state);
    double least = near;
    NF_SIMD
    for (int i = 0; i < NF_LANES; i++) {
        const double inverse = r1 * r2[i], rho = (first[0] * products[i] + first[1]) * inverse;
        const double sign = rho < 0 ? -1 : 1, delta = 2 - 2 * fabs(rho);
        state->sign[i] = sign;
        state->delta[i] = delta > 0 ? delta : 0;
        state->h[i] = sign * (first[2] * products[i] + first[3]) * inverse;
    }
    for (int i = 0; i < NF_LANES; i++)
        least = state->delta[i] < least ? state->delta[i] : least;
    for (int i = 0; least < near && i < NF_LANES && j + i < tile->nj; i++)
        if (state->delta[i] < near) {
            const double delta = near_delta(map, tile->i0 + row, tile->j0 + j + i, r1, r2[i], state->sign[i]);
            state->delta[i] = delta < 0x1p-104 ? 0 : delta;
        }
}

static void width_finish(const nf_finite_width *map, const nf_tile *tile, int row, int j, const double *row_numbers,
                         const double *numbers, const width_state *restrict state)
{
    double *to[NF_MOST_PLANES], spare[NF_LANES];
    for (int p = 0; p < NF_MOST_PLANES; p++)
        to[p] = tile->plane[p] ? (double *)tile->plane[p] + (int64_t)row * tile->ld + j : spare;
    const double part = 1 / map->n_outputs;
    NF_SIMD
    for (int i = 0; i < NF_LANES; i++) {
        const double scale = *row_numbers * numbers[i], sign = state->sign[i];
        const double ntk = state->var_h[i] + part * (state->cross[i] + state->turned[i]);
        const double nngp = state->pp[i] - state->pd[i] + 0.25 * state->dd[i];
        to[NF_NTK_MEAN][i] = sign * scale * (state->h[i] + state->h1[i]);
        to[NF_NTK_STD][i] = scale * sqrt(ntk > 0 ? ntk : 0);
        to[NF_NTK_CROSS_STD][i] = scale * sqrt(state->cross[i] > 0 ? state->cross[i] : 0);
        to[NF_NNGP_MEAN][i] = sign * scale * (1 - 0.5 * (state->delta[i] + state->k1[i]));
        to[NF_NNGP_STD][i] = scale * sqrt(nngp > 0 ? nngp : 0);
    }
}

static void widths(const nf_finite_width *map, const nf_tile *tile, int first, int last, const void *inner)
{
    width_state state;
    double products[NF_LANES];
    const int diagonal = nf_on_diagonal(tile);
    for (int i = first; i < last; i++)
        for (int j = diagonal ? i / NF_LANES * NF_LANES : 0; j < tile->nj; j += NF_LANES) {
            const double *row = map->rows.numbers + tile->i0 + i, *columns = map->columns.numbers + tile->j0 + j;
            memcpy(products, (const double *)inner + (int64_t)i * tile->ld + j, sizeof products);
            for (int k = 0; diagonal && k < NF_LANES && j + k < i; k++)
                products[k] = 0; /* left to the mirror image */
            width_start(map, tile, i, j, products, &state);
            row += map->rows.ld, columns += map->columns.ld;
            for (int l = 0; l < map->n_hidden; l++) {
                const int64_t below = map->rows.ld, beside = map->columns.ld;
                width_layer(&map->hidden[l], row[0], row[below], row[2 * below], columns, columns + beside,
                            columns + 2 * beside, &state);
                row += NF_WIDTH_NUMBERS * below, columns += NF_WIDTH_NUMBERS * beside;
            }
            width_finish(map, tile, i, j, row, columns, &state);
        }
}
