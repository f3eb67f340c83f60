// The inner loops of merging: one pass over the entries of a tensor, all arithmetic in float32, any storage dtype.
//
// A pass goes block by block: a block of each parent is widened into a buffer that stays in the first cache, one loop
// computes the result in registers, and the result is rounded and written. Every step rounds as the same step on whole
// tensors does (no contraction, no reordering), so that both ways give the same bits.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace {

constexpr int64_t BLOCK = 1024, MOST = 6;
constexpr int64_t FLOAT32 = 0, BFLOAT16 = 1;
constexpr int64_t CUT = 0, BAND = 1, RANDOM = 2, RANKED = 3;

// How one task vector is read; the same fields in the same order as the record in fused.py.
struct Vector {
    int64_t parent, kind, keep;
    int64_t first, last;                  // of entries equal to `threshold`, those from first up to last are kept
    int64_t first_dropped, last_dropped;  // the same of the upper cut, whose entries are dropped
    int64_t field, limit, rank, row;      // random int16 per entry; rank in its row, and length of a row
    float threshold, dropped, lowest, spread, factor, weight;
};

// ---- storage ----------------------------------------------------------------------------------------------------

inline uint32_t bits_of(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return word;
}

inline float float_of(uint32_t word) {
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}

// To nearest, ties to even: half of the last place is added before the lower bits are cut.
inline uint16_t to_bfloat16(float value) {
    const uint32_t word = bits_of(value);
    return static_cast<uint16_t>((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
}

void widen(const uint16_t* __restrict__ stored, int64_t kind, int64_t count, float* __restrict__ into) {
    if (kind == BFLOAT16) {
        for (int64_t i = 0; i < count; i++) into[i] = float_of(static_cast<uint32_t>(stored[i]) << 16);
    } else {
        const _Float16* halves = reinterpret_cast<const _Float16*>(stored);
        for (int64_t i = 0; i < count; i++) into[i] = static_cast<float>(halves[i]);
    }
}

// Returns the largest magnitude, as the bits that are written.
uint16_t narrow(const float* __restrict__ block, int64_t kind, int64_t count, uint16_t* __restrict__ stored) {
    uint16_t largest = 0;
    if (kind == BFLOAT16) {
        for (int64_t i = 0; i < count; i++) {
            const uint16_t value = to_bfloat16(block[i]);
            stored[i] = value;
            largest = std::max<uint16_t>(largest, value & 0x7FFF);
        }
    } else {
        _Float16* halves = reinterpret_cast<_Float16*>(stored);
        for (int64_t i = 0; i < count; i++) halves[i] = static_cast<_Float16>(block[i]);
        for (int64_t i = 0; i < count; i++) largest = std::max<uint16_t>(largest, stored[i] & 0x7FFF);
    }
    return largest;
}

// Reads an entry of a tensor that is float32, or bfloat16.
template <int64_t KIND>
inline float at(const void* tensor, int64_t i) {
    if (KIND == FLOAT32) return static_cast<const float*>(tensor)[i];
    return float_of(static_cast<uint32_t>(static_cast<const uint16_t*>(tensor)[i]) << 16);
}

// Returns a block as float32: in place where it is stored so, else widened into the buffer.
const float* block_of(int64_t address, int64_t kind, int64_t start, int64_t count, float* buffer) {
    if (kind == FLOAT32) return reinterpret_cast<const float*>(address) + start;
    widen(reinterpret_cast<const uint16_t*>(address) + start, kind, count, buffer);
    return buffer;
}

// Rounds a block to one kind, then to that of the tensor, and writes it; returns whether every entry is finite.
bool store(float* __restrict__ block, int64_t out, int64_t kind, int64_t rounding, int64_t start, int64_t count) {
    alignas(64) uint16_t shorts[BLOCK];
    if (rounding != FLOAT32 && rounding != kind) {
        narrow(block, rounding, count, shorts);
        widen(shorts, rounding, count, block);
    }
    uint32_t largest = 0;
    if (kind == FLOAT32) {
        float* __restrict__ target = reinterpret_cast<float*>(out) + start;
        for (int64_t i = 0; i < count; i++) {
            target[i] = block[i];
            largest = std::max(largest, bits_of(block[i]) & 0x7FFFFFFFu);
        }
        return largest < 0x7F800000u;
    }
    const uint16_t highest = narrow(block, kind, count, reinterpret_cast<uint16_t*>(out) + start);
    return highest < (kind == BFLOAT16 ? 0x7F80 : 0x7C00);
}

// ---- task vectors -----------------------------------------------------------------------------------------------

// What a vector's entries are compared with within one block: of magnitude, or of random numbers.
struct Bounds {
    float low, high;
    const int16_t* field;
    const int32_t* rank;
};

// Where the next block ends: at most BLOCK further, and where no vector's way to treat equal entries changes within.
int64_t end_of_block(const Vector* vectors, int64_t count, int64_t start, int64_t size) {
    int64_t end = std::min(start + BLOCK, size);
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
        reinterpret_cast<const int16_t*>(v.field) + start,
        reinterpret_cast<const int32_t*>(v.rank) + start,
    };
}

// One entry of a task vector, zero where it is dropped: a product, as on whole tensors, so that zeros keep their sign.
template <int64_t KEEP>
inline float kept(float entry, const Vector& v, const Bounds& b, int64_t i) {
    if (KEEP == CUT) return entry * (std::fabs(entry) >= b.low ? 1.0f : 0.0f);
    if (KEEP == BAND) {
        const float magnitude = std::fabs(entry);
        return entry * (magnitude >= b.low ? 1.0f : 0.0f) * (magnitude <= b.high ? 1.0f : 0.0f);
    }
    if (KEEP == RANDOM) return entry * (static_cast<int32_t>(b.field[i]) < static_cast<int32_t>(v.limit) ? 1.0f : 0.0f);
    const float share = v.row > 1 ? static_cast<float>(b.rank[i]) / static_cast<float>(v.row - 1) : 0.5f;
    const float limit = std::nearbyintf((share * 2.0f * v.spread + v.lowest) * 65536.0f);
    const float within = std::min(std::max(limit, 0.0f), 65535.0f) - 32768.0f;
    return entry * (static_cast<float>(b.field[i]) < within ? 1.0f : 0.0f);
}

template <int64_t M, int64_t KIND, int64_t KEEP, bool VOTE>
void combine(const void* __restrict__ base, const void* const* parents, const Vector* given, const Bounds* limits,
             int64_t count, bool normalize, float scale, float* __restrict__ out) {
    const float shares = normalize ? 1.0f : 0.0f;
    const void* __restrict__ x[M];
    Vector v[M];
    Bounds b[M];
#pragma GCC unroll 8
    for (int64_t m = 0; m < M; m++) x[m] = parents[m], v[m] = given[m], b[m] = limits[m];
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) {
        const float root = at<KIND>(base, i);
        float terms[M], mix = 0.0f;
#pragma GCC unroll 8
        for (int64_t m = 0; m < M; m++) {
            terms[m] = kept<KEEP>(at<KIND>(x[m], i) - root, v[m], b[m], i) * v[m].factor * v[m].weight;
            mix = m == 0 ? terms[0] : mix + terms[m];
        }
        if (VOTE) {
            const float sign = mix >= 0.0f ? 1.0f : -1.0f;
            float share = 0.0f;
            mix = 0.0f;
#pragma GCC unroll 8
            for (int64_t m = 0; m < M; m++) {
                const float agreeing = terms[m] * sign;
                mix += agreeing > 0.0f ? agreeing : 0.0f;
                share += agreeing > 0.0f ? v[m].weight : 0.0f;
            }
            mix *= sign;
            share *= shares;
            mix /= share + (share == 0.0f ? 1.0f : 0.0f);
        }
        out[i] = mix * scale + root;
    }
}

