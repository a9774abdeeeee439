/* vecmath.h: exp, and asin and sqrt over a chunk of lanes: the transcendental functions that the duals need.
 *
 * Included once per precision with NF_T, NF_() and NF_PRECISION (32, 64, or 80 for long double) defined.  The
 * polynomials are minimax fits (minimax.py); they add 0.2 ulp or less.  long double uses the C library.
 *
 * The square roots of one block of lanes overlap the polynomials of the block before it: the divider and the
 * multipliers are different units, but the out-of-order window is too short to overlap them by itself.
 */
#define NF_C(x) ((NF_T)(x##L))
#define NF_PI 3.14159265358979323846264338327950288L

#if NF_PRECISION != 80

/* (asin(sqrt z)/sqrt z - 1)/z for z in [0, sin^2(pi/8)], to 5e-17 (float: 1.3e-9) of asin itself */
static inline NF_T NF_(asin_eighth)(NF_T z)
{
    const NF_T z2 = z * z;
#if NF_PRECISION == 32
    return (0.166665375083485020f + z * 0.0750761368461430152f) +
           z2 * (0.0432272814321741679f + z * 0.0406007511129016951f);
#else
    NF_T even = 0.0145672405125627424474 + z2 * 0.0190834072404983173414;
    NF_T odd = 0.0172881165314894548433 + z2 * 0.00826175014732392697296;
    even = 0.0223763499224700670969 + z2 * even;
    odd = 0.0303817842049974506592 + z2 * odd;
    even = 0.0446428604570253077672 + z2 * even;
    odd = 0.0749999999702693403308 + z2 * odd;
    return (0.166666666666714495078 + z2 * even) + z * odd;
#endif
}

/* the same for z in [0, 1/2], to 1.9e-17 (float: 2.6e-9), relative */
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

/* exp(x) to 1 ulp; results below the smallest normal number become about that number, those above half of the largest
 * inf.  x = n log 2 + r: adding a large number rounds to n, which is then in the low bits of the sum and is moved into
 * the exponent from there. */
static inline NF_T NF_(exponential_of)(NF_T x)
{
#if NF_PRECISION == 32
    typedef uint32_t bits;
    enum { MANTISSA = 23, BIAS = 127 };
    const NF_T low = -87, high = 89, magic = 0x1.8p23f, high_part = 0x1.62e4p-1f, low_part = 0x1.7f7d1cp-20f;
#else
    typedef uint64_t bits;
    enum { MANTISSA = 52, BIAS = 1023 };
    const NF_T low = -708, high = 710, magic = 0x1.8p52, high_part = 0x1.62e42fefa38p-1,
               low_part = 0x1.ef35793c7673p-45;
#endif
    x = x < low ? low : x;
    x = x > high ? high : x;
    const NF_T shifted = x * NF_C(1.44269504088896340736) + magic, n = shifted - magic;
    const NF_T r = (x - n * high_part) - n * low_part;
    bits integer;
    NF_T power;
    memcpy(&integer, &shifted, sizeof integer);
    integer = (integer + BIAS) << MANTISSA;
    memcpy(&power, &integer, sizeof power);
    const NF_T r2 = r * r, r4 = r2 * r2;
#if NF_PRECISION == 32
    const NF_T p = (NF_C(0.5) + r * NF_C(0.16666666666666666667)) +
                   r2 * ((NF_C(0.041666666666666666667) + r * NF_C(0.0083333333333333333333)) +
                         r2 * NF_C(0.0013888888888888888889) + r * r2 * NF_C(0.0001984126984126984127));
    (void)r4;
#else
    const NF_T p0 = NF_C(0.5) + r * NF_C(0.16666666666666666667);
    const NF_T p1 = NF_C(0.041666666666666666667) + r * NF_C(0.0083333333333333333333);
    const NF_T p2 = NF_C(0.0013888888888888888889) + r * NF_C(0.0001984126984126984127);
    const NF_T p3 = NF_C(2.4801587301587301587e-5) + r * NF_C(2.7557319223985890653e-6);
    const NF_T p4 = NF_C(2.7557319223985890653e-7) + r * NF_C(2.5052108385441718775e-8);
    const NF_T p5 = NF_C(2.0876756987868098979e-9) + r * NF_C(1.6059043836821614599e-10);
    const NF_T p = (p0 + r2 * p1) + r4 * ((p2 + r2 * p3) + r4 * (p4 + r2 * p5));
#endif
    return power * (1 + (r + r2 * p));
}

