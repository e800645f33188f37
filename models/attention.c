/* Attention over a packed stream (models/packing.py) in bfloat16, a row and key head at a time, so that all of it stays
   in a core's own cache: forwards and, from where softmax's scores lie and their sum, backwards (FlashAttention-2,
   arXiv:2307.08691).

   A row's keys lie in order: the common prefix, its trunk, its responses. A token sees the prefix, its trunk and, up to
   itself, its own segment: two runs of keys, of which only the second has an edge to look at. Queries are those of all
   heads that share the key head, 32 at a time, and lie in columns: softmax then goes down columns, many at once.
   models/tiles.py has the same in torch; tests hold the two against each other. */

#include "kernels.h"

#ifdef __AVX512BF16__
#include <omp.h>

/* Keys and queries come SIDE at a time, and all that is multiplied is a multiple of that. */
#define NEVER INT32_MAX
#define RUN 64 /* keys that a gradient goes through at once */
#define LOG2E 1.44269504f

/* ---- c = a b, or c += a b: c (rows, columns) in float, a (rows, depth), b (depth, columns) in pairs: (depth / 2,
   columns, 2). From row to row c, a, b lie so many numbers apart, b's in pairs. */

#define PRODUCT \
    float *c, int64_t apart_c, const bf16 *a, int64_t apart_a, const uint32_t *b, int64_t apart_b, int64_t rows, \
        int64_t columns, int64_t depth, int add

#ifdef AMX
static void product_of_tiles(PRODUCT) {
    for (int64_t i = 0; i < rows; i += SIDE)
        for (int64_t j = 0; j < columns; j += SIDE)
            multiply_square(c + i * apart_c + j, apart_c,
                            (Tiles){a + i * apart_a, apart_a * 2, TILE * apart_a * 2, SIDE * 2},
                            (Tiles){b + j, apart_b * 4, TILE * 4, TILE * apart_b * 4}, depth / SIDE, add);
}
#endif

#define STRIP 8 /* rows whose sums stay in registers */

