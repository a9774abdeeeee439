/* limit.c: the map of the limit kernels.  BLAS computes the inner products of a rectangle; the program follows. */
#include "ntkfast.h"

#define SET_DIAGONAL(T)                                                                                                \
    static void set_diagonal_##T(T *plane, int64_t ld, int first, int last, const T *diagonal)                         \
    {                                                                                                                  \
        for (int i = first; i < last; i++)                                                                             \
            plane[i * ld + i] = diagonal[i];                                                                           \
    }
SET_DIAGONAL(float)
SET_DIAGONAL(double)

static void *inner_plane(const nf_tile *tile)
{
    int p = 0;
    while (!tile->plane[p])
        p++;
    return tile->plane[p];
}

int nf_limit_open(const void *self, nf_tile *tile, int step)
{
    const nf_limit *map = self;
    const int start = step * NF_FEATURES, rest = map->d - start;
    nf_inner_products(map->blas, tile, map->rows.points, map->columns.points, start,
                      rest < NF_FEATURES ? rest : NF_FEATURES, step > 0, tile->work, inner_plane(tile));
    return rest > NF_FEATURES;
}

void nf_limit_pair(const nf_limit *map, const nf_tile *tile, int i, int j)
{
    const nf_dtype dtype = tile->grid->dtype;
    const int64_t size = dtype == NF_FLOAT32 ? 4 : 8, row = tile->i0 + i, column = tile->j0 + j;
    const char *x = (const char *)map->rows.points.x + row * map->rows.points.ld * size;
    const char *y = (const char *)map->columns.points.x + column * map->columns.points.ld * size;
    long double out[NF_PLANES] = {0};
    nf_pair pair;
    nf_pair_start(dtype, x, y, map->d, map->rows.norms[row], map->columns.norms[column], &pair);
    nf_pair_run(map->program, &pair, out, NULL);
    for (int p = 0; p < NF_PLANES; p++) {
        if (!tile->plane[p])
            continue;
        if (dtype == NF_FLOAT32)
            ((float *)tile->plane[p])[(int64_t)i * tile->ld + j] = (float)out[p];
        else
            ((double *)tile->plane[p])[(int64_t)i * tile->ld + j] = (double)out[p];
    }
}

void nf_limit_rows(const void *self, nf_tile *tile, int first, int last)
{
    const nf_limit *map = self;
    const nf_dtype dtype = tile->grid->dtype;
    const nf_isa *isa = nf_isa_in_use();
    (map->wide && dtype == NF_FLOAT32 ? isa->interpret_wide : isa->interpret[dtype])(map, tile, first, last,
                                                                                     inner_plane(tile));
    if (!nf_on_diagonal(tile))
        return;
    for (int p = 0; p < NF_PLANES; p++) { /* the diagonal is known exactly */
        if (!tile->plane[p])
            continue;
        nf_mirror(dtype, tile->plane[p], tile->ld, first, last);
        if (dtype == NF_FLOAT32)
            set_diagonal_float(tile->plane[p], tile->ld, first, last, (const float *)map->diagonal[p] + tile->i0);
        else
            set_diagonal_double(tile->plane[p], tile->ld, first, last, (const double *)map->diagonal[p] + tile->i0);
    }
}
