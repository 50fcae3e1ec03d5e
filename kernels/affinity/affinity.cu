// Affinity propagation on a GPU: the kernels of cuda.py, which says what they do and what they cost.
//
// Responsibilities are not stored. Off the diagonal the damped r(i,k) is, with d the damping,
//     r(i,k) = c s(i,k) - shift(i) + x(i,k)
//     c <- d c + (1 - d);  shift(i) <- d shift(i) + (1 - d) first(i);  x <- d x
// where first and second are the two largest a(i,k) + s(i,k) of row i; at the largest, x(i,k) gains
// (1 - d)(first - second) more. The few x(i,k) that are not 0 are a list per row (place, value), at most
// `width` of them. Responsibilities given at the start add weight * given(i,k), weight <- d weight.
//
// T is the type of the messages, S that in which the similarity is held. Needs no header: nvrtc compiles it
// as it stands. With EMULATED a test compiles it for the host (tests/kernels/affinity/emulate.h).

// The two largest values, equal ones counted twice, and where the largest is (the first of equals).
template <typename T> struct Top {
    T first, second;
    int at;

    __device__ void take(T value, int k) {
        second = larger(second, smaller(first, value));
        at = value > first ? k : at;
        first = larger(first, value);
    }
    __device__ void merge(T other_first, T other_second, int other_at) {
        second = larger(larger(second, other_second), smaller(first, other_first));
        if (other_first > first || (other_first == first && other_at < at)) at = other_at;
        first = larger(first, other_first);
    }
    __device__ void merge_lanes() {
        for (int step = 16; step > 0; step /= 2) {
            const T f = __shfl_down_sync(ALL, first, step);
            const T s = __shfl_down_sync(ALL, second, step);
            const int a = __shfl_down_sync(ALL, at, step);
            merge(f, s, a);
        }
    }
};

// One row of the lists and what else belongs to it, in shared memory.
template <typename T> struct Row {
    double shift;
    T own, others, preference;
    int count;
};

// Elements before the first address that is a multiple of V elements.
template <int V> __device__ inline int head_of(Index row, int n) {
    const int over = (int)((row * n) & (V - 1));
    return over == 0 ? 0 : (V - over < n ? V - over : n);
}

