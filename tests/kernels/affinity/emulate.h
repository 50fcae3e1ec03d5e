// Runs CUDA kernels on the host, to test their arithmetic where there is no GPU.
//
// One fiber per CUDA thread, one block after the other. A fiber runs until it waits (__syncthreads, or a
// collective of its warp), then the next one of its warp does, and the next warp when this one waits for the
// block: what a kernel does between two barriers happens in the order of the threads, or in the reverse order,
// and a kernel without a race gives the same either way. A barrier that only some threads reach ends the run.
#pragma once
#define EMULATED

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __restrict__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define DYNAMIC_SHARED(name) unsigned char* name = emulated.shared

struct Place {
    int x, y, z;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
template <typename W> W __ldcs(const W* from) {
    if ((size_t)from % sizeof(W)) abort();  // a GPU would stop here
    return *from;
}
template <typename W> void __stcs(W* to, W value) {
    if ((size_t)to % sizeof(W)) abort();
    *to = value;
}
static float half_to_float(unsigned short bits) {
    _Float16 h;
    memcpy(&h, &bits, 2);
    return (float)h;
}

enum State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
    ucontext_t context;  // for its start; from then on jumps, which leave the signal mask alone and are quick
    jmp_buf paused;
    bool started;
    std::vector<char> stack;
    State state;
    Place index;
    double slot[2];  // what it hands to its warp, in turns
    int turn;
};

static struct {
    jmp_buf scheduler;
    std::vector<Fiber> fibers;
    int current;
    unsigned char* shared;
    void (*body)(void*);
    void* arguments;
} emulated;

static void wait(State state) {
    Fiber& f = emulated.fibers[emulated.current];
    f.state = state;
    if (!_setjmp(f.paused)) _longjmp(emulated.scheduler, 1);
}
static void __syncthreads() { wait(AT_BLOCK); }
static void __syncwarp(unsigned) { wait(AT_WARP); }

// Every lane hands in a value and sees all 32.
struct Lanes {
    int turn, warp;
    double operator[](int lane) const { return emulated.fibers[warp * 32 + lane].slot[turn]; }
};
static Lanes exchange(double value) {
    Fiber& f = emulated.fibers[emulated.current];
    const Lanes lanes = {f.turn, emulated.current / 32};
    f.slot[f.turn] = value;
    f.turn ^= 1;
    wait(AT_WARP);
    return lanes;
}
template <typename T> T __shfl_down_sync(unsigned, T value, int step) {
    const int lane = emulated.current % 32;
    const Lanes lanes = exchange((double)value);
    return lane + step < 32 ? (T)lanes[lane + step] : value;
}
template <typename T> T __shfl_sync(unsigned, T value, int from) { return (T)exchange((double)value)[from]; }
static unsigned __ballot_sync(unsigned, bool value) {
    const Lanes lanes = exchange(value);
    unsigned bits = 0;
    for (int lane = 0; lane < 32; lane++) bits |= (lanes[lane] != 0 ? 1u : 0u) << lane;
    return bits;
}
template <typename W> W __ldg(const W* from) {
    if ((size_t)from % sizeof(W)) abort();
    return *from;
}
static unsigned short float_to_half(float v) {
    const _Float16 h = (_Float16)v;
    unsigned short bits;
    memcpy(&bits, &h, 2);
    return bits;
}
static unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
    const unsigned long long bytes = (unsigned long long)b << 32 | a;
    unsigned v = 0;
    for (int k = 0; k < 4; k++) v |= (unsigned)(bytes >> 8 * (select >> 4 * k & 7) & 255) << 8 * k;
    return v;
}
static unsigned __dp2a_lo(unsigned a, unsigned b, unsigned c) {
    return c + (a & 0xffff) * (b & 255) + (a >> 16) * (b >> 8 & 255);
}
static unsigned __dp2a_hi(unsigned a, unsigned b, unsigned c) { return __dp2a_lo(a, b >> 16, c); }
static float __fmul_rn(float a, float b) { return a * b; }  // built without fused operations
static int __clz(unsigned v) { return v ? __builtin_clz(v) : 32; }
static int __popc(unsigned v) { return __builtin_popcount(v); }
static int __ffs(unsigned v) { return __builtin_ffs((int)v); }
static unsigned atomicOr(unsigned* to, unsigned v) { return std::exchange(*to, *to | v); }
static int atomicAdd(int* to, int v) { return std::exchange(*to, *to + v); }
static int atomicMax(int* to, int v) { return std::exchange(*to, std::max(*to, v)); }

