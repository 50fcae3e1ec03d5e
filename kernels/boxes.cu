// Boxes on a GPU: what a detector put out read, sorted and suppressed; kernels of boxes_cuda.py.
//
// Every image has a list of candidates: appended in any order, then brought in order by counting, for each, those
// that go before it. Arithmetic that decides is done one operation at a time (__fmul_rn is never fused), as on the
// CPU. Needs no header: nvrtc compiles it as it stands; with EMULATED a test compiles it for the host.

typedef unsigned char Byte;
typedef long long Index;
const unsigned ALL = 0xffffffffu;

// As CANDIDATE in boxes_cuda.py. `cell`: its place in the network's output, or among the boxes given.
struct __align__(16) Candidate {
    float x1, y1, x2, y2, score;
    int label, cell, gone;
};
static_assert(sizeof(Candidate) == 32, "as CANDIDATE in boxes_cuda.py");

__device__ inline bool goes_before(const Candidate& a, float score, int cell) {
    return a.score > score || (a.score == score && a.cell < cell);
}

// --- candidates -------------------------------------------------------------------------------------------------

// From the network's canvas to the frame, and what is wanted of it.
struct Door {
    float left, top, scale_x, scale_y, width, height;  // of the frame: its size
    const Byte* wanted;                                // per class, or null for all
    int classes;
    Candidate* list;
    int* counts;
    int capacity;

    __device__ static float inside(float v, float end) { return fminf(fmaxf(v, 0.0f), end); }

    __device__ void enter(
        int image, int cell, float x1, float y1, float x2, float y2, float score, int label
    ) const {
        if (!(x2 > x1 && y2 > y1) || label < 0) return;
        if (wanted && (label >= classes || !wanted[label])) return;
        Candidate c;
        c.x1 = inside((x1 - left) / scale_x, width);
        c.y1 = inside((y1 - top) / scale_y, height);
        c.x2 = inside((x2 - left) / scale_x, width);
        c.y2 = inside((y2 - top) / scale_y, height);
        if (!(c.x2 > c.x1 && c.y2 > c.y1)) return;  // some lie wholly on the grey
        c.score = score, c.label = label, c.cell = cell, c.gone = 0;
        list[(Index)image * capacity + atomicAdd(counts + image, 1)] = c;
    }
    __device__ void enter_centred(
        int image, int cell, float x, float y, float w, float h, float score, int label
    ) const {
        const float half_w = __fmul_rn(w, 0.5f), half_h = __fmul_rn(h, 0.5f);
        enter(image, cell, x - half_w, y - half_h, x + half_w, y + half_h, score, label);
    }
};

#define DOOR                                                                                                 \
    float left, float top, float scale_x, float scale_y, float width, float height, const Byte *wanted,      \
        int wanted_classes, Candidate *list, int *counts, int capacity
#define MAKE_DOOR                                                                                            \
    const Door door = {                                                                                      \
        left, top, scale_x, scale_y, width, height, wanted, wanted_classes, list, counts, capacity           \
    }

// One thread per cell; `chunks` blocks per image.

// output (N, rows, cells): centre boxes, then a score per class.
extern "C" __global__ void candidates_columns(
    const float* output, int rows, int cells, int classes, int chunks, float least, DOOR
) {
    MAKE_DOOR;
    const int image = blockIdx.x / chunks, cell = blockIdx.x % chunks * blockDim.x + threadIdx.x;
    if (cell >= cells) return;
    const float* from = output + (Index)image * rows * cells + cell;
    const float* scores = from + (Index)4 * cells;
    float best = __ldg(scores);
    int label = 0;
    for (int c = 1; c < classes; c++) {
        const float score = __ldg(scores + (Index)c * cells);
        if (score > best) best = score, label = c;
    }
    if (!(best >= least)) return;
    door.enter_centred(image, cell, from[0], from[cells], from[2 * cells], from[3 * cells], best, label);
}

// The cell's place: its corner in pixels and its stride, on the grids of up to four strides, row by row.
struct Cell {
    float x, y, stride;
};
__device__ inline Cell cell_at(int cell, int height, int width, const int* strides) {
    int k = 0;
    for (; k < 3 && strides[k + 1]; k++) {
        const int s = strides[k], cells = (height + s - 1) / s * ((width + s - 1) / s);
        if (cell < cells) break;
        cell -= cells;
    }
    const int s = strides[k], across = (width + s - 1) / s;
    const Cell at = {(float)(cell % across * s), (float)(cell / across * s), (float)s};
    return at;
}

// output (N, cells, columns): centre boxes, objectness, a score per class. Boxes count from their cell of a canvas of
// height x width, sizes as logarithms, unless stride0 is 0.
extern "C" __global__ void candidates_rows(
    const float* output, int cells, int columns, int classes, int canvas_height, int canvas_width, int stride0,
    int stride1, int stride2, int stride3, int chunks, float least, DOOR
) {
    MAKE_DOOR;
    const int image = blockIdx.x / chunks, cell = blockIdx.x % chunks * blockDim.x + threadIdx.x;
    if (cell >= cells) return;
    const float* from = output + ((Index)image * cells + cell) * columns;
    const float object = __ldg(from + 4);
    if (!(object >= least)) return;  // the product can only be smaller
    float best = __fmul_rn(object, __ldg(from + 5));
    int label = 0;
    for (int c = 1; c < classes; c++) {
        const float score = __fmul_rn(object, __ldg(from + 5 + c));
        if (score > best) best = score, label = c;
    }
    if (!(best >= least)) return;
    float x = from[0], y = from[1], w = from[2], h = from[3];
    if (stride0) {
        const int strides[4] = {stride0, stride1, stride2, stride3};
        const Cell at = cell_at(cell, canvas_height, canvas_width, strides);
        x = __fmul_rn(x, at.stride) + at.x;
        y = __fmul_rn(y, at.stride) + at.y;
        w = expf(fminf(w, 20.0f)) * at.stride;
        h = expf(fminf(h, 20.0f)) * at.stride;
    }
    door.enter_centred(image, cell, x, y, w, h, best, label);
}

