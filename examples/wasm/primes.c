/* Counts primes and twin primes in one slice of the numbers below LIMIT, with a segmented sieve of Eratosthenes.
 *
 * Integers only, no clock, no dice: every machine computes the same bytes. The slice is chunk SHOAL_CHUNK of SHOAL_CHUNKS.
 * As the last step (SHOAL_CHUNK = SHOAL_CHUNKS) it adds up what the chunks wrote.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT 65536u
#define ROOT_MAX 65536u

static uint8_t sieve[SEGMENT];
static uint8_t small[ROOT_MAX];

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text == NULL || *text == 0 ? otherwise : strtoull(text, NULL, 10);
}

static void fail(const char *what) {
    fprintf(stderr, "primes: %s\n", what);
    exit(1);
}

/* Mark composites in [low, low + size) with the primes below 2^16: exact for numbers below 2^32. */
static void mark(uint64_t low, uint32_t size) {
    memset(sieve, 1, size);
    for (uint64_t p = 2; p < ROOT_MAX && p * p < low + size; p++) {
        if (!small[p]) continue;
        uint64_t start = (low + p - 1) / p * p;
        if (start < p * p) start = p * p;
        for (uint64_t n = start; n < low + size; n += p) sieve[n - low] = 0;
    }
    for (uint64_t n = low; n < 2 && n < low + size; n++) sieve[n - low] = 0;
}

static void find_small(void) {
    memset(small, 1, sizeof small);
    small[0] = small[1] = 0;
    for (uint32_t p = 2; p * p < ROOT_MAX; p++)
        if (small[p]) for (uint32_t n = p * p; n < ROOT_MAX; n += p) small[n] = 0;
}

/* Twin pairs count in the slice that holds the larger of the two. */
static void count(uint64_t chunk, uint64_t chunks, uint64_t limit) {
    uint64_t from = limit * chunk / chunks, to = limit * (chunk + 1) / chunks;
    uint64_t primes = 0, twins = 0, largest = 0, checksum = 0, before = 0;
    uint64_t start = from < 2 ? 0 : from - 2;
    find_small();
    for (uint64_t low = start; low < to; low += SEGMENT) {
        uint32_t size = to - low < SEGMENT ? (uint32_t)(to - low) : SEGMENT;
        mark(low, size);
        for (uint32_t i = 0; i < size; i++) {
            if (!sieve[i]) continue;
            uint64_t n = low + i;
            if (n >= from) {
                primes++;
                largest = n;
                checksum = (checksum ^ n) * 0x100000001b3ull;
                if (n - before == 2 && before != 0) twins++;
            }
            before = n;
        }
    }
    FILE *out = fopen("/out/count.txt", "wb");
    if (out == NULL) fail("cannot write /out/count.txt");
    fprintf(out, "%llu %llu %llu %016llx\n", (unsigned long long)primes, (unsigned long long)twins, (unsigned long long)largest, (unsigned long long)checksum);
    if (fclose(out) != 0) fail("cannot write /out/count.txt");
    printf("chunk %llu: %llu primes from %llu to %llu\n", (unsigned long long)chunk, (unsigned long long)primes, (unsigned long long)from, (unsigned long long)to);
}

static void add_up(uint64_t chunks, uint64_t limit) {
    unsigned long long primes = 0, twins = 0, largest = 0;
    for (uint64_t chunk = 0; chunk < chunks; chunk++) {
        char path[64];
        unsigned long long p, t, l, c;
        snprintf(path, sizeof path, "/in/chunks/%llu/count.txt", (unsigned long long)chunk);
        FILE *in = fopen(path, "rb");
        if (in == NULL || fscanf(in, "%llu %llu %llu %llx", &p, &t, &l, &c) != 4) fail("a chunk's count.txt is missing");
        fclose(in);
        primes += p;
        twins += t;
        if (l > largest) largest = l;
    }
    FILE *out = fopen("/out/total.txt", "wb");
    if (out == NULL) fail("cannot write /out/total.txt");
    fprintf(out, "below %llu: %llu primes, %llu pairs of twins, the largest prime is %llu\n", (unsigned long long)limit, primes, twins, largest);
    if (fclose(out) != 0) fail("cannot write /out/total.txt");
    printf("%llu primes below %llu\n", primes, (unsigned long long)limit);
}

int main(int argc, char **argv) {
    uint64_t limit = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    uint64_t chunk = number_from("SHOAL_CHUNK", 0), chunks = number_from("SHOAL_CHUNKS", 1);
    if (limit < 3 || limit > 4294967295ull || chunks == 0 || chunk > chunks) fail("usage: primes.wasm LIMIT, 3 to 2^32 - 1");
    if (chunk == chunks) add_up(chunks, limit);
    else count(chunk, chunks, limit);
    return 0;
}
