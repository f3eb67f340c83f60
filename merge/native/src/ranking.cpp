// Finding the largest entries of a tensor, or of its difference from a base, by the bits of their magnitudes: for floats of
// one sign the order of their bits is theirs.

#include <functional>
#include <memory>
#include <vector>

#include "storage.h"

namespace {

// Entries that are ranked: of one tensor, less those of a base unless its address is 0.
struct Ranked {
    Source tensor, base;
};

void magnitudes(const Ranked& ranked, int64_t start, int64_t count, uint32_t* __restrict__ sizes) {
    alignas(64) float buffer[BLOCK], root_buffer[BLOCK];
    const float* __restrict__ x = block_of(ranked.tensor.address, ranked.tensor.kind, start, count, buffer);
    if (ranked.base.address == 0) {
        for (int64_t i = 0; i < count; i++) sizes[i] = bits_of(x[i]) & 0x7FFFFFFFu;
        return;
    }
    const float* __restrict__ root = block_of(ranked.base.address, ranked.base.kind, start, count, root_buffer);
    for (int64_t i = 0; i < count; i++) sizes[i] = bits_of(x[i] - root[i]) & 0x7FFFFFFFu;
}

uint32_t magnitude(const Ranked& ranked, int64_t place) {
    uint32_t size;
    magnitudes(ranked, place, 1, &size);
    return size;
}

// Magnitudes between which the wanted one is looked for; entries equal to either are counted, not collected, as a value
// that many entries share is one of them.
struct Range {
    uint32_t low, high;
};

constexpr int64_t RUN = 64, RUNS = 256;  // entries of the sample that lie together, and how often
constexpr int64_t MARGIN = 256;          // places in the sample on both sides: four standard errors at most
constexpr uint32_t LARGEST = 0x7FFFFFFFu;

std::vector<uint32_t> sampled(const Ranked& ranked, int64_t size) {
    std::vector<uint32_t> sample;
    if (size <= RUN * RUNS) return sample;
    sample.resize(RUN * RUNS);
    for (int64_t run = 0; run < RUNS; run++)
        magnitudes(ranked, (size - RUN) / (RUNS - 1) * run, RUN, sample.data() + run * RUN);
    return sample;
}

// Returns the magnitudes that stand a margin before and behind the count-th largest entry in the sample.
Range range_of(std::vector<uint32_t>& sample, int64_t size, int64_t count, int64_t margin) {
    const int64_t length = static_cast<int64_t>(sample.size());
    const int64_t place = count * length / size;
    const auto at = [&](int64_t rank) {
        std::nth_element(sample.begin(), sample.begin() + rank, sample.end(), std::greater<uint32_t>());
        return sample[rank];
    };
    const uint32_t low = place + margin < length ? at(place + margin) : 0;
    const uint32_t high = 0 <= place - margin && place - margin < length ? at(place - margin) : LARGEST;
    return {low, high};
}

// What a pass found: how many entries lie above a range, equal its ends, and the magnitudes of those inside.
struct Collected {
    int64_t above = 0, at_high = 0, at_low = 0, inside = 0;
    uint32_t* values;
};

// Adds a block of magnitudes; up to 16 values are written beyond those that are inside.
void collect(const uint32_t* __restrict__ sizes, int64_t count, const Range& range, Collected& found) {
    int64_t i = 0;
#if defined(__AVX512F__)
    const __m512i low = _mm512_set1_epi32(static_cast<int32_t>(range.low));
    const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(range.high));
    for (; i + 16 <= count; i += 16) {
        const __m512i block = _mm512_loadu_si512(sizes + i);
        const __mmask16 inside = _mm512_mask_cmplt_epu32_mask(_mm512_cmpgt_epu32_mask(block, low), block, high);
        _mm512_storeu_si512(found.values + found.inside, _mm512_maskz_compress_epi32(inside, block));
        found.inside += __builtin_popcount(inside);
        found.above += __builtin_popcount(_mm512_cmpgt_epu32_mask(block, high));
        found.at_high += __builtin_popcount(_mm512_cmpeq_epu32_mask(block, high));
        found.at_low += __builtin_popcount(_mm512_cmpeq_epu32_mask(block, low));
    }
#endif
    for (; i < count; i++) {
        found.values[found.inside] = sizes[i];
        found.inside += (sizes[i] > range.low) & (sizes[i] < range.high);
        found.above += sizes[i] > range.high;
        found.at_high += sizes[i] == range.high;
        found.at_low += sizes[i] == range.low;
    }
}