static void enter() {
    emulated.body(emulated.arguments);
    wait(DONE);
}

static void resume(int t) {
    Fiber& f = emulated.fibers[t];
    emulated.current = t;
    threadIdx = f.index;
    if (_setjmp(emulated.scheduler)) return;
    if (f.started) _longjmp(f.paused, 1);
    f.started = true;
    setcontext(&f.context);
}

// One block; false where it would hang.
static bool run_block(bool backwards) {
    std::vector<Fiber>& fibers = emulated.fibers;
    const int count = (int)fibers.size();
    for (int t = 0; t < count; t++) {
        Fiber& f = fibers[t];
        f.state = READY, f.turn = 0, f.started = false;
        f.index = {t % blockDim.x, t / blockDim.x, 0};
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
    }
    while (true) {
        // a warp goes on alone until it waits for the block: what it needs of the others has to be behind a barrier
        for (int w = 0; w < count; w += 32) {
            const int first = backwards ? (count - 1 - w) / 32 * 32 : w, end = std::min(first + 32, count);
            bool together = true;
            while (together) {
                for (int n = first; n < end; n++) {
                    const int t = backwards ? end - 1 - (n - first) : n;
                    if (fibers[t].state == READY) resume(t);
                }
                for (int t = first; t < end; t++) together &= fibers[t].state == AT_WARP;
                for (int t = first; t < end && together; t++) fibers[t].state = READY;
            }
        }
        bool at_block = true, done = true;
        for (const Fiber& f : fibers) at_block &= f.state == AT_BLOCK, done &= f.state == DONE;
        if (done) return true;
        if (!at_block) return false;
        for (Fiber& f : fibers) f.state = READY;
    }
}

template <typename... A> struct Call {
    void (*kernel)(A...);
    void** arguments;
    template <size_t... I> void expand(std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
    }
    static void body(void* call) { static_cast<Call*>(call)->expand(std::index_sequence_for<A...>()); }
};

// `arguments`: a pointer to each of the kernel's arguments. 0, or 1 where threads wait for each other in vain.
template <typename... A>
static int launch(
    void (*kernel)(A...), int blocks, int x, int y, int shared_bytes, int backwards, void** arguments
) {
    Call<A...> call = {kernel, arguments};
    emulated.body = &Call<A...>::body;
    emulated.arguments = &call;
    emulated.fibers.resize(x * y);
    for (Fiber& f : emulated.fibers) f.stack.resize(1 << 15);
    blockDim = {x, y, 1}, gridDim = {blocks, 1, 1};
    emulated.shared = static_cast<unsigned char*>(aligned_alloc(16, (shared_bytes + 31) / 16 * 16));
    for (int b = 0; b < blocks; b++) {
        blockIdx = {backwards ? blocks - 1 - b : b, 0, 0};
        memset(emulated.shared, 0xa5, shared_bytes);  // nothing may count on zeros
        if (!run_block(backwards)) {
            free(emulated.shared);
            return 1;
        }
    }
    free(emulated.shared);
    return 0;
}

#define EMULATE(name)                                                                                     \
    extern "C" int emulate_##name(int blocks, int x, int y, int shared, int backwards, void** arguments) { \
        return launch(name, blocks, x, y, shared, backwards, arguments);                                  \
    }
