"""The parts of the C file that are the same for all networks: declarations, the step, the stream.

Templates: a name after a dollar is a number or text of the network (`source.c_source`).
"""

DECLARATIONS = """
/* A keyword spotter that runs what it needs, written by sanas_jax (experiments.export --format c).

   Compile: cc -std=gnu99 -O2 -ftree-vectorize -funroll-loops -march=native -c $name.c
   and link with -lm. (gcc's -O3 unrolls before it vectorises, and is many times slower here.)
   A processor without vectors: -DLANES=1, which needs less of stack, too.

   ${name}_init, then ${name}_step for every ${NAME}_SAMPLES samples at $rate Hz: 1 where the step
   decided, 0 while the first window fills. At the end of a recording ${name}_finish takes the rest,
   fewer samples than a step's, and is called again, with none, until it returns 0.
   ${name}_tell changes the price from the next step on. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ${NAME}_SAMPLES $samples
#define ${NAME}_CLASSES $classes
#define ${NAME}_EDGES $edges
#define ${NAME}_FIRST_WORD $first_word /* labels before it: silence, other words */

/* What one step hands to the next. */
typedef struct {
    float tape[$tape];          /* rings: rows of the stream, each kept twice */
    float vector[$vector];      /* the controller's state, log price, values to reuse */
    int32_t counts[1 + $edges]; /* steps; for each edge those that it has to catch up with */
} ${name}_memory;

/* A decision. */
typedef struct {
    float posterior[$classes];
    float live[$edges];  /* 1: the edge ran */
    float gamma[$edges]; /* the probabilities before */
    float score;         /* of the word: its mean posterior */
    int32_t word;        /* that fired, an index of ${name}_words; -1: none */
    int32_t step;        /* its number, from 0 */
    double time_ms;      /* where its window begins */
} ${name}_result;

/* A stream. */
typedef struct {
    ${name}_memory memory;
    float audio[$audio]; /* $kept samples kept, then those not yet in a frame of their own */
    int32_t pending;     /* how many, with the former */
    int32_t wait;        /* steps until the first window is full */
    int32_t ended;
    int32_t is_padded;
    double threshold; /* of labels without one of their own, where nobody talks */
    double talk; /* the mean posterior of other words so far; 0 where nobody asks */
    int32_t fired; /* the label fired last, and when */
    double fired_ms;
    int32_t results; /* the latest posteriors, and when */
    float scores[$results][$classes];
    double times[$results];
} ${name}_state;

void ${name}_init(${name}_state *s, float price);
int ${name}_step(${name}_state *s, const int16_t *samples, ${name}_result *r);
int ${name}_finish(${name}_state *s, const int16_t *samples, int count, ${name}_result *r);
void ${name}_tell(${name}_memory *m, float price);
extern const char *const ${name}_words[$classes];

/* The same in parts: audio as numbers in [-1, 1], cut and padded by the caller, no detector. */
void ${name}_start(${name}_memory *m, float price);
void ${name}_begin(${name}_memory *m, const float *samples);
void ${name}_decide(${name}_memory *m, const float *samples, ${name}_result *r);
"""

STEP = """
/* The last `count` frames of step t. */
static void hear(${name}_memory *m, const float *samples, int count, int t)
{
    float *rows = slot(m->tape, &ring_of_input, t, count);
    $hear;
    keep(&ring_of_input, rows, count);
}

/* Before the first frame. */
void ${name}_start(${name}_memory *m, float price)
{
    memset(m, 0, sizeof *m);
    for (int e = 0; e < $edges; ++e) m->counts[1 + e] = most[e]; /* all rows are missing */
    ${name}_tell(m, price);
}

/* The price from the next step on; a controller that is told none does not hear it. */
void ${name}_tell(${name}_memory *m, float price)
{
    const int at = $price;
    if (at >= 0) m->vector[at] = logf(price);
}

/* The $begin_frames frames before those of the first step. */
void ${name}_begin(${name}_memory *m, const float *samples)
{
    int count = $begin_frames - ($begin_steps - 1) * $hop;
    for (int before = $begin_steps; before > 0; --before, count = $hop) {
        hear(m, samples, count, $steps - before);
        samples += count * $frame_hop;
    }
}

/* One step: $needed samples, $advance after those of the step before. */
void ${name}_decide(${name}_memory *m, const float *samples, ${name}_result *r)
{
    float *tape = m->tape;
    const int t = m->counts[0];
    int gate[$edges], steps[$edges];
    plan(m->vector, r->gamma, gate);
$live
    for (int e = 0; e < $edges; ++e) {
        const int missed = m->counts[1 + e] + 1, behind = missed < most[e] ? missed : most[e];
        steps[e] = live[e] ? behind : 0;
        m->counts[1 + e] = live[e] ? 0 : behind;
        r->live[e] = (float)live[e];
    }
    hear(m, samples, $hop, t);
$body
    advance(m->vector, $features);
    m->counts[0] = t + 1;

    const float *logits = $logits;
    float top = logits[0], sum = 0;
    for (int k = 1; k < $classes; ++k) top = logits[k] > top ? logits[k] : top;
    for (int k = 0; k < $classes; ++k) sum += r->posterior[k] = expf(logits[k] - top);
    for (int k = 0; k < $classes; ++k) r->posterior[k] /= sum;
    r->step = t;
    r->time_ms = rint(t * $hop_ms);
    r->word = -1;
    r->score = 0;
}
"""

