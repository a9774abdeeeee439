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

/* Numbers of the part of a tile before those of the points */
static int64_t sums_of_program(const nf_sums *sink, const nf_grid *grid)
{
    return sink->limit->program->n * sums_step(grid);
}

static size_t points_bytes(const nf_sums *sink, const nf_grid *grid)
{
    return (size_t)grid->tile * (size_t)sink->limit->d * (grid->dtype == NF_FLOAT32 ? sizeof(float) : sizeof(double));
}

size_t nf_sums_bytes(const nf_sums *sink, const nf_grid *grid)
{
    const size_t points = sink->of_rows ? 2 * points_bytes(sink, grid) : 0;
    return (size_t)sums_of_program(sink, grid) * sizeof(double) + points;
}

int nf_sums_begin(void *self, const nf_tile *tile)
{
    const nf_sums *sink = self;
    return nf_queue_enter(sink->queue, tile) == NULL;
}

static void add_points(nf_dtype dtype, double *restrict to, const void *from, int64_t n)
{
    if (dtype == NF_FLOAT64) {
        nf_add(to, from, n);
        return;
    }
    for (int64_t k = 0; k < n; k++)
        to[k] += (double)((const float *)from)[k];
}

static void take(void *self, const nf_tile *tile, const void *slot)
{
    const nf_sums *sink = self;
    const nf_grid *grid = tile->grid;
    const double *part = slot;
    for (int k = 0; k < sink->limit->program->n; k++, part += sums_step(grid)) {
        nf_add(sink->layers + k * NF_SUMS_HEAD, part, NF_SUMS_HEAD);
        nf_add(sink->by_row + k * grid->n + tile->i0, part + NF_SUMS_HEAD, tile->ni);
        nf_add(sink->by_column + k * grid->m + tile->j0, part + NF_SUMS_HEAD + grid->tile, tile->nj);
    }
    if (sink->of_rows) {
        const int64_t d = sink->limit->d;
        add_points(grid->dtype, sink->of_rows + tile->i0 * d, part, tile->ni * d);
        add_points(grid->dtype, sink->of_columns + tile->j0 * d, (const char *)part + points_bytes(sink, grid),
                   tile->nj * d);
    }
}

int nf_sums_end(void *self, const nf_tile *tile)
{
    const nf_sums *sink = self;
    if (sink->of_rows) {
        const nf_limit *limit = sink->limit;
        char *of_rows = (char *)((double *)nf_queue_slot(sink->queue, tile) + sums_of_program(sink, tile->grid));
        nf_weighted_points(limit->blas, tile, limit->rows.points, limit->columns.points, limit->d, tile->plane[NF_NNGP],
                           of_rows, of_rows + points_bytes(sink, tile->grid));
    }
    nf_queue_leave(sink->queue, tile, take, self);
    return 0;
}
