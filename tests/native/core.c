/* The ground of the stand-in: lock, counters, handles, log, threads and the jobs they run. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "standin.h"

#define THREADS 3

/* ---- lock and time ---- */

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed; /* anything; all that wait for something look again */
static pthread_cond_t work;    /* jobs, for the pool */

__attribute__((constructor)) static void prepare(void) {
    pthread_condattr_t how;
    pthread_condattr_init(&how);
#ifndef __APPLE__
    pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&changed, &how);
    pthread_cond_init(&work, &how);
    pthread_condattr_destroy(&how);
}

void lock(void) { pthread_mutex_lock(&guard); }
void unlock(void) { pthread_mutex_unlock(&guard); }

int64_t now_us(void) {
    struct timespec time;
#ifdef __APPLE__
    clock_gettime(CLOCK_REALTIME, &time);
#else
    clock_gettime(CLOCK_MONOTONIC, &time);
#endif
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void wait_on(pthread_cond_t *what, int64_t due) {
    if (due == FOREVER) {
        pthread_cond_wait(what, &guard);
        return;
    }
    struct timespec time = {.tv_sec = due / 1000000, .tv_nsec = due % 1000000 * 1000};
    pthread_cond_timedwait(what, &guard, &time);
}

void wait_until(int64_t due) { wait_on(&changed, due); }

void wake_all(void) {
    pthread_cond_broadcast(&changed);
    pthread_cond_broadcast(&work);
}

/* ---- memory and text ---- */

void *grow(void *old, size_t size) {
    void *made = realloc(old, size ? size : 1);
    if (made == NULL) abort();
    return made;
}

void *allocate(size_t size) { return memset(grow(NULL, size), 0, size ? size : 1); }

void *copy_bytes(const void *data, size_t length) {
    char *made = grow(NULL, length + 1);
    if (length) memcpy(made, data, length);
    made[length] = 0;
    return made;
}

char *copy_text(const char *string) {
    return string == NULL ? NULL : copy_bytes(string, strlen(string));
}

void text_bytes(text *to, const char *data, size_t length) {
    if (to->length + length + 1 > to->room) {
        to->room = (to->length + length + 1) * 2;
        to->data = grow(to->data, to->room);
    }
    memcpy(to->data + to->length, data, length);
    to->length += length;
    to->data[to->length] = 0;
}

static void text_format(text *to, const char *format, va_list values) {
    va_list again;
    va_copy(again, values);
    int length = vsnprintf(NULL, 0, format, values);
    char *made = grow(NULL, (size_t)length + 1);
    vsnprintf(made, (size_t)length + 1, format, again);
    va_end(again);
    text_bytes(to, made, (size_t)length);
    free(made);
}

void text_add(text *to, const char *format, ...) {
    va_list values;
    va_start(values, format);
    text_format(to, format, values);
    va_end(values);
}

void text_json_n(text *to, const char *string, size_t length) {
    text_bytes(to, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)string[i];
        if (c == '"' || c == '\\')
            text_add(to, "\\%c", c);
        else if (c < 0x20)
            text_add(to, "\\u%04x", c);
        else
            text_bytes(to, string + i, 1);
    }
    text_bytes(to, "\"", 1);
}

void text_json(text *to, const char *string) {
    if (string == NULL)
        text_bytes(to, "null", 4);
    else
        text_json_n(to, string, strlen(string));
}

void text_hex(text *to, const void *data, size_t length) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = data;
    text_bytes(to, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        char pair[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        text_bytes(to, pair, 2);
    }
    text_bytes(to, "\"", 1);
}

void text_free(text *what) {
    free(what->data);
    memset(what, 0, sizeof *what);
}

/* ---- counters ---- */

static int64_t counts[COUNTERS_END];
#define COUNTER_TEXT(name) #name,
static const char *counter_names[] = {COUNTERS(COUNTER_TEXT)};

void count(counter which, int64_t by) {
    counts[which] += by;
    pthread_cond_broadcast(&changed);
}

int64_t counted(counter which) { return counts[which]; }

static int find_counter(const char *name) {
    for (int i = 0; i < COUNTERS_END; i++)
        if (strcmp(name, counter_names[i]) == 0) return i;
    return -1;
}

/* The counter of that name, or -1 where there is none. */
EXPORT int64_t standin_count(const char *name) {
    int which = find_counter(name);
    lock();
    int64_t value = which < 0 ? -1 : counts[which];
    unlock();
    return value;
}