/* exp(x) - 1 for |x| <= NF_SMALL, to 1 ulp, by Taylor; beyond that, exp(x) minus 1 loses at most 7 bits (float: 1) */
#if NF_PRECISION == 32
#define NF_SMALL NF_C(0.5)
#else
#define NF_SMALL NF_C(0.015625)
#endif
static inline NF_T NF_(small_expm1)(NF_T x)
{
    const NF_T x2 = x * x;
    const NF_T p0 = 1 + x * NF_C(0.5), p1 = NF_C(0.16666666666666666667) + x * NF_C(0.041666666666666666667);
    const NF_T p2 = NF_C(0.0083333333333333333333) + x * NF_C(0.0013888888888888888889);
    const NF_T p3 = NF_C(0.0001984126984126984127) + x * NF_C(2.4801587301587301587e-5);
    return x * ((p0 + x2 * p1) + (x2 * x2) * (p2 + x2 * p3));
}

/* The angle in [0, pi/2] whose sine is s and whose cosine is c.
 * relative == 0: to 1 ulp of pi/4.  Seen from pi/8 away, the smaller of both angles has a sine below sin(pi/8).
 * relative == 1: to 2 ulp of the angle itself, near 0 and (if c is) near pi/2.
 * The two selections test different things: with one condition for both, compilers would double the polynomial. */
static inline NF_T NF_(angle)(NF_T s, NF_T c, int relative)
{
    const NF_T low = s < c ? s : c;
    NF_T small;
    if (relative) {
        const NF_T z = low * low;
        small = low + low * z * NF_(asin_half)(z);
    } else {
        const NF_T high = c > s ? c : s;
        const NF_T turned = low * NF_C(0.923879532511286756128) - high * NF_C(0.382683432365089771728);
        const NF_T z = turned * turned;
        small = (NF_T)(NF_PI / 8) + (turned + turned * z * NF_(asin_eighth)(z));
    }
    return s > NF_C(0.7071067811865475244) ? (NF_T)(NF_PI / 2) - small : small;
}

/* cosine = sqrt(square), angle = asin(sine); sine >= 0, and square = 1 - sine^2 was computed without cancellation */
static inline void NF_(angles)(const NF_T *restrict sine, const NF_T *restrict square, NF_T *restrict cosine,
                               NF_T *restrict angle, const int relative)
{
    enum { BLOCK = 16 };
    NF_SIMD
    for (int i = 0; i < BLOCK; i++)
        cosine[i] = sqrt(square[i]);
    for (int k = 0; k < NF_WIDTH - BLOCK; k += BLOCK) {
        NF_SIMD
        for (int i = k; i < k + BLOCK; i++) {
            cosine[i + BLOCK] = sqrt(square[i + BLOCK]);
            angle[i] = NF_(angle)(sine[i], cosine[i], relative);
        }
    }
    NF_SIMD
    for (int i = NF_WIDTH - BLOCK; i < NF_WIDTH; i++)
        angle[i] = NF_(angle)(sine[i], cosine[i], relative);
}

#else

static inline NF_T NF_(exponential_of)(NF_T x)
{
    return expl(x);
}

#define NF_SMALL 1
static inline NF_T NF_(small_expm1)(NF_T x)
{
    return expm1l(x);
}

static inline void NF_(angles)(const NF_T *sine, const NF_T *square, NF_T *cosine, NF_T *angle, int relative)
{
    (void)relative;
    *cosine = sqrtl(*square);
    *angle = atan2l(*sine, *cosine);
}

#endif
