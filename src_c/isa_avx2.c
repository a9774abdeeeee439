/* isa_avx2.c: the kernels for the instruction set "avx2"; the compiler flags are in setup.py. */
#define NF_ISA avx2
#include "kernels.h"