static void product_of_rows(PRODUCT) {
    for (int64_t i = 0; i < rows; i += STRIP) {
        for (int64_t j = 0; j < columns; j += SIDE) {
            float *at = c + i * apart_c + j;
            __m512 sums[STRIP][2];
#pragma GCC unroll 8
            for (int r = 0; r < STRIP; r++)
                for (int n = 0; n < 2; n++)
                    sums[r][n] = add ? _mm512_loadu_ps(at + r * apart_c + n * TILE) : _mm512_setzero_ps();
            for (int64_t k = 0; k < depth / 2; k++) {
                const uint32_t *pairs = b + k * apart_b + j;
                __m512bh one = (__m512bh)_mm512_loadu_si512(pairs), two = (__m512bh)_mm512_loadu_si512(pairs + TILE);
#pragma GCC unroll 8
                for (int r = 0; r < STRIP; r++) {
                    int32_t pair;
                    memcpy(&pair, a + (i + r) * apart_a + 2 * k, sizeof pair);
                    sums[r][0] = _mm512_dpbf16_ps(sums[r][0], one, (__m512bh)_mm512_set1_epi32(pair));
                    sums[r][1] = _mm512_dpbf16_ps(sums[r][1], two, (__m512bh)_mm512_set1_epi32(pair));
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < STRIP; r++)
                for (int n = 0; n < 2; n++) _mm512_storeu_ps(at + r * apart_c + n * TILE, sums[r][n]);
        }
    }
}

INLINE void product(PRODUCT) {
#ifdef AMX
    if (tiles_lent) {
        product_of_tiles(c, apart_c, a, apart_a, b, apart_b, rows, columns, depth, add);
        return;
    }
#endif
    product_of_rows(c, apart_c, a, apart_a, b, apart_b, rows, columns, depth, add);
}

INLINE void begin_products(void) {
#ifdef AMX
    if (tiles_lent) begin_tiles();
#endif
}

INLINE void end_products(void) {
#ifdef AMX
    if (tiles_lent) end_tiles();
#endif
}

/* ---- What a call is about. Tensors of the stream are (tokens, heads, width), tokens `apart` numbers apart. */

typedef struct {
    const bf16 *at;
    int64_t apart;
} Stream;

typedef struct {
    const int64_t *firsts; /* each row's first segment, (rows + 1,) */
    const int64_t *starts; /* each segment's first token, (segments + 1,) */
    int64_t prefix;        /* tokens that all rows see but the first, which they are */
    int64_t groups, heads; /* key heads, and query heads of each */
    int64_t width, wide;   /* numbers of a head, and these filled up with zeros */
    float by;              /* what scores are multiplied by */
} Plan;

/* A row's keys in order: token `i` of them. */
typedef struct {
    int64_t prefix, start, length;
} Keys;

INLINE Keys keys_of(const Plan *p, int64_t row) {
    int64_t start = p->starts[p->firsts[row]], end = p->starts[p->firsts[row + 1]];
    int64_t prefix = start < p->prefix ? 0 : p->prefix;
    return (Keys){prefix, start, prefix + end - start};
}

INLINE int64_t token_of(const Keys *k, int64_t i) { return i < k->prefix ? i : k->start + i - k->prefix; }

/* The runs of keys that a segment's queries see: `open` of them from the first on, and its own from `start` on. */
typedef struct {
    int64_t open, start, length, first; /* the segment's first token in the stream */
} Segment;

INLINE Segment segment_of(const Plan *p, const Keys *k, int64_t row, int64_t number) {
    int64_t first = p->starts[number], trunk = p->starts[p->firsts[row] + 1] - k->start;
    int64_t open = number == p->firsts[row] ? k->prefix : k->prefix + trunk;
    return (Segment){open, k->prefix + first - k->start, p->starts[number + 1] - first, first};
}

/* Queries of a block: `count` of the heads of tokens, one after another. Of each its token in the segment, and its place
   among (tokens, heads of all groups). */
typedef struct {
    int64_t count, place[SIDE];
    int32_t token[SIDE];
} Queries;

INLINE Queries queries_of(const Plan *p, const Segment *s, int64_t group, int64_t first) {
    int64_t token = first / p->heads, head = first % p->heads;
    Queries q = {.count = least(SIDE, s->length * p->heads - first)};
    for (int64_t i = 0; i < SIDE; i++) { /* behind the last one, that again */
        q.token[i] = (int32_t)token;
        q.place[i] = ((s->first + token) * p->groups + group) * p->heads + head;
        if (i + 1 < q.count && ++head == p->heads) head = 0, token++;
    }
    return q;
}

/* Keys that lie side by side, from the `done`th on of all that these queries see. `sure` of them all queries see; the
   others those from that token of the segment on which is the key's number behind `own`. */
typedef struct {
    int64_t start, keys, sure, own;
} Run;

INLINE int64_t whole(int64_t keys) { return (keys + SIDE - 1) / SIDE * SIDE; }

INLINE int64_t keys_seen(const Segment *s, const Queries *q) { return whole(s->open) + whole(q->token[SIDE - 1] + 1); }

INLINE Run run_of(const Segment *s, const Queries *q, int64_t done, int64_t most) {
    int64_t own = done - whole(s->open);
    if (own < 0) return (Run){done, least(most, -own), least(least(most, -own), s->open - done), NEVER};
    int64_t keys = least(most, whole(q->token[SIDE - 1] + 1) - own), sure = q->token[0] + 1 - own;
    return (Run){s->start + own, keys, sure < 0 ? 0 : least(sure, keys), own};
}

INLINE const bf16 *head_of(const Plan *p, Stream x, int64_t place) {
    int64_t heads = p->groups * p->heads;
    return x.at + place / heads * x.apart + place % heads * p->width;
}

/* ---- Copies in the order that products read. What fills up is zero: zero times what lies in memory may be no number. */

/* (rows, columns) words, both multiples of TILE. */
static void turn_words(const uint32_t *from, uint32_t *to, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t j = 0; j < columns; j += TILE)
            turn_square(from + i * columns + j, columns, to + j * rows + i, rows);
}

/* A row's keys or values, (length, wide). */
static void lay_keys(const Plan *p, const Keys *k, Stream x, int64_t group, bf16 *rows, int64_t length) {
    for (int64_t i = 0; i < length; i++) {
        bf16 *to = rows + i * p->wide;
        memset(to, 0, p->wide * sizeof *to);
        if (i < k->length) memcpy(to, x.at + token_of(k, i) * x.apart + group * p->width, p->width * sizeof *to);
    }
}

