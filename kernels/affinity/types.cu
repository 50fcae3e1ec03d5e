// Types, loads and stores that the kernels of this folder share: the first of their files, which are compiled
// as one (_gpu.py).

#ifndef EMULATED
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

typedef long long Index;
const unsigned ALL = 0xffffffffu;
const int MAX_WARPS = 32;
const int IN_FLIGHT = 2;  // vectors of S and of A that a thread asks for before it uses the first

struct Half {
    unsigned short bits;
};

__device__ inline float widen(float v) { return v; }
__device__ inline double widen(double v) { return v; }
__device__ inline float widen(Half v) {
#ifdef EMULATED
    return half_to_float(v.bits);
#else
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
    return f;
#endif
}

__device__ inline float larger(float a, float b) { return fmaxf(a, b); }
__device__ inline double larger(double a, double b) { return fmax(a, b); }
__device__ inline float smaller(float a, float b) { return fminf(a, b); }
__device__ inline double smaller(double a, double b) { return fmin(a, b); }

template <typename T> struct Limits;
template <> struct Limits<float> {
    static __device__ float lowest() { return -3.402823466e38f; }
    static __device__ double least() { return 1.17549435e-38; }
    static __device__ double rounding() { return 1.1920929e-7; }
};
template <> struct Limits<double> {
    static __device__ double lowest() { return -1.7976931348623157e308; }
    static __device__ double least() { return 2.2250738585072014e-308; }
    static __device__ double rounding() { return 2.220446049250313e-16; }
};

// V elements that are loaded and stored at once: 16 bytes (8 of half).
template <typename E, int V> struct __align__(sizeof(E) * V) Pack {
    E e[V];
};
template <int BYTES> struct Word;
template <> struct Word<16> {
    typedef uint4 Type;
};
template <> struct Word<8> {
    typedef uint2 Type;
};

template <typename E, int V> __device__ inline Pack<E, V> load(const E* from) {
    return *reinterpret_cast<const Pack<E, V>*>(from);
}
// What is not used again soon gives way first in the L2.
template <typename E, int V> __device__ inline Pack<E, V> load_once(const E* from) {
    typedef typename Word<sizeof(Pack<E, V>)>::Type W;
    union {
        W word;
        Pack<E, V> pack;
    } both;
    both.word = __ldcs(reinterpret_cast<const W*>(from));
    return both.pack;
}
template <typename E, int V> __device__ inline void store_once(E* to, const Pack<E, V>& value) {
    typedef typename Word<sizeof(Pack<E, V>)>::Type W;
    union {
        W word;
        Pack<E, V> pack;
    } both;
    both.pack = value;
    __stcs(reinterpret_cast<W*>(to), both.word);
}

// The next row's beginning on its way into the L2 while this row is being added up.
__device__ inline void prefetch(const void* from, int bytes) {
#if !defined(EMULATED) && __CUDA_ARCH__ >= 900
    const int whole = bytes & ~15;
    if (whole > 0)
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(whole) : "memory");
#endif
}