/* The names of all counters, one a line. */
EXPORT const char *standin_counters(void) {
#define COUNTER_LINE(name) #name "\n"
    return COUNTERS(COUNTER_LINE);
}

/* Wait until a counter has a value (`at_least` 0) or more; 1, or 0 after the timeout. */
EXPORT int standin_wait(const char *name, int64_t value, int at_least, int64_t timeout_ms) {
    int which = find_counter(name);
    if (which < 0) return -1;
    int64_t due = now_us() + timeout_ms * 1000;
    lock();
    for (;;) {
        bool met = at_least ? counts[which] >= value : counts[which] == value;
        if (met || now_us() >= due) {
            unlock();
            return met;
        }
        wait_until(due);
    }
}

/* ---- handles ---- */

#if defined(HAS_LATEST) /* each flavour has numbers of its own */
#define FIRST_HANDLE 0x5A0000000000u
#elif defined(HAS_3X)
#define FIRST_HANDLE 0x5B0000000000u
#else
#define FIRST_HANDLE 0x5C0000000000u
#endif

typedef struct slot {
    void *object; /* NULL: dead */
    destroy_fn destroy;
    kind what;
} slot;

static slot *slots;
static size_t slot_count, slot_room;
static uint64_t slot_base = 1; /* the first handle since the last reset; no number comes twice */

static void *make_handle(uint64_t id) { return (void *)(uintptr_t)(FIRST_HANDLE + id * 16); }

void *handle_new(kind what, void *object, destroy_fn destroy) {
    if (slot_count == slot_room) {
        slot_room = slot_room ? slot_room * 2 : 256;
        slots = grow(slots, slot_room * sizeof *slots);
    }
    slots[slot_count] = (slot){object, destroy, what};
    count((counter)what, 1);
    return make_handle(slot_base + slot_count++);
}

/* The slot of a handle; NULL where it never was one. `old` where it died with a reset. */
static slot *find_slot(const void *handle, bool *old) {
    uint64_t place = (uint64_t)(uintptr_t)handle - FIRST_HANDLE;
    uint64_t id = place / 16;
    *old = false;
    if (place % 16 || id == 0 || id >= slot_base + slot_count) return NULL;
    *old = id < slot_base;
    return *old ? NULL : &slots[id - slot_base];
}

void *handle_peek(const void *handle, kind what) {
    bool old;
    slot *found = find_slot(handle, &old);
    return found != NULL && found->what == what ? found->object : NULL;
}

static void *handle_look(const void *handle, kind what, counter dead) {
    bool old;
    slot *found = find_slot(handle, &old);
    if (old || (found != NULL && found->what == what && found->object == NULL))
        count(dead, 1);
    else if (found == NULL || found->what != what)
        count(COUNT_wrong_handles, 1);
    else
        return found->object;
    return NULL;
}

void *handle_get(const void *handle, kind what) {
    return handle_look(handle, what, COUNT_use_after_free);
}

void *handle_drop(const void *handle, kind what, counter twice) {
    void *object = handle_look(handle, what, twice);
    if (object != NULL) {
        bool old;
        find_slot(handle, &old)->object = NULL;
        count((counter)what, -1);
    }
    return object;
}

/* ---- memory that the caller gives back ---- */

typedef struct gift {
    struct gift *next;
    void *data;
    counter which;
} gift;

static gift *gifts;

void *give(void *data, counter which) {
    gift *made = allocate(sizeof *made);
    *made = (gift){gifts, data, which};
    gifts = made;
    count(which, 1);
    return data;
}

void take_back(void *data, counter which) {
    if (data == NULL) return;
    lock();
    gift **at = &gifts, *found;
    while (*at != NULL && ((*at)->data != data || (*at)->which != which)) at = &(*at)->next;
    if ((found = *at) != NULL) {
        *at = found->next;
        free(found->data);
        free(found);
    }
    count(found ? which : COUNT_double_frees, found ? -1 : 1);
    unlock();
}

static void reset_gifts(void) {
    while (gifts != NULL) {
        gift *next = gifts->next;
        free(gifts->data);
        free(gifts);
        gifts = next;
    }
}

/* ---- log ---- */

typedef struct event {
    char *what, *json;
} event;

static event *events;
static size_t event_count, event_room;
static bool log_on = true;

bool logging(void) { return log_on; }

