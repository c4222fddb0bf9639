/* Words in raw audio (mono, 16 bit, little-endian) on standard input, by an exported network:

   python -m experiments.export --pretrained kws --format c --out exported
   cc -std=gnu99 -O2 -ftree-vectorize -funroll-loops -march=native -I exported/c \
       examples/listen.c -o listen -lm
   arecord -q -t raw -f S16_LE -r 16000 | ./listen 0.1

   The number is the price of computation, λ. Of another network than kws, change the names. */

#include "kws.c"
#include <stdio.h>
#include <stdlib.h>

static kws_state state;

static void tell(const kws_result *r)
{
    if (r->word < KWS_FIRST_WORD) return; /* nothing, or a word that is not one of ours */
    printf("%8.1f s  %s  %.4f\n", r->time_ms / 1000, kws_words[r->word], r->score);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char *end = NULL;
    const float price = argc > 1 ? strtof(argv[1], &end) : 0.1f;
    if (argc > 2 || (end && *end) || !(price > 0 && price < 1e30f)) {
        fprintf(stderr, "expected one price above 0, got %s\n", argc > 2 ? argv[2] : argv[1]);
        return 1;
    }
    unsigned char bytes[2 * KWS_SAMPLES];
    int16_t x[KWS_SAMPLES];
    kws_result r;
    size_t count;
    kws_init(&state, price);
    do {
        count = fread(bytes, 2, KWS_SAMPLES, stdin);
        for (size_t i = 0; i < count; ++i) {
            const int low = bytes[2 * i], high = bytes[2 * i + 1];
            x[i] = (int16_t)(low + 256 * (high < 128 ? high : high - 256));
        }
        if (count == KWS_SAMPLES && kws_step(&state, x, &r)) tell(&r);
    } while (count == KWS_SAMPLES);
    for (int rest = (int)count; kws_finish(&state, x, rest, &r); rest = 0) tell(&r);
    if (ferror(stdin)) {
        perror("standard input");
        return 1;
    }
    return 0;
}
