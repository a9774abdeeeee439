/* tangent.c: the map of the empirical kernels: BLAS computes two products per term, their Hadamard product is added. */
#include "ntkfast.h"

static int n_pieces(int64_t features)
{
    return (int)((features + NF_FEATURES - 1) / NF_FEATURES);
}

/* Piece number `piece` of a product over d features, added to `to` if it is not the first, or if keep. */
static void product(const nf_tangent *map, const nf_tile *tile, nf_points_view rows, nf_points_view columns, int64_t d,
                    int piece, int keep, void *to)
{
    const int64_t start = (int64_t)piece * NF_FEATURES, rest = d - start;
    nf_inner_products(map->blas, tile, rows, columns, start, (int)(rest < NF_FEATURES ? rest : NF_FEATURES),
                      keep || piece > 0, NULL, to);
}

#define ADD_UP(T)                                                                                                      \
    static void add_up_##T(const nf_term *term, const nf_tile *tile, int first)                                        \
    {                                                                                                                  \
        const T weight = term->d_a ? (T)term->weight : 0, bias = (T)term->bias;                                        \
        for (int i = 0; i < tile->ni; i++) {                                                                           \
            T *restrict sum = (T *)tile->plane[0] + (int64_t)i * tile->ld;                                             \
            const T *restrict a = (const T *)tile->scratch[0] + (int64_t)i * tile->ld;                                 \
            const T *restrict b = (const T *)tile->scratch[1] + (int64_t)i * tile->ld;                                 \
            if (first)                                                                                                 \
                for (int j = 0; j < tile->nj; j++)                                                                     \
                    sum[j] = 0;                                                                                        \
            if (term->d_b)                                                                                             \
                for (int j = 0; j < tile->nj; j++)                                                                     \
                    sum[j] += (weight * a[j] + bias) * b[j];                                                           \
            else                                                                                                       \
                for (int j = 0; j < tile->nj; j++)                                                                     \
                    sum[j] += weight * a[j] + bias;                                                                    \
        }                                                                                                              \
    }
ADD_UP(float)
ADD_UP(double)

int nf_tangent_open(const void *self, nf_tile *tile, int step)
{
    const nf_tangent *map = self;
    for (int t = 0; t < map->n_terms; t++) {
        const nf_term *term = &map->terms[t];
        const int64_t size = tile->grid->dtype == NF_FLOAT32 ? 4 : 8;
        const int of_a = n_pieces(term->d_a), of_b = n_pieces(term->d_b), n_steps = of_a + (int)term->n_b * of_b;
        if (step > n_steps) { /* the last step of a term adds it up */
            step -= n_steps + 1;
            continue;
        }
        if (step < of_a) {
            product(map, tile, term->a_rows, term->a_columns, term->d_a, step, 0, tile->scratch[0]);
        } else if (step < n_steps) {
            const int k = (step - of_a) / of_b;
            const nf_points_view rows = {(const char *)term->b_rows.x + k * term->b_rows_step * size, term->b_rows.ld};
            const nf_points_view columns = {(const char *)term->b_columns.x + k * term->b_columns_step * size,
                                            term->b_columns.ld};
            product(map, tile, rows, columns, term->d_b, (step - of_a) % of_b, k > 0, tile->scratch[1]);
        } else if (tile->grid->dtype == NF_FLOAT32) {
            add_up_float(term, tile, t == 0);
        } else {
            add_up_double(term, tile, t == 0);
        }
        return t + 1 < map->n_terms || step < n_steps;
    }
    return 0;
}

void nf_tangent_rows(const void *self, nf_tile *tile, int first, int last)
{
    (void)self;
    if (nf_on_diagonal(tile))
        nf_mirror(tile->grid->dtype, tile->plane[0], tile->ld, first, last);
}