/* Keys (length, wide) as (wide, length); room for as many. */
static void turn_keys(const bf16 *rows, bf16 *turned, uint32_t *room, int64_t length, int64_t wide) {
    turn_words((const uint32_t *)rows, room, length, wide / 2);
    for (int64_t e = 0; e < wide / 2; e++) {
        const uint32_t *pairs = room + e * length;
        bf16 *one = turned + 2 * e * length, *two = one + length;
#pragma omp simd
        for (int64_t i = 0; i < length; i++) {
            one[i] = (bf16)pairs[i];
            two[i] = (bf16)(pairs[i] >> 16);
        }
    }
}

/* The heads of a block of queries, (SIDE, wide). */
static void lay_queries(const Plan *p, const Queries *q, Stream x, bf16 *rows) {
    for (int64_t i = 0; i < SIDE; i++) {
        bf16 *to = rows + i * p->wide;
        memset(to, 0, p->wide * sizeof *to);
        if (i < q->count) memcpy(to, head_of(p, x, q->place[i]), p->width * sizeof *to);
    }
}

INLINE uint32_t pair_of(float low, float high) { return rounded(low) >> 16 | (rounded(high) & 0xffff0000); }

/* Columns (wide, SIDE), each times its number, to the heads of a block of queries; `room` as pairs of columns twice. */
static void write_heads(const Plan *p, const Queries *q, const float *columns, const float *by, bf16 *out,
                        uint32_t *room) {
    int64_t pairs = p->wide / 2;
    uint32_t *rows = room + pairs * SIDE;
    for (int64_t e = 0; e < pairs; e++) {
        const float *one = columns + 2 * e * SIDE, *two = one + SIDE;
#pragma omp simd
        for (int i = 0; i < SIDE; i++) room[e * SIDE + i] = pair_of(one[i] * by[i], two[i] * by[i]);
    }
    turn_words(room, rows, pairs, SIDE);
    for (int64_t i = 0; i < q->count; i++)
        memcpy(out + q->place[i] * p->width, rows + i * pairs, p->width * sizeof *out);
}

/* Scores (keys, SIDE) of keys that a query does not see. */
static void hide(const Run *r, const Queries *q, float *scores) {
    for (int64_t j = r->sure; j < r->keys; j++)
#pragma omp simd
        for (int i = 0; i < SIDE; i++)
            scores[j * SIDE + i] = r->own + j <= q->token[i] ? scores[j * SIDE + i] : -INFINITY;
}

/* 2^x for x <= 0, by its series to r^5: far closer than bfloat16. Zero below -126. */
INLINE float power(float x) {
    float within = x < -126.0f ? -126.0f : x;
    float n = rintf(within), r = within - n;
    float p = 0.00133335581f;
    p = p * r + 0.00961812911f;
    p = p * r + 0.0555041087f;
    p = p * r + 0.240226507f;
    p = p * r + 0.693147181f;
    p = p * r + 1.0f;
    return x < -126.0f ? 0.0f : of_bits(bits_of(p) + ((uint32_t)(int32_t)n << 23));
}

/* As `rounded`, of what may be no number only with zeros in its lower half, as all that comes of bfloat16: the sum then
   cannot carry past that. */
INLINE uint32_t near(float value) {
    uint32_t bits = bits_of(value);
    return bits + 0x7fff + (bits >> 16 & 1);
}

INLINE uint32_t near_pair(float low, float high) { return near(low) >> 16 | (near(high) & 0xffff0000); }

/* ---- Memory of a thread, in a cache line's steps. */

INLINE void *take(char **room, int64_t bytes) {
    void *taken = *room;
    *room += (bytes + 63) / 64 * 64;
    return taken;
}

/* Keys that are laid out: blocks start anywhere and end behind the last one. */
INLINE int64_t laid(int64_t keys) { return whole(keys + SIDE); }

