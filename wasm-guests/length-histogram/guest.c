/* The client step `length-histogram`: how long the private texts are, in words.
 *
 *   contribute   marks the bin of each record's length, at most K bins a unit
 *   outputs      histogram.json: the noised share of units with a text in each bin
 *
 * Written in C against `crates/sandbox/wit/client.wit` alone, without the SDK: the
 * canonical ABI fixes how each type lies in memory, and the names below are what
 * makes the module fit the world. It doubles as the example for other languages.
 *
 * Deliberately absent: a C library, and freeing memory. An instance of the private
 * side lives for one unit, the public side for one short histogram. */

#include <stddef.h>
#include <stdint.h>

#define KERNELS "noisegate:client/kernels@0.1.0"
#define PUBLIC "noisegate:client/public-side@0.1.0#"
#define PRIVATE "noisegate:client/private-side@0.1.0#"
#define IMPORT(name) __attribute__((import_module(KERNELS), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

/* ---- The world's types, as the canonical ABI lays them out ---- */

typedef struct { const uint8_t *at; uint32_t len; } bytes;      /* string, list<u8> */
typedef struct { bytes text, label; } text_record;
typedef struct { bytes name, data; } file;
typedef struct { uint32_t dim, queries; bytes tensors, context; } setup;

typedef struct { uint8_t failed; union { setup ok; bytes problem; }; } start_result;
typedef struct { uint8_t failed; union { struct { const file *at; uint32_t len; } ok; bytes problem; }; } outputs_result;

enum { ASK = 0, WORKING = 1, DONE = 2 };
typedef struct { uint8_t kind; bytes tensors, context; } turn;

_Static_assert(offsetof(start_result, ok) == 4 && sizeof(setup) == 24, "result<setup, string>");
_Static_assert(sizeof(text_record) == 16 && sizeof(file) == 16, "two lists each");

IMPORT("[method]accum.add") void accum_add(uint32_t into, uint64_t offset, const float *values, uint32_t len);
IMPORT("[resource-drop]accum") void accum_drop(uint32_t into);

/* ---- Memory: handed out, never taken back ---- */

extern uint8_t __heap_base;
static uintptr_t heap;

EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    if (!heap) heap = (uintptr_t)&__heap_base;
    uintptr_t place = (heap + align - 1) & ~(uintptr_t)(align - 1);
    uintptr_t end = place + size;
    uintptr_t have = __builtin_wasm_memory_size(0) << 16;
    if (end < place) __builtin_trap();
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + 0xffff) >> 16) == (size_t)-1) __builtin_trap();
    heap = end;
    for (size_t i = 0; old && i < old_size && i < size; i++) ((uint8_t *)place)[i] = ((uint8_t *)old)[i];
    return (void *)place;
}

/* ---- The bins ---- */

enum { BINS = 9, VOTES_MAX = BINS };
/* A text of at most so many words falls into the bin. */
static const uint32_t UP_TO[BINS] = { 0, 2, 4, 8, 16, 32, 64, 128, UINT32_MAX };

static uint32_t words(bytes text) {
    uint32_t count = 0, inside = 0;
    for (uint32_t i = 0; i < text.len; i++) {
        uint32_t space = text.at[i] <= ' ';
        count += inside == 0 && !space;
        inside = !space;
    }
    return count;
}

/* ---- Private side ---- */

EXPORT(PRIVATE "contribute")
void contribute(const text_record *records, uint32_t len, const uint8_t *setup_at, uint32_t setup_len,
                const uint8_t *query_at, uint32_t query_len, const uint32_t *tensors, uint32_t tensors_len,
                uint32_t into) {
    (void)query_at, (void)query_len, (void)tensors, (void)tensors_len;
    uint32_t votes = setup_len ? setup_at[0] : 0, marked = 0;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t count = words(records[i].text), bin = 0;
        while (count > UP_TO[bin]) bin++;
        marked |= 1u << bin;
    }
    /* The shortest of a unit's lengths, if it has more than it may vote for. */
    for (uint32_t bin = 0; bin < BINS; bin++) {
        float one = 1.0f;
        if (!(marked >> bin & 1) || !votes) continue;
        accum_add(into, bin, &one, 1);
        votes--;
    }
    accum_drop(into);
}