void log_event(const char *what, const char *format, ...) {
    if (!log_on) return;
    text line = {0};
    text_add(&line, "{\"kind\": \"%s\"", what);
    va_list values;
    va_start(values, format);
    text_format(&line, format, values);
    va_end(values);
    text_bytes(&line, "}", 1);
    if (event_count == event_room) {
        event_room = event_room ? event_room * 2 : 64;
        events = grow(events, event_room * sizeof *events);
    }
    events[event_count++] = (event){copy_text(what), line.data};
    count(COUNT_logged, 1);
}

/*
 * What happened, as a JSON array of objects with a member "kind"; `what` names one kind, NULL all.
 * Returns the length; nothing is written where `size` is less than that and a NUL.
 */
EXPORT int64_t standin_log(const char *what, char *to, int64_t size) {
    text all = {0};
    lock();
    text_bytes(&all, "[", 1);
    for (size_t i = 0; i < event_count; i++) {
        if (what != NULL && strcmp(what, events[i].what)) continue;
        if (all.length > 1) text_bytes(&all, ",", 1);
        text_bytes(&all, events[i].json, strlen(events[i].json));
    }
    unlock();
    text_bytes(&all, "]", 1);
    int64_t length = (int64_t)all.length;
    if (to != NULL && size > length) memcpy(to, all.data, all.length + 1);
    text_free(&all);
    return length;
}

EXPORT int standin_set(const char *name, int64_t value) {
    if (strcmp(name, "log")) return -1;
    lock();
    log_on = value != 0;
    unlock();
    return 0;
}

static void reset_log(void) {
    for (size_t i = 0; i < event_count; i++) {
        free(events[i].what);
        free(events[i].json);
    }
    free(events);
    events = NULL;
    event_count = event_room = 0;
    log_on = true;
}

/* ---- jobs and the pool ---- */

static job *first_job, *last_job;
static pthread_t pool[THREADS];
static int running;
static bool stopping;
static _Thread_local int inside; /* callbacks that this thread runs */
static _Thread_local bool of_pool;

void enter_callback(void) { inside++; }
void leave_callback(void) { inside--; }
void note_blocking(void) {
    if (inside) count(COUNT_blocking_in_callback, 1);
}

static void let_go(job *what) {
    if (what->held) count(COUNT_held, -1);
    what->held = false;
    what->due = 0;
}

static void unlink_job(job *what) {
    let_go(what);
    job *before = NULL;
    for (job *each = first_job; each != what; each = each->next) before = each;
    if (before == NULL)
        first_job = what->next;
    else
        before->next = what->next;
    if (last_job == what) last_job = before;
}

static void link_job(job *what) {
    what->held = what->due == FOREVER;
    if (what->held) count(COUNT_held, 1);
    what->next = NULL;
    if (last_job == NULL)
        first_job = what;
    else
        last_job->next = what;
    last_job = what;
}

static void *work_on(void *unused) {
    (void)unused;
    of_pool = true;
    lock();
    while (!stopping) {
        int64_t now = now_us(), soonest = FOREVER;
        job *found = NULL;
        for (job *each = first_job; each != NULL && found == NULL; each = each->next) {
            if (each->waited) continue;
            if (each->due <= now)
                found = each;
            else if (each->due < soonest)
                soonest = each->due;
        }
        if (found == NULL) {
            wait_on(&work, soonest);
            continue;
        }
        unlink_job(found);
        running++;
        unlock();
        found->run(found);
        lock();
        running--;
        wake_all();
    }
    unlock();
    return NULL;
}

void start_pool(void) {
    if (counts[COUNT_threads]) return;
    stopping = false;
    for (int i = 0; i < THREADS; i++) pthread_create(&pool[i], NULL, work_on, NULL);
    count(COUNT_threads, THREADS);
}

void submit(job *what) {
    start_pool();
    count(COUNT_outstanding, 1);
    link_job(what);
    pthread_cond_signal(&work);
}

int32_t wait_for(job *what) {
    what->waited = true;
    link_job(what);
    while (now_us() < what->due) wait_until(what->due);
    unlink_job(what);
    return what->code;
}

void job_free(job *what) {
    free(what->sql_before);
    free(what->owned);
    free(what);
}

void delivered(void) {
    count(COUNT_outstanding, -1);
    count(COUNT_delivered, 1);
}

/* End what is on its way: all of a connection's jobs, or those of one handle. */
void end_jobs(const void *conn, const void *handle, bool only_endless, int32_t code) {
    for (job *each = first_job; each != NULL; each = each->next) {
        if (conn != NULL && each->conn != conn) continue;
        if (handle != NULL && each->handle != handle) continue;
        if (only_endless && !each->endless) continue;
        each->code = code;
        let_go(each);
    }
    wake_all();
}