// Looks for the count-th largest entry in a range; returns whether it lies there.
bool found_between(const Ranked& ranked, int64_t size, int64_t count, const Range& range, int64_t* answer) {
    const bool all = range.low == 0 && range.high == LARGEST;
    const int64_t room = all ? size : size / 8;  // more than that is collected only where nothing else has helped
    const std::unique_ptr<uint32_t[]> values(new uint32_t[room + BLOCK + 16]);
    alignas(64) uint32_t sizes[BLOCK];
    Collected found;
    found.values = values.get();
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t here = std::min(BLOCK, size - start);
        magnitudes(ranked, start, here, sizes);
        collect(sizes, here, range, found);
        if (found.inside > room) return false;
    }
    const int64_t wanted = count - found.above - found.at_high;
    if (count <= found.above || wanted > found.inside + found.at_low) return false;
    if (wanted <= 0) return answer[0] = range.high, answer[1] = count - found.above, answer[2] = found.at_high, true;
    if (wanted > found.inside)
        return answer[0] = range.low, answer[1] = wanted - found.inside, answer[2] = found.at_low, true;
    uint32_t *const first = values.get(), *const nth = first + wanted - 1, *const last = first + found.inside;
    std::nth_element(first, nth, last, std::greater<uint32_t>());
    answer[0] = *nth;
    answer[1] = std::count(first, nth + 1, *nth);
    answer[2] = answer[1] + std::count(nth + 1, last, *nth);
    return true;
}

// Sorts keys with the places below them by a radix sort from the lowest digit up, which keeps the order of equal keys.
// `starts` counts the keys by digit: DIGITS tables of 1 << WIDTH.
template <int64_t DIGITS, int64_t WIDTH>
void sort(int64_t size, uint64_t*& entries, uint64_t*& sorted, uint32_t* starts) {
    constexpr int64_t VALUES = 1 << WIDTH;
    for (int64_t digit = 0; digit < DIGITS; digit++) {
        uint32_t* places_of = starts + digit * VALUES;
        const int64_t shift = 32 + digit * WIDTH;
        if (places_of[(entries[0] >> shift) & (VALUES - 1)] == size) continue;
        for (uint32_t value = 0, before = 0; value < VALUES; value++) {
            const uint32_t number = places_of[value];
            places_of[value] = before;
            before += number;
        }
        for (int64_t i = 0; i < size; i++) sorted[places_of[(entries[i] >> shift) & (VALUES - 1)]++] = entries[i];
        std::swap(entries, sorted);
    }
}

}  // namespace

extern "C" {

// Finds the magnitude of the count-th largest entry, as bits, how many of the entries equal to it are among the `count`
// largest, and how many there are: found[0], found[1] and found[2]. A sample tells between which two magnitudes it lies, one
// pass collects what lies there; where the sample misled, the next range is wider.
void nth_largest(int64_t size, const Ranked* ranked, int64_t count, int64_t* found) {
    std::vector<uint32_t> sample = sampled(*ranked, size);
    for (int64_t margin = MARGIN; !found_between(*ranked, size, count, range_of(sample, size, count, margin), found);)
        margin *= 8;
}

// Returns the place of the number-th entry, from 1, whose magnitude has the given bits; -1 if there are fewer.
int64_t place_of(int64_t size, const Ranked* ranked, int64_t bits, int64_t number) {
    alignas(64) uint32_t sizes[BLOCK];
    const uint32_t wanted = static_cast<uint32_t>(bits);
    int64_t before = 0;
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(*ranked, start, count, sizes);
        uint32_t equal = 0;
        for (int64_t i = 0; i < count; i++) equal += sizes[i] == wanted;
        if (before + equal >= number)
            for (int64_t i = 0; i < count; i++)
                if (sizes[i] == wanted && ++before == number) return start + i;
        before += equal;
    }
    return -1;
}