/* ---- Public side ---- */

static uint32_t queries, asked, absorbed;
static float shares[BINS];

/* The number after `"name":` in the configuration, or 0. */
static uint32_t number(bytes json, const char *name) {
    for (uint32_t i = 0; i < json.len; i++) {
        uint32_t at = i, k = 0;
        while (at < json.len && name[k] && json.at[at] == (uint8_t)name[k]) at++, k++;
        if (name[k]) continue;
        while (at < json.len && (json.at[at] == ' ' || json.at[at] == ':')) at++;
        uint32_t value = 0;
        for (; at < json.len && json.at[at] >= '0' && json.at[at] <= '9'; at++) value = value * 10 + (json.at[at] - '0');
        return value;
    }
    return 0;
}

static bytes text(const char *words) {
    uint32_t len = 0;
    while (words[len]) len++;
    return (bytes){ (const uint8_t *)words, len };
}

EXPORT(PUBLIC "start")
start_result *start(const uint8_t *config, uint32_t config_len, const file *inputs, uint32_t inputs_len) {
    static start_result result;
    static uint8_t context[1];
    (void)inputs, (void)inputs_len;
    bytes json = { config, config_len };
    uint32_t votes = number(json, "\"votes_per_unit\"");
    queries = number(json, "\"steps\"");
    if (!votes || !queries) {
        result.failed = 1;
        result.problem = text("this step needs the mechanism `votes`; see its plugin.toml");
        return &result;
    }
    context[0] = votes < VOTES_MAX ? votes : VOTES_MAX;
    result.ok = (setup){ BINS, queries, { 0, 0 }, { context, 1 } };
    return &result;
}

EXPORT(PUBLIC "next")
turn *next(void) {
    static turn result;
    result = (turn){ asked < queries ? ASK : DONE, { 0, 0 }, { 0, 0 } };
    asked += asked < queries;
    return &result;
}

EXPORT(PUBLIC "absorb")
void absorb(const float *released, uint32_t len) {
    absorbed++;
    for (uint32_t bin = 0; bin < BINS && bin < len; bin++) shares[bin] += (released[bin] - shares[bin]) / (float)absorbed;
}

/* ---- Writing JSON ---- */

static uint8_t json[1024];
static uint32_t json_len;

static void put(const char *words) {
    while (*words && json_len < sizeof json) json[json_len++] = (uint8_t)*words++;
}

static void put_number(uint32_t value, uint32_t digits_min) {
    char digits[12];
    uint32_t at = sizeof digits - 1;
    digits[at] = 0;
    do digits[--at] = (char)('0' + value % 10), value /= 10; while (value || sizeof digits - 1 - at < digits_min);
    put(&digits[at]);
}

/* Six places after the point. */
static void put_share(float share) {
    if (share < 0) put("-"), share = -share;
    if (!(share < 4000)) share = 4000;
    uint32_t millionths = (uint32_t)(share * 1e6f + 0.5f);
    put_number(millionths / 1000000, 1);
    put(".");
    put_number(millionths % 1000000, 6);
}

EXPORT(PUBLIC "outputs")
outputs_result *outputs(void) {
    static outputs_result result;
    static file made;
    json_len = 0;
    put("{\"unit\":\"words\",\"bins\":[");
    for (uint32_t bin = 0; bin < BINS; bin++) {
        put(bin ? ",{\"from\":" : "{\"from\":");
        put_number(bin ? UP_TO[bin - 1] + 1 : 0, 1);
        put(",\"to\":");
        if (bin + 1 < BINS) put_number(UP_TO[bin], 1); else put("null");
        put(",\"share\":");
        put_share(shares[bin]);
        put("}");
    }
    put("]}\n");
    made = (file){ text("histogram.json"), { json, json_len } };
    result.ok.at = &made;
    result.ok.len = 1;
    return &result;
}