template <int64_t M, int64_t KIND>
void add_up(const void* const* parents, const float* given, int64_t count, float* __restrict__ out) {
    const void* __restrict__ x[M];
    float weight[M];
#pragma GCC unroll 8
    for (int64_t m = 0; m < M; m++) x[m] = parents[m], weight[m] = given[m];
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) {
        float total = at<KIND>(x[0], i) * weight[0];
#pragma GCC unroll 8
        for (int64_t m = 1; m < M; m++) total += at<KIND>(x[m], i) * weight[m];
        out[i] = total;
    }
}

using Combine = void (*)(const void*, const void* const*, const Vector*, const Bounds*, int64_t, bool, float, float*);
using AddUp = void (*)(const void* const*, const float*, int64_t, float*);

template <int64_t KIND, int64_t KEEP, bool VOTE, int64_t... LESS_ONE>
Combine for_count(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr Combine variants[] = {combine<LESS_ONE + 1, KIND, KEEP, VOTE>...};
    return variants[count - 1];
}

template <int64_t KIND, bool VOTE>
Combine for_keep(int64_t keep, int64_t count) {
    using Counts = std::make_integer_sequence<int64_t, MOST>;
    return keep == CUT ? for_count<KIND, CUT, VOTE>(count, Counts())
         : keep == BAND ? for_count<KIND, BAND, VOTE>(count, Counts())
         : keep == RANDOM ? for_count<KIND, RANDOM, VOTE>(count, Counts())
         : for_count<KIND, RANKED, VOTE>(count, Counts());
}

