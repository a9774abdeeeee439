/* kernels.h: everything compiled once per instruction set.  An isa_*.c file defines NF_ISA and includes this. */
#include <float.h>
#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "ntkfast.h"

#ifdef _OPENMP
#define NF_SIMD _Pragma("omp simd")
#elif defined(__clang__)
#define NF_SIMD _Pragma("clang loop vectorize(enable)")
#elif defined(__GNUC__)
#define NF_SIMD _Pragma("GCC ivdep")
#else
#define NF_SIMD
#endif
#define NF_WIDTH NF_LANES
#define NF_NEXT NF_LANES
#define NF_DIAGONAL 0
#if defined(__AVX512F__)
#define NF_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define NF_VECTOR_BYTES 32
#else
#define NF_VECTOR_BYTES 16
#endif

#include "near.h"

#define NF_T float
#define NF_(name) name##_f32
#define NF_PRECISION 32
#define NF_TINY FLT_MIN
#define NF_LARGE FLT_MAX
#define NF_EPSILON FLT_EPSILON
#include "vecmath.h"
#include "duals.h"
#include "series.h"
#include "series_rates.h"
#include "program.h"
#include "rectangle.h"
#define NF_PLANE float
#define NF_OF_PLANE(name) name##_f32
#include "interpret.h"
#undef NF_PLANE
#undef NF_OF_PLANE
#include "backward.h"
#include "put.h"
#include "product.h"
#undef NF_T
#undef NF_
#undef NF_C
#undef NF_PI
#undef NF_SMALL
#undef NF_INLINE
#undef NF_PAIR
#undef NF_ARGS
#undef NF_ABS_RHO
#undef NF_SQUARE
#undef NF_APART
#undef NF_LAYER
#undef NF_ADVANCE
#undef NF_SET
#undef NF_RATES
#undef NF_EIGEN_RATES
#undef NF_PRECISION
#undef NF_TINY
#undef NF_LARGE
#undef NF_EPSILON

#define NF_T double
#define NF_(name) name##_f64
#define NF_PRECISION 64
#define NF_TINY DBL_MIN
#define NF_LARGE DBL_MAX
#define NF_EPSILON DBL_EPSILON
#include "vecmath.h"
#include "duals.h"
#include "series.h"
#include "series_rates.h"
#include "program.h"
#include "rectangle.h"
#define NF_PLANE double
#define NF_OF_PLANE(name) name##_f64
#include "interpret.h"
#undef NF_PLANE
#undef NF_OF_PLANE
#define NF_PLANE float
#define NF_OF_PLANE(name) name##_wide
#include "interpret.h"
#include "backward.h"
#include "put.h"
#include "product.h"
#include "widths.h"

static void dual_f64(const nf_instr *in, const double *row, const double *columns, double *sigma, double *theta)
{
    instructions_f64[in->op](in, row, columns, sigma, theta);
}

#define NF_PASTE(name) nf_isa_##name
#define NF_SYMBOL(name) NF_PASTE(name)
#define NF_TEXT_(name) #name
#define NF_TEXT(name) NF_TEXT_(name)

const nf_isa NF_SYMBOL(NF_ISA) = {
    .name = NF_TEXT(NF_ISA),
    .norms = {norms_f32, norms_f64},
    .interpret = {interpret_f32, interpret_f64},
    .interpret_wide = interpret_wide,
    .backward = {backward_f32, backward_f64},
    .dual = dual_f64,
    .widths = widths,
    .put = {put_f32, put_f64},
    .product = {product_f32, product_f64},
};
