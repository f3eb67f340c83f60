// How task vectors are handed over, which of their entries are kept, and how they are elected.

#pragma once

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

// Where the next stretch ends, within which no vector's way to treat equal entries changes.
inline int64_t end_of_stretch(const Vector* vectors, int64_t count, int64_t start, int64_t end) {
    for (int64_t m = 0; m < count; m++) {
        const Vector& v = vectors[m];
        for (int64_t edge : {v.first, v.last, v.first_dropped, v.last_dropped})
            if (v.keep <= BAND && start < edge) end = std::min(end, edge);
    }
    return end;
}

// The same, at most BLOCK further.
inline int64_t end_of_block(const Vector* vectors, int64_t count, int64_t start, int64_t end) {
    return end_of_stretch(vectors, count, start, std::min(start / BLOCK * BLOCK + BLOCK, end));
}

inline Bounds bounds_of(const Vector& v, int64_t start) {
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

// Merges the entries from one place to another into a target; returns whether all results are finite.
using Combination = bool (*)(const Target&, const Source*, const Vector*, float scale, int64_t from, int64_t to);

}  // namespace
