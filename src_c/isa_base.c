/* isa_base.c: the kernels for the instruction set "base"; the compiler flags are in setup.py. */
#define NF_ISA base
#include "kernels.h"
