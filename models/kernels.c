/* What stands between the matrices, on a processor: each formula in one pass over memory, in float32 inside.

   models/fused.py and harness/training/adamw.py have the formulas in torch; tests hold these against those.
   Rows lie one after another. Threads each take neighbouring rows, so a sum's order depends on how many there are and on
   nothing else. */

#include "kernels.h"

#ifdef AMX
#include <sys/syscall.h>
long syscall(long number, ...); /* unistd.h has names of ours */
#endif

int tiles_lent;

/* Called once, before all else. */
int lend_tiles(void) {
#ifdef AMX
    tiles_lent = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
#endif
    return tiles_lent;
}

#define SMALL 8192 /* numbers that are not worth waking other threads for */
#define BLOCK 8192 /* numbers of a sum that is kept in float */

/* Calls `body` with its last arguments known to the compiler, so that loops hold no choice. */
#define BY_WIDTH(wide, body) \
    do { \
        if (wide) { \
            body(1); \
        } else { \
            body(0); \
        } \
    } while (0)

/* ---- RMSNorm: out = x * scale * weight, scale = 1 / sqrt(mean x^2 + eps). x (rows, width) in float; where something is
   `added`, of out's width, x is their sum, which `sum` gets. */

INLINE void norm_row(const float *x, const void *added, const float *weight, float *sum, void *out, float *scale,
                     int64_t width, float eps, int wide) {
    float square = 0;
    if (added) {
#pragma omp simd reduction(+ : square)
        for (int64_t i = 0; i < width; i++) {
            sum[i] = x[i] + read(added, i, wide);
            square += sum[i] * sum[i];
        }
        x = sum;
    } else {
#pragma omp simd reduction(+ : square)
        for (int64_t i = 0; i < width; i++) square += x[i] * x[i];
    }
    float s = *scale = 1.0f / sqrtf(square / (float)width + eps);
#pragma omp simd
    for (int64_t i = 0; i < width; i++) write(out, i, x[i] * s * weight[i], wide);
}

void norm(const float *x, const void *added, const float *weight, float *sum, void *out, float *scales, int64_t rows,
          int64_t width, int64_t threads, float eps, int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * width > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * width;
        const char *more = added ? (const char *)added + at * size : 0;
#define BODY(w) norm_row(x + at, more, weight, sum + at, (char *)out + at * size, scales + row, width, eps, w)
        BY_WIDTH(wide, BODY);
#undef BODY
    }
}

/* slope = grad * weight * scale - x * (sum of grad * x * weight) * scale^3 / width, and `passed` where there is one;
   `narrow`, if any, gets it in bfloat16 too. sums (threads, width), if any, must be zero; in the end the first row is the
   sum of grad * x * scale over all rows. */
INLINE void norm_row_back(const void *grad, const float *passed, const float *x, const float *weight, float s,
                          float *slope, bf16 *narrow, float *sum, int64_t width, int wide) {
    float along = 0;
#pragma omp simd reduction(+ : along)
    for (int64_t i = 0; i < width; i++) along += read(grad, i, wide) * x[i] * weight[i];
    along *= s * s * s / (float)width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) slope[i] = read(grad, i, wide) * weight[i] * s - x[i] * along;
    if (passed) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) slope[i] += passed[i];
    }
    if (narrow) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) write(narrow, i, slope[i], 0);
    }
    if (sum) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++) sum[i] += read(grad, i, wide) * x[i] * s;
    }
}

void norm_back(const void *grad, const float *passed, const float *x, const float *weight, const float *scales,
               float *slope, bf16 *narrow, float *sums, int64_t rows, int64_t width, int64_t threads, int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < threads; t++) {
        float *sum = sums ? sums + t * width : 0;
        for (int64_t row = rows * t / threads; row < rows * (t + 1) / threads; row++) {
            int64_t at = row * width;
            const char *g = (const char *)grad + at * size;
            const float *p = passed ? passed + at : 0;
            bf16 *n = narrow ? narrow + at : 0;
#define BODY(w) norm_row_back(g, p, x + at, weight, scales[row], slope + at, n, sum, width, w)
            BY_WIDTH(wide, BODY);
#undef BODY
        }
    }
    for (int64_t t = 1; sums && t < threads; t++)
        for (int64_t i = 0; i < width; i++) sums[i] += sums[t * width + i];
}

/* ---- Gate: out = silu(gate) * up. both (rows, 2 width): gate, then up; out (rows, width). */

