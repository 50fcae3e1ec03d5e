// Resizing, normalizing and judging pictures: kernels of image_cuda.py. Comes after pictures.cu.
//
// Resizing is the triangle filter of kernels/image.py, rows first. A warp makes COLUMNS pixels of one row: its
// lanes add up the source rows over a stretch of columns, side by side, into shared memory, and then mix a pixel
// each out of them. Warps wait for no other. What the next row needs again is in the L1.

const float PAD = 114.0f;  // grey around a picture, as kernels/placement.py has it
const int COLUMNS = 32;    // of the output that a warp makes, a lane each
const int HELD = 1024;     // floats of a row that a warp keeps
const int TAPS = 64;       // weights of rows that a warp keeps

// Part of a frame, resized to height x width, on its canvas. As PART in image_cuda.py.
struct Part {
    double x1, y1, x2, y2;  // of the frame
    Index out;              // pixels before its canvas in the output
    int frame, top, left, height, width, canvas_height, canvas_width;
    int tile;  // blocks before its first
};
static_assert(sizeof(Part) == 72, "as PART in image_cuda.py");

// The source pixels that one output row or column mixes.
struct Taps {
    int first, stop;
    float at, inverse;  // of the first one, from the centre; 1 / support

    // Of first + k; never 0, so that the total is not.
    __device__ float weight(int k) const { return fmaxf(1e-20f, 1.0f - fabsf(at + k) * inverse); }
    // In 65535ths; 0 past the last.
    __device__ unsigned parts(int k) const {
        const unsigned v = first + k < stop ? (unsigned)(weight(k) * 65535.0f + 0.5f) : 0;
        return k == 0 && v == 0 ? 1 : v;
    }
};

__device__ inline Taps taps(int size, double low, double high, int out, int i) {
    const double scale = (high - low) / out;
    const double support = scale > 1.0 ? scale : 1.0;
    const double centre = low + (i + 0.5) * scale;
    const int start = (int)floor(centre - support + 0.5), end = (int)floor(centre + support + 0.5);
    Taps t;
    t.first = start < 0 ? 0 : start > size - 1 ? size - 1 : start;
    t.stop = end > size ? size : end;
    if (t.stop <= t.first) t.stop = t.first + 1;
    t.at = (float)(t.first + 0.5 - centre);
    t.inverse = (float)(1.0 / support);
    return t;
}

// A warp's weights of TAPS source rows, two to a word.
struct Weights {
    __device__ static void fill(unsigned* words, const Taps& rows, int from) {
        const int k = from + 2 * threadIdx.x;
        __syncwarp(ALL);
        words[threadIdx.x] = rows.parts(k) | rows.parts(k + 1) << 16;
        __syncwarp(ALL);
    }
    // All of them added up.
    __device__ static float total(const Taps& rows) {
        float sum = 0;
        for (int k = 2 * threadIdx.x; k < rows.stop - rows.first; k += TAPS)
            sum += (float)(rows.parts(k) + rows.parts(k + 1));
        for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(ALL, sum, step);
        return __shfl_sync(ALL, sum, 0);
    }
};

// V bytes of each of `count` source rows, times their weights. Eight rows are asked for before the first is used,
// past the last one that again, whose weight is 0. Whole numbers: two rows' bytes, side by side, are multiplied
// and added at once, which takes half the instructions that floats do.
template <int V> __device__ inline void mix_rows(
    const Byte* from, unsigned stride, unsigned count, const unsigned* weights, float share, float* sums,
    bool more
) {
    unsigned mixed[4] = {0, 0, 0, 0};
    const unsigned last = count - 1;
    for (unsigned k = 0; k < count; k += 8) {
        unsigned words[8];
#pragma unroll
        for (unsigned b = 0; b < 8; b++) {
            const unsigned row = k + b < last ? k + b : last;
            const Byte* at = from + (unsigned long long)row * stride;  // one instruction
            words[b] = V == 4 ? __ldg(reinterpret_cast<const unsigned*>(at)) : __ldg(at);
        }
        const uint4 four = *reinterpret_cast<const uint4*>(weights + k / 2);
        const unsigned pairs[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int b = 0; b < 4; b++) {
            const unsigned one = words[2 * b], two = words[2 * b + 1];
            const unsigned low = __byte_perm(one, two, 0x5140);
            mixed[0] = __dp2a_lo(pairs[b], low, mixed[0]);
            if (V == 4) {
                const unsigned high = __byte_perm(one, two, 0x7362);
                mixed[1] = __dp2a_hi(pairs[b], low, mixed[1]);
                mixed[2] = __dp2a_lo(pairs[b], high, mixed[2]);
                mixed[3] = __dp2a_hi(pairs[b], high, mixed[3]);
            }
        }
    }
    for (int v = 0; v < V; v++) sums[v] = (more ? sums[v] : 0.0f) + (float)mixed[v] * share;
}

