/* gradient.c: the map of the derivatives of the limit kernels. */
#include "ntkfast.h"

size_t nf_gradient_bytes(const nf_program *program)
{
    return (NF_TAPE_HEAD + NF_TAPE_STEP * (size_t)program->n) * NF_LANES * sizeof(double);
}

void nf_gradient_rows(const void *self, nf_tile *tile, int first, int last)
{
    const nf_gradient *map = self;
    nf_isa_in_use()->backward[tile->grid->dtype](map, tile, first, last, tile->plane[NF_NNGP]);
}
