/* vecmath.h: the few functions that the duals need, written so that a loop over lanes vectorises.
 *
 * Included once per precision with NF_T, NF_() and NF_PRECISION (32, 64, or 80 for long double) defined.  Errors are
 * relative to the exact function: asin to 2 ulp for float and double (the polynomials, from minimax.py, add 0.2 ulp and
 * less); long double uses the C library.
 *
 * Branches on lanes are written as plain selections with unrelated conditions: compilers duplicate the polynomial
 * when two selections test the same comparison.
 */
#define NF_C(x) ((NF_T)(x##L))
#define NF_PI 3.14159265358979323846264338327950288L

#if NF_PRECISION != 80

/* (asin(sqrt z)/sqrt z - 1)/z on [0, 1/4] and on [0, 1/2] */
static inline NF_T NF_(asin_quarter)(NF_T z)
{
#if NF_PRECISION == 32
    const NF_T z2 = z * z;
    return (0.166666981279879501f + z * 0.0749702994244767664f) + z2 * (0.0452862432181203999f + z * 0.0249806461104746270f) +
           (z2 * z2) * 0.0409368311830315643f;
#else
    const NF_T z2 = z * z, z4 = z2 * z2;
    const NF_T p0 = 0.16666666666666568788 + z * 0.075000000000871747527;
    const NF_T p1 = 0.044642857012802839035 + z * 0.030381952291822513675;
    const NF_T p2 = 0.022371907146298795858 + z * 0.017357643507154477697;
    const NF_T p3 = 0.013904052790029448847 + z * 0.012054215357831181992;
    const NF_T p4 = 0.0069937157185807508187 + z * 0.0183283870087052251;
    const NF_T p5 = -0.014443592956462318401 + z * 0.030753335624080687319;
    return (p0 + z2 * p1) + z4 * ((p2 + z2 * p3) + z4 * (p4 + z2 * p5));
#endif
}

static inline NF_T NF_(asin_half)(NF_T z)
{
#if NF_PRECISION == 32
    const NF_T z2 = z * z, z4 = z2 * z2;
    const NF_T p0 = 0.166666537148194503f + z * 0.0750147035734762490f;
    const NF_T p1 = 0.0442580067130699917f + z * 0.0347202586711456187f;
    const NF_T p2 = -0.00301245885943990483f + z * 0.0991060247850037189f;
    const NF_T p3 = -0.126845489046797858f + z * 0.119835730474706118f;
    return (p0 + z2 * p1) + z4 * (p2 + z2 * p3);
#else
    const NF_T z2 = z * z, z4 = z2 * z2, z8 = z4 * z4;
    const NF_T p0 = 0.166666666666665730767 + z * 0.0750000000009033852793;
    const NF_T p1 = 0.0446428569962929394948 + z * 0.0303819541662487670931;
    const NF_T p2 = 0.0223718080423335873808 + z * 0.017360678782564156768;
    const NF_T p3 = 0.0138443653458093428067 + z * 0.0128521852495629212528;
    const NF_T p4 = -0.00050892752303877746727 + z * 0.0689393270157433887095;
    const NF_T p5 = -0.262084744236469958782 + z * 0.913965896887714208469;
    const NF_T p6 = -2.29800932975509723689 + z * 4.34896762039936498552;
    const NF_T p7 = -5.90887122541133558495 + z * 5.51980837542819072508;
    const NF_T p8 = -3.17125824409884880635 + z * 0.866939392742932521444;
    return ((p0 + z2 * p1) + z4 * (p2 + z2 * p3)) + z8 * (((p4 + z2 * p5) + z4 * (p6 + z2 * p7)) + z8 * p8);
#endif
}

/* asin(r) and sqrt(1-r^2) for a correlation r, which rounding may have pushed past 1 by a few ulp: that counts as 1.
 * Both come from h = (1-|r|)/2, so that what rounding does to r does the same to both. */
static inline void NF_(asin_cos)(NF_T r, NF_T *asine, NF_T *cosine)
{
    const NF_T x = fabs(r), xx = x * x;
    const NF_T h = NF_C(0.5) - NF_C(0.5) * x;
    NF_T z = xx < h ? xx : h; /* xx where |r| <= 1/2 */
    z = z < 0 ? 0 : z;
    NF_T square = 4 * h * (1 - h);
    square = square < 0 ? 0 : square;
    const NF_T a = sqrt(z);
    const NF_T psi = a + a * z * NF_(asin_quarter)(z);
    const NF_T full = x > NF_C(0.5) ? (NF_T)(NF_PI / 2) - 2 * psi : psi;
    *asine = copysign(full, r);
    *cosine = sqrt(square);
}

/* asin(x) where y = sqrt(1-x^2) >= 0 is known better than x tells it */
static inline NF_T NF_(asin_of)(NF_T x, NF_T y)
{
    const NF_T ax = fabs(x);
    const NF_T a = ax < y ? ax : y;
    const NF_T z = a * a;
    const NF_T psi = a + a * z * NF_(asin_half)(z);
    const NF_T full = ax > NF_C(0.7071067811865475244) ? (NF_T)(NF_PI / 2) - psi : psi;
    return copysign(full, x);
}

#else

static inline void NF_(asin_cos)(NF_T r, NF_T *asine, NF_T *cosine)
{
    *asine = asinl(r);
    *cosine = sqrtl(1 - r * r);
}

static inline NF_T NF_(asin_of)(NF_T x, NF_T y)
{
    return atan2l(x, y);
}

#endif