INLINE void gate_row(const void *both, void *out, int64_t width, int wide) {
    int64_t done = 0;
#ifdef __AVX512BF16__
    const bf16 *gates = both, *ups = gates + width;
    for (; !wide && done + TILE <= width; done += TILE) {
        __m512 gate = widened(gates + done);
        write_narrowed((bf16 *)out + done, gate * sigmoid(gate) * widened(ups + done));
    }
#endif
#pragma omp simd
    for (int64_t i = done; i < width; i++) {
        float gate = read(both, i, wide);
        write(out, i, gate / (1.0f + exponential(-gate)) * read(both, width + i, wide), wide);
    }
}

void gate(const void *both, void *out, int64_t rows, int64_t width, int64_t threads, int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * width > SMALL)
    for (int64_t row = 0; row < rows; row++) {
#define BODY(w) gate_row((const char *)both + row * 2 * width * size, (char *)out + row * width * size, width, w)
        BY_WIDTH(wide, BODY);
#undef BODY
    }
}

INLINE void gate_row_back(const void *grad, const void *both, void *slope, int64_t width, int wide) {
    int64_t done = 0;
#ifdef __AVX512BF16__
    const bf16 *gates = both, *ups = gates + width, *grads = grad;
    bf16 *of_gate = slope, *of_up = of_gate + width;
    for (; !wide && done + TILE <= width; done += TILE) {
        __m512 gate = widened(gates + done), g = widened(grads + done), share = sigmoid(gate);
        write_narrowed(of_gate + done, g * widened(ups + done) * share * (1.0f + gate * (1.0f - share)));
        write_narrowed(of_up + done, g * gate * share);
    }
#endif
#pragma omp simd
    for (int64_t i = done; i < width; i++) {
        float gate = read(both, i, wide), up = read(both, width + i, wide), g = read(grad, i, wide);
        float share = 1.0f / (1.0f + exponential(-gate));
        write(slope, i, g * up * share * (1.0f + gate * (1.0f - share)), wide);
        write(slope, width + i, g * gate * share, wide);
    }
}

void gate_back(const void *grad, const void *both, void *slope, int64_t rows, int64_t width, int64_t threads,
               int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * width > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const char *g = (const char *)grad + row * width * size, *b = (const char *)both + row * 2 * width * size;
        char *s = (char *)slope + row * 2 * width * size;
#define BODY(w) gate_row_back(g, b, s, width, w)
        BY_WIDTH(wide, BODY);
#undef BODY
    }
}

/* ---- Rotation of (rows, heads, 2 half), rows `apart_x` numbers apart, and in out `apart_out`; cosine
   and sine (rows, half), all of one width. out[e] = x[e] c - x[half + e] s; out[half + e] = x[half + e] c + x[e] s; s is times `way`. */

INLINE void turn_row(const void *x, const void *cosine, const void *sine, void *out, int64_t heads, int64_t half,
                     float way, int wide) {
    int64_t size = wide ? 4 : 2;
    for (int64_t head = 0; head < heads; head++) {
        const char *from = (const char *)x + head * 2 * half * size;
        char *to = (char *)out + head * 2 * half * size;
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            float a = read(from, i, wide), b = read(from, half + i, wide);
            float c = read(cosine, i, wide), s = read(sine, i, wide) * way;
            write(to, i, a * c - b * s, wide);
            write(to, half + i, b * c + a * s, wide);
        }
    }
}

void turn(const void *x, const void *cosine, const void *sine, void *out, int64_t rows, int64_t apart_x,
          int64_t apart_out, int64_t heads, int64_t half, int64_t threads, float way, int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * heads * half > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        const char *from = (const char *)x + row * apart_x * size;
        const char *c = (const char *)cosine + row * half * size, *s = (const char *)sine + row * half * size;
        char *to = (char *)out + row * apart_out * size;
#define BODY(w) turn_row(from, c, s, to, heads, half, way, w)
        BY_WIDTH(wide, BODY);
#undef BODY
    }
}

/* ---- Attention's gradient, between its multiplications: scores (rows, width) become softmax(scores + bias), and grads,
   what comes back to those shares, become shares * (grads - sum of shares * grads), what goes back to the scores.
   Rows are (batch, heads, queries); bias is (batch, queries, width), of which the first `open` columns are not looked at. */

INLINE void soften_row(void *scores, void *grads, const void *bias, int64_t open, int64_t width, int wide) {
    float top = -INFINITY, all = 0, along = 0;
#pragma omp simd
    for (int64_t i = open; i < width; i++) write(scores, i, read(scores, i, wide) + read(bias, i, wide), wide);
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < width; i++) {
        float x = read(scores, i, wide);
        top = x > top ? x : top;
    }
