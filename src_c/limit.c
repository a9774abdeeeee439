/* limit.c: the map of the limit kernels.  BLAS makes the inner products of a rectangle, the program runs over them. */
#include "ntkfast.h"

static const void *element(nf_dtype dtype, const void *base, int64_t at)
{
    return (const char *)base + at * (dtype == NF_FLOAT32 ? 4 : 8);
}

/* inner[i, j] = x_(i0+i) . y_(j0+j); row-major, hence the transposed product in Fortran's order */
static void inner_products(const nf_limit *map, const nf_tile *tile, void *inner)
{
    char transposed = 'T', plain = 'N';
    int m = tile->nj, n = tile->ni, k = map->d, ld = tile->ld;
    int lda = (int)map->columns.ldx, ldb = (int)map->rows.ldx;
    void *a = (void *)element(map->dtype, map->columns.x, tile->j0 * map->columns.ldx);
    void *b = (void *)element(map->dtype, map->rows.x, tile->i0 * map->rows.ldx);
    float one_f32 = 1, zero_f32 = 0;
    double one_f64 = 1, zero_f64 = 0;
    if (map->dtype == NF_FLOAT32)
        map->gemm(&transposed, &plain, &m, &n, &k, &one_f32, a, &lda, b, &ldb, &zero_f32, inner, &ld);
    else
        map->gemm(&transposed, &plain, &m, &n, &k, &one_f64, a, &lda, b, &ldb, &zero_f64, inner, &ld);
}

/* The matrix is symmetric: below its diagonal a tile repeats what is above, and on it stand the exact values. */
#define SYMMETRISE(T)                                                                                                  \
    static void symmetrise_##T(T *plane, int64_t ld, int i, const T *diagonal)                                        \
    {                                                                                                                  \
        for (int j = 0; j < i; j++)                                                                                    \
            plane[i * ld + j] = plane[j * ld + i];                                                                     \
        plane[i * ld + i] = diagonal[i];                                                                               \
    }
SYMMETRISE(float)
SYMMETRISE(double)

static void *inner_plane(const nf_tile *tile)
{
    int p = 0;
    while (!tile->plane[p])
        p++;
    return tile->plane[p];
}

void nf_limit_open(const void *self, nf_tile *tile)
{
    inner_products(self, tile, inner_plane(tile));
}

void nf_limit_rows(const void *self, nf_tile *tile, int first, int last)
{
    const nf_limit *map = self;
    nf_isa_in_use()->interpret[map->dtype](map, tile, first, last, inner_plane(tile));
    if (!map->symmetric || tile->i0 != tile->j0)
        return;
    for (int p = 0; p < NF_PLANES; p++) {
        if (!tile->plane[p])
            continue;
        const void *exact = element(map->dtype, map->diagonal[p], tile->i0);
        for (int i = first; i < last; i++)
            if (map->dtype == NF_FLOAT32)
                symmetrise_float(tile->plane[p], tile->ld, i, exact);
            else
                symmetrise_double(tile->plane[p], tile->ld, i, exact);
    }
}
