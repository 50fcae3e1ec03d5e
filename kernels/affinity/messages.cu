// What follows a pass of affinity.cu: the column sums, and the messages written out.

// After a pass: column sums over the blocks, in float64 and always in the same order; partial is left zero.
// own_availability (n) = a(k,k); flags (n) = a(k,k) + r(k,k) > 0. Blocks of (32, 8) threads.
#define SUMS(name, T)                                                                                        \
    extern "C" __global__ void sums_##name(                                                                  \
        T* partial, const T* own, T* others, T* column, T* own_availability, bool* flags, int blocks, int n, \
        int stride, T damping                                                                                \
    ) {                                                                                                      \
        __shared__ double parts[8][32];                                                                      \
        const int k = blockIdx.x * 32 + threadIdx.x;                                                         \
        double total = 0;                                                                                    \
        if (k < n)                                                                                           \
            for (int b = threadIdx.y; b < blocks; b += 8) {                                                  \
                total += partial[(Index)b * n + k];                                                          \
                partial[(Index)b * n + k] = 0;                                                               \
            }                                                                                                \
        parts[threadIdx.y][threadIdx.x] = total;                                                             \
        __syncthreads();                                                                                     \
        if (threadIdx.y != 0 || k >= n) return;                                                              \
        total = 0;                                                                                           \
        for (int y = 0; y < 8; y++) total += parts[y][threadIdx.x];                                          \
        const T sum = (T)total;                                                                              \
        const T with_own = (T)(total + own[k]);                                                              \
        const int copies = 16 / sizeof(T);                                                                   \
        for (int h = 0; h < copies && h <= k; h++) column[(Index)h * stride + k - h] = with_own;             \
        others[k] = sum;                                                                                     \
        const T available = damping * own_availability[k] + (T(1) - damping) * sum;                          \
        own_availability[k] = available;                                                                     \
        flags[k] = available + own[k] > T(0);                                                                \
    }

SUMS(float, float)
SUMS(double, double)

// The messages written out: the availabilities as the next pass would begin, and the responsibilities into
// r (n, n), which may be `given`. Shared memory: 2 * width of T.
template <typename T, typename S> __device__ void write_rows(
    const S* s, T* a, T* r, const T* given, const T* column, const T* others, const T* own, const double* shift,
    const int* where, const T* extra, const int* used, int n, int width, T floor, T keep, T scale, T weight,
    unsigned char* memory
) {
    T* fixed_a = reinterpret_cast<T*>(memory);
    T* fixed_r = fixed_a + width;
    const T fresh = T(1) - keep;
    for (Index i = blockIdx.x; i < n; i += gridDim.x) {
        const Index base = i * n;
        const T before = (T)shift[i];
        const int count = used[i];
        for (int e = threadIdx.x; e < count; e += blockDim.x) {
            const Index k = where[i * width + e];
            T v = scale * larger(widen(s[base + k]), floor) - before + extra[i * width + e];
            if (given) v += weight * given[base + k];
            fixed_r[e] = v;
            fixed_a[e] = keep * a[base + k] + fresh * smaller(column[k] - larger(v, T(0)), T(0));
        }
        __syncthreads();
        for (int k = threadIdx.x; k < n; k += blockDim.x) {
            T v = scale * larger(widen(s[base + k]), floor) - before;
            if (given) v += weight * given[base + k];
            const T add = k == i ? others[i] : smaller(column[k] - larger(v, T(0)), T(0));
            a[base + k] = keep * a[base + k] + fresh * add;
            r[base + k] = k == i ? own[i] : v;
        }
        __syncthreads();
        for (int e = threadIdx.x; e < count; e += blockDim.x) {
            const Index k = where[i * width + e];
            r[base + k] = fixed_r[e];
            a[base + k] = fixed_a[e];
        }
        __syncthreads();
    }
}

#define WRITE(name, T, S)                                                                                    \
    extern "C" __global__ void write_##name(                                                                 \
        const S* s, T* a, T* r, const T* given, const T* column, const T* others, const T* own,              \
        const double* shift, const int* where, const T* extra, const int* used, int n, int width, T floor,   \
        T keep, T scale, T weight                                                                            \
    ) {                                                                                                      \
        DYNAMIC_SHARED(memory);                                                                              \
        write_rows<T, S>(                                                                                    \
            s, a, r, given, column, others, own, shift, where, extra, used, n, width, floor, keep, scale,    \
            weight, memory                                                                                   \
        );                                                                                                   \
    }

WRITE(float, float, float)
WRITE(double, double, double)
WRITE(half, float, Half)