// Writes the places of the entries from the largest magnitude to the smallest, of equal ones the first in memory first.
void order(int64_t size, const Ranked* ranked, uint32_t* places) {
    constexpr int64_t DIGITS = 3, WIDTH = 11, VALUES = 1 << WIDTH;
    alignas(64) uint32_t sizes[BLOCK];
    std::vector<uint64_t> entries(size), sorted(size);
    std::vector<uint32_t> starts(DIGITS * VALUES);
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(*ranked, start, count, sizes);
        for (int64_t i = 0; i < count; i++) {
            const uint64_t key = 0x7FFFFFFFu - sizes[i];
            entries[start + i] = key << 32 | static_cast<uint64_t>(start + i);
            for (int64_t digit = 0; digit < DIGITS; digit++)
                starts[digit * VALUES + ((key >> (digit * WIDTH)) & (VALUES - 1))]++;
        }
    }
    uint64_t *from = entries.data(), *to = sorted.data();
    sort<DIGITS, WIDTH>(size, from, to, starts.data());
    for (int64_t i = 0; i < size; i++) places[i] = static_cast<uint32_t>(from[i]);
}

// Finds the magnitude of the count-th largest entry by their order, as bits, and which of the entries equal to it are among
// the largest: the first in memory or, with `last`, the last. They lie from edges[0] up to but without edges[1].
int64_t cut(int64_t size, const Ranked* ranked, const uint32_t* places, int64_t count, int64_t last, int64_t* edges) {
    const uint32_t threshold = magnitude(*ranked, places[count - 1]);
    edges[0] = 0, edges[1] = size;
    if (count == size || magnitude(*ranked, places[count]) != threshold) return threshold;
    if (!last) {
        edges[1] = static_cast<int64_t>(places[count - 1]) + 1;
        return threshold;
    }
    const auto larger = [&](uint32_t place) { return magnitude(*ranked, place) > threshold; };
    const auto as_large = [&](uint32_t place) { return magnitude(*ranked, place) >= threshold; };
    const int64_t above = std::partition_point(places, places + count, larger) - places;
    const int64_t below = std::partition_point(places + count, places + size, as_large) - places;
    edges[0] = places[below - (count - above)];
    return threshold;
}

// Writes the place of each entry in its row by magnitude, from -32768, the smallest first; of equal ones the first in
// memory first. A row has at most 65536 entries.
void ranks(int64_t size, int64_t row, const Ranked* ranked, int16_t* places) {
    constexpr int64_t DIGITS = 4, WIDTH = 8, VALUES = 1 << WIDTH;
    std::vector<uint32_t> sizes(row), starts(DIGITS * VALUES);
    std::vector<uint64_t> entries(row), sorted(row);
    for (int64_t start = 0; start < size; start += row) {
        for (int64_t low = 0; low < row; low += BLOCK)
            magnitudes(*ranked, start + low, std::min(BLOCK, row - low), sizes.data() + low);
        std::fill(starts.begin(), starts.end(), 0);
        for (int64_t i = 0; i < row; i++) {
            entries[i] = static_cast<uint64_t>(sizes[i]) << 32 | static_cast<uint64_t>(i);
            for (int64_t digit = 0; digit < DIGITS; digit++)
                starts[digit * VALUES + ((sizes[i] >> (digit * WIDTH)) & (VALUES - 1))]++;
        }
        uint64_t *from = entries.data(), *to = sorted.data();
        sort<DIGITS, WIDTH>(row, from, to, starts.data());
        for (int64_t i = 0; i < row; i++) places[start + static_cast<uint32_t>(from[i])] = static_cast<int16_t>(i - 32768);
    }
}

}  // extern "C"