template <typename T, typename S> struct Pass {
    static const int V = 16 / sizeof(T);
    typedef Pack<T, V> Values;
    typedef Pack<S, V> Similarities;

    // as for `pass`
    const S* s;
    T* a;
    const T* given;
    const T* preference;
    const T* column;
    const T* others;
    T* own;
    double* shift;
    int* where;
    T* extra;
    int* used;
    T* partial;
    int n, stride, width, held;
    T floor, keep, damping, scale_before, scale_after, weight_before, weight_after;

    // shared memory
    Similarities* kept;
    T* values;        // (2, width): one for the row at work, one for the next
    int* places;      // (2, width)
    unsigned* marks;  // (2, words)
    int words;
    Row<T>* row;  // (2)

    // Columns that have an x, or are the diagonal, have a bit; vector j has the bits V(j + 1) and up.
    __device__ void mark(int q, int k, int head) {
        const int bit = k - head + V;
        atomicOr(&marks[q * words + (bit >> 5)], 1u << (bit & 31));
    }
    __device__ unsigned marked(int q, int j) const {
        const int bit = V * (j + 1);
        return (marks[q * words + (bit >> 5)] >> (bit & 31)) & ((1u << V) - 1);
    }
    __device__ T listed(int q, int k) const {
        for (int e = q * width; e < q * width + row[q].count; e++)
            if (places[e] == k) return values[e];
        return T(0);
    }

    __device__ void fetch_row(int q, Index i) {
        const int count = used[i];
        const int head = head_of<V>(i, n);
        for (int e = threadIdx.x; e < count; e += blockDim.x) {
            const int k = where[i * width + e];
            places[q * width + e] = k;
            values[q * width + e] = extra[i * width + e];
            mark(q, k, head);
        }
        if (threadIdx.x == 0) {
            mark(q, (int)i, head);
            Row<T> r;
            r.shift = shift[i];
            r.own = own[i];
            r.others = others[i];
            r.preference = preference[i];
            r.count = count;
            row[q] = r;
        }
    }

    // One new availability; its sum with the similarity goes into top.
    __device__ T availability(T old, T sk, T ck, T x, T before, int k, Top<T>& top) const {
        const T r = scale_before * sk - before + x;
        const T v = keep * old + (T(1) - keep) * smaller(ck - larger(r, T(0)), T(0));
        top.take(v + sk, k);
        return v;
    }
    __device__ T marked_availability(
        int q, Index i, T old, T sk, T ck, T x, T before, int k, Top<T>& top
    ) const {
        if (k != i) return availability(old, sk, ck, x + listed(q, k), before, k, top);
        const T v = keep * old + (T(1) - keep) * row[q].others;
        top.take(v + row[q].preference, k);
        return v;
    }

    __device__ Top<T> sweep(int q, Index i) {
        const Index base = i * n;
        const int head = head_of<V>(i, n);
        const int full = (n - head) / V;
        const int tail = n - head - full * V;
        const T before = (T)row[q].shift;
        Top<T> top = {Limits<T>::lowest(), Limits<T>::lowest(), 0x7fffffff};
        const S* si = s + base + head;
        T* ai = a + base + head;
        const T* gi = given ? given + base + head : given;
        const T* ci = column + (Index)head * stride;  // the copy that is aligned as this row is
        for (int from = threadIdx.x; from < full; from += IN_FLIGHT * blockDim.x) {
            Similarities sv[IN_FLIGHT];
            Values av[IN_FLIGHT];
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; u++) {
                const int j = from + u * blockDim.x;
                if (j < full) {
                    sv[u] = j < held ? load_once<S, V>(si + (Index)j * V) : load<S, V>(si + (Index)j * V);
                    av[u] = load_once<T, V>(ai + (Index)j * V);
                }
            }
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; u++) {
                const int j = from + u * blockDim.x;
                if (j < full) {
                    const Values cv = load<T, V>(ci + (Index)j * V);
                    const unsigned bits = marked(q, j);
                    if (j < held) kept[j] = sv[u];
                    Values gv;
                    if (gi) gv = load_once<T, V>(gi + (Index)j * V);
                    const int k = head + j * V;
                    T sk[V], x[V];
#pragma unroll
                    for (int v = 0; v < V; v++) {
                        sk[v] = larger(widen(sv[u].e[v]), floor);
                        x[v] = gi ? weight_before * gv.e[v] : T(0);
                    }
                    if (bits == 0) {
#pragma unroll
                        for (int v = 0; v < V; v++)
                            av[u].e[v] =
                                availability(av[u].e[v], sk[v], cv.e[v], x[v], before, k + v, top);
                    } else {
#pragma unroll
                        for (int v = 0; v < V; v++)
                            av[u].e[v] =
                                bits >> v & 1u
                                    ? marked_availability(
                                          q, i, av[u].e[v], sk[v], cv.e[v], x[v], before, k + v, top
                                      )
                                    : availability(av[u].e[v], sk[v], cv.e[v], x[v], before, k + v, top);
                    }
                    store_once<T, V>(ai + (Index)j * V, av[u]);
                }
            }
        }
        for (int e = threadIdx.x; e < head + tail; e += blockDim.x) {
            const int k = e < head ? e : n - tail + (e - head);
            const T sk = larger(widen(s[base + k]), floor);
            const T x = given ? weight_before * given[base + k] : T(0);
            a[base + k] = marked_availability(q, i, a[base + k], sk, column[k], x, before, k, top);
        }
        return top;
    }

    // The first warp: the row's new shift, own responsibility and list, from its two largest sums.
    __device__ void conclude(int q, Index i, const Top<T>& top, int* most) {
        const int lane = threadIdx.x;
        const Row<T> r = row[q];
        __syncwarp(ALL);  // all have read it before one writes
        int* place = places + q * width;
        T* value = values + q * width;
        const T fresh = T(1) - damping;
        const double after = (double)damping * r.shift + (double)(fresh * top.first);
        const T limit = (T)fmax(Limits<T>::rounding() / 8 * fabs(after), Limits<T>::least());
        const int found = top.at != i && top.first > top.second ? top.at : -1;
        T gain = fresh * (top.first - top.second);
        int left = 0;
        for (int from = 0; from < r.count; from += 32) {
            const int e = from + lane;
            const int k = e < r.count ? place[e] : -1;
            const T v = e < r.count ? damping * value[e] : T(0);
            const bool again = k >= 0 && k == found;
            const bool stays = k >= 0 && !again && v > limit;
            const unsigned same = __ballot_sync(ALL, again);
            const unsigned staying = __ballot_sync(ALL, stays);
            if (same) gain += __shfl_sync(ALL, v, __ffs(same) - 1);
            if (stays) {
                const int to = left + __popc(staying & ((1u << lane) - 1));
                place[to] = where[i * width + to] = k;
                value[to] = extra[i * width + to] = v;
            }
            left += __popc(staying);
            __syncwarp(ALL);
        }
        if (lane == 0) {
            if (found >= 0 && left < width) {
                place[left] = where[i * width + left] = found;
                value[left] = extra[i * width + left] = gain;
                mark(q, found, head_of<V>(i, n));
                left++;
            }
            used[i] = left;
            shift[i] = after;
            own[i] = damping * r.own + fresh * (r.preference - (top.at == i ? top.second : top.first));
            row[q].count = left;
            row[q].shift = after;
            atomicMax(most, left);
        }
    }

    // Adds the positive part of this row's new responsibilities to this block's column sums.
    __device__ void add(int q, Index i, T* sums, int k, T r, bool is_marked) const {
        if (is_marked) {
            if (k == i) return;
            r += listed(q, k);
        }
        if (r > T(0)) sums[k] += r;
    }
    __device__ void tally(int q, Index i, T* sums) const {
        const Index base = i * n;
        const int head = head_of<V>(i, n);
        const int full = (n - head) / V;
        const int tail = n - head - full * V;
        const T after = (T)row[q].shift;
        const bool more = given && weight_after != T(0);
        const S* si = s + base + head;
        const T* gi = more ? given + base + head : given;
        for (int j = threadIdx.x; j < full; j += blockDim.x) {
            const Similarities sv = j < held ? kept[j] : load_once<S, V>(si + (Index)j * V);
            const unsigned bits = marked(q, j);
            Values gv;
            if (more) gv = load_once<T, V>(gi + (Index)j * V);
            const int k = head + j * V;
            T r[V];
            T most = T(0);
#pragma unroll
            for (int v = 0; v < V; v++) {
                r[v] = scale_after * larger(widen(sv.e[v]), floor) - after;
                if (more) r[v] += weight_after * gv.e[v];
                most = larger(most, r[v]);
            }
            if (bits != 0 || most > T(0))  // few are
#pragma unroll
                for (int v = 0; v < V; v++) add(q, i, sums, k + v, r[v], bits >> v & 1u);
        }
        for (int e = threadIdx.x; e < head + tail; e += blockDim.x) {
            const int k = e < head ? e : n - tail + (e - head);
            T r = scale_after * larger(widen(s[base + k]), floor) - after;
            if (more) r += weight_after * given[base + k];
            add(q, i, sums, k, r, true);
        }
    }

    __device__ void clear(int q) {
        for (int w = threadIdx.x; w < words; w += blockDim.x) marks[q * words + w] = 0;
    }

    __device__ void run(unsigned char* memory, Row<T>* rows, T* firsts, T* seconds, int* ats, int* most) {
        row = rows;
        words = (n + V) / 32 + 1;
        kept = reinterpret_cast<Similarities*>(memory);
        memory += (Index)held * sizeof(Similarities);
        values = reinterpret_cast<T*>(memory);
        places = reinterpret_cast<int*>(values + 2 * width);
        marks = reinterpret_cast<unsigned*>(places + 2 * width);

        const Index start = (Index)n * blockIdx.x / gridDim.x;
        const Index stop = (Index)n * (blockIdx.x + 1) / gridDim.x;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
        T* sums = partial + (Index)blockIdx.x * n;
        int q = 0;
        clear(0);
        __syncthreads();
        if (start < stop) fetch_row(0, start);
        __syncthreads();
        for (Index i = start; i < stop; i++, q ^= 1) {
            clear(q ^ 1);
            Top<T> top = sweep(q, i);
            top.merge_lanes();
            if (lane == 0) {
                firsts[warp] = top.first;
                seconds[warp] = top.second;
                ats[warp] = top.at;
            }
            __syncthreads();
            if (warp == 0) {
                if (lane == 0 && i + 1 < stop) {
                    const int head = head_of<V>(i + 1, n);
                    const int bytes = 32768 < (n - head) * (int)sizeof(S) ? 32768 : (n - head) * (int)sizeof(S);
                    // half is aligned to 8 bytes only
                    if (sizeof(S) == sizeof(T)) prefetch(s + (i + 1) * n + head, bytes);
                    if (sizeof(S) == sizeof(T)) prefetch(a + (i + 1) * n + head, bytes);
                }
                top.first = lane < warps ? firsts[lane] : Limits<T>::lowest();
                top.second = lane < warps ? seconds[lane] : Limits<T>::lowest();
                top.at = lane < warps ? ats[lane] : 0x7fffffff;
                top.merge_lanes();
                top.first = __shfl_sync(ALL, top.first, 0);
                top.second = __shfl_sync(ALL, top.second, 0);
                top.at = __shfl_sync(ALL, top.at, 0);
                conclude(q, i, top, most);
            }
            __syncthreads();
            if (i + 1 < stop) fetch_row(q ^ 1, i + 1);
            tally(q, i, sums);
            __syncthreads();
        }
    }
};