Combine combine_for(bool vote, int64_t kind, int64_t keep, int64_t count) {
    if (kind == BFLOAT16) return vote ? for_keep<BFLOAT16, true>(keep, count) : for_keep<BFLOAT16, false>(keep, count);
    return vote ? for_keep<FLOAT32, true>(keep, count) : for_keep<FLOAT32, false>(keep, count);
}

template <int64_t KIND, int64_t... LESS_ONE>
AddUp add_up_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr AddUp variants[] = {add_up<LESS_ONE + 1, KIND>...};
    return variants[count - 1];
}

// The kind that all tensors are read as: bfloat16 where all are, else float32, widened where they are not.
int64_t common_kind(const int64_t* kinds, int64_t count) {
    return std::all_of(kinds, kinds + count, [](int64_t kind) { return kind == BFLOAT16; }) ? BFLOAT16 : FLOAT32;
}

// Returns where a block's entries are, in the kind that they are read as.
const void* entries_of(int64_t address, int64_t kind, int64_t read_as, int64_t start, int64_t count, float* buffer) {
    if (read_as == BFLOAT16) return reinterpret_cast<const uint16_t*>(address) + start;
    return block_of(address, kind, start, count, buffer);
}

template <int64_t KEEP>
void add_norms(const float* root, const float* x, const Vector& v, const Bounds& b, int64_t from, int64_t count,
               double* lanes) {
    for (int64_t i = 0; i < count; i++) lanes[from + i] += std::fabs(kept<KEEP>(x[i] - root[i], v, b, i));
}

// Reads a block of a task vector as the bits of its magnitudes.
void magnitudes(int64_t base, int64_t base_kind, int64_t parent, int64_t parent_kind, int64_t start, int64_t count,
                float* root_buffer, float* buffer, uint32_t* __restrict__ sizes) {
    const float* __restrict__ root = block_of(base, base_kind, start, count, root_buffer);
    const float* __restrict__ x = block_of(parent, parent_kind, start, count, buffer);
    for (int64_t i = 0; i < count; i++) sizes[i] = bits_of(x[i] - root[i]) & 0x7FFFFFFFu;
}

}  // namespace

extern "C" {

// out = sum_i weights[i] * x_i, of 1 to MOST tensors. Returns 1 if every entry is finite.
int32_t weighted_sum(int64_t out, int64_t kind, int64_t rounding, int64_t size, int64_t count, const int64_t* addresses,
                     const int64_t* kinds, const float* weights) {
    alignas(64) float total[BLOCK], buffers[MOST][BLOCK];
    const void* parents[MOST];
    const int64_t read_as = common_kind(kinds, count);
    using Counts = std::make_integer_sequence<int64_t, MOST>;
    const AddUp run = read_as == BFLOAT16 ? add_up_for<BFLOAT16>(count, Counts()) : add_up_for<FLOAT32>(count, Counts());
    bool finite = true;
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t entries = std::min(BLOCK, size - start);
        for (int64_t m = 0; m < count; m++)
            parents[m] = entries_of(addresses[m], kinds[m], read_as, start, entries, buffers[m]);
        run(parents, weights, entries, total);
        finite &= store(total, out, kind, rounding, start, entries);
    }
    return finite;
}

