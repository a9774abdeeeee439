/* put.h: writing a rectangle to memory.  Included once per precision by kernels.h.
 *
 * A matrix larger than the caches bypasses them (non-temporal stores): otherwise every line would be read before it is
 * overwritten, which is half of the memory traffic.
 */
#ifndef NF_PUT_H
#define NF_PUT_H

#if defined(__AVX__)
#include <immintrin.h>
enum { NF_STREAM_BYTES = 32 };
static inline void stream_block(char *to, const char *from)
{
    _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
}
#elif defined(__SSE2__)
#include <emmintrin.h>
enum { NF_STREAM_BYTES = 16 };
static inline void stream_block(char *to, const char *from)
{
    _mm_stream_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)from));
}
#endif

static void put_run(char *to, const char *from, int64_t bytes, int stream)
{
#ifdef __SSE2__
    if (stream && bytes >= 4 * NF_STREAM_BYTES) {
        int64_t k = -(uintptr_t)to & (NF_STREAM_BYTES - 1);
        memcpy(to, from, (size_t)k);
        for (; k + NF_STREAM_BYTES <= bytes; k += NF_STREAM_BYTES)
            stream_block(to + k, from + k);
        memcpy(to + k, from + k, (size_t)(bytes - k));
        return;
    }
#endif
    (void)stream;
    memcpy(to, from, (size_t)bytes);
}

static void put_fence(void)
{
#ifdef __SSE2__
    _mm_sfence(); /* after this, other threads see the non-temporal stores */
#endif
}

#endif

/* to[j*stride + i] = from[i*ld + j]: eight columns at a time, so that each cache line of `from` is read once, through
 * a buffer in L1, so that each row of `to` is written in one run. */
static void NF_(put_transposed)(const NF_T *from, int64_t ld, int ni, int nj, NF_T *to, int64_t stride, int stream)
{
    enum { COLUMNS = 8, ROWS = 384 };
    NF_T buffer[COLUMNS][ROWS];
    for (int i0 = 0; i0 < ni; i0 += ROWS) {
        const int rows = ni - i0 < ROWS ? ni - i0 : ROWS;
        for (int j = 0; j < nj; j += COLUMNS) {
            const int columns = nj - j < COLUMNS ? nj - j : COLUMNS;
            const NF_T *block = from + i0 * ld + j;
            for (int i = 0; i < rows; i++)
                for (int c = 0; c < COLUMNS; c++) /* a tile is a multiple of 8 wide: this stays in its row */
                    buffer[c][i] = block[i * ld + c];
            for (int c = 0; c < columns; c++)
                put_run((char *)(to + (j + c) * stride + i0), (const char *)buffer[c], rows * (int64_t)sizeof(NF_T),
                        stream);
        }
    }
}

/* to[i*row_stride + j*column_stride] = from[i*ld + j], from a tile: rows of at least NF_LANES entries */
static void NF_(put)(const void *from_, int64_t ld, int ni, int nj, void *to_, int64_t row_stride,
                     int64_t column_stride, int stream)
{
    const NF_T *from = from_;
    NF_T *to = to_;
    if (column_stride == 1) {
        for (int i = 0; i < ni; i++)
            put_run((char *)(to + i * row_stride), (const char *)(from + i * ld), nj * (int64_t)sizeof(NF_T), stream);
    } else if (row_stride == 1) {
        NF_(put_transposed)(from, ld, ni, nj, to, column_stride, stream);
    } else {
        for (int i = 0; i < ni; i++)
            for (int j = 0; j < nj; j++)
                to[i * row_stride + j * column_stride] = from[i * ld + j];
    }
    if (stream)
        put_fence();
}
