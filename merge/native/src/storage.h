// How the loops read and write tensors: block by block or in pairs of entries, all arithmetic in float32.
//
// Every step rounds as the same step on whole tensors does (no contraction, no reordering), so that both ways give the
// same bits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t BLOCK = 1024, MOST = 6;
constexpr int64_t MOST_PAIRED = 4;  // parents that are merged in pairs of entries; each number is compiled by itself
constexpr int64_t STEP = 32;         // entries that are merged at a time in lanes
constexpr int64_t FLOAT32 = 0, BFLOAT16 = 1;
constexpr int64_t STREAMED = 1 << 16;  // results of more entries go past the caches, which they would only empty

using Word = uint32_t __attribute__((may_alias, aligned(2)));  // two entries of 16 bits, wherever they lie

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
inline uint32_t rounded(float value) {
    const uint32_t word = bits_of(value);
    return word + 0x7FFFu + ((word >> 16) & 1u);
}

inline uint16_t to_bfloat16(float value) { return static_cast<uint16_t>(rounded(value) >> 16); }

inline void widen(const uint16_t* __restrict__ stored, int64_t kind, int64_t count, float* __restrict__ into) {
    if (kind == BFLOAT16) {
        for (int64_t i = 0; i < count; i++) into[i] = float_of(static_cast<uint32_t>(stored[i]) << 16);
    } else {
        const _Float16* halves = reinterpret_cast<const _Float16*>(stored);
        for (int64_t i = 0; i < count; i++) into[i] = static_cast<float>(halves[i]);
    }
}

inline void narrow(const float* __restrict__ block, int64_t kind, int64_t count, uint16_t* __restrict__ stored) {
    if (kind == BFLOAT16) {
        for (int64_t i = 0; i < count; i++) stored[i] = to_bfloat16(block[i]);
    } else {
        _Float16* halves = reinterpret_cast<_Float16*>(stored);
        for (int64_t i = 0; i < count; i++) halves[i] = static_cast<_Float16>(block[i]);
    }
}

inline bool finite_halves(const uint16_t* __restrict__ stored, int64_t kind, int64_t count) {
    uint16_t largest = 0;
    for (int64_t i = 0; i < count; i++) largest = std::max<uint16_t>(largest, stored[i] & 0x7FFF);
    return largest < (kind == BFLOAT16 ? 0x7F80 : 0x7C00);
}

inline bool finite_floats(const float* __restrict__ block, int64_t count) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) largest = std::max(largest, bits_of(block[i]) & 0x7FFFFFFFu);
    return largest < 0x7F800000u;
}

// Returns a block as float32: in place where it is stored so, else widened into the buffer.
inline const float* block_of(int64_t address, int64_t kind, int64_t start, int64_t count, float* buffer) {
    if (kind == FLOAT32) return reinterpret_cast<const float*>(address) + start;
    widen(reinterpret_cast<const uint16_t*>(address) + start, kind, count, buffer);
    return buffer;
}

// Copies a finished block to its place; past the caches where that is asked for and the processor can.
inline void put(const void* block, int64_t bytes, bool streamed, void* target) {
#if defined(__AVX512F__)
    if (streamed && reinterpret_cast<uintptr_t>(target) % 64 == 0) {
        const __m512i* source = static_cast<const __m512i*>(block);
        __m512i* lines = static_cast<__m512i*>(target);
        for (int64_t line = 0; line < bytes / 64; line++)
            _mm512_stream_si512(lines + line, _mm512_load_si512(source + line));
        const int64_t done = bytes / 64 * 64;
        std::memcpy(static_cast<char*>(target) + done, static_cast<const char*>(block) + done, bytes - done);
        return;
    }
#endif
    (void)streamed;
    std::memcpy(target, block, bytes);
}

// Makes results that went past the caches visible before the caller looks at them.
inline void settle() {
#if defined(__AVX512F__)
    _mm_sfence();
#endif
}

// Where a result goes: rounded to one kind first, then to that of the tensor.
struct Target {
    int64_t out, kind, rounding, size;

    bool streamed() const { return size >= STREAMED; }

    // Whether entries can be written as pairs of bfloat16 with no step between.
    bool paired() const { return kind == BFLOAT16 && rounding == BFLOAT16; }

    // Rounds a block and writes it; returns whether every entry is finite.
    bool store(float* block, int64_t start, int64_t count) const {
        alignas(64) uint16_t shorts[BLOCK];
        if (rounding != FLOAT32 && rounding != kind) {
            narrow(block, rounding, count, shorts);
            widen(shorts, rounding, count, block);
        }
        if (kind == FLOAT32) {
            put(block, count * 4, streamed(), reinterpret_cast<float*>(out) + start);
            return finite_floats(block, count);
        }
        narrow(block, kind, count, shorts);
        return store_halves(shorts, start, count);
    }