// out = base + scale * (task vectors, added up or elected by sign); 1 to MOST of them, all with the same `keep`.
// Returns 1 if every entry is finite.
int32_t combination(int64_t out, int64_t kind, int64_t rounding, int64_t size, int64_t base, int64_t base_kind,
                    int64_t count, const Vector* vectors, int32_t vote, int32_t normalize, float scale) {
    alignas(64) float result[BLOCK], root_buffer[BLOCK], buffers[MOST][BLOCK];
    const void* parents[MOST];
    Bounds bounds[MOST];
    int64_t kinds[MOST + 1] = {base_kind};
    for (int64_t m = 0; m < count; m++) kinds[m + 1] = vectors[m].kind;
    const int64_t read_as = common_kind(kinds, count + 1);
    const Combine run = combine_for(vote, read_as, vectors[0].keep, count);
    bool finite = true;
    for (int64_t start = 0, end; start < size; start = end) {
        end = end_of_block(vectors, count, start, size);
        const void* root = entries_of(base, base_kind, read_as, start, end - start, root_buffer);
        for (int64_t m = 0; m < count; m++) {
            parents[m] = entries_of(vectors[m].parent, vectors[m].kind, read_as, start, end - start, buffers[m]);
            bounds[m] = bounds_of(vectors[m], start);
        }
        run(root, parents, vectors, bounds, end - start, normalize, scale, result);
        finite &= store(result, out, kind, rounding, start, end - start);
    }
    return finite;
}

// Adds the magnitudes of what is kept of a task vector to `lanes`: entry i to lane i mod BLOCK.
void norms(int64_t size, int64_t base, int64_t base_kind, const Vector* vector, double* lanes) {
    alignas(64) float root_buffer[BLOCK], buffer[BLOCK];
    for (int64_t start = 0, end; start < size; start = end) {
        end = std::min(end_of_block(vector, 1, start, size), (start / BLOCK + 1) * BLOCK);
        const float* root = block_of(base, base_kind, start, end - start, root_buffer);
        const float* x = block_of(vector->parent, vector->kind, start, end - start, buffer);
        const Bounds bounds = bounds_of(*vector, start);
        const auto add = vector->keep == CUT ? add_norms<CUT>
                       : vector->keep == BAND ? add_norms<BAND>
                       : vector->keep == RANDOM ? add_norms<RANDOM> : add_norms<RANKED>;
        add(root, x, *vector, bounds, start % BLOCK, end - start, lanes);
    }
}

// Returns 1 if every entry of a tensor is finite.
int32_t all_finite(int64_t size, int64_t address, int64_t kind) {
    if (kind == FLOAT32) {
        const uint32_t* words = reinterpret_cast<const uint32_t*>(address);
        uint32_t largest = 0;
        for (int64_t i = 0; i < size; i++) largest = std::max(largest, words[i] & 0x7FFFFFFFu);
        return largest < 0x7F800000u;
    }
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(address);
    uint16_t largest = 0;
    for (int64_t i = 0; i < size; i++) largest = std::max<uint16_t>(largest, halves[i] & 0x7FFF);
    return largest < (kind == BFLOAT16 ? 0x7F80 : 0x7C00);
}

// Adds the products of the entries of two tensors, less those of a third one unless base is 0, to `lanes`.
void products(int64_t size, int64_t first, int64_t first_kind, int64_t second, int64_t second_kind, int64_t base,
              int64_t base_kind, double* lanes) {
    alignas(64) float a_buffer[BLOCK], b_buffer[BLOCK], root_buffer[BLOCK], a_less[BLOCK], b_less[BLOCK];
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        const float* a = block_of(first, first_kind, start, count, a_buffer);
        const float* b = block_of(second, second_kind, start, count, b_buffer);
        if (base != 0) {
            const float* root = block_of(base, base_kind, start, count, root_buffer);
            for (int64_t i = 0; i < count; i++) a_less[i] = a[i] - root[i], b_less[i] = b[i] - root[i];
            a = a_less, b = b_less;
        }
        for (int64_t i = 0; i < count; i++) lanes[i] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
}

