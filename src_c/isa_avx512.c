/* isa_avx512.c: the kernels for the instruction set "avx512"; the compiler flags are in setup.py. */
#define NF_ISA avx512
#include "kernels.h"
