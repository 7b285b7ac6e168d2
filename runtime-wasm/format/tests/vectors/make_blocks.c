// Makes the vectors of this directory by calling ggml's own functions.
//
// Build and run beside a checkout of ggml (see README.md):
//   gcc -O2 -ffp-contract=off -I ggml/include -I ggml/src make_blocks.c <ggml objects> -lm
//   ./a.out hex q5_0 weighted > q5_0_weighted.hex
//   ./a.out digests > digests.txt

#include "ggml-quants.h"
#include "ggml.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef size_t (*encoder)(const float *, void *, int64_t, int64_t, const float *);

static size_t encode_f16(const float * x, void * out, int64_t rows, int64_t n, const float * w) {
    (void) w;
    ggml_fp32_to_fp16_row(x, out, rows * n);
    return 2 * rows * n;
}

static size_t encode_bf16(const float * x, void * out, int64_t rows, int64_t n, const float * w) {
    (void) w;
    ggml_fp32_to_bf16_row_ref(x, out, rows * n);
    return 2 * rows * n;
}

static const struct { const char * name; encoder encode; int weighted; } TYPES[] = {
    {"f16", encode_f16, 0},     {"bf16", encode_bf16, 0},   {"q4_0", quantize_q4_0, 1},
    {"q4_1", quantize_q4_1, 1}, {"q5_0", quantize_q5_0, 1}, {"q5_1", quantize_q5_1, 1},
    {"q8_0", quantize_q8_0, 0}, {"q4_k", quantize_q4_K, 1}, {"q5_k", quantize_q5_K, 1},
    {"q6_k", quantize_q6_K, 1},
};
enum { TYPE_COUNT = sizeof(TYPES) / sizeof(TYPES[0]), ROWS = 96, ROW_LEN = 768 };

static uint32_t state;

// 16 random bits.
static uint32_t bits(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 16;
}

// Five kinds of group, 32 weights each, over a wide range of magnitudes. Every operation is
// exact, so that another language can repeat it.
static void fill(float * x, float * importance) {
    state = 20260824;
    for (int g = 0; g < ROWS * ROW_LEN / 32; ++g) {
        uint32_t kind = bits() % 8;
        float unit = 1.0f;
        for (uint32_t k = bits() % 24; k > 0; --k) unit *= 0.5f;
        for (int i = 0; i < 32; ++i, ++x) {
            int32_t a = (int32_t) bits(), b = (int32_t) bits(), c = (int32_t) bits();
            int32_t bell = (a + b + c) / 4 - 24576;
            switch (kind) {
                case 0: *x = 0.0f; break;
                case 1: *x = unit; break;
                case 2: *x = a % 16 == 0 ? (float) bell / 8192.0f * unit : 0.0f; break;
                case 3: *x = (float) (a % 15 - 7) * unit; break;
                case 4: *x = (float) (bell + 32768) / 8192.0f * unit; break;
                default: *x = (float) bell / 8192.0f * unit; break;
            }
        }
    }
    for (int i = 0; i < ROW_LEN; ++i) {
        uint32_t a = bits(), b = bits() % 8;
        importance[i] = a % 9 == 0 ? 0.0f : (float) (a * (1u << b)) / 65536.0f;
    }
}

static int digests(void) {
    float * x = malloc(sizeof(float) * ROWS * ROW_LEN);
    float importance[ROW_LEN];
    uint8_t * out = malloc(4 * ROWS * ROW_LEN);
    fill(x, importance);
    for (int t = 0; t < TYPE_COUNT; ++t) {
        for (int weighted = 0; weighted <= TYPES[t].weighted; ++weighted) {
            size_t size = TYPES[t].encode(x, out, ROWS, ROW_LEN, weighted ? importance : NULL);
            uint64_t digest = 0xcbf29ce484222325u; // FNV-1a
            for (size_t i = 0; i < size; ++i) digest = (digest ^ out[i]) * 0x100000001b3u;
            printf("%s %s %016llx\n", TYPES[t].name, weighted ? "weighted" : "plain",
                   (unsigned long long) digest);
        }
    }
    return 0;
}

static int hex(const char * name, int weighted) {
    float x[256], importance[256];
    for (int i = 0; i < 256; ++i) {
        x[i] = (float) ((i * 7919 + 13) % 257 - 128) / 64.0f;
        importance[i] = (float) (1 + (i * 31) % 17) / 8.0f;
    }
    for (int t = 0; t < TYPE_COUNT; ++t) {
        if (strcmp(TYPES[t].name, name) != 0) continue;
        uint8_t out[1024];
        int n = strstr(name, "_k") ? 256 : 64;
        size_t size = TYPES[t].encode(x, out, 1, n, weighted ? importance : NULL);
        for (size_t i = 0; i < size; ++i) printf("%02x%s", out[i], i % 32 == 31 ? "\n" : "");
        if (size % 32 != 0) printf("\n");
        return 0;
    }
    return 1;
}

int main(int argc, char ** argv) {
    if (argc == 2 && strcmp(argv[1], "digests") == 0) return digests();
    if (argc >= 3 && strcmp(argv[1], "hex") == 0) return hex(argv[2], argc == 4);
    return 1;
}
