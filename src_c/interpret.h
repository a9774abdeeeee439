/* interpret.h: the interpreter, over rows and chunks of a rectangle.  Included by kernels.h after rectangle.h for each
 * precision, and once more for rectangles of float on which the program acts in double: NF_PLANE is the type of the
 * rectangle, NF_T that of the arithmetic, of the point tables and of `inverse`. */

/* Marks the lanes of pairs that pair.c is to compute, products being x.y; 0: there are none */
static int NF_OF_PLANE(mark)(const nf_limit *map, const NF_PLANE *restrict products, NF_T row,
                             const NF_T *restrict columns, unsigned char *marks)
{
    enum { WAYS = 16 };
    const NF_T shift = (NF_T)map->shift, bound = (NF_T)map->bound;
    NF_T tops[WAYS], top = 0;
    for (int w = 0; w < WAYS; w++)
        tops[w] = 0;
    for (int k = 0; k < NF_LANES; k += WAYS) {
        NF_SIMD
        for (int w = 0; w < WAYS; w++) {
            const NF_T r = fabs((NF_T)products[k + w] + shift) * columns[k + w];
            tops[w] = r > tops[w] ? r : tops[w];
        }
    }
    for (int w = 0; w < WAYS; w++)
        top = tops[w] > top ? tops[w] : top;
    if (!(top * row > bound))
        return 0;
    for (int k = 0; k < NF_LANES; k++)
        marks[k] = fabs((NF_T)products[k] + shift) * (row * columns[k]) > bound;
    return 1;
}

/* The interpreter: a few rows and NF_LANES columns at a time, while they are in L1. */
static void NF_OF_PLANE(interpret)(const nf_limit *map, const nf_tile *tile, int first, int last, const void *inner)
{
    const NF_T *rows = map->rows.table, *cols = map->columns.table, *row[NF_(ROWS)];
    const NF_T *row_inverse = map->rows.inverse, *column_inverse = map->columns.inverse;
    unsigned char marks[NF_(ROWS)][NF_LANES];
    int marked[NF_(ROWS)];
    NF_(block) b;
    const int diagonal = nf_on_diagonal(tile);
    for (int i = first; i < last; i += NF_(ROWS)) {
        const int n = last - i < NF_(ROWS) ? last - i : NF_(ROWS);
        for (int j = diagonal ? i / NF_LANES * NF_LANES : 0; j < tile->nj; j += NF_LANES) {
            for (int r = 0; r < n; r++) {
                row[r] = rows + nf_table_at(map->program, tile->i0 + i + r);
                const NF_PLANE *products = (const NF_PLANE *)inner + (int64_t)(i + r) * tile->ld + j;
                marked[r] = row_inverse && NF_OF_PLANE(mark)(map, products, row_inverse[tile->i0 + i + r],
                                                             column_inverse + tile->j0 + j, marks[r]);
                NF_SIMD
                for (int k = 0; k < NF_LANES; k++) {
                    b.sigma[r][k] = products[k];
                    b.theta[r][k] = 0;
                }
                for (int k = 0; diagonal && k < NF_LANES && j + k <= i + r; k++)
                    b.sigma[r][k] = 0; /* known; |rho| = 1 would be costly, the mirror image useless */
            }
            NF_(run)(map->program, row, cols + nf_table_at(map->program, tile->j0 + j), &b, n,
                     tile->plane[NF_DOT] != NULL);
            for (int r = 0; r < n; r++) {
                const NF_T *const from[NF_PLANES] = {b.sigma[r], b.theta[r], b.dot[r]};
                for (int p = 0; p < NF_PLANES; p++) {
                    if (!tile->plane[p])
                        continue;
                    NF_PLANE *to = (NF_PLANE *)tile->plane[p] + (int64_t)(i + r) * tile->ld + j;
                    NF_SIMD
                    for (int k = 0; k < NF_LANES; k++)
                        to[k] = (NF_PLANE)from[p][k];
                }
                for (int k = 0; marked[r] && k < NF_LANES && j + k < tile->nj; k++)
                    if (marks[r][k] && !(diagonal && j + k <= i + r))
                        nf_limit_pair(map, tile, i + r, j + k);
            }
        }
    }
}
