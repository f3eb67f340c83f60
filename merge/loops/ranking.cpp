// Finding the largest entries of a tensor, or of its difference from a base, by the bits of their magnitudes: for floats of
// one sign the order of their bits is theirs.

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

// Counts the entries by the upper 16 bits of their magnitudes; four tables, so that equal neighbours do not wait for each
// other.
void histogram(int64_t size, const Ranked* ranked, int64_t* counts) {
    alignas(64) uint32_t sizes[BLOCK];
    std::vector<uint32_t> tables(4 << 15);  // the part that most entries fall in stays in the nearest cache
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(*ranked, start, count, sizes);
        for (int64_t i = 0; i < count; i++) tables[((i & 3) << 15) + (sizes[i] >> 16)]++;
    }
    for (int64_t i = 0; i < 1 << 15; i++)
        counts[i] += int64_t{tables[i]} + tables[(1 << 15) + i] + tables[(2 << 15) + i] + tables[(3 << 15) + i];
}

// Counts the entries of one bin of `histogram` by the lower 16 bits of their magnitudes. They are collected first, by a
// loop without branches, and counted in two tables, so that equal neighbours do not wait for each other.
void refine(int64_t size, const Ranked* ranked, int64_t bin, int64_t* counts) {
    alignas(64) uint32_t sizes[BLOCK];
    const uint32_t wanted = static_cast<uint32_t>(bin);
    uint16_t inside[BLOCK];
    std::vector<uint32_t> tables(2 << 16);
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(*ranked, start, count, sizes);
        int64_t found = 0;
        for (int64_t low = 0; low < count; low += 64) {
            const int64_t high = std::min<int64_t>(low + 64, count);
            uint32_t any = 0;
            for (int64_t i = low; i < high; i++) any += (sizes[i] >> 16) == wanted;
            for (int64_t i = low; any > 0 && i < high; i++) {
                inside[found] = static_cast<uint16_t>(sizes[i]);
                found += (sizes[i] >> 16) == wanted;
            }
        }
        for (int64_t i = 0; i < found; i++) tables[((i & 1) << 16) + inside[i]]++;
    }
    for (int64_t i = 0; i < 1 << 16; i++) counts[i] += int64_t{tables[i]} + tables[(1 << 16) + i];
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
