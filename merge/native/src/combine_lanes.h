// Task vectors added up or elected by sign, 32 entries at a time, where the processor has AVX-512.

#pragma once

#include "lanes.h"
#include "vectors.h"

#if defined(MERGE_LANES)

namespace {

// One task vector within a stretch. PLAIN ones are multiplied with nothing but their weight.
template <int64_t KEEP, bool PLAIN>
struct VectorLanes {
    int64_t field, rank;
    __m512 low, high, lowest, twice, steps, factor, weight;
    __m512i limit;
    bool single;

    void set(const Vector& v, int64_t start) {
        const Bounds b = bounds_of(v, start);
        field = v.field, rank = v.rank;
        low = _mm512_set1_ps(b.low), high = _mm512_set1_ps(b.high), lowest = _mm512_set1_ps(b.lowest);
        twice = _mm512_set1_ps(b.twice), steps = _mm512_set1_ps(b.steps), limit = _mm512_set1_epi32(b.limit);
        factor = _mm512_set1_ps(v.factor), weight = _mm512_set1_ps(v.weight);
        single = b.steps == 0.0f;
    }

    MERGE_INLINE __m512 size_of(__m512 entries) const {
        return as_floats(_mm512_and_si512(as_words(entries), _mm512_set1_epi32(0x7FFFFFFF)));
    }

    MERGE_INLINE __mmask16 reaches(__m512 entries) const { return _mm512_cmp_ps_mask(size_of(entries), low, _CMP_GE_OQ); }

    MERGE_INLINE __mmask16 lies_between(__m512 entries) const {
        return _mm512_mask_cmp_ps_mask(reaches(entries), size_of(entries), high, _CMP_LE_OQ);
    }

    MERGE_INLINE __mmask16 is_drawn(__m512i numbers, __m512i ranks) const {
        const __m512i place = _mm512_add_epi32(_mm512_srai_epi32(ranks, 16), _mm512_set1_epi32(32768));
        const __m512 share = single ? _mm512_set1_ps(0.5f) : _mm512_div_ps(_mm512_cvtepi32_ps(place), steps);
        const __m512 chance = _mm512_mul_ps(_mm512_add_ps(_mm512_mul_ps(share, twice), lowest), _mm512_set1_ps(65536.0f));
        const __m512 whole = _mm512_roundscale_ps(chance, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m512 bound = _mm512_min_ps(_mm512_max_ps(whole, _mm512_setzero_ps()), _mm512_set1_ps(65535.0f));
        const __m512 number = _mm512_cvtepi32_ps(_mm512_srai_epi32(numbers, 16));
        return _mm512_cmp_ps_mask(number, _mm512_sub_ps(bound, _mm512_set1_ps(32768.0f)), _CMP_LT_OQ);
    }

    template <bool HALVES>
    MERGE_INLINE Masks kept(const Pair& entries, int64_t i) const {
        if (KEEP == CUT) return {reaches(entries.low), reaches(entries.high)};
        if (KEEP == BAND) return {lies_between(entries.low), lies_between(entries.high)};
        if (KEEP == ALL) return {0xFFFF, 0xFFFF};
        __m512i low_numbers, high_numbers, low_ranks, high_ranks;
        numbers_of<HALVES>(field, i, low_numbers, high_numbers);
        if (KEEP == RANDOM)
            return {_mm512_cmplt_epi32_mask(low_numbers, limit), _mm512_cmplt_epi32_mask(high_numbers, limit)};
        numbers_of<HALVES>(rank, i, low_ranks, high_ranks);
        return {is_drawn(low_numbers, low_ranks), is_drawn(high_numbers, high_ranks)};
    }

    // What is left of entries, times factor and weight. Where all is added up, what is dropped is multiplied with zero, as on
    // whole tensors, so that zeros keep their sign.
    template <bool ELECTS>
    MERGE_INLINE __m512 terms_of(__m512 entries, __mmask16 mask) const {
        if (ELECTS && KEEP != ALL)
            return PLAIN ? _mm512_maskz_mul_ps(mask, entries, weight)
                         : _mm512_mul_ps(_mm512_maskz_mul_ps(mask, entries, factor), weight);
        const __m512 one = _mm512_set1_ps(1.0f);
        const __m512 left = KEEP == ALL ? entries : _mm512_mul_ps(entries, _mm512_maskz_mov_ps(mask, one));
        return _mm512_mul_ps(PLAIN ? left : _mm512_mul_ps(left, factor), weight);
    }
};

// Whether the weights of some of the vectors add up to zero.
template <int64_t M>
bool cancel(const Vector* vectors) {
    for (int64_t some = 1; some < 1 << M; some++) {
        float share = 0.0f;
        for (int64_t m = 0; m < M; m++) share += some >> m & 1 ? vectors[m].weight : 0.0f;
        if (share == 0.0f) return true;
    }
    return false;
}

// PLAIN where the factors of vectors and result are 1 and no weights cancel.
template <bool HALVES, int64_t M, int64_t KEEP, int64_t HOW, bool PLAIN>
struct CombineLanes {
    VectorLanes<KEEP, PLAIN> vectors[M];
    __m512 scale;