#pragma omp simd reduction(+ : all, along)
    for (int64_t i = 0; i < width; i++) {
        float e = exponential(read(scores, i, wide) - top);
        all += e;
        along += e * read(grads, i, wide);
    }
    float by = 1.0f / all;
    along *= by;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        float share = exponential(read(scores, i, wide) - top) * by;
        write(scores, i, share, wide);
        write(grads, i, share * (read(grads, i, wide) - along), wide);
    }
}

void soften(void *scores, void *grads, const void *bias, int64_t batch, int64_t heads, int64_t queries, int64_t open,
            int64_t width, int64_t threads, int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads) if (batch * heads * queries * width > SMALL)
    for (int64_t row = 0; row < batch * heads * queries; row++) {
        int64_t at = row * width * size;
        int64_t seen = (row / (heads * queries) * queries + row % queries) * width * size;
#define BODY(w) soften_row((char *)scores + at, (char *)grads + at, (const char *)bias + seen, open, width, w)
        BY_WIDTH(wide, BODY);
#undef BODY
    }
}

/* ---- Attention of one new token a row. Its key and value (groups, width) are put behind those that the row has, and its
   queries (groups, heads, width) look at all of them. Caches are (rows, groups, longest, width), rows `apart` numbers
   apart; new ones and queries lie `apart_*` numbers apart from row to row. `shares` (threads, heads, longest) is room. */

INLINE void look_at(const void *query, const void *keys, const void *values, void *out, float *shares, int64_t length,
                    int64_t longest, int64_t heads, int64_t width, float by, int wide) {
    int64_t size = wide ? 4 : 2;
    for (int64_t head = 0; head < heads; head++) {
        float asked[WIDEST], sums[WIDEST], *share = shares + head * longest, top = -INFINITY, all = 0;
        for (int64_t i = 0; i < width; i++) {
            asked[i] = read((const char *)query + head * width * size, i, wide) * by;
            sums[i] = 0;
        }
        for (int64_t at = 0; at < length; at++) {
            const char *key = (const char *)keys + at * width * size;
            float score = 0;
            for (int64_t i = 0; i < width; i++) score += asked[i] * read(key, i, wide);
            share[at] = score;
        }
#pragma omp simd reduction(max : top)
        for (int64_t at = 0; at < length; at++) top = share[at] > top ? share[at] : top;
#pragma omp simd reduction(+ : all)
        for (int64_t at = 0; at < length; at++) all += share[at] = exponential(share[at] - top);
        for (int64_t at = 0; at < length; at++) {
            const char *value = (const char *)values + at * width * size;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) sums[i] += share[at] * read(value, i, wide);
        }
#pragma omp simd
        for (int64_t i = 0; i < width; i++) write((char *)out + head * width * size, i, sums[i] / all, wide);
    }
}

void look(const void *query, const void *key, const void *value, void *keys, void *values, const int64_t *lengths,
          void *out, float *shares, int64_t rows, int64_t groups, int64_t heads, int64_t width, int64_t longest,
          int64_t apart_query, int64_t apart_key, int64_t apart_value, int64_t apart, int64_t threads, float by,
          int wide) {
    int64_t size = wide ? 4 : 2, all = rows * groups;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < threads; t++) {
        for (int64_t i = all * t / threads; i < all * (t + 1) / threads; i++) {
            int64_t row = i / groups, group = i % groups, length = lengths[row];
            int64_t start = (row * apart + group * longest * width) * size, end = start + length * width * size;
            int64_t asked = (row * apart_query + group * heads * width) * size;
            memcpy((char *)keys + end, (const char *)key + (row * apart_key + group * width) * size, width * size);
            memcpy((char *)values + end, (const char *)value + (row * apart_value + group * width) * size, width * size);
#define LOOK(e, w) \
    look_at((const char *)query + asked, (char *)keys + start, (char *)values + start, \
            (char *)out + i * heads * width * size, shares + t * heads * longest, length + 1, longest, heads, e, by, w)
#define BODY(w) \
    do { \
        if (width == 64) LOOK(64, w); \
        else if (width == 128) LOOK(128, w); \
        else LOOK(width, w); \
    } while (0)
            BY_WIDTH(wide, BODY);
#undef LOOK
#undef BODY
        }
    }
}

/* ---- log softmax at the targets, (rows,); with `sloping`, logits (rows, width) become onehot - softmax. */

INLINE float target_row(void *logits, int64_t target, int64_t width, float *shares, int sloping, int wide) {
    float top = read(logits, target, wide), at = top, sum = 0;
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < width; i++) {
        float x = read(logits, i, wide);
        top = x > top ? x : top;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) {
        float e = exponential(read(logits, i, wide) - top);
        shares[i] = e;
        sum += e;
    }
    if (sloping) {
        float by = -1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) write(logits, i, shares[i] * by, wide);
        write(logits, target, 1.0f + shares[target] * by, wide);
    }
    return at - top - logf(sum);
}

