// What is asked of whole tensors: scalar products, sums by random numbers, and whether all entries are finite.

#include "storage.h"

extern "C" {

// Returns 1 if every entry of a tensor is finite.
int32_t all_finite(int64_t size, const Source* tensor) {
    if (tensor->kind == FLOAT32) return finite_floats(reinterpret_cast<const float*>(tensor->address), size);
    return finite_halves(reinterpret_cast<const uint16_t*>(tensor->address), tensor->kind, size);
}

// Adds the products of the entries of two tensors, less those of a base unless there is none, to `lanes`: entry i to lane
// i mod BLOCK.
void products(int64_t size, const Source* first, const Source* second, const Source* base, double* lanes) {
    alignas(64) float a_buffer[BLOCK], b_buffer[BLOCK], root_buffer[BLOCK], a_less[BLOCK], b_less[BLOCK];
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        const float* a = block_of(first->address, first->kind, start, count, a_buffer);
        const float* b = block_of(second->address, second->kind, start, count, b_buffer);
        if (base != nullptr) {
            const float* root = block_of(base->address, base->kind, start, count, root_buffer);
            for (int64_t i = 0; i < count; i++) a_less[i] = a[i] - root[i], b_less[i] = b[i] - root[i];
            a = a_less, b = b_less;
        }
        for (int64_t i = 0; i < count; i++) lanes[i] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
}

// Adds up the magnitudes of entries, less those of a base, whose number is at most -32768, -32767 and so on, into sums of
// zero. In the order of memory and then of the numbers, so that the same steps elsewhere give the same bits.
void sums_by_number(int64_t size, const Source* tensor, const Source* base, const int16_t* field, double* sums) {
    alignas(64) float buffer[BLOCK], root_buffer[BLOCK], magnitudes[BLOCK];
    double* const middle = sums + 32768;
    for (int64_t start = 0; start < size; start += BLOCK) {
        const int64_t count = std::min(BLOCK, size - start);
        const float* x = block_of(tensor->address, tensor->kind, start, count, buffer);
        const float* root = block_of(base->address, base->kind, start, count, root_buffer);
        for (int64_t i = 0; i < count; i++) magnitudes[i] = std::fabs(x[i] - root[i]);
        for (int64_t i = 0; i < count; i++) middle[field[start + i]] += static_cast<double>(magnitudes[i]);
    }
    for (int64_t number = 1; number < 65536; number++) sums[number] += sums[number - 1];
}

}  // extern "C"