INLINE int64_t room_of_one(int64_t longest, int64_t wide) {
    int64_t keys = laid(longest) + SIDE, parts = 20;
    int64_t bytes = 16 * keys * wide + 6 * keys * SIDE + 20 * SIDE * wide + 14 * RUN * SIDE + parts * 64;
    return (bytes + 63) / 64 * 64;
}

/* Bytes for all threads. */
int64_t attend_room(int64_t longest, int64_t width, int64_t threads) {
    return threads * room_of_one(longest, whole(width));
}

/* ---- Forwards. `softmax` (tokens, heads, 2) gets what scores lie below, as a power of two, and one by their sum. */

static void attend_row(const Plan *p, Stream query, Stream key, Stream value, bf16 *out, float *softmax, int64_t row,
                       int64_t group, char *room) {
    Keys k = keys_of(p, row);
    int64_t length = laid(k.length), wide = p->wide;
    bf16 *keys = take(&room, length * wide * 2), *values = take(&room, length * wide * 2);
    bf16 *turned = take(&room, length * wide * 2), *rows = take(&room, SIDE * wide * 2);
    uint32_t *asked = take(&room, SIDE * wide * 2), *shares = take(&room, (length + SIDE) * SIDE * 2);
    float *scores = take(&room, (length + SIDE) * SIDE * 4), *sums = take(&room, SIDE * wide * 4);
    uint32_t *scratch = take(&room, length * wide * 2);
    float scale = p->by * LOG2E;
    lay_keys(p, &k, key, group, keys, length);
    lay_keys(p, &k, value, group, values, length);
    turn_keys(values, turned, scratch, length, wide);
    for (int64_t number = p->firsts[row]; number < p->firsts[row + 1]; number++) {
        Segment s = segment_of(p, &k, row, number);
        for (int64_t first = 0; first < s.length * p->heads; first += SIDE) {
            Queries q = queries_of(p, &s, group, first);
            int64_t seen = keys_seen(&s, &q);
            float top[SIDE], all[SIDE];
            lay_queries(p, &q, query, rows);
            turn_words((const uint32_t *)rows, asked, SIDE, wide / 2);
            for (int64_t done = 0; done < seen;) {
                Run r = run_of(&s, &q, done, length);
                float *score = scores + done * SIDE;
                product(score, SIDE, keys + r.start * wide, wide, asked, SIDE, r.keys, SIDE, wide, 0);
                hide(&r, &q, score);
                done += r.keys;
            }
            for (int i = 0; i < SIDE; i++) top[i] = -INFINITY, all[i] = 0;
            for (int64_t j = 0; j < seen; j++)
#pragma omp simd
                for (int i = 0; i < SIDE; i++) top[i] = scores[j * SIDE + i] > top[i] ? scores[j * SIDE + i] : top[i];
            for (int i = 0; i < SIDE; i++) top[i] *= scale;
            for (int64_t j = 0; j < seen / 2; j++) {
                const float *one = scores + 2 * j * SIDE, *two = one + SIDE;
#pragma omp simd
                for (int i = 0; i < SIDE; i++) {
                    float x = power(one[i] * scale - top[i]), y = power(two[i] * scale - top[i]);
                    all[i] += x + y;
                    shares[j * SIDE + i] = near_pair(x, y);
                }
            }
            for (int64_t done = 0; done < seen;) {
                Run r = run_of(&s, &q, done, length);
                const uint32_t *share = shares + done / 2 * SIDE;
                product(sums, SIDE, turned + r.start, length, share, SIDE, wide, SIDE, r.keys, done > 0);
                done += r.keys;
            }
            for (int i = 0; i < SIDE; i++) all[i] = 1.0f / all[i];
            write_heads(p, &q, sums, all, out, scratch);
            for (int64_t i = 0; i < q.count; i++) {
                softmax[2 * q.place[i]] = top[i];
                softmax[2 * q.place[i] + 1] = all[i];
            }
        }
    }
}

/* ---- Backwards: `of_query`, `of_key`, `of_value` get what goes back. What goes to the prefix comes from all rows: into
   `shared` (rows, groups, 2, prefix, width), to be summed. */

typedef struct {
    bf16 *query, *key, *value;
    float *shared;
} Slopes;