DETECTOR = """
static const double own_thresholds[$own_count + 1] = {$own};

/* Posteriors are averaged over $window_ms ms; a label fires where its mean is over its
   threshold, it is not the one fired last, and $suppression_ms ms have passed since then.
   People talk while the mean posterior of other words was over $talk_share, and a word's
   threshold is $talk_threshold then, if its own is less. */
static void detect(${name}_state *s, ${name}_result *r)
{
    const int talking = s->talk > $talk_share;
    const double ago = s->results ? r->time_ms - s->times[s->results - 1] : 0;
    if ($talk_threshold > 0) /* else nobody asks: libm's exp is not linked */
        s->talk += (1 - exp(-ago / $talk_ms)) * (r->posterior[$unknown] - s->talk);
    int first = 0;
    while (first < s->results && s->times[first] < r->time_ms - $window_ms) ++first;
    s->results -= first;
    memmove(s->times, s->times + first, (size_t)s->results * sizeof *s->times);
    memmove(s->scores, s->scores + first, (size_t)s->results * sizeof *s->scores);
    memcpy(s->scores[s->results], r->posterior, sizeof r->posterior);
    s->times[s->results++] = r->time_ms;
    if (s->results < $min_count || r->time_ms - s->times[0] < $window_ms / 4) return;
    int label = 0;
    double best = -1;
    for (int k = 0; k < $classes; ++k) {
        double mean = 0;
        for (int i = 0; i < s->results; ++i) mean += s->scores[i][k] / (float)s->results;
        if (mean > best) best = mean, label = k;
    }
    const int waited = s->fired == $silence || r->time_ms - s->fired_ms > $suppression_ms;
    double threshold = label < $own_count ? own_thresholds[label] : s->threshold;
    if (talking && label != $silence && label != $unknown && threshold < $talk_threshold)
        threshold = $talk_threshold;
    if (best <= threshold || label == s->fired || !waited) return;
    s->fired = label;
    s->fired_ms = r->time_ms;
    if (label != $silence) r->word = label, r->score = (float)best;
}
"""

STREAM = """
void ${name}_init(${name}_state *s, float price)
{
    memset(s, 0, sizeof *s);
    ${name}_start(&s->memory, price);
    s->pending = $kept + $spare + $half; /* zeros: of no window, and half the first frame */
    s->wait = $begin_steps;
    s->threshold = $threshold;
    s->fired = $silence;
}

static void take(${name}_state *s, const int16_t *samples, int count)
{
    for (int i = 0; i < count; ++i) s->audio[s->pending + i] = samples[i] / 32768.0f;
    s->pending += count;
    if (!$reflects || s->is_padded || s->pending <= $kept + $spare + 2 * $half) return;
    float *first = s->audio + $kept + $spare + $half;
    for (int i = 1; i <= $half; ++i) first[-i] = first[i];
    s->is_padded = 1;
}

/* Steps until one decides, or until the next is not all there; whether one decided. */
static int run(${name}_state *s, ${name}_result *r)
{
    if ($reflects && !s->is_padded) return 0;
    int decided = 0;
    while (!decided && s->pending >= $kept + $needed) {
        decided = !s->wait;
        if (decided) {
            ${name}_decide(&s->memory, s->audio + $kept, r);
            detect(s, r);
        } else {
            hear(&s->memory, s->audio + $kept, $hop, $steps - s->wait--);
        }
        s->pending -= $advance;
        memmove(s->audio, s->audio + $advance, (size_t)s->pending * sizeof *s->audio);
    }
    return decided;
}

int ${name}_step(${name}_state *s, const int16_t *samples, ${name}_result *r)
{
    if (s->ended) return 0;
    take(s, samples, $advance);
    return run(s, r);
}

int ${name}_finish(${name}_state *s, const int16_t *samples, int count, ${name}_result *r)
{
    if (!s->ended) {
        take(s, samples, count < $advance ? count : $advance - 1);
        s->ended = 1;
        if ($reflects && !s->is_padded) return 0; /* too little to reflect */
        float *end = s->audio + s->pending;
        for (int i = 0; i < $half; ++i) end[i] = $reflects ? end[-2 - i] : 0;
        s->pending += $half;
    }
    return run(s, r);
}
"""
