// Methods that look at how far each parent moved an entry: RAM, NearSwap, SCE and Arcee Fusion.

#include "storage.h"

namespace {

// Entries of a score above a threshold; of equal ones those from first up to last.
struct Cut {
    int64_t first, last;
    float threshold;

    int64_t end_of_block(int64_t start, int64_t size) const {
        int64_t end = std::min(start / BLOCK * BLOCK + BLOCK, size);
        for (int64_t edge : {first, last})
            if (start < edge) end = std::min(end, edge);
        return end;
    }

    float lowest(int64_t start) const {
        return first <= start && start < last ? threshold : std::nextafterf(threshold, INFINITY);
    }
};

// What only one parent changed, times its factor, and the mean of what several did.
template <int64_t M>
struct Ram {
    float epsilon, factor[M];

    float operator()(const float* x, const int32_t*) const {
        float alone = 0.0f, several = 0.0f, count = 0.0f;
#pragma GCC unroll 8
        for (int64_t m = 0; m < M; m++) {
            const float change = x[m + 1] - x[0];
            const bool active = std::fabs(change) > epsilon;
            several += active ? change : 0.0f;
            alone += active ? change * factor[m] : 0.0f;
            count += active ? 1.0f : 0.0f;
        }
        return x[0] + (count > 1.0f ? several / std::max(count, 1.0f) : alone);
    }
};

struct NearSwap {
    float t;

    float operator()(const float* x, const int32_t*) const {
        const float distance = std::max(std::fabs(x[0] - x[1]), 1e-6f);
        const float weight = std::min(std::max(1.0f / distance * t, 0.0f), 1.0f);
        return weight * x[1] + (1.0f - weight) * x[0];
    }
};

// The last of the entries, where there is one more than parents and base, is the score that decides what takes part.
template <int64_t M, bool SCORED>
struct Sce {
    float lowest, share[M];

    float operator()(const float* x, const int32_t*) const {
        float changes[M], sum = 0.0f, mix = 0.0f, weight = 0.0f;
#pragma GCC unroll 8
        for (int64_t m = 0; m < M; m++) {
            const float change = x[m + 1] - x[0];
            changes[m] = !SCORED || x[M + 1] >= lowest ? change : 0.0f;
            sum += changes[m];
        }
        const float sign = sum >= 0.0f ? 1.0f : -1.0f;
#pragma GCC unroll 8
        for (int64_t m = 0; m < M; m++) {
            const bool agrees = changes[m] * sign > 0.0f;
            mix += agrees ? changes[m] * share[m] : 0.0f;
            weight += agrees ? share[m] : 0.0f;
        }
        return x[0] + mix / std::max(weight, 1e-6f);
    }
};

struct Fusion {
    float divergence, threshold;

    float operator()(const float* x, const int32_t*) const {
        const float change = x[1] - x[0];
        return x[0] + change * (std::fabs(change) * divergence >= threshold ? 1.0f : 0.0f);
    }
};

template <int64_t M>
bool ram_of(const Target& target, const Source* sources, float epsilon, const float* factors) {
    Ram<M> formula{epsilon, {}};
    std::copy(factors, factors + M, formula.factor);
    return over_tensor<M + 1>(target, sources, formula);
}

template <int64_t M, bool SCORED>
bool sce_of(const Target& target, const Source* sources, const Cut& cut, const float* shares) {
    Sce<M, SCORED> formula{0.0f, {}};
    std::copy(shares, shares + M, formula.share);
    bool finite = true;
    for (int64_t start = 0, end; start < target.size; start = end) {
        end = cut.end_of_block(start, target.size);
        formula.lowest = cut.lowest(start);
        finite &= block_of_floats<M + 1 + SCORED>(target, sources, start, end - start, formula);
    }
    return finite;
}

template <int64_t... LESS_ONE>
auto ram_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr decltype(&ram_of<1>) variants[] = {ram_of<LESS_ONE + 1>...};
    return variants[count - 1];
}

template <bool SCORED, int64_t... LESS_ONE>
auto sce_for(int64_t count, std::integer_sequence<int64_t, LESS_ONE...>) {
    constexpr decltype(&sce_of<1, SCORED>) variants[] = {sce_of<LESS_ONE + 1, SCORED>...};
    return variants[count - 1];
}

// Reads the changes of all parents in one block.
void changes_of(const Source* sources, int64_t count, int64_t start, int64_t entries, float (*changes)[BLOCK]) {
    alignas(64) float root_buffer[BLOCK], buffer[BLOCK];
    const float* __restrict__ root = block_of(sources[0].address, sources[0].kind, start, entries, root_buffer);
    for (int64_t m = 0; m < count; m++) {
        const float* x = block_of(sources[m + 1].address, sources[m + 1].kind, start, entries, buffer);
        float* __restrict__ into = changes[m];
        for (int64_t i = 0; i < entries; i++) into[i] = x[i] - root[i];
    }
}

}  // namespace