static void attend_row_back(const Plan *p, Stream query, Stream key, Stream value, Stream out, Stream grad,
                            const float *softmax, Slopes to, int64_t row, int64_t group, char *room) {
    Keys k = keys_of(p, row);
    int64_t length = laid(k.length), wide = p->wide, width = p->width;
    bf16 *keys = take(&room, length * wide * 2), *values = take(&room, length * wide * 2);
    bf16 *turned = take(&room, length * wide * 2);
    bf16 *asked_rows = take(&room, SIDE * wide * 2), *grads_rows = take(&room, SIDE * wide * 2);
    float *of_keys = take(&room, length * wide * 4), *of_values = take(&room, length * wide * 4);
    uint32_t *asked = take(&room, SIDE * wide * 2), *grads = take(&room, SIDE * wide * 2);
    uint32_t *asked_pairs = take(&room, SIDE * wide * 2), *grads_pairs = take(&room, SIDE * wide * 2);
    float *scores = take(&room, RUN * SIDE * 4), *along = take(&room, RUN * SIDE * 4);
    bf16 *shares = take(&room, RUN * SIDE * 2), *slopes = take(&room, RUN * SIDE * 2);
    uint32_t *pairs = take(&room, RUN * SIDE * 2);
    float *of_asked = take(&room, SIDE * wide * 4);
    uint32_t *scratch = take(&room, length * wide * 2);
    float scale = p->by * LOG2E;
    lay_keys(p, &k, key, group, keys, length);
    lay_keys(p, &k, value, group, values, length);
    turn_keys(keys, turned, scratch, length, wide);
    memset(of_keys, 0, length * wide * 4);
    memset(of_values, 0, length * wide * 4);
    for (int64_t number = p->firsts[row]; number < p->firsts[row + 1]; number++) {
        Segment s = segment_of(p, &k, row, number);
        for (int64_t first = 0; first < s.length * p->heads; first += SIDE) {
            Queries q = queries_of(p, &s, group, first);
            int64_t seen = keys_seen(&s, &q);
            float top[SIDE], part[SIDE], mean[SIDE], by[SIDE];
            lay_queries(p, &q, query, asked_rows);
            lay_queries(p, &q, grad, grads_rows);
            turn_words((const uint32_t *)asked_rows, asked, SIDE, wide / 2);
            turn_words((const uint32_t *)grads_rows, grads, SIDE, wide / 2);
            for (int64_t i = 0; i < SIDE; i += 2) {
                pair_rows(asked_rows + i * wide, asked_rows + (i + 1) * wide, asked_pairs + i / 2 * wide, wide);
                pair_rows(grads_rows + i * wide, grads_rows + (i + 1) * wide, grads_pairs + i / 2 * wide, wide);
            }
            for (int64_t i = 0; i < SIDE; i++) {
                const bf16 *o = head_of(p, out, q.place[i]), *g = grads_rows + i * wide;
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t e = 0; e < width; e++) sum += read(o, e, 0) * read(g, e, 0);
                mean[i] = sum;
                by[i] = p->by;
                top[i] = i < q.count ? softmax[2 * q.place[i]] : INFINITY;
                part[i] = softmax[2 * q.place[i] + 1];
            }
            for (int64_t done = 0; done < seen;) {
                Run r = run_of(&s, &q, done, RUN);
                product(scores, SIDE, keys + r.start * wide, wide, asked, SIDE, r.keys, SIDE, wide, 0);
                product(along, SIDE, values + r.start * wide, wide, grads, SIDE, r.keys, SIDE, wide, 0);
                hide(&r, &q, scores);
                for (int64_t j = 0; j < r.keys; j += 2) {
                    const float *one = scores + j * SIDE, *two = one + SIDE;
                    const float *to_one = along + j * SIDE, *to_two = to_one + SIDE;
#pragma omp simd
                    for (int i = 0; i < SIDE; i++) {
                        float x = power(one[i] * scale - top[i]) * part[i], y = power(two[i] * scale - top[i]) * part[i];
                        uint32_t both = near_pair(x, y);
                        uint32_t back = near_pair(x * (to_one[i] - mean[i]), y * (to_two[i] - mean[i]));
                        shares[j * SIDE + i] = (bf16)both;
                        shares[(j + 1) * SIDE + i] = (bf16)(both >> 16);
                        slopes[j * SIDE + i] = (bf16)back;
                        slopes[(j + 1) * SIDE + i] = (bf16)(back >> 16);
                        pairs[j / 2 * SIDE + i] = back;
                    }
                }
                product(of_values + r.start * wide, wide, shares, SIDE, grads_pairs, wide, r.keys, wide, SIDE, 1);
                product(of_keys + r.start * wide, wide, slopes, SIDE, asked_pairs, wide, r.keys, wide, SIDE, 1);
                product(of_asked, SIDE, turned + r.start, length, pairs, SIDE, wide, SIDE, r.keys, done > 0);
                done += r.keys;
            }
            write_heads(p, &q, of_asked, by, to.query, scratch);
        }
    }
    float *shared = to.shared + (row * p->groups + group) * 2 * p->prefix * width;
    for (int64_t i = 0; i < k.length; i++) {
        int64_t token = token_of(&k, i), at = (token * p->groups + group) * width;
        float *of_key = of_keys + i * wide, *of_value = of_values + i * wide;
        for (int64_t e = 0; e < width; e++) of_key[e] *= p->by;
        if (token < p->prefix) {
            memcpy(shared + token * width, of_key, width * 4);
            memcpy(shared + (p->prefix + token) * width, of_value, width * 4);
            continue;
        }
        for (int64_t e = 0; e < width; e++) {
            write(to.key, at + e, of_key[e], 0);
            write(to.value, at + e, of_value[e], 0);
        }
    }
}