// One byte of the source rows, mixed; of any number of them.
__device__ inline float mix_byte(const Byte* from, Index stride, const Taps& rows) {
    float sum = 0, total = 0;
    for (int k = 0; k < rows.stop - rows.first; k++) {
        const float w = rows.weight(k);
        sum += w * __ldg(from + k * stride);
        total += w;
    }
    return sum / total;
}

// A pixel whose source columns are more than a warp keeps: its lanes share them.
__device__ inline void mix_alone(
    const Byte* from, Index stride, const Taps& rows, int first, int stop, float at, float inverse, float* rgb
) {
    const Taps columns = {first, stop, at, inverse};
    float sums[4] = {0, 0, 0, 0};
    for (int x = threadIdx.x; x < stop - first; x += 32) {
        const float w = columns.weight(x);
        for (int c = 0; c < 3; c++) sums[c] += w * mix_byte(from + (first + x) * 3 + c, stride, rows);
        sums[3] += w;
    }
    for (int step = 16; step > 0; step /= 2)
        for (int c = 0; c < 4; c++) sums[c] += __shfl_down_sync(ALL, sums[c], step);
    for (int c = 0; c < 3; c++) rgb[c] = __shfl_sync(ALL, sums[c] / sums[3], 0);
}

// The part whose canvas block `tile` is of.
__device__ inline const Part* part_of(const Part* parts, int count, int tile) {
    int low = 0;
    while (count > 1) {
        const int half = count / 2;
        if (parts[low + half].tile <= tile) low += half, count -= half;
        else count = half;
    }
    return parts + low;
}

// Blocks of (32, ROWS) threads. `write(part, row, column, count, rgb, memory)`: one pixel per lane, `count` of
// them in the warp; `memory`: HELD words of the warp's.
template <int V, typename Write> __device__ void resample(
    const Byte* frames, int height, int width, const Part* parts, int part_count, const Write& write
) {
    __shared__ float kept[ROWS][HELD];
    __shared__ uint4 kept_weights[ROWS][TAPS / 8];
    float* const sums = kept[threadIdx.y];
    unsigned* const weights = reinterpret_cast<unsigned*>(kept_weights[threadIdx.y]);
    const Part& part = *part_of(parts, part_count, blockIdx.x);
    const int across = (part.canvas_width + COLUMNS - 1) / COLUMNS;
    const int tile = blockIdx.x - part.tile;
    const int row = tile / across * ROWS + threadIdx.y, left = tile % across * COLUMNS;
    if (row >= part.canvas_height) return;
    const int i = row - part.top, j = left + (int)threadIdx.x - part.left;
    float rgb[3] = {PAD, PAD, PAD};
    if (i >= 0 && i < part.height) {
        const Taps rows = taps(height, part.y1, part.y2, part.height, i);
        const bool mine = j >= 0 && j < part.width;
        const Taps own = taps(width, part.x1, part.x2, part.width, mine ? j : 0);
        const Index stride = (Index)width * 3;
        const Byte* from = frames + ((Index)part.frame * height + rows.first) * stride;
        const int count = rows.stop - rows.first;
        const float share = 1.0f / Weights::total(rows);
        unsigned waiting = __ballot_sync(ALL, mine);
        while (waiting) {
            const int lane = __ffs(waiting) - 1;
            const int first = __shfl_sync(ALL, own.first, lane);
            const int begin = first * 3 / V * V;  // in bytes
            const bool fits = mine && (waiting >> threadIdx.x & 1) && own.stop * 3 - begin <= HELD - (V - 1);
            const unsigned now = __ballot_sync(ALL, fits);
            if (now == 0) {
                const int stop = __shfl_sync(ALL, own.stop, lane);
                const float at = __shfl_sync(ALL, own.at, lane);
                float alone[3];
                mix_alone(from, stride, rows, first, stop, at, own.inverse, alone);
                if ((int)threadIdx.x == lane)
                    for (int c = 0; c < 3; c++) rgb[c] = alone[c];
                waiting &= waiting - 1;
                continue;
            }
            const int end = __shfl_sync(ALL, own.stop, 31 - __clz(now)) * 3;
            for (int tap = 0; tap < count; tap += TAPS) {  // once, unless a picture shrinks 30 times
                Weights::fill(weights, rows, tap);
                const int now_taps = count - tap < TAPS ? count - tap : TAPS;
                for (int x = begin + threadIdx.x * V; x < end; x += 32 * V)
                    mix_rows<V>(
                        from + tap * stride + x, (unsigned)stride, now_taps, weights, share, sums + x - begin, tap > 0
                    );
            }
            __syncwarp(ALL);
            if (fits) {
                float total = 0;
                rgb[0] = rgb[1] = rgb[2] = 0;
                const float* at = sums + own.first * 3 - begin;
                for (int k = 0; k < own.stop - own.first; k++, at += 3) {
                    const float w = own.weight(k);
                    rgb[0] += w * at[0];
                    rgb[1] += w * at[1];
                    rgb[2] += w * at[2];
                    total += w;
                }
                for (int c = 0; c < 3; c++) rgb[c] /= total;
            }
            __syncwarp(ALL);  // the sums may be written over
            waiting &= ~now;
        }
    }
    const int room = part.canvas_width - left;
    write(part, row, left, room < COLUMNS ? room : COLUMNS, rgb, sums);
}

