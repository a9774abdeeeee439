/* dispatch.c: the choice of the instruction set, made once from what is compiled in, the CPU and NTKFAST_ISA. */
#include <stdlib.h>
#include <string.h>

#include "ntkfast.h"

extern const nf_isa nf_isa_base, nf_isa_avx2, nf_isa_avx512;

enum { MAX_ISA = 3 };
static const nf_isa *supported[MAX_ISA + 1];
static const char *names[MAX_ISA + 1];

/* Best first.  NF_HAVE_*: set by the build for the wrapper files that it compiled. */
static void detect(void)
{
    int n = 0;
#ifdef NF_HAVE_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        supported[n++] = &nf_isa_avx512;
#endif
#ifdef NF_HAVE_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        supported[n++] = &nf_isa_avx2;
#endif
    supported[n++] = &nf_isa_base;
    supported[n] = NULL;
    for (int i = 0; i < n; i++)
        names[i] = supported[i]->name;
}

const char *const *nf_isa_available(void)
{
    if (!supported[0])
        detect();
    return names;
}

static const nf_isa *named(const char *name)
{
    for (int i = 0; nf_isa_available()[i]; i++)
        if (strcmp(name, names[i]) == 0)
            return supported[i];
    return NULL;
}

static const nf_isa *in_use;

const nf_isa *nf_isa_in_use(void)
{
    if (in_use)
        return in_use;
    const char *wanted = getenv("NTKFAST_ISA");
    return in_use = named(wanted && *wanted ? wanted : nf_isa_available()[0]);
}

const nf_isa *nf_isa_use(const char *name)
{
    const nf_isa *before = nf_isa_in_use(), *found = named(name);
    if (!found)
        return NULL;
    in_use = found;
    return before;
}