// output (N, cells, 6): corners, score, class.
extern "C" __global__ void candidates_finished(
    const float* output, int cells, int chunks, float least, DOOR
) {
    MAKE_DOOR;
    const int image = blockIdx.x / chunks, cell = blockIdx.x % chunks * blockDim.x + threadIdx.x;
    if (cell >= cells) return;
    const float* from = output + ((Index)image * cells + cell) * 6;
    if (!(from[4] >= least) || from[5] < 0) return;
    door.enter(image, cell, from[0], from[1], from[2], from[3], from[4], (int)from[5]);
}

// boxes (N, cells, 4) as they are, scores and labels (N, cells): the first counts[n] of each image.
extern "C" __global__ void candidates_given(
    const float* boxes, const float* scores, const int* labels, const int* counts, int cells, int chunks,
    Candidate* list
) {
    const int image = blockIdx.x / chunks, cell = blockIdx.x % chunks * blockDim.x + threadIdx.x;
    if (cell >= counts[image]) return;
    const Index k = (Index)image * cells + cell;
    Candidate c;
    c.x1 = boxes[4 * k], c.y1 = boxes[4 * k + 1], c.x2 = boxes[4 * k + 2], c.y2 = boxes[4 * k + 3];
    c.score = scores[k], c.label = labels[k], c.cell = cell, c.gone = 0;
    list[k] = c;
}

// flag becomes 1 where one of the numbers is not finite.
extern "C" __global__ void find_not_finite(const float* numbers, Index count, int* flag) {
    const Index step = (Index)gridDim.x * blockDim.x;
    for (Index k = (Index)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += step)
        if (!(fabsf(__ldg(numbers + k)) <= 3.402823466e38f)) *flag = 1;
}

// --- best first, and suppressed -----------------------------------------------------------------------------------

// sorted: the list of each image by descending score, ties by cell. One thread per candidate.
extern "C" __global__ void rank(
    const Candidate* list, const int* counts, int capacity, int chunks, Candidate* sorted
) {
    const int image = blockIdx.x / chunks, k = blockIdx.x % chunks * blockDim.x + threadIdx.x;
    const int count = counts[image];
    if (k >= count) return;
    list += (Index)image * capacity;
    const Candidate own = list[k];
    int before = 0;
    for (int other = 0; other < count; other++) before += goes_before(list[other], own.score, own.cell);
    sorted[(Index)image * capacity + before] = own;
}

__device__ inline float area(const Candidate& a) {
    return __fmul_rn(fmaxf(a.x2 - a.x1, 0.0f), fmaxf(a.y2 - a.y1, 0.0f));
}
__device__ inline bool overlaps(const Candidate& a, const Candidate& b, float threshold) {
    if (a.label != b.label) return false;
    const float w = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1), h = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1);
    if (!(w > 0 && h > 0)) return false;
    const float shared = __fmul_rn(w, h), both = area(a) + area(b) - shared;
    return both > 0 && shared / both > threshold;
}

// Greedy suppression, 32 candidates at a time: which of them overlap is found by the warps, a row of bits each;
// every thread then walks these bits, which tells who of the 32 is kept, and the block strikes off whom they
// overlap further down. kept (N, limit) gets them, best first, kept_counts (N) their number. A block of (32, 8)
// threads per image.
extern "C" __global__ void suppress(
    Candidate* sorted, const int* counts, int capacity, float threshold, int limit, Candidate* kept,
    int* kept_counts
) {
    __shared__ unsigned rows[32];
    const int image = blockIdx.x, lane = threadIdx.x, t = threadIdx.y * 32 + lane;
    const int count = counts[image];
    sorted += (Index)image * capacity;
    kept += (Index)image * limit;
    int done = 0;
    for (int base = 0; base < count && done < limit; base += 32) {
        const bool there = base + lane < count;
        Candidate own;
        if (there) own = sorted[base + lane];
        for (int i = threadIdx.y; i < 32; i += blockDim.y) {
            const bool hit = there && lane > i && overlaps(sorted[base + i], own, threshold);
            const unsigned bits = __ballot_sync(ALL, hit);
            if (lane == 0) rows[i] = bits;
        }
        unsigned mask = __ballot_sync(ALL, there && !own.gone);
        __syncthreads();
        for (int i = 0; i < 32; i++)
            if (mask >> i & 1) mask &= ~rows[i];
        while (done + __popc(mask) > limit) mask &= ~(1u << (31 - __clz(mask)));
        if (threadIdx.y == 0 && (mask >> lane & 1)) kept[done + __popc(mask & ((1u << lane) - 1))] = own;
        for (int k = base + 32 + t; k < count; k += 32 * blockDim.y) {
            if (sorted[k].gone) continue;
            const Candidate later = sorted[k];
            for (unsigned left = mask; left; left &= left - 1)
                if (overlaps(sorted[base + __ffs(left) - 1], later, threshold)) {
                    sorted[k].gone = 1;
                    break;
                }
        }
        done += __popc(mask);
        __syncthreads();
    }
    if (t == 0) kept_counts[image] = done;
}