    CombineLanes(const Vector* given, int64_t start, float factor) : scale(_mm512_set1_ps(factor)) {
        for (int64_t m = 0; m < M; m++) vectors[m].set(given[m], start);
    }

    MERGE_INLINE Pair operator()(const Pair* x, int64_t i) const {
        Pair terms[M];
#pragma GCC unroll 8
        for (int64_t m = 0; m < M; m++) {
            const Pair entries{_mm512_sub_ps(x[m + 1].low, x[0].low), _mm512_sub_ps(x[m + 1].high, x[0].high)};
            const Masks kept = vectors[m].template kept<HALVES>(entries, i);
            terms[m].low = vectors[m].template terms_of<HOW != ADDED>(entries.low, kept.low);
            terms[m].high = vectors[m].template terms_of<HOW != ADDED>(entries.high, kept.high);
        }
        Pair mix = terms[0];
#pragma GCC unroll 8
        for (int64_t m = 1; m < M; m++) mix = sum_of(mix, terms[m]);
        if (HOW != ADDED) mix = elected(terms, mix);
        return sum_of(PLAIN ? mix : Pair{_mm512_mul_ps(mix.low, scale), _mm512_mul_ps(mix.high, scale)}, x[0]);
    }

    MERGE_INLINE static Pair sum_of(const Pair& a, const Pair& b) {
        return {_mm512_add_ps(a.low, b.low), _mm512_add_ps(a.high, b.high)};
    }

    // Adds up what has the sign of the sum. Both halves take each step together: a processor looks some 60 instructions
    // ahead for one that need not wait.
    MERGE_INLINE Pair elected(const Pair* terms, const Pair& sum) const {
        Pair mix, share;
        Masks any;
#pragma GCC unroll 8
        for (int64_t m = 0; m < M; m++) {
            const Masks agrees{agree(terms[m].low, sum.low), agree(terms[m].high, sum.high)};
            const __m512 weight = vectors[m].weight;
            if (m == 0) {
                mix = {_mm512_maskz_mov_ps(agrees.low, terms[m].low), _mm512_maskz_mov_ps(agrees.high, terms[m].high)};
                share = {_mm512_maskz_mov_ps(agrees.low, weight), _mm512_maskz_mov_ps(agrees.high, weight)};
                any = agrees;
                continue;
            }
            mix = {_mm512_mask_add_ps(mix.low, agrees.low, mix.low, terms[m].low),
                   _mm512_mask_add_ps(mix.high, agrees.high, mix.high, terms[m].high)};
            share = {_mm512_mask_add_ps(share.low, agrees.low, share.low, weight),
                     _mm512_mask_add_ps(share.high, agrees.high, share.high, weight)};
            any = {_kor_mask16(any.low, agrees.low), _kor_mask16(any.high, agrees.high)};
        }
        if (HOW != SHARED) return mix;
        if (!PLAIN) share = {one_for_zero(share.low), one_for_zero(share.high)};
        return {_mm512_maskz_div_ps(any.low, mix.low, share.low), _mm512_maskz_div_ps(any.high, mix.high, share.high)};
    }

