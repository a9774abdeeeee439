/* gradient.c: the map of the derivatives of the limit kernels, and the sink that adds them up. */
#include "ntkfast.h"

size_t nf_gradient_bytes(const nf_limit *limit, nf_dtype dtype)
{
    const size_t tape = (NF_TAPE_HEAD + NF_TAPE_STEP * (size_t)limit->program->n) * NF_LANES * sizeof(double);
    const size_t edges = nf_edges_bytes(dtype, limit->d); /* needed before the tape is */
    return tape > edges ? tape : edges;
}

void nf_gradient_rows(const void *self, nf_tile *tile, int first, int last)
{
    const nf_gradient *map = self;
    nf_isa_in_use()->backward[tile->grid->dtype](map, tile, first, last, tile->plane[NF_NNGP]);
}

static int64_t sums_step(const nf_grid *grid)
{
    return NF_SUMS_HEAD + 2 * (int64_t)grid->tile;
}

size_t nf_sums_bytes(const nf_sums *sink, const nf_grid *grid)
{
    return (size_t)sink->program->n * (size_t)sums_step(grid) * sizeof(double);
}

int nf_sums_begin(void *self, const nf_tile *tile)
{
    const nf_sums *sink = self;
    return nf_queue_enter(sink->queue, tile) == NULL;
}

static void take(void *self, const nf_tile *tile, const void *slot)
{
    const nf_sums *sink = self;
    const nf_grid *grid = tile->grid;
    const double *part = slot;
    for (int k = 0; k < sink->program->n; k++, part += sums_step(grid)) {
        nf_add(sink->layers + k * NF_SUMS_HEAD, part, NF_SUMS_HEAD);
        nf_add(sink->by_row + k * grid->n + tile->i0, part + NF_SUMS_HEAD, tile->ni);
        nf_add(sink->by_column + k * grid->m + tile->j0, part + NF_SUMS_HEAD + grid->tile, tile->nj);
    }
}

int nf_sums_end(void *self, const nf_tile *tile)
{
    const nf_sums *sink = self;
    nf_queue_leave(sink->queue, tile, take, self);
    return 0;
}