extern "C" {

// In all of these the base is the first of the sources, and `count` the number of parents, 1 to MOST. What writes a result
// returns 1 if every entry is finite.

int32_t ram(const Target* target, int64_t count, const Source* sources, float epsilon, const float* factors) {
    const auto run = ram_for(count, std::make_integer_sequence<int64_t, MOST>());
    const bool finite = run(*target, sources, epsilon, factors);
    settle();
    return finite;
}

// Counts the entries that each parent changed with others, and, after these, those that it changed alone.
void overlaps(int64_t size, int64_t count, const Source* sources, float epsilon, int64_t* counts) {
    alignas(64) float changes[MOST][BLOCK];
    alignas(64) int32_t several[BLOCK];
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t entries = std::min(BLOCK, size - start);
        changes_of(sources, count, start, entries, changes);
        std::fill(several, several + entries, 0);
        for (int64_t m = 0; m < count; m++)
            for (int64_t i = 0; i < entries; i++) several[i] += std::fabs(changes[m][i]) > epsilon ? 1 : 0;
        for (int64_t m = 0; m < count; m++) {
            int32_t shared = 0, unique = 0;
            for (int64_t i = 0; i < entries; i++) {
                const int32_t active = std::fabs(changes[m][i]) > epsilon ? 1 : 0;
                shared += several[i] > 1 ? active : 0;
                unique += several[i] == 1 ? active : 0;
            }
            counts[m] += shared, counts[count + m] += unique;
        }
    }
}

int32_t nearswap(const Target* target, const Source* sources, float t) {
    const bool finite = over_tensor<2>(*target, sources, NearSwap{t});
    settle();
    return finite;
}

// Without a cut all entries take part; with one, the source after the last parent is the score in float32.
int32_t sce(const Target* target, int64_t count, const Source* sources, const Cut* cut, const float* shares) {
    using Counts = std::make_integer_sequence<int64_t, MOST>;
    const auto run = cut == nullptr ? sce_for<false>(count, Counts()) : sce_for<true>(count, Counts());
    const bool finite = run(*target, sources, cut == nullptr ? Cut{0, 0, 0.0f} : *cut, shares);
    settle();
    return finite;
}

// Writes each entry's variance over the parents: Welford's recurrence in float64, as the whole-tensor operation has it.
void variances(int64_t size, int64_t count, const Source* sources, float* out) {
    alignas(64) float changes[MOST][BLOCK];
    alignas(64) double mean[BLOCK], squares[BLOCK];
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t entries = std::min(BLOCK, size - start);
        changes_of(sources, count, start, entries, changes);
        std::fill(mean, mean + entries, 0.0);
        std::fill(squares, squares + entries, 0.0);
        for (int64_t m = 0; m < count; m++)
            for (int64_t i = 0; i < entries; i++) {
                const double entry = changes[m][i], step = entry - mean[i];
                mean[i] += step / static_cast<double>(m + 1);
                squares[i] += step * (entry - mean[i]);
            }
        for (int64_t i = 0; i < entries; i++) out[start + i] = static_cast<float>(squares[i] / static_cast<double>(count));
    }
}

// Adds the squares of each parent's changes where the score takes part to its BLOCK lanes: entry i to lane i mod BLOCK.
void energies(int64_t size, int64_t count, const Source* sources, const Cut* cut, double* lanes) {
    alignas(64) float changes[MOST][BLOCK];
    const float* scores = reinterpret_cast<const float*>(sources[count + 1].address);
    for (int64_t start = 0, end; start < size; start = end) {
        end = cut->end_of_block(start, size);
        changes_of(sources, count, start, end - start, changes);
        const float lowest = cut->lowest(start);
        for (int64_t m = 0; m < count; m++) {
            double* __restrict__ into = lanes + m * BLOCK + start % BLOCK;
            for (int64_t i = 0; i < end - start; i++) {
                const double change = scores[start + i] >= lowest ? changes[m][i] : 0.0f;
                into[i] += change * change;
            }
        }
    }
}

// Takes the parent's entries where change times divergence of the row reaches the threshold.
int32_t fusion(const Target* target, const Source* sources, const float* divergences, int64_t row, float threshold) {
    const bool paired = all_paired(*target, sources, 2);
    bool finite = true;
    for (int64_t start = 0, end; start < target->size; start = end) {
        const int64_t line = start / row;
        end = std::min({start + BLOCK, (line + 1) * row, target->size});
        const Fusion formula{divergences[line], threshold};
        finite &= paired ? block_of_pairs<2, 0>(*target, sources, nullptr, start, end - start, formula)
                         : block_of_floats<2>(*target, sources, start, end - start, formula);
    }
    settle();
    return finite;
}

}  // extern "C"
