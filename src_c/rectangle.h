/* rectangle.h: loops over rows and chunks of a rectangle.  Included once per precision by kernels.h. */

/* The whole program over one chunk, theta 0 and sigma x.x' on entry.
 * dot: NULL, or where a E[phi' phi'] of the last dual goes. */
static void NF_(run)(const nf_program *program, const NF_T *row, int64_t ldr, const NF_T *col, int64_t ldc, NF_T *sigma,
                     NF_T *theta, NF_T *dot)
{
    for (int k = 0; k < program->n; k++) {
        const nf_instr *in = &program->code[k];
        const NF_T *r = row + in->row * ldr, *c = col + in->row * ldc;
        if (dot && k == program->last_dual)
            NF_(slope_of)(in, r, ldr, c, ldc, sigma, dot);
        NF_(instructions)[in->op](in, r, ldr, c, ldc, sigma, theta);
    }
}

/* The interpreter: for each row, NF_LANES columns at a time, while they are in L1. */
static void NF_(interpret)(const nf_limit *map, const nf_tile *tile, int first, int last, const void *inner)
{
    const NF_T *rows = (const NF_T *)map->rows.table + tile->i0, *cols = (const NF_T *)map->columns.table + tile->j0;
    NF_T sigma[NF_LANES], theta[NF_LANES], dot[NF_LANES];
    const NF_T *const from[NF_PLANES] = {sigma, theta, dot};
    for (int i = first; i < last; i++)
        for (int j = 0; j < tile->nj; j += NF_LANES) {
            const int64_t at = (int64_t)i * tile->ld + j;
            const NF_T *products = (const NF_T *)inner + at;
            NF_SIMD
            for (int k = 0; k < NF_LANES; k++) {
                sigma[k] = products[k];
                theta[k] = 0;
            }
            NF_(run)(map->program, rows + i, map->rows.ldt, cols + j, map->columns.ldt, sigma, theta,
                     tile->plane[NF_DOT] ? dot : NULL);
            for (int p = 0; p < NF_PLANES; p++) {
                if (!tile->plane[p])
                    continue;
                NF_T *to = (NF_T *)tile->plane[p] + at;
                NF_SIMD
                for (int k = 0; k < NF_LANES; k++)
                    to[k] = from[p][k];
            }
        }
}

/* Squared norms.  16 accumulators over blocks of 1024, blocks added in long double: at most 64 roundings. */
static void NF_(norms)(const void *x, int64_t n, int64_t d, int64_t ld, double *out)
{
    enum { WAYS = 16, BLOCK = 1024 };
    for (int64_t i = 0; i < n; i++) {
        const NF_T *row = (const NF_T *)x + i * ld;
        long double total = 0;
        for (int64_t start = 0; start < d; start += BLOCK) {
            const int64_t stop = d - start < BLOCK ? d : start + BLOCK;
            double sum[WAYS] = {0};
            int64_t k = start;
            for (; k + WAYS <= stop; k += WAYS) {
                NF_SIMD
                for (int w = 0; w < WAYS; w++)
                    sum[w] += (double)row[k + w] * (double)row[k + w];
            }
            for (; k < stop; k++)
                total += (long double)row[k] * row[k];
            for (int w = 0; w < WAYS; w++)
                total += sum[w];
        }
        out[i] = (double)total;
    }
}
