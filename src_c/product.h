/* product.h: a few rows of a tile times vectors, in double.  Included once per precision by kernels.h.
 *
 * v: [nj][width], u: [ni][width];  row_sums[i] += sum_j k_ij v_j,  column_sums[j] += sum_i k_ij u_i.  One of v and u may be
 * NULL, and then there are no such sums.
 */

/* One vector: WAYS columns at a time. */
static void NF_(product_of_one)(const NF_T *rows, int64_t ld, int ni, int nj, const double *v, double *row_sums,
                                const double *u, double *column_sums)
{
    enum { WAYS = 16, ROWS = 4 };
    for (int i = 0; i < ni; i += ROWS) {
        const NF_T *k[ROWS];
        double sum[ROWS][WAYS] = {{0}}, factor[ROWS];
        for (int r = 0; r < ROWS; r++) { /* rows past the end count as the last one, times 0 */
            k[r] = rows + (int64_t)(i + r < ni ? i + r : ni - 1) * ld;
            factor[r] = u && i + r < ni ? u[i + r] : 0;
        }
        int j = 0;
        for (; j + WAYS <= nj; j += WAYS) {
            const double *restrict right = v ? v + j : NULL;
            double *restrict down = column_sums + j;
            if (!v) {
                NF_SIMD
                for (int w = 0; w < WAYS; w++)
                    down[w] += ((double)k[0][j + w] * factor[0] + (double)k[1][j + w] * factor[1]) +
                               ((double)k[2][j + w] * factor[2] + (double)k[3][j + w] * factor[3]);
            } else if (u) {
                NF_SIMD
                for (int w = 0; w < WAYS; w++) {
                    const double a = (double)k[0][j + w], b = (double)k[1][j + w], c = (double)k[2][j + w],
                                 d = (double)k[3][j + w];
                    sum[0][w] += a * right[w];
                    sum[1][w] += b * right[w];
                    sum[2][w] += c * right[w];
                    sum[3][w] += d * right[w];
                    down[w] += a * factor[0] + b * factor[1] + (c * factor[2] + d * factor[3]);
                }
            } else {
                NF_SIMD
                for (int w = 0; w < WAYS; w++) {
                    sum[0][w] += (double)k[0][j + w] * right[w];
                    sum[1][w] += (double)k[1][j + w] * right[w];
                    sum[2][w] += (double)k[2][j + w] * right[w];
                    sum[3][w] += (double)k[3][j + w] * right[w];
                }
            }
        }
        for (int r = 0; r < ROWS && i + r < ni; r++) {
            double total = 0;
            for (int w = 0; w < WAYS; w++)
                total += sum[r][w];
            for (int l = j; l < nj; l++) {
                if (v)
                    total += (double)k[r][l] * v[l];
                if (u)
                    column_sums[l] += (double)k[r][l] * factor[r];
            }
            if (v)
                row_sums[i + r] += total;
        }
    }
}

/* NF_PANEL vectors side by side, each entry of the matrix times all of them. */
static void NF_(product_of_panel)(const NF_T *rows, int64_t ld, int ni, int nj, const double *v, double *row_sums,
                                  const double *u, double *column_sums)
{
    enum { ROWS = 4, W = NF_PANEL, COLUMNS = 256 };
    double k[ROWS][COLUMNS]; /* converted once for both loops, a vector at a time */
    for (int i = 0; i < ni; i += ROWS) {
        double sum[ROWS][W] = {{0}}, factor[ROWS][W] = {{0}};
        for (int r = 0; u && r < ROWS && i + r < ni; r++)
            for (int w = 0; w < W; w++)
                factor[r][w] = u[(i + r) * W + w];
        for (int j0 = 0; j0 < nj; j0 += COLUMNS) {
            const int n = nj - j0 < COLUMNS ? nj - j0 : COLUMNS;
            for (int r = 0; r < ROWS; r++) {
                const NF_T *from = rows + (int64_t)(i + r < ni ? i + r : ni - 1) * ld + j0;
                NF_SIMD
                for (int j = 0; j < n; j++)
                    k[r][j] = (double)from[j];
            }
            for (int j = 0; v && j < n; j++) {
                const double *restrict right = v + (int64_t)(j0 + j) * W;
                NF_SIMD
                for (int w = 0; w < W; w++) {
                    sum[0][w] += k[0][j] * right[w];
                    sum[1][w] += k[1][j] * right[w];
                    sum[2][w] += k[2][j] * right[w];
                    sum[3][w] += k[3][j] * right[w];
                }
            }
            for (int j = 0; u && j < n; j++) {
                double *restrict down = column_sums + (int64_t)(j0 + j) * W;
                NF_SIMD
                for (int w = 0; w < W; w++)
                    down[w] += k[0][j] * factor[0][w] + k[1][j] * factor[1][w] +
                               (k[2][j] * factor[2][w] + k[3][j] * factor[3][w]);
            }
        }
        for (int r = 0; v && r < ROWS && i + r < ni; r++)
            for (int w = 0; w < W; w++)
                row_sums[(i + r) * W + w] += sum[r][w];
    }
}

static void NF_(product)(const void *rows, int64_t ld, int ni, int nj, int width, const double *v, double *row_sums,
                         const double *u, double *column_sums)
{
    if (width == 1)
        NF_(product_of_one)(rows, ld, ni, nj, v, row_sums, u, column_sums);
    else
        NF_(product_of_panel)(rows, ld, ni, nj, v, row_sums, u, column_sums);
}
