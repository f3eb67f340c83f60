// Merging in one pass: weighted sums, and task vectors added up or elected by sign.

#include "storage.h"

namespace {

constexpr int64_t CUT = 0, BAND = 1, RANDOM = 2, RANKED = 3, ALL = 4;
constexpr int64_t ADDED = 0, ELECTED = 1, SHARED = 2;  // SHARED: elected, then divided by the weights that agree

// How one task vector is read; the same fields in the same order as the record in fused.py.
struct Vector {
    Source parent;
    int64_t keep;
    int64_t first, last;                  // of entries equal to `threshold`, those from first up to last are kept
    int64_t first_dropped, last_dropped;  // the same of the upper cut, whose entries are dropped
    int64_t field, limit, rank, row;      // random int16 per entry; rank in its row less 32768, and length of a row
    float threshold, dropped, lowest, spread, factor, weight;
};

// What a vector's entries are compared with within one block: their magnitudes, or their random numbers times 65536.
struct Bounds {
    float low, high, lowest, twice, steps;
    int32_t limit;
};

constexpr int64_t fields_of(int64_t keep) { return keep == RANKED ? 2 : keep == RANDOM ? 1 : 0; }

// Where the next block ends: at most BLOCK further, and where no vector's way to treat equal entries changes within.
int64_t end_of_block(const Vector* vectors, int64_t count, int64_t start, int64_t size) {
    int64_t end = std::min(start / BLOCK * BLOCK + BLOCK, size);
    for (int64_t m = 0; m < count; m++) {
        const Vector& v = vectors[m];
        for (int64_t edge : {v.first, v.last, v.first_dropped, v.last_dropped})
            if (v.keep <= BAND && start < edge) end = std::min(end, edge);
    }
    return end;
}

Bounds bounds_of(const Vector& v, int64_t start) {
    const bool with_equal = v.first <= start && start < v.last;
    const bool drops_equal = v.first_dropped <= start && start < v.last_dropped;
    return {
        with_equal ? v.threshold : std::nextafterf(v.threshold, INFINITY),
        drops_equal ? std::nextafterf(v.dropped, 0.0f) : v.dropped,
        v.lowest,
        2.0f * v.spread,
        static_cast<float>(v.row - 1),
        static_cast<int32_t>(std::min<int64_t>(v.limit * 65536, INT32_MAX)),
    };
}

template <int64_t KEEP>
inline bool is_kept(float entry, const Bounds& b, const int32_t* numbers) {
    if (KEEP == CUT) return std::fabs(entry) >= b.low;
    if (KEEP == BAND) return (std::fabs(entry) >= b.low) & (std::fabs(entry) <= b.high);
    if (KEEP == RANDOM) return numbers[0] < b.limit;
    if (KEEP == RANKED) {
        const float rank = static_cast<float>((numbers[1] >> 16) + 32768);
        const float share = b.steps > 0.0f ? rank / b.steps : 0.5f;
        const float limit = std::nearbyintf((share * b.twice + b.lowest) * 65536.0f);
        return static_cast<float>(numbers[0] >> 16) < std::min(std::max(limit, 0.0f), 65535.0f) - 32768.0f;
    }
    return true;
}

// A product where something is dropped, as on whole tensors, so that zeros keep their sign.
template <int64_t KEEP>
inline float product_kept(float entry, const Bounds& b, const int32_t* numbers) {
    return KEEP == ALL ? entry : entry * (is_kept<KEEP>(entry, b, numbers) ? 1.0f : 0.0f);
}

// Adds up what has the sign of the sum, told by the bit of the sign: a sum of zero is +0, unless all entries are zero. A zero
// entry agrees with nothing, and adds nothing either way.
template <int64_t M, int64_t HOW>
inline float elected(const float* terms, const float* weight, float sum) {
    float mix = 0.0f, share = 0.0f;
#pragma GCC unroll 8
    for (int64_t m = 0; m < M; m++) {
        const int32_t differ = static_cast<int32_t>(bits_of(terms[m]) ^ bits_of(sum));
        mix += float_of(bits_of(terms[m]) & ~static_cast<uint32_t>(differ >> 31));
        if (HOW == SHARED) share += differ >= 0 && terms[m] != 0.0f ? weight[m] : 0.0f;
    }
    return HOW == SHARED ? mix / (share + (share == 0.0f ? 1.0f : 0.0f)) : mix;
}

template <int64_t M, int64_t KEEP, int64_t HOW>
struct Combine {
    Bounds b[M];
    float factor[M], weight[M], scale;

