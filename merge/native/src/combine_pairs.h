// Task vectors of bfloat16 added up or elected by sign in pairs of entries, on processors without AVX-512.

#pragma once

#include "lanes.h"
#include "vectors.h"

#if !defined(MERGE_LANES)

namespace {

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
bool combine_pairs(const Target& target, const Source* sources, const Vector* vectors, float scale, int64_t from,
                   int64_t to) {
    constexpr int64_t FIELDS = fields_of(KEEP), E = M * FIELDS;
    Combine<M, KEEP, HOW> formula;
    formula.scale = scale;
    for (int64_t m = 0; m < M; m++) formula.factor[m] = vectors[m].factor, formula.weight[m] = vectors[m].weight;
    bool finite = true;
    for (int64_t start = from, end; start < to; start = end) {
        end = end_of_block(vectors, M, start, to);
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

template <int64_t KEEP, int64_t HOW, int64_t... LESS_ONE>
Combination pairs_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr Combination variants[] = {combine_pairs<LESS_ONE + 1, KEEP, HOW>...};
    return variants[count - 1];
}

// Returns what merges quicker than block by block, nullptr where there is nothing.
template <int64_t HOW>
Combination quicker_for(const Target& target, const Source* sources, int64_t keep, int64_t count) {
    using Counts = std::make_integer_sequence<int64_t, MOST_PAIRED>;
    if (count > MOST_PAIRED || !all_paired(target, sources, count + 1)) return nullptr;
    return keep == CUT ? pairs_for<CUT, HOW>(count, Counts())
         : keep == BAND ? pairs_for<BAND, HOW>(count, Counts())
         : keep == RANDOM ? pairs_for<RANDOM, HOW>(count, Counts())
         : keep == RANKED ? pairs_for<RANKED, HOW>(count, Counts())
         : pairs_for<ALL, HOW>(count, Counts());
}

}  // namespace

#endif