// (canvas_height, canvas_width, 3) bytes.
struct Bytes {
    Byte* out;

    __device__ void operator()(
        const Part& part, int row, int left, int count, const float* rgb, float* memory
    ) const {
        unsigned* const words = reinterpret_cast<unsigned*>(memory);
        Byte* const mine = reinterpret_cast<Byte*>(words) + threadIdx.x * 3;
        for (int c = 0; c < 3; c++) mine[c] = (Byte)clip8((int)(rgb[c] + 0.5f));
        copy_out(out + (part.out + (Index)row * part.canvas_width + left) * 3, words, count * 3);
    }
};

// (3, canvas_height, canvas_width) of T: value * mul + add.
template <typename T> struct Planes {
    T* out;
    float mul[3], add[3];
    int red;  // channel that the red goes to: 0, or 2 for BGR

    __device__ void operator()(
        const Part& part, int row, int left, int count, const float* rgb, float*
    ) const {
        if ((int)threadIdx.x >= count) return;
        const Index plane = (Index)part.canvas_height * part.canvas_width;
        T* to = out + part.out * 3 + (Index)row * part.canvas_width + left + threadIdx.x;
        for (int c = 0; c < 3; c++) put(to + c * plane, (red == 0 ? rgb[c] : rgb[2 - c]) * mul[c] + add[c]);
    }
};

template <typename T, int V> __device__ void resize_to_planes(
    const Byte* frames, int height, int width, const Part* parts, int count, T* out, float mul0, float mul1,
    float mul2, float add0, float add1, float add2, int red
) {
    const Planes<T> write = {out, {mul0, mul1, mul2}, {add0, add1, add2}, red};
    resample<V>(frames, height, width, parts, count, write);
}

// Suffix 4: the frames' rows are of a multiple of 4 bytes and begin at one; 1: any.
extern "C" __global__ void letterbox_float_4(
    const Byte* frames, int height, int width, const Part* parts, int count, float* out, float mul0,
    float mul1, float mul2, float add0, float add1, float add2, int red
) {
    resize_to_planes<float, 4>(
        frames, height, width, parts, count, out, mul0, mul1, mul2, add0, add1, add2, red
    );
}
extern "C" __global__ void letterbox_float_1(
    const Byte* frames, int height, int width, const Part* parts, int count, float* out, float mul0,
    float mul1, float mul2, float add0, float add1, float add2, int red
) {
    resize_to_planes<float, 1>(
        frames, height, width, parts, count, out, mul0, mul1, mul2, add0, add1, add2, red
    );
}
extern "C" __global__ void letterbox_half_4(
    const Byte* frames, int height, int width, const Part* parts, int count, Half* out, float mul0, float mul1,
    float mul2, float add0, float add1, float add2, int red
) {
    resize_to_planes<Half, 4>(
        frames, height, width, parts, count, out, mul0, mul1, mul2, add0, add1, add2, red
    );
}
extern "C" __global__ void letterbox_half_1(
    const Byte* frames, int height, int width, const Part* parts, int count, Half* out, float mul0, float mul1,
    float mul2, float add0, float add1, float add2, int red
) {
    resize_to_planes<Half, 1>(
        frames, height, width, parts, count, out, mul0, mul1, mul2, add0, add1, add2, red
    );
}
extern "C" __global__ void resize_4(
    const Byte* frames, int height, int width, const Part* parts, int count, Byte* out
) {
    const Bytes write = {out};
    resample<4>(frames, height, width, parts, count, write);
}
extern "C" __global__ void resize_1(
    const Byte* frames, int height, int width, const Part* parts, int count, Byte* out
) {
    const Bytes write = {out};
    resample<1>(frames, height, width, parts, count, write);
}