    float operator()(const float* x, const int32_t* numbers) const {
        constexpr int64_t FIELDS = fields_of(KEEP);
        float terms[M], mix = 0.0f;
#pragma GCC unroll 8
        for (int64_t m = 0; m < M; m++) {
            const float entry = x[m + 1] - x[0];
            const float left = HOW == ADDED ? product_kept<KEEP>(entry, b[m], numbers + m * FIELDS)
                             : is_kept<KEEP>(entry, b[m], numbers + m * FIELDS) ? entry : 0.0f;
            terms[m] = left * factor[m] * weight[m];
            mix = m == 0 ? terms[0] : mix + terms[m];
        }
        return (HOW == ADDED ? mix : elected<M, HOW>(terms, weight, mix)) * scale + x[0];
    }
};

template <int64_t M, int64_t KEEP, int64_t HOW>
bool combine_pairs(const Target& target, const Source* sources, const Vector* vectors, float scale) {
    constexpr int64_t FIELDS = fields_of(KEEP), E = M * FIELDS;
    Combine<M, KEEP, HOW> formula;
    formula.scale = scale;
    for (int64_t m = 0; m < M; m++) formula.factor[m] = vectors[m].factor, formula.weight[m] = vectors[m].weight;
    bool finite = true;
    for (int64_t start = 0, end; start < target.size; start = end) {
        end = end_of_block(vectors, M, start, target.size);
        const int16_t* fields[E + 1];
        for (int64_t m = 0; m < M; m++) {
            formula.b[m] = bounds_of(vectors[m], start);
            if (FIELDS > 0) fields[m * FIELDS] = reinterpret_cast<const int16_t*>(vectors[m].field) + start;
            if (FIELDS > 1) fields[m * FIELDS + 1] = reinterpret_cast<const int16_t*>(vectors[m].rank) + start;
        }
        finite &= block_of_pairs<M + 1, E>(target, sources, fields, start, end - start, formula);
    }
    return finite;
}

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
bool combine_floats(const Target& target, const Source* sources, const Vector* vectors, float scale) {
    alignas(64) float result[BLOCK], root_buffer[BLOCK], buffer[BLOCK], terms[M][BLOCK];
    const auto fill = terms_for<HOW != ADDED>(vectors[0].keep);
    Mix<M, HOW> formula;
    formula.scale = scale;
    for (int64_t m = 0; m < M; m++) formula.weight[m] = vectors[m].weight;
    bool finite = true;
    for (int64_t start = 0, end; start < target.size; start = end) {
        end = end_of_block(vectors, M, start, target.size);
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
    return over_tensor<M>(target, sources, formula);
}

using Combination = bool (*)(const Target&, const Source*, const Vector*, float);
using AddUp = bool (*)(const Target&, const Source*, const float*);

template <int64_t KEEP, int64_t HOW, int64_t... LESS_ONE>
Combination pairs_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr Combination variants[] = {combine_pairs<LESS_ONE + 1, KEEP, HOW>...};
    return variants[count - 1];
}

template <int64_t HOW, int64_t... LESS_ONE>
Combination floats_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr Combination variants[] = {combine_floats<LESS_ONE + 1, HOW>...};
    return variants[count - 1];
}

template <int64_t HOW>
Combination combination_for(bool paired, int64_t keep, int64_t count) {
    using Counts = std::make_integer_sequence<int64_t, MOST_PAIRED>;
    if (!paired || count > MOST_PAIRED) return floats_for<HOW>(count, std::make_integer_sequence<int64_t, MOST>());
    return keep == CUT ? pairs_for<CUT, HOW>(count, Counts())
         : keep == BAND ? pairs_for<BAND, HOW>(count, Counts())
         : keep == RANDOM ? pairs_for<RANDOM, HOW>(count, Counts())
         : keep == RANKED ? pairs_for<RANKED, HOW>(count, Counts())
         : pairs_for<ALL, HOW>(count, Counts());
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

}  // namespace

extern "C" {

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
    const bool paired = all_paired(*target, sources, count + 1);
    const int64_t keep = vectors[0].keep;
    const auto run = how == ADDED ? combination_for<ADDED>(paired, keep, count)
                   : how == ELECTED ? combination_for<ELECTED>(paired, keep, count)
                   : combination_for<SHARED>(paired, keep, count);
    const bool finite = run(*target, sources, vectors, scale);
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
