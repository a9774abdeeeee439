/* vectors.c: the sink that multiplies a matrix by vectors and keeps none of it. */
#include "ntkfast.h"

/* The part of a tile: for its rows, then for its columns, panel by panel. */
static int64_t panel_size(const nf_vectors *sink, const nf_tile *tile)
{
    return (int64_t)sink->width * tile->grid->tile;
}

size_t nf_vectors_bytes(const nf_vectors *sink, const nf_grid *grid)
{
    return 2 * (size_t)sink->n_panels * (size_t)sink->width * (size_t)grid->tile * sizeof(double);
}

int nf_vectors_begin(void *self, const nf_tile *tile)
{
    const nf_vectors *sink = self;
    return nf_queue_enter(sink->queue, tile) == NULL;
}

int nf_vectors_put(void *self, const nf_tile *tile, int first, int last)
{
    const nf_vectors *sink = self;
    const nf_grid *grid = tile->grid;
    const int64_t size = panel_size(sink, tile), width = sink->width;
    const int both = grid->symmetric && tile->i0 != tile->j0;
    const char *rows =
        (const char *)tile->plane[sink->plane] + (int64_t)first * tile->ld * (grid->dtype == NF_FLOAT32 ? 4 : 8);
    double *sums = nf_queue_slot(sink->queue, tile);
    for (int p = 0; p < sink->n_panels; p++) {
        const double *v = sink->v + p * grid->m * width;
        nf_isa_in_use()->product[grid->dtype](rows, tile->ld, last - first, tile->nj, sink->width, v + tile->j0 * width,
                                              sums + (2 * p) * size + first * width,
                                              both ? v + (tile->i0 + first) * width : NULL, sums + (2 * p + 1) * size);
    }
    return 0;
}

static void take(void *self, const nf_tile *tile, const void *slot)
{
    const nf_vectors *sink = self;
    const nf_grid *grid = tile->grid;
    const int64_t size = panel_size(sink, tile), width = sink->width;
    for (int p = 0; p < sink->n_panels; p++) {
        double *sum = sink->sum + p * grid->n * width;
        const double *part = (const double *)slot + 2 * p * size;
        nf_add(sum + tile->i0 * width, part, tile->ni * width);
        if (grid->symmetric && tile->i0 != tile->j0)
            nf_add(sum + tile->j0 * width, part + size, tile->nj * width);
    }
}

int nf_vectors_end(void *self, const nf_tile *tile)
{
    const nf_vectors *sink = self;
    nf_queue_leave(sink->queue, tile, take, self);
    return 0;
}
