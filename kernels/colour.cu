// NV12 and P010 to RGB: kernels of colour.py, which has the formulas and says where they are equal, to the last
// bit, to what the CPU's decoder makes. Comes after pictures.cu.

const int QUADS = 128;  // pixels of a row that a warp converts at a time, four a lane

typedef unsigned short Sample;  // 10 bits or more, in the upper ones

struct Colour {
    int luma, base, red, green_blue, green_red, blue;
};

template <typename S> struct __align__(4 * sizeof(S)) Four {
    S s[4];
};

// Four samples from position x on; past the row's end its last ones (`step` samples belong together).
template <typename S> __device__ inline Four<S> four(const S* row, int x, int length, int step, bool whole) {
    if (whole && x + 4 <= length) return *reinterpret_cast<const Four<S>*>(row + x);
    Four<S> result;
    for (int k = 0; k < 4; k++) {
        const int past = x + k - (length - step);
        result.s[k] = row[past < 0 ? x + k : length - step + past % step];
    }
    return result;
}

// One pixel of 8 bits: the products are cut off one by one.
__device__ inline void convert(const Colour& m, int y, int u, int v, unsigned* rgb) {
    const int light = ((y - m.base) * 8 * m.luma) >> 16;
    u = (u - 128) * 8;
    v = (v - 128) * 8;
    rgb[0] = clip8(light + ((v * m.red) >> 16));
    rgb[1] = clip8(light + ((u * m.green_blue) >> 16) + ((v * m.green_red) >> 16));
    rgb[2] = clip8(light + ((u * m.blue) >> 16));
}

// Of 10 bits and more: brought to 8 bits, and the chroma counted in steps of luma.
__device__ inline int steps(int chroma, int by) { return ((chroma * by) >> 16) - (by >> 9); }
__device__ inline void convert_steps(const Colour& m, int y, int u, int v, unsigned* rgb) {
    const int shifts[3] = {
        steps(v, m.red), steps(u, m.green_blue) + steps(v, m.green_red), steps(u, m.blue)
    };
    for (int c = 0; c < 3; c++) rgb[c] = clip8((m.luma * (y + shifts[c]) + m.base) >> 16);
}

// The chroma of four pixels, two samples of each, from the line that is nearest; with more bits also the other
// line and the samples that follow, in sums of 16 parts.
template <typename S> struct Chroma {
    int u[2], v[2];
};

__device__ inline void gather(
    Chroma<Byte>& to, const Byte* near, const Byte*, int x, int length, bool whole, bool
) {
    const Four<Byte> c = four(near, x, length, 2, whole);
    to.u[0] = c.s[0], to.v[0] = c.s[1], to.u[1] = c.s[2], to.v[1] = c.s[3];
}

__device__ inline void gather(
    Chroma<Sample>& to, const Sample* near, const Sample* far, int x, int length, bool whole, bool left
) {
    const Four<Sample> n = four(near, x, length, 2, whole), f = four(far, x, length, 2, whole);
    const int after = x + 4 < length ? x + 4 : length - 2;
    for (int c = 0; c < 2; c++) {
        const int mixed[3] = {
            3 * n.s[c] + f.s[c], 3 * n.s[c + 2] + f.s[c + 2], 3 * near[after + c] + far[after + c]
        };
        int* const values = c == 0 ? to.u : to.v;
        for (int k = 0; k < 2; k++) {
            const int v = (3 * mixed[k] + mixed[left ? k + 1 : k] + 2048) >> 12;
            values[k] = v > 255 ? 255 : v;
        }
    }
}

__device__ inline void pixel(const Colour& m, Byte y, const Chroma<Byte>& c, int k, unsigned* rgb) {
    convert(m, y, c.u[k / 2], c.v[k / 2], rgb);
}
__device__ inline void pixel(const Colour& m, Sample y, const Chroma<Sample>& c, int k, unsigned* rgb) {
    convert_steps(m, (y + 128) >> 8, c.u[k / 2], c.v[k / 2], rgb);
}

// Blocks of (32, ROWS) threads: a warp converts QUADS pixels of a row. Strides in samples.
template <typename S> __device__ void to_rgb(
    const S* luma, const S* chroma, Byte* out, int height, int width, int chroma_height, int chroma_width,
    Index luma_frame, Index luma_row, Index chroma_frame, Index chroma_row, bool whole, bool left_chroma,
    const Colour& m
) {
    __shared__ unsigned staged[ROWS][QUADS * 3 / 4];
    const int across = (width + QUADS - 1) / QUADS, down = (height + ROWS - 1) / ROWS;
    const int left = blockIdx.x % across * QUADS;
    const int y = blockIdx.x / across % down * ROWS + threadIdx.y;
    const Index n = blockIdx.x / across / down;
    if (y >= height) return;  // a warp is of one row
    const int x = left + threadIdx.x * 4;
    if (x < width) {
        const int own = y / 2 < chroma_height ? y / 2 : chroma_height - 1;
        const int beside = own + (y % 2 ? 1 : -1);
        const int other = beside < 0 ? 0 : beside < chroma_height ? beside : chroma_height - 1;
        const S* planes = chroma + n * chroma_frame;
        const Four<S> light = four(luma + n * luma_frame + y * luma_row, x, width, 1, whole);
        Chroma<S> colour;
        gather(
            colour, planes + own * chroma_row, planes + other * chroma_row, x, 2 * chroma_width, whole, left_chroma
        );
        unsigned v[12];
        for (int k = 0; k < 4; k++) pixel(m, light.s[k], colour, k, v + 3 * k);
        for (int k = 0; k < 3; k++)
            staged[threadIdx.y][threadIdx.x * 3 + k] =
                v[4 * k] | v[4 * k + 1] << 8 | v[4 * k + 2] << 16 | v[4 * k + 3] << 24;
    }
    const int count = width - left < QUADS ? width - left : QUADS;
    copy_out(out + ((n * height + y) * width + left) * 3, staged[threadIdx.y], count * 3);
}

extern "C" __global__ void nv12_to_rgb(
    const Byte* luma, const Byte* chroma, Byte* out, int height, int width, int chroma_height,
    int chroma_width, Index luma_frame, Index luma_row, Index chroma_frame, Index chroma_row, int whole,
    int left_chroma, int by_luma, int base, int red, int green_blue, int green_red, int blue
) {
    const Colour m = {by_luma, base, red, green_blue, green_red, blue};
    to_rgb<Byte>(
        luma, chroma, out, height, width, chroma_height, chroma_width, luma_frame, luma_row, chroma_frame,
        chroma_row, whole != 0, left_chroma != 0, m
    );
}

extern "C" __global__ void p010_to_rgb(
    const Sample* luma, const Sample* chroma, Byte* out, int height, int width, int chroma_height,
    int chroma_width, Index luma_frame, Index luma_row, Index chroma_frame, Index chroma_row, int whole,
    int left_chroma, int by_luma, int base, int red, int green_blue, int green_red, int blue
) {
    const Colour m = {by_luma, base, red, green_blue, green_red, blue};
    to_rgb<Sample>(
        luma, chroma, out, height, width, chroma_height, chroma_width, luma_frame, luma_row, chroma_frame,
        chroma_row, whole != 0, left_chroma != 0, m
    );
}