/* `shares` (threads, width) is room to work in. */
void targets(void *logits, const int64_t *target, float *logps, float *shares, int64_t rows, int64_t width,
             int64_t threads, int sloping, int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < threads; t++) {
        for (int64_t row = rows * t / threads; row < rows * (t + 1) / threads; row++) {
            char *at = (char *)logits + row * width * size;
#define BODY(w) logps[row] = target_row(at, target[row], width, shares + t * width, sloping, w)
            BY_WIDTH(wide, BODY);
#undef BODY
        }
    }
}

/* ---- sum += more, or = more where it is the first. */

INLINE void add_block(float *sum, const void *more, int64_t start, int64_t end, int first, int wide) {
#pragma omp simd
    for (int64_t i = start; i < end; i++) sum[i] = (first ? 0.0f : sum[i]) + read(more, i, wide);
}

void add(float *sum, const void *more, int64_t rows, int64_t width, int64_t threads, int first, int wide) {
    int64_t size = rows * width;
#pragma omp parallel for schedule(static) num_threads(threads) if (size > SMALL)
    for (int64_t start = 0; start < size; start += BLOCK) {
        int64_t end = start + BLOCK < size ? start + BLOCK : size;
#define BODY(w) \
    do { \
        if (first) add_block(sum, more, start, end, 1, w); \
        else add_block(sum, more, start, end, 0, w); \
    } while (0)
        BY_WIDTH(wide, BODY);
#undef BODY
    }
}

/* ---- AdamW. A gradient of `rows` by `width`; to row r is added row extra[r] of `more` (float), where extra[r] >= 0. */

INLINE double square_row(const void *grad, const float *more, int64_t width, int wide) {
    double all = 0;
    for (int64_t start = 0; start < width; start += BLOCK) {
        int64_t end = start + BLOCK < width ? start + BLOCK : width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; i++) {
            float g = read(grad, i, wide) + (more ? more[i] : 0.0f);
            sum += g * g;
        }
        all += sum;
    }
    return all;
}

/* Sums of squares, (threads,). */
void squares(const void *grad, const int32_t *extra, const float *more, double *sums, int64_t rows, int64_t width,
             int64_t threads, int wide) {
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < threads; t++) {
        double all = 0;
        for (int64_t row = rows * t / threads; row < rows * (t + 1) / threads; row++) {
            const char *g = (const char *)grad + row * width * size;
            const float *m = extra && extra[row] >= 0 ? more + extra[row] * width : 0;
#define BODY(w) all += m ? square_row(g, m, width, w) : square_row(g, 0, width, w)
            BY_WIDTH(wide, BODY);
#undef BODY
        }
        sums[t] = all;
    }
}

typedef struct {
    float shrink; /* gradients are times this */
    float new1, beta2, new2; /* new = 1 - beta */
    float rate;  /* over 1 - beta1^step */
    float root;  /* 1 / sqrt(1 - beta2^step) */
    float eps;
} Step;

INLINE void step_row(float *master, float *mean, float *square, bf16 *copy, const void *grad, const float *more,
                     int64_t width, Step s, int wide) {
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        float g = (read(grad, i, wide) + (more ? more[i] : 0.0f)) * s.shrink;
        float m = mean[i] + s.new1 * (g - mean[i]);
        float v = s.beta2 * square[i] + s.new2 * g * g;
        float w = master[i] - s.rate * m / (sqrtf(v) * s.root + s.eps);
        mean[i] = m;
        square[i] = v;
        master[i] = w;
        if (copy) write(copy, i, w, 0);
    }
}

/* `copy`, in bfloat16, may be null. */
void adamw(float *master, float *mean, float *square, bf16 *copy, const void *grad, const int32_t *extra,
           const float *more, int64_t rows, int64_t width, int64_t threads, float shrink, float new1, float beta2,
           float new2, float rate, float root, float eps, int wide) {
    Step s = {shrink, new1, beta2, new2, rate, root, eps};
    int64_t size = wide ? 4 : 2;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * width > SMALL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * width;
        const char *g = (const char *)grad + at * size;
        const float *m = extra && extra[row] >= 0 ? more + extra[row] * width : 0;
#define ROW(c, m, w) step_row(master + at, mean + at, square + at, c, g, m, width, s, w)
#define BODY(w) \
    do { \
        if (copy && m) ROW(copy + at, m, w); \
        else if (copy) ROW(copy + at, 0, w); \
        else if (m) ROW(0, m, w); \
        else ROW(0, 0, w); \
    } while (0)
        BY_WIDTH(wide, BODY);
#undef BODY
#undef ROW
    }
}