/* Of all rows, in their order. */
static void sum_shared(const Plan *p, Slopes to, int64_t rows, int64_t group, int64_t token, float *sum) {
    int64_t width = p->width, at = (token * p->groups + group) * width;
    for (int kind = 0; kind < 2; kind++) {
        memset(sum, 0, width * 4);
        for (int64_t row = 0; row < rows; row++) {
            const float *part = to.shared + (((row * p->groups + group) * 2 + kind) * p->prefix + token) * width;
            for (int64_t e = 0; e < width; e++) sum[e] += part[e];
        }
        bf16 *slope = kind ? to.value : to.key;
        for (int64_t e = 0; e < width; e++) write(slope, at + e, sum[e], 0);
    }
}

#define PLAN \
    const int64_t *firsts, const int64_t *starts, int64_t rows, int64_t prefix, int64_t longest, int64_t groups, \
        int64_t heads, int64_t width, int64_t threads, float by, char *room

void attend(const bf16 *query, const bf16 *key, const bf16 *value, int64_t apart_query, int64_t apart_key,
            int64_t apart_value, bf16 *out, float *softmax, PLAN) {
    Plan p = {firsts, starts, prefix, groups, heads, width, whole(width), by};
#pragma omp parallel num_threads(threads)
    {
        char *mine = room + omp_get_thread_num() * room_of_one(longest, p.wide);
        begin_products();
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < rows * groups; i++)
            attend_row(&p, (Stream){query, apart_query}, (Stream){key, apart_key}, (Stream){value, apart_value}, out,
                       softmax, i / groups, i % groups, mine);
        end_products();
    }
}

void attend_back(const bf16 *query, const bf16 *key, const bf16 *value, int64_t apart_query, int64_t apart_key,
                 int64_t apart_value, const bf16 *out, const float *softmax, const bf16 *grad, bf16 *of_query,
                 bf16 *of_key, bf16 *of_value, float *shared, PLAN) {
    Plan p = {firsts, starts, prefix, groups, heads, width, whole(width), by};
    Slopes to = {of_query, of_key, of_value, shared};
    int64_t apart = groups * heads * width;
#pragma omp parallel num_threads(threads)
    {
        char *mine = room + omp_get_thread_num() * room_of_one(longest, p.wide);
        begin_products();
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < rows * groups; i++)
            attend_row_back(&p, (Stream){query, apart_query}, (Stream){key, apart_key}, (Stream){value, apart_value},
                            (Stream){out, apart}, (Stream){grad, apart}, softmax, to, i / groups, i % groups, mine);
        end_products();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < prefix * groups; i++) sum_shared(&p, to, rows, i % groups, i / groups, (float *)mine);
    }
}
#endif
