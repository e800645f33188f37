/* Numbers as models/*.c read and write them: as float (wide) or as bfloat16, the upper half
   of a float. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define AMX
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE int64_t least(int64_t one, int64_t two) { return one < two ? one : two; }

typedef uint16_t bf16;

INLINE float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float read(const void *x, int64_t i, int wide) {
    return wide ? ((const float *)x)[i] : of_bits((uint32_t)((const bf16 *)x)[i] << 16);
}

/* A bfloat16 in the upper half: to nearest, ties to even; what is no number stays none. */
INLINE uint32_t rounded(float value) {
    uint32_t bits = bits_of(value);
    return value != value ? 0x7fc00000 : bits + 0x7fff + (bits >> 16 & 1);
}

INLINE void write(void *x, int64_t i, float value, int wide) {
    if (wide)
        ((float *)x)[i] = value;
    else
        ((bf16 *)x)[i] = (bf16)(rounded(value) >> 16);
}

#ifdef __AVX512BF16__
/* SIDE / 2 of them at once, also to nearest. */
INLINE __m512 widened(const bf16 *x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16));
}

INLINE void write_narrowed(bf16 *x, __m512 values) { _mm256_storeu_si256((void *)x, (__m256i)_mm512_cvtneps_pbh(values)); }

/* 1 / (1 + e^-x) to a relative 1e-4 and, for large x, to 1e-7: gradients take its distance from one times x. Never below
   2^-126. */
INLINE __m512 sigmoid(__m512 x) {
    __m512 power = _mm512_min_ps(_mm512_max_ps(x * -1.44269504f, _mm512_set1_ps(-126)), _mm512_set1_ps(126));
    __m512 n = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT), r = power - n;
    __m512 p = 0.00961812911f * r + 0.0555041087f; /* 2^r by its series */
    p = p * r + 0.240226507f;
    p = p * r + 0.693147181f;
    __m512 whole = _mm512_scalef_ps(p * r + 1.0f, n) + 1.0f, part = _mm512_rcp14_ps(whole);
    return part * (2.0f - whole * part); /* a step of Newton's: how near the part is differs by maker */
}
#endif

/* e^x to a relative 2e-7: 2^n e^r with |r| <= ln 2 / 2. Zero below -87: smaller numbers slow a processor down. */
INLINE float exponential(float x) {
    float within = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = rintf(within * 1.44269504f);
    float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, within)); /* ln 2 in two parts: the first product is exact */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return x < -87.0f ? 0.0f : p * of_bits((uint32_t)((int32_t)n + 127) << 23);
}

/* ---- Words, which are a float or two bfloat16 beside each other, in squares. */

#define TILE (SIDE / 2) /* words of a side: a cache line, in which SIDE bfloat16 lie */

/* Rows and columns exchanged; from row to row words lie `apart`. */
INLINE void turn_square(const uint32_t *from, int64_t apart_from, uint32_t *to, int64_t apart_to) {
#ifdef __AVX512F__
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i rows[TILE];
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) rows[i] = _mm512_loadu_si512(from + i * apart_from);
#pragma GCC unroll 4
    for (int step = TILE / 2; step; step /= 2) { /* exchange two corners of each square of twice this side */
        const __m512i by = _mm512_set1_epi32(step), beyond = _mm512_set1_epi32(TILE);
        const __mmask16 right = _mm512_test_epi32_mask(lane, by);
        const __m512i upper = _mm512_mask_add_epi32(lane, right, _mm512_sub_epi32(lane, by), beyond);
        const __m512i lower = _mm512_mask_add_epi32(_mm512_add_epi32(lane, by), right, lane, beyond);
#pragma GCC unroll 16
        for (int i = 0; i < TILE; i++) {
            if (i & step) continue;
            __m512i one = rows[i], two = rows[i + step];
            rows[i] = _mm512_permutex2var_epi32(one, upper, two);
            rows[i + step] = _mm512_permutex2var_epi32(one, lower, two);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) _mm512_storeu_si512(to + i * apart_to, rows[i]);
#else
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++) to[j * apart_to + i] = from[i * apart_from + j];
#endif
}

/* Two rows of so many bfloat16 beside each other: a word has one of each. */
INLINE void pair_rows(const bf16 *one, const bf16 *two, uint32_t *pairs, int64_t columns) {
#pragma omp simd
    for (int64_t i = 0; i < columns; i++) pairs[i] = one[i] | (uint32_t)two[i] << 16;
}

/* ---- Tiles of AMX: TILE rows of TILE words, eight at a time. */

extern int tiles_lent; /* whether this process may use them: Linux lends them on request (lend_tiles) */

#ifdef AMX
INLINE void begin_tiles(void) {
    static const struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all_whole = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};
    _tile_loadconfig(&all_whole);
}

INLINE void end_tiles(void) { _tile_release(); }

/* What is multiplied, two tiles at a time. All in bytes: from row to row of a tile, from a tile to the one beside or below
   it, and to the next two along the depth. */
typedef struct {
    const void *at;
    int64_t apart, other, next;
} Tiles;

/* c (SIDE, SIDE), its rows `apart` floats apart, = or += as many rows times as many columns, over `steps` times SIDE of
   the depth; a word of columns has two of its numbers. */
INLINE void multiply_square(float *c, int64_t apart, Tiles rows, Tiles columns, int64_t steps, int add) {
    const char *upper = rows.at, *left = columns.at;
    __asm__ volatile("" ::: "memory"); /* compilers do not know that tiles read and write memory */
    if (add) {
        _tile_loadd(0, c, apart * 4);
        _tile_loadd(1, c + TILE, apart * 4);
        _tile_loadd(2, c + TILE * apart, apart * 4);
        _tile_loadd(3, c + TILE * apart + TILE, apart * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < steps; k++, upper += rows.next, left += columns.next) {
        _tile_loadd(4, upper, rows.apart);
        _tile_loadd(6, left, columns.apart);
        _tile_loadd(7, left + columns.other, columns.apart);
        _tile_loadd(5, upper + rows.other, rows.apart);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, apart * 4);
    _tile_stored(1, c + TILE, apart * 4);
    _tile_stored(2, c + TILE * apart, apart * 4);
    _tile_stored(3, c + TILE * apart + TILE, apart * 4);
    __asm__ volatile("" ::: "memory");
}
#endif
