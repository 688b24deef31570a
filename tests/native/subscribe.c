/*
 * Subscriptions of 2.x: every interval the next block of what the statement is answered with, and
 * empty results once there is none.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "standin.h"

#ifndef HAS_3X

typedef struct progress {
    struct progress *next;
    char *topic;
    int64_t at; /* the next block, or generated row */
} progress;

typedef struct subscription {
    void *handle, *conn;
    char *topic, *sql;
    subscribe_fn fn;
    void *param;
    int64_t interval, consumed_at; /* microseconds */
    result *got;
    bool closing, calling;
    bool awaited; /* by a thread that unsubscribes: it ends the subscription, not the tick */
} subscription;

static progress *all_progress;
static _Thread_local const subscription *calling;

static progress **find_progress(const char *topic) {
    progress **found = &all_progress;
    while (*found != NULL && strcmp((*found)->topic, topic)) found = &(*found)->next;
    return found;
}

static progress *progress_of(const char *topic) {
    progress **found = find_progress(topic);
    if (*found == NULL) {
        *found = allocate(sizeof **found);
        (*found)->topic = copy_text(topic);
    }
    return *found;
}

static void forget_progress(const char *topic) {
    progress **found = find_progress(topic), *gone = *found;
    if (gone == NULL) return;
    *found = gone->next;
    free(gone->topic);
    free(gone);
}

void reset_progress(void) {
    while (all_progress != NULL) forget_progress(all_progress->topic);
}

static void destroy(void *object) {
    subscription *of = object; /* its result has a handle of its own */
    free(of->topic);
    free(of->sql);
    free(of);
}

static void end(subscription *of) {
    result_drop_owned(of->got);
    destroy(of);
}

/* The result of one interval; NULL, and the last error is set, where the statement fails. */
static result *next_result(subscription *of) {
    connection *conn = handle_peek(of->conn, CONNECTION);
    script how;
    char *bare = script_read(of->sql, &how);
    source *from = conn ? answer_for(conn, of->sql, bare, &how) : source_error(DISCONNECTED, NULL);
    free(bare);
    result_drop_owned(of->got);
    of->got = NULL;
    if (from->code) {
        set_error(from->code, from->message);
        source_drop(from);
        return NULL;
    }
    progress *at = progress_of(of->topic);
    bool generated = from->generated >= 0;
    int64_t all = generated ? from->generated : from->nblocks;
    of->got = result_new(of->conn, from, OF_SUBSCRIPTION);
    of->got->next = at->at;
    at->at += generated ? from->per_block : 1;
    if (at->at > all) at->at = all;
    of->got->until = at->at;
    of->consumed_at = now_us();
    return of->got;
}

/* ---- with a callback ---- */

static void tick(job *what);

static void schedule(subscription *of) {
    job *made = allocate(sizeof *made);
    made->run = tick;
    made->handle = of->handle;
    made->object = of;
    made->due = now_us() + of->interval;
    submit(made); /* it is outstanding as long as the subscription lasts */
}

static void tick(job *what) {
    subscription *of = what->object;
    lock();
    if (!of->closing) {
        result *got = next_result(of);
        void *res = got ? got->handle : NULL;
        int32_t code = got ? 0 : taos_errno(NULL);
        of->calling = true;
        unlock();
        enter_callback();
        calling = of;
        of->fn(of->handle, res, of->param, code);
        calling = NULL;
        leave_callback();
        lock();
        of->calling = false;
        count(COUNT_delivered, 1);
    }
    count(COUNT_outstanding, -1);
    if (!of->closing)
        schedule(of);
    else if (!of->awaited)
        end(of);
    wake_all();
    unlock();
    job_free(what);
}

/* ---- functions ---- */

EXPORT void *taos_subscribe(TAOS *taos, int restart, const char *topic, const char *sql,
                            subscribe_fn fn, void *param, int interval) {
    lock();
    note_blocking();
    int32_t code = rule_for("taos_subscribe");
    if (!code && handle_get(taos, CONNECTION) == NULL) code = set_error(DISCONNECTED, NULL);
    if (!code && !starts_with(sql, "select")) code = set_error(SYNTAX_ERROR, NULL);
    subscription *made = NULL;
    if (!code) {
        made = allocate(sizeof *made);
        made->conn = taos;
        made->topic = copy_text(topic);
        made->sql = copy_text(sql);
        made->fn = fn;
        made->param = param;
        made->interval = (int64_t)interval * 1000;
        made->consumed_at = -made->interval;
        made->handle = handle_new(SUBSCRIPTION, made, destroy);
        if (restart) forget_progress(topic);
        if (fn != NULL) schedule(made);
    }
    unlock();
    return made ? made->handle : NULL;
}

/* Blocks until the interval since the call before is over. */
EXPORT TAOS_RES *taos_consume(void *sub) {
    lock();
    note_blocking();
    int32_t code = rule_for("taos_consume");
    subscription *of = handle_get(sub, SUBSCRIPTION);
    if (!code && (of == NULL || of->fn != NULL)) code = set_error(INVALID_OPERATION, NULL);
    while (!code && now_us() < of->consumed_at + of->interval) {
        wait_until(of->consumed_at + of->interval);
        of = handle_peek(sub, SUBSCRIPTION);
        if (of == NULL) code = set_error(INVALID_OPERATION, NULL);
    }
    result *got = code ? NULL : next_result(of);
    TAOS_RES *told = got ? got->handle : NULL;
    unlock();
    return told;
}

EXPORT void taos_unsubscribe(void *sub, int keep_progress) {
    lock();
    subscription *of = handle_drop(sub, SUBSCRIPTION, COUNT_double_closes);
    if (of != NULL) {
        if (!keep_progress) forget_progress(of->topic);
        of->closing = true;
        of->awaited = of->fn == NULL || (of->calling && calling != of);
        end_jobs(NULL, sub, false, 0); /* its tick comes now */
        while (of->awaited && of->calling) wait_until(FOREVER);
        if (of->awaited) end(of);
    }
    unlock();
}

#endif
