/* limit.c: the map of the limit kernels.  BLAS makes the inner products of a rectangle, the program runs over them. */
#include "ntkfast.h"

static const void *element(nf_dtype dtype, const void *base, int64_t at)
{
    return (const char *)base + at * (dtype == NF_FLOAT32 ? 4 : 8);
}

/* inner[i, j] += x_(i0+i) . y_(j0+j) over the features from `start`; row-major, hence transposed in Fortran's order */
static void inner_products(const nf_limit *map, const nf_tile *tile, int start, int k, void *inner)
{
    char transposed = 'T', plain = 'N';
    int m = tile->nj, n = tile->ni, ld = tile->ld, lda = (int)map->columns.ldx, ldb = (int)map->rows.ldx;
    void *a = (void *)element(map->dtype, map->columns.x, tile->j0 * map->columns.ldx + start);
    void *b = (void *)element(map->dtype, map->rows.x, tile->i0 * map->rows.ldx + start);
    float one_f32 = 1, keep_f32 = start > 0;
    double one_f64 = 1, keep_f64 = start > 0;
    if (map->dtype == NF_FLOAT32)
        map->gemm(&transposed, &plain, &m, &n, &k, &one_f32, a, &lda, b, &ldb, &keep_f32, inner, &ld);
    else
        map->gemm(&transposed, &plain, &m, &n, &k, &one_f64, a, &lda, b, &ldb, &keep_f64, inner, &ld);
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

int nf_limit_open(const void *self, nf_tile *tile, int step)
{
    enum { FEATURES = 1 << 15 }; /* of one step: a long product is looked at for Ctrl-C on the way */
    const nf_limit *map = self;
    const int start = step * FEATURES, rest = map->d - start;
    inner_products(map, tile, start, rest < FEATURES ? rest : FEATURES, inner_plane(tile));
    return rest > FEATURES;
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