/* Let go what waits at a gate; the number of what waited there. */
EXPORT int standin_release(const char *gate) {
    int found = 0;
    lock();
    for (job *each = first_job; each != NULL; each = each->next) {
        if (each->gate[0] && strcmp(each->gate, gate) == 0) {
            each->gate[0] = 0;
            let_go(each);
            found++;
        }
    }
    wake_all();
    unlock();
    return found;
}

/* Throw away what nobody waits for; what is waited for ends. */
static void drop_waiting(void) {
    job *next;
    for (job *each = first_job; each != NULL; each = next) {
        next = each->next;
        if (each->waited) {
            each->code = DISCONNECTED;
            let_go(each);
            continue;
        }
        unlink_job(each);
        job_free(each);
        count(COUNT_outstanding, -1);
        count(COUNT_dropped, 1);
    }
    wake_all();
}

/* No job is left, and no callback runs (which may have made new ones); under the lock. */
static void drop_jobs(void) {
    drop_waiting();
    while (first_job != NULL || running > of_pool) {
        wait_until(FOREVER);
        drop_waiting();
    }
}

/* ---- rules ---- */

typedef struct rule {
    struct rule *next;
    char call[64], message[256];
    int32_t code;
    int64_t delay_ms;
    int times;
} rule;

static rule *rules;

/*
 * The next `times` calls of a function (-1: all) fail with `code` (0: do not), after `delay_ms`
 * (-1: after standin_release names the function). Blocking functions heed it; see rule_for().
 */
EXPORT void standin_rule(const char *call, int code, const char *message, int64_t delay_ms,
                         int times) {
    rule *made = allocate(sizeof *made);
    snprintf(made->call, sizeof made->call, "%s", call);
    snprintf(made->message, sizeof made->message, "%s", message ? message : "");
    made->code = code;
    made->delay_ms = delay_ms;
    made->times = times;
    lock();
    rule **end = &rules;
    while (*end != NULL) end = &(*end)->next;
    *end = made;
    unlock();
}

int32_t rule_for(const char *call) {
    rule *found = rules;
    while (found != NULL && (found->times == 0 || strcmp(found->call, call))) found = found->next;
    if (found == NULL) return 0;
    if (found->times > 0) found->times--;
    rule now = *found; /* a reset may come while we wait */
    if (now.delay_ms) {
        job *waiting = allocate(sizeof *waiting);
        waiting->due = now.delay_ms < 0 ? FOREVER : now_us() + now.delay_ms * 1000;
        if (now.delay_ms < 0) snprintf(waiting->gate, sizeof waiting->gate, "%s", call);
        int32_t code = wait_for(waiting);
        job_free(waiting);
        if (code) return set_error(code, NULL);
    }
    if (now.code == 0) return 0;
    return set_error(FAIL(now.code), now.message[0] ? now.message : NULL);
}

static void reset_rules(void) {
    while (rules != NULL) {
        rule *next = rules->next;
        free(rules);
        rules = next;
    }
}

/* ---- the end ---- */

/* Stop the threads; what has not been called back, is not. */
EXPORT void taos_cleanup(void) {
    pthread_t old[THREADS];
    lock();
    bool started = counts[COUNT_threads] > 0;
    if (started && !of_pool) {
        drop_jobs();
        stopping = true;
        memcpy(old, pool, sizeof old);
        count(COUNT_threads, -THREADS);
        wake_all();
    }
    unlock();
    if (started && !of_pool)
        for (int i = 0; i < THREADS; i++) pthread_join(old[i], NULL);
}

/* Forget everything: jobs, handles, answers, topics, rules, log, counters. */
EXPORT void standin_reset(void) {
    lock();
    drop_jobs();
    for (size_t i = 0; i < slot_count; i++)
        if (slots[i].object != NULL) slots[i].destroy(slots[i].object);
    slot_base += slot_count;
    free(slots);
    slots = NULL;
    slot_count = slot_room = 0;
    reset_answers();
    reset_results();
    reset_use();
#ifdef HAS_3X
    reset_topics();
#else
    reset_progress();
#endif
    reset_rules();
    reset_gifts();
    reset_log();
    int64_t threads = counts[COUNT_threads];
    memset(counts, 0, sizeof counts);
    counts[COUNT_threads] = threads;
    wake_all();
    unlock();
}
