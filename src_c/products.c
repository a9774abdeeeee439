/* products.c: inner products of a rectangle by BLAS, and its mirror image; for every map. */
#include <string.h>

#include "ntkfast.h"

static void *element(nf_dtype dtype, const void *base, int64_t at)
{
    return (char *)base + at * (dtype == NF_FLOAT32 ? 4 : 8);
}

/* Points of one side of a tile: `n` of them, from x on, ld elements apart, at `at` in the tile */
typedef struct {
    const void *x;
    int64_t ld;
    int at, n;
} part;

/* Row-major, hence transposed in Fortran's order: what is above the diagonal here is below it there. */
static void multiply(nf_blas blas, nf_dtype dtype, part rows, part columns, int same, int k, int keep, void *to, int ld)
{
    char transposed = 'T', plain = 'N', lower = 'L';
    int m = columns.n, n = rows.n, lda = (int)columns.ld, ldb = (int)rows.ld;
    float one_f32 = 1, keep_f32 = (float)keep;
    double one_f64 = 1, keep_f64 = keep;
    void *one = dtype == NF_FLOAT32 ? (void *)&one_f32 : &one_f64,
         *old = dtype == NF_FLOAT32 ? (void *)&keep_f32 : &keep_f64, *a = (void *)columns.x, *b = (void *)rows.x;
    to = element(dtype, to, (int64_t)rows.at * ld + columns.at);
    if (same)
        blas.syrk(&lower, &transposed, &n, &k, one, b, &ldb, old, to, &ld);
    else
        blas.gemm(&transposed, &plain, &m, &n, &k, one, a, &lda, b, &ldb, old, to, &ld);
}

/* The points of a tile in two parts: a multiple of NF_EDGE, and the rest, which is copied to `edge` and padded with
 * zeros.  Returns how many parts there are. */
static int divide(nf_dtype dtype, nf_points_view points, int64_t first, int n, int64_t start, int k, char *edge,
                  part *parts)
{
    const int whole = edge ? n / NF_EDGE * NF_EDGE : n, rest = n - whole;
    const size_t size = dtype == NF_FLOAT32 ? 4 : 8;
    int count = 0;
    if (whole > 0)
        parts[count++] = (part){element(dtype, points.x, first * points.ld + start), points.ld, 0, whole};
    if (rest > 0) {
        for (int i = 0; i < rest; i++)
            memcpy(edge + i * k * size, element(dtype, points.x, (first + whole + i) * points.ld + start), k * size);
        memset(edge + rest * k * size, 0, (NF_EDGE - rest) * k * size);
        parts[count++] = (part){edge, k, whole, NF_EDGE};
    }
    return count;
}

void nf_inner_products(nf_blas blas, const nf_tile *tile, nf_points_view rows, nf_points_view columns, int64_t start,
                       int k, int keep, void *edges, void *to)
{
    const nf_dtype dtype = tile->grid->dtype;
    const int diagonal = nf_on_diagonal(tile);
    char *second = edges ? (char *)edges + nf_edges_bytes(dtype, k) / 2 : NULL;
    part left[2], right[2];
    const int n_left = divide(dtype, rows, tile->i0, tile->ni, start, k, edges, left);
    const int n_right = divide(dtype, columns, tile->j0, tile->nj, start, k, second, right);
    for (int i = 0; i < n_left; i++)
        for (int j = diagonal ? i : 0; j < n_right; j++)
            multiply(blas, dtype, left[i], right[j], diagonal && i == j, k, keep, to, tile->ld);
}

void nf_weighted_points(nf_blas blas, const nf_tile *tile, nf_points_view rows, nf_points_view columns, int d,
                        const void *plane, void *of_rows, void *of_columns)
{
    char transposed = 'T', plain = 'N';
    int ni = tile->ni, nj = tile->nj, ld = tile->ld, ldx = (int)rows.ld, ldy = (int)columns.ld;
    const nf_dtype dtype = tile->grid->dtype;
    float factor_f32[2] = {1, 0};
    double factor_f64[2] = {1, 0};
    void *one = dtype == NF_FLOAT32 ? (void *)factor_f32 : factor_f64, *zero = element(dtype, one, 1);
    void *x = element(dtype, rows.x, tile->i0 * rows.ld), *y = element(dtype, columns.x, tile->j0 * columns.ld);
    blas.gemm(&plain, &plain, &d, &ni, &nj, one, y, &ldy, (void *)plane, &ld, zero, of_rows, &d);
    blas.gemm(&plain, &transposed, &d, &nj, &ni, one, x, &ldx, (void *)plane, &ld, zero, of_columns, &d);
}

size_t nf_edges_bytes(nf_dtype dtype, int64_t d)
{
    return 2 * NF_EDGE * (size_t)(d < NF_FEATURES ? d : NF_FEATURES) * (dtype == NF_FLOAT32 ? 4 : 8);
}

#define MIRROR(T)                                                                                                      \
    static void mirror_##T(T *plane, int64_t ld, int first, int last)                                                  \
    {                                                                                                                  \
        for (int i = first; i < last; i++)                                                                             \
            for (int j = 0; j < i; j++)                                                                                \
                plane[i * ld + j] = plane[j * ld + i];                                                                 \
    }
MIRROR(float)
MIRROR(double)

void nf_mirror(nf_dtype dtype, void *plane, int64_t ld, int first, int last)
{
    if (dtype == NF_FLOAT32)
        mirror_float(plane, ld, first, last);
    else
        mirror_double(plane, ld, first, last);
}
