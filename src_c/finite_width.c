/* finite_width.c: the map of the statistics of networks of finite width.  The inner products are those of limit.c; what
 * follows them is in widths.h. */
#include "ntkfast.h"

static void *inner_plane(const nf_tile *tile)
{
    int p = 0;
    while (!tile->plane[p])
        p++;
    return tile->plane[p];
}

int nf_width_open(const void *self, nf_tile *tile, int step)
{
    const nf_finite_width *map = self;
    const int start = step * NF_FEATURES, rest = map->d - start;
    nf_inner_products(map->blas, tile, map->rows.points, map->columns.points, start,
                      rest < NF_FEATURES ? rest : NF_FEATURES, step > 0, tile->work, inner_plane(tile));
    return rest > NF_FEATURES;
}

void nf_width_rows(const void *self, nf_tile *tile, int first, int last)
{
    nf_isa_in_use()->widths(self, tile, first, last, inner_plane(tile));
    for (int p = 0; nf_on_diagonal(tile) && p < NF_MOST_PLANES; p++)
        if (tile->plane[p])
            nf_mirror(tile->grid->dtype, tile->plane[p], tile->ld, first, last);
}
