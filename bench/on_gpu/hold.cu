// Keeps the GPU busy for so many nanoseconds, so that what is asked of it meanwhile is waiting when it is free.
extern "C" __global__ void hold(long long nanoseconds) {
    long long begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    while (now - begin < nanoseconds);
}