// One iteration over all rows: new availabilities, then new responsibilities. Block b owns the rows from
// n b / blocks on and its own row of partial.
//
// s (n, n), a (n, n) with the same alignment; given (n, n) or null, with its weights before and after;
// preference (n) the diagonal of s; column (V, stride): copy h begins with the element h of r(k,k) + the
// positive responsibilities from others; others (n) that sum alone; own (n) = r(i,i); shift (n); where and
// extra (n, width), used (n): the lists; partial (blocks, n), to which the positive responsibilities are
// added; most: the longest list. held: vectors of a row of s that are kept in shared memory; the rest is
// read a second time, from the L2 as a rule. keep: damping of the availabilities (1 leaves them as they are).
#define PASS(name, T, S)                                                                                     \
    extern "C" __global__ void __launch_bounds__(1024, 1) pass_##name(                                       \
        const S* __restrict__ s, T* a, const T* given, const T* preference, const T* column, const T* others, \
        T* own, double* shift, int* where, T* extra, int* used, T* partial, int* most, int n, int stride,    \
        int width, int held, T floor, T keep, T damping, T scale_before, T scale_after, T weight_before,     \
        T weight_after                                                                                       \
    ) {                                                                                                      \
        DYNAMIC_SHARED(memory);                                                                              \
        __shared__ Row<T> rows[2];                                                                           \
        __shared__ T firsts[MAX_WARPS];                                                                      \
        __shared__ T seconds[MAX_WARPS];                                                                     \
        __shared__ int ats[MAX_WARPS];                                                                       \
        Pass<T, S> work;                                                                                     \
        work.s = s, work.a = a, work.given = given, work.preference = preference, work.column = column;      \
        work.others = others, work.own = own, work.shift = shift, work.where = where, work.extra = extra;    \
        work.used = used, work.partial = partial, work.n = n, work.stride = stride, work.width = width;      \
        work.held = held, work.floor = floor, work.keep = keep, work.damping = damping;                      \
        work.scale_before = scale_before, work.scale_after = scale_after;                                    \
        work.weight_before = weight_before, work.weight_after = weight_after;                                \
        work.run(memory, rows, firsts, seconds, ats, most);                                                  \
    }

PASS(float, float, float)
PASS(double, double, double)
PASS(half, float, Half)
