// Types and small steps that the kernels of pictures share: the first of their files, which are compiled as one
// (image_cuda.py says what each kernel moves and what bounds it).
//
// Frames are uint8 (N, H, W, 3). Needs no header: nvrtc compiles it as it stands. With EMULATED a test compiles
// it for the host (tests/kernels/affinity/emulate.h).

typedef unsigned char Byte;
typedef long long Index;
const unsigned ALL = 0xffffffffu;
const int ROWS = 8;  // of the output that a block of (32, ROWS) threads makes: one per warp

struct Half {
    unsigned short bits;
};
__device__ inline void put(float* to, float v) { *to = v; }
__device__ inline void put(Half* to, float v) {
#ifdef EMULATED
    to->bits = float_to_half(v);
#else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(v));
#endif
}

__device__ inline unsigned clip8(int v) { return (unsigned)(v < 0 ? 0 : v > 255 ? 255 : v); }

// Bytes of a warp's row, kept in words, to where they belong: words where these fall on words.
__device__ inline void copy_out(Byte* to, const unsigned* words, int count) {
    __syncwarp(ALL);
    if (((size_t)to | (size_t)count) % 4 == 0) {
        for (int k = threadIdx.x; k < count / 4; k += 32) reinterpret_cast<unsigned*>(to)[k] = words[k];
    } else {
        const Byte* bytes = reinterpret_cast<const Byte*>(words);
        for (int k = threadIdx.x; k < count; k += 32) to[k] = bytes[k];
    }
}
