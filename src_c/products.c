/* products.c: inner products of a rectangle by BLAS, and its mirror image; for every map. */
#include "ntkfast.h"

static void *element(nf_dtype dtype, const void *base, int64_t at)
{
    return (char *)base + at * (dtype == NF_FLOAT32 ? 4 : 8);
}

/* Row-major, hence transposed in Fortran's order. */
void nf_inner_products(nf_dtype dtype, nf_gemm gemm, const nf_tile *tile, nf_points_view rows, nf_points_view columns,
                       int64_t start, int k, int keep, void *to)
{
    char transposed = 'T', plain = 'N';
    int m = tile->nj, n = tile->ni, ld = tile->ld, lda = (int)columns.ld, ldb = (int)rows.ld;
    void *a = element(dtype, columns.x, tile->j0 * columns.ld + start);
    void *b = element(dtype, rows.x, tile->i0 * rows.ld + start);
    float one_f32 = 1, keep_f32 = (float)keep;
    double one_f64 = 1, keep_f64 = keep;
    if (dtype == NF_FLOAT32)
        gemm(&transposed, &plain, &m, &n, &k, &one_f32, a, &lda, b, &ldb, &keep_f32, to, &ld);
    else
        gemm(&transposed, &plain, &m, &n, &k, &one_f64, a, &lda, b, &ldb, &keep_f64, to, &ld);
}

#define MIRROR(T)                                                                                                      \
    static void mirror_##T(T *plane, int64_t ld, int first, int last)                                                 \
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