// --- squares of one size --------------------------------------------------------------------------------------

// (N, H, W, 3) bytes to (N, 3, H, W) of T: value * mul + add, the rows in reverse with `mirror`. A thread per
// pixel; the three bytes of a warp's pixels lie side by side.
template <typename T> __device__ void normalize(
    const Byte* images, Index pixels, int height, int width, T* out, const float* mul, const float* add,
    bool mirror
) {
    const Index p = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= pixels) return;
    const Index plane = (Index)height * width, n = p / plane;
    const int inside = (int)(p - n * plane), x = inside % width;
    T* to = out + n * 3 * plane + (mirror ? inside - x + (width - 1 - x) : inside);
    for (int c = 0; c < 3; c++) put(to + c * plane, __ldg(images + p * 3 + c) * mul[c] + add[c]);
}

extern "C" __global__ void normalize_float(
    const Byte* images, Index pixels, int height, int width, float* out, float mul0, float mul1, float mul2,
    float add0, float add1, float add2, int mirror
) {
    const float mul[3] = {mul0, mul1, mul2}, add[3] = {add0, add1, add2};
    normalize(images, pixels, height, width, out, mul, add, mirror != 0);
}
extern "C" __global__ void normalize_half(
    const Byte* images, Index pixels, int height, int width, Half* out, float mul0, float mul1, float mul2,
    float add0, float add1, float add2, int mirror
) {
    const float mul[3] = {mul0, mul1, mul2}, add[3] = {add0, add1, add2};
    normalize(images, pixels, height, width, out, mul, add, mirror != 0);
}

// Luma in thousandths: whole numbers, so that the sums below are exact in any order.
__device__ inline int luma(const Byte* p) { return 299 * p[0] + 587 * p[1] + 114 * p[2]; }

const int JUDGES = 256;  // threads of a block that judges a square

// out (N): variance of the 4-neighbour Laplacian of the luma over content (N, 4), the top, left, bottom and right
// of what is picture in the squares (N, side, side, 3). A block per square.
extern "C" __global__ void sharpness(const Byte* squares, const int* content, int side, double* out) {
    __shared__ Index totals[JUDGES], squared[JUDGES];
    const int* part = content + 4 * blockIdx.x;
    const int top = part[0], left = part[1], height = part[2] - top - 2, width = part[3] - left - 2;
    const Byte* square = squares + (Index)blockIdx.x * side * side * 3;
    const int count = height > 0 && width > 0 ? height * width : 0;
    Index total = 0, squares_total = 0;
    for (int k = threadIdx.x; k < count; k += JUDGES) {
        const Byte* p = square + ((top + 1 + k / width) * side + left + 1 + k % width) * 3;
        const Index v = luma(p - 3) + luma(p + 3) + luma(p - side * 3) + luma(p + side * 3) - 4 * luma(p);
        total += v;
        squares_total += v * v;
    }
    totals[threadIdx.x] = total;
    squared[threadIdx.x] = squares_total;
    for (int step = JUDGES / 2; step > 0; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < step) {
            totals[threadIdx.x] += totals[threadIdx.x + step];
            squared[threadIdx.x] += squared[threadIdx.x + step];
        }
    }
    if (threadIdx.x != 0) return;
    const double mean = count > 0 ? (double)totals[0] / count : 0;
    const double variance = count > 0 ? (double)squared[0] / count - mean * mean : 0;
    out[blockIdx.x] = variance > 0 ? variance * 1e-6 : 0;
}
