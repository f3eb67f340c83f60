// Merging in one pass: weighted sums, and task vectors added up or elected by sign.

#include "combine_lanes.h"
#include "combine_pairs.h"

namespace {

// The entries of one block of a task vector, times what they are multiplied with; zeros without a sign if elected.
template <int64_t KEEP, bool ELECTS>
void terms_of(const float* root, const float* x, const Vector& v, int64_t start, int64_t count,
              float* __restrict__ into) {
    const Bounds b = bounds_of(v, start);
    const float factor = v.factor, weight = v.weight;
    const int16_t* field = reinterpret_cast<const int16_t*>(v.field) + start;
    const int16_t* rank = reinterpret_cast<const int16_t*>(v.rank) + start;
    for (int64_t i = 0; i < count; i++) {
        const int32_t numbers[2] = {fields_of(KEEP) > 0 ? field[i] * 65536 : 0, fields_of(KEEP) > 1 ? rank[i] * 65536 : 0};
        const float entry = x[i] - root[i];
        const float left = !ELECTS ? product_kept<KEEP>(entry, b, numbers)
                         : is_kept<KEEP>(entry, b, numbers) ? entry : 0.0f;
        into[i] = left * factor * weight;
    }
}

template <bool ELECTS>
auto terms_for(int64_t keep) {
    return keep == CUT ? terms_of<CUT, ELECTS> : keep == BAND ? terms_of<BAND, ELECTS>
         : keep == RANDOM ? terms_of<RANDOM, ELECTS> : keep == RANKED ? terms_of<RANKED, ELECTS> : terms_of<ALL, ELECTS>;
}

// Adds up the terms of a block, or what of them agrees, and adds that to the base, which is the first.
template <int64_t M, int64_t HOW>
struct Mix {
    float weight[M], scale;

    float operator()(const float* x, const int32_t*) const {
        float mix = x[1];
#pragma GCC unroll 8
        for (int64_t m = 1; m < M; m++) mix += x[m + 1];
        return (HOW == ADDED ? mix : elected<M, HOW>(x + 1, weight, mix)) * scale + x[0];
    }
};

template <int64_t M, int64_t HOW>
bool combine_floats(const Target& target, const Source* sources, const Vector* vectors, float scale, int64_t from,
                    int64_t to) {
    alignas(64) float result[BLOCK], root_buffer[BLOCK], buffer[BLOCK], terms[M][BLOCK];
    const auto fill = terms_for<HOW != ADDED>(vectors[0].keep);
    Mix<M, HOW> formula;
    formula.scale = scale;
    for (int64_t m = 0; m < M; m++) formula.weight[m] = vectors[m].weight;
    bool finite = true;
    for (int64_t start = from, end; start < to; start = end) {
        end = end_of_block(vectors, M, start, to);
        const float* read[M + 1] = {block_of(sources[0].address, sources[0].kind, start, end - start, root_buffer)};
        for (int64_t m = 0; m < M; m++) {
            const Source& parent = sources[m + 1];
            const float* x = block_of(parent.address, parent.kind, start, end - start, buffer);
            fill(read[0], x, vectors[m], start, end - start, terms[m]);
            read[m + 1] = terms[m];
        }
        over_floats<M + 1>(read, end - start, formula, result);
        finite &= target.store(result, start, end - start);
    }
    return finite;
}

template <int64_t M>
struct WeightedSum {
    float weight[M];

    float operator()(const float* x, const int32_t*) const {
        float total = x[0] * weight[0];
#pragma GCC unroll 8
        for (int64_t m = 1; m < M; m++) total += x[m] * weight[m];
        return total;
    }
};

template <int64_t M>
bool add_up(const Target& target, const Source* sources, const float* weights) {
    WeightedSum<M> formula;
    std::copy(weights, weights + M, formula.weight);
#if defined(MERGE_LANES)
    if (in_lanes(target, sources, M)) {
        const int64_t whole = target.size / STEP * STEP, rest = target.size - whole;
        const bool halves = sources[0].kind == BFLOAT16;
        const bool sure = halves ? over_lanes<true, M>(target, sources, 0, whole, SumLanes<M>(weights))
                                 : over_lanes<false, M>(target, sources, 0, whole, SumLanes<M>(weights));
        if (sure) return rest == 0 || block_of_floats<M>(target, sources, whole, rest, formula);
    }
#endif
    return over_tensor<M>(target, sources, formula);
}

using AddUp = bool (*)(const Target&, const Source*, const float*);

template <int64_t HOW, int64_t... LESS_ONE>
Combination floats_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr Combination variants[] = {combine_floats<LESS_ONE + 1, HOW>...};
    return variants[count - 1];
}

template <int64_t HOW>
bool combined(const Target& target, const Source* sources, const Vector* vectors, int64_t count, float scale, int64_t from,
              int64_t to) {
    const Combination any = floats_for<HOW>(count, std::make_integer_sequence<int64_t, MOST>());
    const Combination quicker = quicker_for<HOW>(target, sources, vectors[0].keep, count);
    if (quicker == nullptr) return any(target, sources, vectors, scale, from, to);
    bool finite = true;
    for (int64_t start = from, end; start < to; start = end) {
        end = end_of_stretch(vectors, count, start, to);
        const int64_t first = std::min((start + STEP - 1) / STEP * STEP, end), last = std::max(first, end / STEP * STEP);
        finite &= any(target, sources, vectors, scale, start, first);
        finite &= quicker(target, sources, vectors, scale, first, last) || any(target, sources, vectors, scale, first, last);
        finite &= any(target, sources, vectors, scale, last, end);
    }
    return finite;
}

