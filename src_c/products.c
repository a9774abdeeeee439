/* products.c: inner products of a rectangle by BLAS, and its mirror image; for every map. */
#include "ntkfast.h"

static void *element(nf_dtype dtype, const void *base, int64_t at)
{
    return (char *)base + at * (dtype == NF_FLOAT32 ? 4 : 8);
}

/* Row-major, hence transposed in Fortran's order: what is above the diagonal here is below it there. */
void nf_inner_products(nf_blas blas, const nf_tile *tile, nf_points_view rows, nf_points_view columns, int64_t start,
                       int k, int keep, void *to)
{
    const nf_dtype dtype = tile->grid->dtype;
    char transposed = 'T', plain = 'N', lower = 'L';
    int m = tile->nj, n = tile->ni, ld = tile->ld, lda = (int)columns.ld, ldb = (int)rows.ld;
    void *a = element(dtype, columns.x, tile->j0 * columns.ld + start);
    void *b = element(dtype, rows.x, tile->i0 * rows.ld + start);
    float one_f32 = 1, keep_f32 = (float)keep;
    double one_f64 = 1, keep_f64 = keep;
    void *one = dtype == NF_FLOAT32 ? (void *)&one_f32 : &one_f64, *old = dtype == NF_FLOAT32 ? (void *)&keep_f32 : &keep_f64;
    if (nf_on_diagonal(tile))
        blas.syrk(&lower, &transposed, &n, &k, one, b, &ldb, old, to, &ld);
    else
        blas.gemm(&transposed, &plain, &m, &n, &k, one, a, &lda, b, &ldb, old, to, &ld);
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
