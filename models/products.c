/* Matrices times matrices in bfloat16 by AMX. Each number of an answer is a sum in float in the order of the depth, rounded
   once: the same however the work is cut and among however many threads.

   A thread has a rectangle of the answer. Of it, it takes so much of the second factor as its second-level cache holds,
   laid out in tiles, and goes over it with SIDE rows of the first factor, laid out likewise, which its first-level cache
   holds. Laying out transposes where a factor lies transposed, so that all ways cost about the same. */

#include "kernels.h"

#ifdef AMX
#include <omp.h>

#define BLOCK 288              /* of the depth, at once: its rows of the first factor stay in the first-level cache */
#define WIDE 800               /* columns at once, at most */
#define HELD (900 * 1024)      /* bytes of the second factor at once, where all of its depth fits */
#define DEEP 544               /* else, of the depth, beside sums */
#define SUMS (1000 * 1024)     /* bytes of sums that wait for the rest of the depth */
#define ROOM (2 * 1024 * 1024) /* bytes for a thread */

_Static_assert(HELD / 2 / WIDE >= DEEP, "what is held beside sums would be more than the whole depth");
_Static_assert(SIDE * BLOCK * 2 + SUMS + WIDE * DEEP * 2 <= ROOM, "a part of the depth");
_Static_assert(SIDE * BLOCK * 2 + SIDE * WIDE * 4 + HELD <= ROOM, "all of the depth");

typedef struct {
    const bf16 *at;
    int64_t apart; /* numbers from row to row, as it lies */
    int64_t transposed;
} Factor;

typedef struct {
    bf16 *at;
    const bf16 *bias; /* added to each row, or null */
    int64_t rows, columns, depth;
    int add; /* to what is there */
} Answer;

typedef struct {
    int64_t row, rows, column, columns;
} Rectangle;

INLINE int64_t parts(int64_t all, int64_t most) { return (all + most - 1) / most; }

/* What parts of at most so many have where all are about as large; most and what comes of it are multiples of SIDE. */
INLINE int64_t even(int64_t all, int64_t most) { return parts(parts(all, SIDE), parts(all, most)) * SIDE; }

/* SIDE rows of the first factor, `last` the first one behind them, numbers start..end of each: (depth / SIDE, SIDE, SIDE).
   Rows that it has not are zero. */
static void lay_rows(Factor a, int64_t row, int64_t last, int64_t start, int64_t end, bf16 *tiles) {
    int64_t rows = least(SIDE, last - row);
    for (int64_t k = start; k < end; k += SIDE, tiles += SIDE * SIDE) {
        if (a.transposed) {
            uint32_t pairs[SIDE / 2 * SIDE];
            const bf16 *at = a.at + k * a.apart + row;
            for (int64_t i = 0; i < SIDE; i += 2)
                pair_rows(at + i * a.apart, at + (i + 1) * a.apart, pairs + i / 2 * SIDE, SIDE);
            turn_square(pairs, SIDE, (uint32_t *)tiles, TILE);
            turn_square(pairs + TILE, SIDE, (uint32_t *)tiles + TILE * TILE, TILE);
        } else {
            const bf16 *at = a.at + row * a.apart + k;
            for (int64_t i = 0; i < rows; i++) memcpy(tiles + i * SIDE, at + i * a.apart, SIDE * sizeof *at);
            memset(tiles + rows * SIDE, 0, (SIDE - rows) * SIDE * sizeof *tiles);
        }
    }
}

/* Columns first..last of the second factor, numbers start..end of each: (columns / SIDE, depth / SIDE, 2, TILE, TILE), a
   word two numbers of a column. */
static void lay_columns(Factor b, int64_t first, int64_t last, int64_t start, int64_t end, uint32_t *tiles) {
    int64_t strip = (end - start) * TILE;
    if (b.transposed) {
        for (int64_t j = first; j < last; j += SIDE)
            for (int64_t k = start; k < end; k += SIDE, tiles += 2 * TILE * TILE) {
                const uint32_t *at = (const uint32_t *)(b.at + j * b.apart + k);
                turn_square(at, b.apart / 2, tiles, TILE);
                turn_square(at + TILE * b.apart / 2, b.apart / 2, tiles + TILE * TILE, TILE);
            }
        return;
    }
    for (int64_t k = start; k < end; k += 2) {
        const bf16 *one = b.at + k * b.apart, *two = one + b.apart;
        uint32_t *to = tiles + (k - start) / SIDE * SIDE * TILE + (k - start) % SIDE / 2 * TILE;
        for (int64_t j = first; j < last; j += SIDE, to += strip) {
            pair_rows(one + j, two + j, to, TILE);
            pair_rows(one + j + TILE, two + j + TILE, to + TILE * TILE, TILE);
        }
    }
}

