// Exemplars chosen one by one on a GPU: what the candidates gain, kept up to date. Comes after types.cu, whose
// types it uses, in one translation unit.

// gain (n) float64 is what each candidate k would better the points by. For each of the `count` points in
// `rows`, whose exemplar's similarity goes from old(i) to now(i), its share in every gain but its own is
// changed. A thread adds up one candidate's in the order of `rows`, so that the sums are those of the CPU.
template <typename T, typename S> __device__ void exchange_rows(
    const S* s, const Index* rows, const T* old, const T* now, double* gain, int count, int n
) {
    const Index k = blockIdx.x * (Index)blockDim.x + threadIdx.x;
    if (k >= n) return;
    double sum = gain[k];
    for (int j = 0; j < count; j++) {
        const Index i = rows[j];
        if (i == k) continue;
        const T v = widen(s[i * n + k]);
        sum += larger(v - now[i], T(0)) - larger(v - old[i], T(0));
    }
    gain[k] = sum;
}

#define EXCHANGE(name, T, S)                                                                                 \
    extern "C" __global__ void exchange_##name(                                                              \
        const S* s, const Index* rows, const T* old, const T* now, double* gain, int count, int n            \
    ) {                                                                                                      \
        exchange_rows<T, S>(s, rows, old, now, gain, count, n);                                              \
    }

EXCHANGE(float, float, float)
EXCHANGE(double, double, double)
EXCHANGE(half, float, Half)