    // Which terms have the sign of the sum; zeros agree with nothing, what is no number with everything.
    MERGE_INLINE static __mmask16 agree(__m512 term, __m512 sum) {
        const __m512i sign = _mm512_set1_epi32(INT32_MIN);
        const __m512i turned = _mm512_ternarylogic_epi32(as_words(term), as_words(sum), sign, 0x78);  // a ^ (b & c)
        return _mm512_cmp_ps_mask(as_floats(turned), _mm512_setzero_ps(), _CMP_NLE_UQ);
    }

    MERGE_INLINE static __m512 one_for_zero(__m512 share) {
        const __mmask16 none = _mm512_cmp_ps_mask(share, _mm512_setzero_ps(), _CMP_EQ_OQ);
        return _mm512_mask_mov_ps(share, none, _mm512_set1_ps(1.0f));
    }
};

// The weighted sum of M tensors.
template <int64_t M>
struct SumLanes {
    __m512 weights[M];

    explicit SumLanes(const float* given) {
        for (int64_t m = 0; m < M; m++) weights[m] = _mm512_set1_ps(given[m]);
    }

    MERGE_INLINE Pair operator()(const Pair* x, int64_t) const {
        Pair total{_mm512_mul_ps(x[0].low, weights[0]), _mm512_mul_ps(x[0].high, weights[0])};
#pragma GCC unroll 8
        for (int64_t m = 1; m < M; m++) {
            total.low = _mm512_add_ps(total.low, _mm512_mul_ps(x[m].low, weights[m]));
            total.high = _mm512_add_ps(total.high, _mm512_mul_ps(x[m].high, weights[m]));
        }
        return total;
    }
};

template <bool HALVES, int64_t M, int64_t KEEP, int64_t HOW>
bool combine_lanes(const Target& target, const Source* sources, const Vector* vectors, float scale, int64_t from,
                   int64_t to) {
    // Of the methods that divide only: what the others do is over before their memory is there.
    if constexpr (HOW == SHARED) {
        const auto is_plain = [](const Vector& v) { return v.factor == 1.0f; };
        if (scale == 1.0f && std::all_of(vectors, vectors + M, is_plain) && !cancel<M>(vectors)) {
            const CombineLanes<HALVES, M, KEEP, HOW, true> formula(vectors, from, scale);
            return over_lanes<HALVES, M + 1>(target, sources, from, to, formula);
        }
    }
    const CombineLanes<HALVES, M, KEEP, HOW, false> formula(vectors, from, scale);
    return over_lanes<HALVES, M + 1>(target, sources, from, to, formula);
}

template <bool HALVES, int64_t KEEP, int64_t HOW, int64_t... LESS_ONE>
Combination lanes_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr Combination variants[] = {combine_lanes<HALVES, LESS_ONE + 1, KEEP, HOW>...};
    return variants[count - 1];
}

template <bool HALVES, int64_t HOW>
Combination lanes_for(int64_t keep, int64_t count) {
    using Counts = std::make_integer_sequence<int64_t, MOST_PAIRED>;
    return keep == CUT ? lanes_for<HALVES, CUT, HOW>(count, Counts())
         : keep == BAND ? lanes_for<HALVES, BAND, HOW>(count, Counts())
         : keep == RANDOM ? lanes_for<HALVES, RANDOM, HOW>(count, Counts())
         : keep == RANKED ? lanes_for<HALVES, RANKED, HOW>(count, Counts())
         : lanes_for<HALVES, ALL, HOW>(count, Counts());
}

// Returns what merges whole steps of entries quicker than block by block, nullptr where there is nothing.
template <int64_t HOW>
Combination quicker_for(const Target& target, const Source* sources, int64_t keep, int64_t count) {
    if (count > MOST_PAIRED || !in_lanes(target, sources, count + 1)) return nullptr;
    return sources[0].kind == BFLOAT16 ? lanes_for<true, HOW>(keep, count) : lanes_for<false, HOW>(keep, count);
}

}  // namespace

#endif