    bool store_halves(const uint16_t* shorts, int64_t start, int64_t count) const {
        put(shorts, count * 2, streamed(), reinterpret_cast<uint16_t*>(out) + start);
        return finite_halves(shorts, kind, count);
    }
};

// A tensor as it is handed over.
struct Source {
    int64_t address, kind;
};

// Applies a formula to N tensors, entry by entry, in float32.
template <int64_t N, class Formula>
void over_floats(const float* const* tensors, int64_t count, const Formula& given, float* __restrict__ out) {
    const Formula formula = given;
    const float* x[N];
    for (int64_t n = 0; n < N; n++) x[n] = tensors[n];
#pragma GCC ivdep
    for (int64_t i = 0; i < count; i++) {
        float entries[N];
#pragma GCC unroll 16
        for (int64_t n = 0; n < N; n++) entries[n] = x[n][i];
        out[i] = formula(entries, nullptr);
    }
}

// The same for tensors of bfloat16 and fields of int16, in words of two entries: a shift and a mask widen them, a shift and
// an or pack the results. The formula sees a field's number times 65536, as the upper one of a pair lies in memory.
template <int64_t N, int64_t E, class Formula>
void over_pairs(const uint16_t* const* tensors, const int16_t* const* fields, int64_t count, const Formula& given,
                uint16_t* __restrict__ out) {
    const Formula formula = given;
    const Word* x[N];
    const Word* f[E + 1];
    for (int64_t n = 0; n < N; n++) x[n] = reinterpret_cast<const Word*>(tensors[n]);
    for (int64_t e = 0; e < E; e++) f[e] = reinterpret_cast<const Word*>(fields[e]);
    Word* __restrict__ words = reinterpret_cast<Word*>(out);
#pragma GCC ivdep
    for (int64_t i = 0; i < count / 2; i++) {
        float low[N], high[N];
        int32_t lower[E + 1], upper[E + 1];
#pragma GCC unroll 16
        for (int64_t n = 0; n < N; n++) low[n] = float_of(x[n][i] << 16), high[n] = float_of(x[n][i] & 0xFFFF0000u);
#pragma GCC unroll 16
        for (int64_t e = 0; e < E; e++) {
            lower[e] = static_cast<int32_t>(f[e][i] << 16);
            upper[e] = static_cast<int32_t>(f[e][i] & 0xFFFF0000u);
        }
        words[i] = (rounded(formula(low, lower)) >> 16) | (rounded(formula(high, upper)) & 0xFFFF0000u);
    }
    if (count % 2 != 0) {
        const int64_t last = count - 1;
        float entries[N];
        int32_t numbers[E + 1];
        for (int64_t n = 0; n < N; n++) entries[n] = float_of(static_cast<uint32_t>(tensors[n][last]) << 16);
        for (int64_t e = 0; e < E; e++) numbers[e] = static_cast<int32_t>(fields[e][last]) * 65536;
        out[last] = to_bfloat16(formula(entries, numbers));
    }
}

// Applies a formula to one block, of entries from `start` on; returns whether every result is finite.
template <int64_t N, class Formula>
bool block_of_floats(const Target& target, const Source* sources, int64_t start, int64_t count, const Formula& formula) {
    alignas(64) float result[BLOCK], buffers[N][BLOCK];
    const float* tensors[N];
    for (int64_t n = 0; n < N; n++)
        tensors[n] = block_of(sources[n].address, sources[n].kind, start, count, buffers[n]);
    over_floats<N>(tensors, count, formula, result);
    return target.store(result, start, count);
}

template <int64_t N, int64_t E, class Formula>
bool block_of_pairs(const Target& target, const Source* sources, const int16_t* const* fields, int64_t start,
                    int64_t count, const Formula& formula) {
    alignas(64) uint16_t result[BLOCK];
    const uint16_t* tensors[N];
    for (int64_t n = 0; n < N; n++) tensors[n] = reinterpret_cast<const uint16_t*>(sources[n].address) + start;
    over_pairs<N, E>(tensors, fields, count, formula, result);
    return target.store_halves(result, start, count);
}

// Whether all tensors can be read in pairs and the result be written so.
inline bool all_paired(const Target& target, const Source* sources, int64_t count) {
    return target.paired() &&
           std::all_of(sources, sources + count, [](const Source& source) { return source.kind == BFLOAT16; });
}

// Applies a formula to whole tensors, N with the base.
template <int64_t N, class Formula>
bool over_tensor(const Target& target, const Source* sources, const Formula& formula) {
    const bool paired = N <= MOST_PAIRED + 1 && all_paired(target, sources, N);
    bool finite = true;
    for (int64_t start = 0; start < target.size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, target.size - start);
        if constexpr (N <= MOST_PAIRED + 1) {
            if (paired) {
                finite &= block_of_pairs<N, 0>(target, sources, nullptr, start, count, formula);
                continue;
            }
        }
        finite &= block_of_floats<N>(target, sources, start, count, formula);
    }
    return finite;
}

}  // namespace