template <int64_t... LESS_ONE>
AddUp add_up_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr AddUp variants[] = {add_up<LESS_ONE + 1>...};
    return variants[count - 1];
}

template <int64_t KEEP>
void add_norms(const float* root, const float* x, const Bounds& given, const int16_t* field, const int16_t* rank,
               int64_t count, double* lanes) {
    const Bounds b = given;
    for (int64_t i = 0; i < count; i++) {
        const int32_t numbers[2] = {fields_of(KEEP) > 0 ? field[i] * 65536 : 0, fields_of(KEEP) > 1 ? rank[i] * 65536 : 0};
        lanes[i] += std::fabs(product_kept<KEEP>(x[i] - root[i], b, numbers));
    }
}

// Task vectors with a way to combine them; the same fields in the same order as the record in tensors.py.
struct Mixture {
    int64_t vectors, count, how, scale;  // scale: the bits of a float

    // Writes the entries of one block to a buffer.
    void write(const Source& base, int64_t start, int64_t end, float* buffer) const {
        const Vector* given = reinterpret_cast<const Vector*>(vectors);
        Source sources[MOST + 1] = {base};
        for (int64_t m = 0; m < count; m++) sources[m + 1] = given[m].parent;
        const Target target{reinterpret_cast<int64_t>(buffer) - 4 * start, FLOAT32, FLOAT32, end - start};
        const auto run = how == ADDED ? combined<ADDED> : how == ELECTED ? combined<ELECTED> : combined<SHARED>;
        run(target, sources, given, count, float_of(static_cast<uint32_t>(scale)), start, end);
    }
};

constexpr int64_t CACHED = 8192, SUMS = 32;  // entries that stay in a core's cache; partial sums, which stay in registers

double scalar_product(const float* a, const float* b, int64_t count) {
    double sums[SUMS] = {}, total = 0.0;
    const int64_t whole = count / SUMS * SUMS;
    for (int64_t i = 0; i < whole; i += SUMS)
        for (int64_t j = 0; j < SUMS; j++) sums[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
    for (int64_t i = whole; i < count; i++) total += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    for (int64_t j = 0; j < SUMS; j++) total += sums[j];
    return total;
}

}  // namespace

extern "C" {

// Adds the scalar products of a gradient to `sums`: with each tensor, then with each mixture of task vectors added to a base.
// All are read once from memory, a part at a time, and nothing is written.
void projections(int64_t size, const Source* gradient, int64_t tensors, const Source* sources, const Source* base,
                 int64_t mixtures, const Mixture* given, double* sums) {
    alignas(64) float gradient_buffer[CACHED], buffer[CACHED];
    for (int64_t start = 0; start < size; start += CACHED) {
        const int64_t count = std::min(CACHED, size - start);
        const float* g = block_of(gradient->address, gradient->kind, start, count, gradient_buffer);
        for (int64_t n = 0; n < tensors; n++)
            sums[n] += scalar_product(g, block_of(sources[n].address, sources[n].kind, start, count, buffer), count);
        for (int64_t n = 0; n < mixtures; n++) {
            given[n].write(*base, start, start + count, buffer);
            sums[tensors + n] += scalar_product(g, buffer, count);
        }
    }
}

// out = sum_i weights[i] * x_i, of 1 to MOST tensors. Returns 1 if every entry is finite.
int32_t weighted_sum(const Target* target, int64_t count, const Source* sources, const float* weights) {
    const auto run = add_up_for(count, std::make_integer_sequence<int64_t, MOST>());
    const bool finite = run(*target, sources, weights);
    settle();
    return finite;
}

// out = base + scale * (task vectors, added up or elected by sign); 1 to MOST of them, all with the same `keep`.
// Returns 1 if every entry is finite.
int32_t combination(const Target* target, const Source* base, int64_t count, const Vector* vectors, int64_t how,
                    float scale) {
    Source sources[MOST + 1] = {*base};
    for (int64_t m = 0; m < count; m++) sources[m + 1] = vectors[m].parent;
    const auto run = how == ADDED ? combined<ADDED> : how == ELECTED ? combined<ELECTED> : combined<SHARED>;
    const bool finite = run(*target, sources, vectors, count, scale, 0, target->size);
    settle();
    return finite;
}

// Adds the magnitudes of what is kept of a task vector to `lanes`: entry i to lane i mod BLOCK.
void norms(int64_t size, const Source* base, const Vector* vector, double* lanes) {
    alignas(64) float root_buffer[BLOCK], buffer[BLOCK];
    const auto add = vector->keep == CUT ? add_norms<CUT>
                   : vector->keep == BAND ? add_norms<BAND>
                   : vector->keep == RANDOM ? add_norms<RANDOM>
                   : vector->keep == RANKED ? add_norms<RANKED> : add_norms<ALL>;
    for (int64_t start = 0, end; start < size; start = end) {
        end = end_of_block(vector, 1, start, size);
        const float* root = block_of(base->address, base->kind, start, end - start, root_buffer);
        const float* x = block_of(vector->parent.address, vector->parent.kind, start, end - start, buffer);
        const int16_t* field = reinterpret_cast<const int16_t*>(vector->field) + start;
        const int16_t* rank = reinterpret_cast<const int16_t*>(vector->rank) + start;
        add(root, x, bounds_of(*vector, start), field, rank, end - start, lanes + start % BLOCK);
    }
}

}  // extern "C"