/* SIDE sums as they are answered. */
INLINE void write_sums(const float *sums, const bf16 *bias, bf16 *to, int add) {
    __m512 one = _mm512_loadu_ps(sums), two = _mm512_loadu_ps(sums + TILE);
    if (bias) one += widened(bias), two += widened(bias + TILE);
    if (add) one += widened(to), two += widened(to + TILE);
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(two, one));
}

static void multiply_part(Factor a, Factor b, Answer c, Rectangle all, char *room) {
    int64_t wide = even(all.columns, WIDE), tall = all.rows, deep = HELD / 2 / wide / SIDE * SIDE;
    if (deep >= c.depth)
        deep = c.depth;
    else {
        deep = even(c.depth, DEEP);
        tall = even(all.rows, SUMS / 4 / wide / SIDE * SIDE);
    }
    bf16 *laid_rows = (bf16 *)room;
    float *sums = (float *)(laid_rows + SIDE * BLOCK); /* (rows / SIDE, columns / SIDE, SIDE, SIDE) */
    uint32_t *laid_columns = (uint32_t *)(sums + (deep < c.depth ? tall : SIDE) * wide);
    for (int64_t j = all.column; j < all.column + all.columns; j += wide)
        for (int64_t top = all.row; top < all.row + all.rows; top += tall) {
            int64_t right = least(j + wide, all.column + all.columns), bottom = least(top + tall, all.row + all.rows);
            for (int64_t start = 0; start < c.depth; start += deep) {
                int64_t end = least(start + deep, c.depth), block = even(end - start, BLOCK);
                lay_columns(b, j, right, start, end, laid_columns);
                for (int64_t i = top; i < bottom; i += SIDE) {
                    float *these = deep < c.depth ? sums + (i - top) * wide : sums;
                    for (int64_t k = start; k < end; k += block) {
                        int64_t steps = least(block, end - k) / SIDE;
                        lay_rows(a, i, bottom, k, k + steps * SIDE, laid_rows);
                        const uint32_t *columns = laid_columns + (k - start) * TILE;
                        for (int64_t at = 0; at < right - j; at += SIDE, columns += (end - start) * TILE)
                            multiply_square(these + at * SIDE, SIDE,
                                            (Tiles){laid_rows, SIDE * 2, TILE * SIDE * 2, SIDE * SIDE * 2},
                                            (Tiles){columns, TILE * 4, TILE * TILE * 4, SIDE * TILE * 4}, steps, k > 0);
                    }
                    if (end < c.depth) continue;
                    for (int64_t r = i; r < least(i + SIDE, bottom); r++)
                        for (int64_t at = j; at < right; at += SIDE)
                            write_sums(these + (at - j + r - i) * SIDE, c.bias ? c.bias + at : 0,
                                       c.at + r * c.columns + at, c.add);
                }
            }
        }
}

/* How many threads lie below each other, the others beside them: for the least to multiply, then the least to read. */
static int64_t threads_down(int64_t rows, int64_t columns, int64_t threads) {
    int64_t best = 1, least_work = INT64_MAX, least_read = INT64_MAX;
    for (int64_t down = 1; down <= threads; down++) {
        if (threads % down) continue;
        int64_t high = parts(rows, down), wide = parts(columns, threads / down);
        if (high * wide > least_work || (high * wide == least_work && high + wide >= least_read)) continue;
        best = down, least_work = high * wide, least_read = high + wide;
    }
    return best;
}

int64_t multiply_room(int64_t threads) { return threads * ROOM; }

/* out (rows, columns) = or += a (rows, depth) times b (depth, columns), and bias (columns,); what lies `transposed` is
   (depth, rows) or (columns, depth). All are multiples of SIDE but rows where a does not lie transposed; none is zero. */
void multiply(const bf16 *a, const bf16 *b, const bf16 *bias, bf16 *out, int64_t apart_a, int64_t apart_b,
              int64_t transposed_a, int64_t transposed_b, int64_t rows, int64_t columns, int64_t depth,
              int64_t threads, int add, char *room) {
    Answer c = {out, bias, rows, columns, depth, add};
    int64_t high = parts(rows, SIDE), wide = columns / SIDE, down = threads_down(high, wide, threads);
    int64_t across = threads / down;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < threads; t++) {
        int64_t i = t / across, j = t % across;
        int64_t top = high * i / down * SIDE, bottom = least(high * (i + 1) / down * SIDE, rows);
        int64_t left = wide * j / across * SIDE, right = wide * (j + 1) / across * SIDE;
        if (top >= bottom || left >= right) continue;
        begin_tiles();
        multiply_part((Factor){a, apart_a, transposed_a}, (Factor){b, apart_b, transposed_b}, c,
                      (Rectangle){top, bottom - top, left, right - left}, room + t * ROOM);
        end_tiles();
    }
}
#endif
