// Formulas over 32 entries at a time, in registers from the parents to the result, where the processor has AVX-512.
//
// Each step rounds as the portable loops do, so that both give the same bits.

#pragma once

#include "storage.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define MERGE_LANES 1

// The compiler would rather call these than hold their operands in registers.
#define MERGE_INLINE __attribute__((always_inline)) inline

namespace {

// Entries of one step as float32. Of bfloat16, `low` has those at even places and `high` those at odd ones, as a shift and a
// mask leave them; of float32 they are the first and the second half.
struct Pair {
    __m512 low, high;
};

struct Masks {
    __mmask16 low, high;
};

inline __m512 as_floats(__m512i words) { return _mm512_castsi512_ps(words); }
inline __m512i as_words(__m512 floats) { return _mm512_castps_si512(floats); }

// Whether tensors can be merged in lanes: all parents of one kind, and nothing in float16.
inline bool in_lanes(const Target& target, const Source* sources, int64_t count) {
    const int64_t kind = sources[0].kind;
    return kind <= BFLOAT16 && target.kind <= BFLOAT16 && target.rounding <= BFLOAT16 &&
           std::all_of(sources, sources + count, [&](const Source& source) { return source.kind == kind; });
}

template <bool HALVES>
MERGE_INLINE Pair read(int64_t address, int64_t i) {
    if (!HALVES) {
        const float* floats = reinterpret_cast<const float*>(address) + i;
        return {_mm512_loadu_ps(floats), _mm512_loadu_ps(floats + 16)};
    }
    const __m512i words = _mm512_loadu_si512(reinterpret_cast<const uint16_t*>(address) + i);
    return {as_floats(_mm512_slli_epi32(words, 16)),
            as_floats(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u))))};
}

// Reads numbers of 16 bits in the order that `read` leaves entries in, each times 65536.
template <bool HALVES>
MERGE_INLINE void numbers_of(int64_t address, int64_t i, __m512i& low, __m512i& high) {
    const int16_t* numbers = reinterpret_cast<const int16_t*>(address) + i;
    if (HALVES) {
        const __m512i words = _mm512_loadu_si512(numbers);
        low = _mm512_slli_epi32(words, 16);
        high = _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u)));
        return;
    }
    low = _mm512_slli_epi32(_mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers))), 16);
    high = _mm512_slli_epi32(_mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers + 16))), 16);
}

// Writes results of a range, and remembers whether all of them are right and finite.
template <bool HALVES>
class Sink {
public:
    explicit Sink(const Target& target)
        : halves_(reinterpret_cast<uint16_t*>(target.out)), floats_(reinterpret_cast<float*>(target.out)),
          wide_(target.kind == FLOAT32), rounds_(target.kind == BFLOAT16 || target.rounding == BFLOAT16),
          streamed_(target.streamed() && target.out % 64 == 0) {}

    MERGE_INLINE void put(int64_t i, const Pair& result) {
        if (rounds_) {
            const __m512i words = rounded_words(result);
            if (!wide_) return line(halves_ + i, words);
            const __m256i first = _mm512_castsi512_si256(words), second = _mm512_extracti64x4_epi64(words, 1);
            line(floats_ + i, _mm512_slli_epi32(_mm512_cvtepu16_epi32(first), 16));
            return line(floats_ + i + 16, _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16));
        }
        const __m512 zero = _mm512_setzero_ps();  // times zero, all but what is not finite is zero
        spoilt_ = _mm512_fmadd_ps(result.low, zero, _mm512_fmadd_ps(result.high, zero, spoilt_));
        const Pair sorted = HALVES ? in_order(result) : result;
        line(floats_ + i, as_words(sorted.low));
        line(floats_ + i + 16, as_words(sorted.high));
    }

    // Whether all results are right and finite; if not, the portable loops have to tell.
    bool sure() const {
        const bool finite = _mm512_cmplt_epu16_mask(largest_, _mm512_set1_epi16(-0x100)) == 0xFFFFFFFFu;
        return finite && denormal_ == 0 && _mm512_cmp_ps_mask(spoilt_, spoilt_, _CMP_UNORD_Q) == 0;
    }

private:
    uint16_t* halves_;
    float* floats_;
    bool wide_, rounds_, streamed_;
    __m512 spoilt_ = _mm512_setzero_ps();
    __m512i largest_ = _mm512_setzero_si512();
    __mmask16 denormal_ = 0;

    MERGE_INLINE void line(void* place, __m512i words) const {
        if (streamed_) _mm512_stream_si512(static_cast<__m512i*>(place), words);
        else _mm512_storeu_si512(place, words);
    }

    MERGE_INLINE static Pair in_order(const Pair& result) {
        const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        const __m512i second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        return {_mm512_permutex2var_ps(result.low, first, result.high),
                _mm512_permutex2var_ps(result.low, second, result.high)};
    }

    // Returns results as bfloat16 in the order of memory. The processor's own rounding takes what is below the smallest
    // normal number for zero, which is noted; twice a word is largest where it is not finite.
    MERGE_INLINE __m512i rounded_words(const Pair& result) {
#if defined(__AVX512BF16__)
        constexpr int DENORMAL = 0x20;
        const __m512i words = ordered((__m512i)_mm512_cvtne2ps_pbh(result.high, result.low));
        denormal_ = _kor_mask16(denormal_, _mm512_fpclass_ps_mask(result.low, DENORMAL));
        denormal_ = _kor_mask16(denormal_, _mm512_fpclass_ps_mask(result.high, DENORMAL));
#else
        const __m512i words = rounded_by_words(result);
#endif
        largest_ = _mm512_max_epu16(largest_, _mm512_add_epi16(words, words));
        return words;
    }

    MERGE_INLINE static __m512i rounded_by_words(const Pair& result) {
        const __m512i low = rounded_up(as_words(result.low)), high = rounded_up(as_words(result.high));
        const __m512i first = _mm512_zextsi256_si512(_mm512_cvtepi32_epi16(_mm512_srli_epi32(low, 16)));
        return ordered(_mm512_inserti64x4(first, _mm512_cvtepi32_epi16(_mm512_srli_epi32(high, 16)), 1));
    }

    static __m512i rounded_up(__m512i words) {
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(words, 16), _mm512_set1_epi32(1));
        return _mm512_add_epi32(words, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    }

    MERGE_INLINE static __m512i ordered(__m512i words) {
        if (!HALVES) return words;
        const __m512i places = _mm512_setr_epi32(
            0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007, 0x180008, 0x190009, 0x1A000A,
            0x1B000B, 0x1C000C, 0x1D000D, 0x1E000E, 0x1F000F);
        return _mm512_permutexvar_epi16(places, words);
    }
};

// Applies a formula to N tensors from one place to another, both multiples of STEP; returns whether all is sure to be right
// and finite: a check for each step, to mend it there, costs more than to do the whole again once in a million tensors.
template <bool HALVES, int64_t N, class Formula>
bool over_lanes(const Target& target, const Source* sources, int64_t from, int64_t to, const Formula& given) {
    const Formula formula = given;
    Sink<HALVES> sink(target);
    int64_t addresses[N];
    for (int64_t n = 0; n < N; n++) addresses[n] = sources[n].address;
    for (int64_t i = from; i < to; i += STEP) {
        Pair x[N];
#pragma GCC unroll 8
        for (int64_t n = 0; n < N; n++) x[n] = read<HALVES>(addresses[n], i);
        sink.put(i, formula(x, i));
    }
    return sink.sure();
}

}  // namespace

#endif