// Counts the entries of a task vector by the upper 16 bits of their magnitudes; four tables, so that equal
// neighbours do not wait for each other.
void histogram(int64_t size, int64_t base, int64_t base_kind, int64_t parent, int64_t parent_kind, int64_t* counts) {
    alignas(64) float root_buffer[BLOCK], buffer[BLOCK];
    alignas(64) uint32_t sizes[BLOCK];
    std::vector<int64_t> tables(4 << 15);
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(base, base_kind, parent, parent_kind, start, count, root_buffer, buffer, sizes);
        for (int64_t i = 0; i < count; i++) tables[((i & 3) << 15) + (sizes[i] >> 16)]++;
    }
    for (int64_t i = 0; i < 1 << 15; i++)
        counts[i] += tables[i] + tables[(1 << 15) + i] + tables[(2 << 15) + i] + tables[(3 << 15) + i];
}

// Counts the entries of one bin of `histogram` by the lower 16 bits of their magnitudes. They are collected first, by a
// loop without branches, and counted in two tables, so that equal neighbours do not wait for each other.
void refine(int64_t size, int64_t base, int64_t base_kind, int64_t parent, int64_t parent_kind, int64_t bin,
            int64_t* counts) {
    alignas(64) float root_buffer[BLOCK], buffer[BLOCK];
    alignas(64) uint32_t sizes[BLOCK];
    const uint32_t wanted = static_cast<uint32_t>(bin);
    uint16_t inside[BLOCK];
    std::vector<uint32_t> tables(2 << 16);
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(base, base_kind, parent, parent_kind, start, count, root_buffer, buffer, sizes);
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

// Writes the places of a task vector's entries from the largest magnitude to the smallest, of equal ones the first in
// memory first: a radix sort from the lowest digit up, which keeps the order of equal digits.
void order(int64_t size, int64_t base, int64_t base_kind, int64_t parent, int64_t parent_kind, uint32_t* places) {
    constexpr int64_t DIGITS = 3, WIDTH = 11, VALUES = 1 << WIDTH;
    alignas(64) float root_buffer[BLOCK], buffer[BLOCK];
    alignas(64) uint32_t sizes[BLOCK];
    std::vector<uint64_t> entries(size), sorted(size);  // the key above, the place below
    std::vector<int64_t> starts(DIGITS * VALUES);
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(base, base_kind, parent, parent_kind, start, count, root_buffer, buffer, sizes);
        for (int64_t i = 0; i < count; i++) {
            const uint64_t key = 0x7FFFFFFFu - sizes[i];
            entries[start + i] = key << 32 | static_cast<uint64_t>(start + i);
            for (int64_t digit = 0; digit < DIGITS; digit++)
                starts[digit * VALUES + ((key >> (digit * WIDTH)) & (VALUES - 1))]++;
        }
    }
    for (int64_t digit = 0; digit < DIGITS; digit++) {
        int64_t* places_of = &starts[digit * VALUES];
        for (int64_t value = 0, before = 0; value < VALUES; value++) {
            const int64_t number = places_of[value];
            places_of[value] = before;
            before += number;
        }
        for (int64_t i = 0; i < size; i++)
            sorted[places_of[(entries[i] >> (32 + digit * WIDTH)) & (VALUES - 1)]++] = entries[i];
        entries.swap(sorted);
    }
    for (int64_t i = 0; i < size; i++) places[i] = static_cast<uint32_t>(entries[i]);
}

// Returns the place of the number-th entry, from 1, whose magnitude has the given bits; -1 if there are fewer.
int64_t place_of(int64_t size, int64_t base, int64_t base_kind, int64_t parent, int64_t parent_kind, int64_t magnitude,
                 int64_t number) {
    alignas(64) float root_buffer[BLOCK], buffer[BLOCK];
    alignas(64) uint32_t sizes[BLOCK];
    const uint32_t wanted = static_cast<uint32_t>(magnitude);
    int64_t before = 0;
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        magnitudes(base, base_kind, parent, parent_kind, start, count, root_buffer, buffer, sizes);
        uint32_t equal = 0;
        for (int64_t i = 0; i < count; i++) equal += sizes[i] == wanted;
        if (before + equal >= number)
            for (int64_t i = 0; i < count; i++)
                if (sizes[i] == wanted && ++before == number) return start + i;
        before += equal;
    }
    return -1;
}

}  // extern "C"
