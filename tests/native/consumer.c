/* Consumers: settings, subscribing, polling, offsets. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer.h"

#ifdef HAS_3X

/* ---- settings ---- */

typedef struct setting {
    struct setting *next;
    char *key, *value;
} setting;

typedef struct conf {
    setting *settings;
    commit_fn fn;
    void *param;
} conf;

static void destroy_conf(void *object) {
    conf *of = object;
    while (of->settings != NULL) {
        setting *next = of->settings->next;
        free(of->settings->key);
        free(of->settings->value);
        free(of->settings);
        of->settings = next;
    }
    free(of);
}

static const char *setting_of(const conf *of, const char *key, const char *otherwise) {
    for (const setting *each = of->settings; each != NULL; each = each->next)
        if (strcmp(each->key, key) == 0) return each->value;
    return otherwise;
}

EXPORT void *tmq_conf_new(void) {
    lock();
    void *made = handle_new(CONF, allocate(sizeof(conf)), destroy_conf);
    unlock();
    return made;
}

EXPORT void tmq_conf_destroy(void *handle) {
    if (handle == NULL) return;
    lock();
    conf *of = handle_drop(handle, CONF, COUNT_double_closes);
    if (of != NULL) destroy_conf(of);
    unlock();
}

static bool is_one_of(const char *value, const char *const *values) {
    while (*values != NULL && strcmp(*values, value)) values++;
    return *values != NULL;
}

/* 0, -1: not a value of that key, -2: no such key. */
static int check_setting(const char *key, const char *value) {
    static const char *const texts[] = {"group.id", "client.id", "td.connect.ip",
                                        "td.connect.user", "td.connect.pass", "td.connect.db",
                                        "td.connect.token", NULL};
    static const char *const flags[] = {"enable.auto.commit", "msg.with.table.name",
                                        "experimental.snapshot.enable", "enable.replay",
                                        "msg.consume.excluded", "msg.consume.rawdata",
                                        "msg.enable.batchmeta", NULL};
    static const char *const numbers[] = {"auto.commit.interval.ms", "td.connect.port",
                                          "session.timeout.ms", "max.poll.interval.ms",
                                          "fetch.max.wait.ms", "min.poll.rows",
                                          "heartbeat.interval.ms", NULL};
    static const char *const booleans[] = {"true", "false", "0", "1", NULL};
    static const char *const starts[] = {"earliest", "latest", "none", NULL};
    char *end;
    if (is_one_of(key, texts)) return value[0] && strlen(value) <= 192 ? 0 : -1;
    if (is_one_of(key, flags)) return is_one_of(value, booleans) ? 0 : -1;
    if (strcmp(key, "auto.offset.reset") == 0) return is_one_of(value, starts) ? 0 : -1;
    if (!is_one_of(key, numbers)) return -2;
    return strtoll(value, &end, 10) > 0 && *end == 0 ? 0 : -1;
}

EXPORT int tmq_conf_set(void *handle, const char *key, const char *value) {
    if (key == NULL || value == NULL) return -1;
    int code = check_setting(key, value);
    lock();
    conf *of = handle_get(handle, CONF);
    if (of == NULL) code = -1;
    if (!code) {
        setting *made = allocate(sizeof *made);
        *made = (setting){of->settings, copy_text(key), copy_text(value)};
        of->settings = made;
    }
    unlock();
    return code;
}

EXPORT void tmq_conf_set_auto_commit_cb(void *handle, commit_fn fn, void *param) {
    lock();
    conf *of = handle_get(handle, CONF);
    if (of != NULL) {
        of->fn = fn;
        of->param = param;
    }
    unlock();
}

/* ---- life ---- */

static void forget_topics(consumer *of) {
    for (int i = 0; i < of->topic_count; i++) free(of->topics[i]);
    free(of->topics);
    of->topics = NULL;
    of->topic_count = 0;
    of->subscribed = false;
}

static consumer *consumers;

static void unlink_consumer(const consumer *of) {
    consumer **at = &consumers;
    while (*at != NULL && *at != of) at = &(*at)->next;
    if (*at != NULL) *at = of->next;
}

static void destroy(void *object) {
    consumer *of = object; /* its connection has a handle of its own */
    unlink_consumer(of);
    forget_topics(of);
    free(of->group);
    free(of->client);
    free(of);
}

static void destroy_connection(void *object) { free(object); }

static bool is_true(const char *value) { return value[0] == 't' || value[0] == '1'; }

static consumer *make_consumer(const conf *from) {
    consumer *made = allocate(sizeof *made);
    const char *start = setting_of(from, "auto.offset.reset", "latest");
    made->group = copy_text(setting_of(from, "group.id", NULL));
    made->client = copy_text(setting_of(from, "client.id", ""));
    made->auto_commit = is_true(setting_of(from, "enable.auto.commit", "true"));
    made->interval = 1000 * atoll(setting_of(from, "auto.commit.interval.ms", "5000"));
    made->start = start[0] == 'e' ? EARLIEST : start[0] == 'l' ? LATEST : NONE;
    made->fn = from->fn;
    made->param = from->param;
    made->handle = handle_new(CONSUMER, made, destroy);
    made->conn = allocate(sizeof *made->conn);
    made->conn->owned = true;
    made->conn->handle = handle_new(CONNECTION, made->conn, destroy_connection);
    consumer **end = &consumers;
    while (*end != NULL) end = &(*end)->next;
    *end = made;
    return made;
}

EXPORT void *tmq_consumer_new(void *handle, char *told, int32_t size) {
    lock();
    note_blocking();
    start_pool();
    int32_t code = rule_for("tmq_consumer_new");
    conf *from = handle_get(handle, CONF);
    if (!code && (from == NULL || setting_of(from, "group.id", NULL) == NULL))
        code = set_error(INVALID_PARAMETER, NULL);
    if (!code && strcmp(setting_of(from, "td.connect.pass", "taosdata"), "taosdata"))
        code = set_error(AUTH_FAILURE, NULL);
    void *made = code ? NULL : make_consumer(from)->handle;
    unlock();
    if (code && told != NULL && size > 0)
        snprintf(told, (size_t)size, "%s", taos_errstr(NULL));
    return made;
}

/* The beginning of a call: under the lock, the consumer, or NULL and the code. */
static consumer *begin(void *handle, const char *call, int32_t *code) {
    lock();
    note_blocking();
    *code = rule_for(call);
    consumer *of = handle_get(handle, CONSUMER);
    if (of == NULL) *code = set_error(INVALID_PARAMETER, NULL);
    if (of != NULL && of->in_use) count(COUNT_concurrent_uses, 1);
    return *code ? NULL : of;
}

/* ---- who has what ---- */

static bool reads(const consumer *of, const char *name) {
    for (int i = 0; i < of->topic_count; i++)
        if (strcmp(of->topics[i], name) == 0) return true;
    return false;
}

/* The vgroups of a topic go by turns to the consumers of the group that subscribed to it. */
static bool has(const consumer *of, const topic *what, int index) {
    int number = 0, mine = -1;
    for (const consumer *each = consumers; each != NULL; each = each->next) {
        if (strcmp(each->group, of->group) || !reads(each, what->name)) continue;
        if (each == of) mine = number;
        number++;
    }
    return mine >= 0 && index % number == mine;
}

/* The place of a vgroup that the consumer has; its position is known then. */
static place *hold(const consumer *of, topic *what, int index) {
    if (!has(of, what, index)) return NULL;
    place *at = place_of(of->group, what, &what->vgroups[index]);
    if (at->owner != of->handle) at->position = -1;
    at->owner = of->handle;
    bool known = at->position >= at->in->begin; /* what was before the first is gone */
    if (!known && at->committed >= at->in->begin)
        at->position = at->committed;
    else if (!known && of->start != NONE)
        at->position = of->start == EARLIEST ? at->in->begin : at->in->end;
    if (!known) at->saved = at->position;
    return at;
}

/* The place that a call names, or NULL and the code. */
static place *named(const consumer *of, const char *name, int id, int32_t *code) {
    topic *what = find_topic(name);
    vgroup *in = what ? find_vgroup(what, id) : NULL;
    place *at = in ? hold(of, what, (int)(in - what->vgroups)) : NULL;
    if (at == NULL) *code = set_error(what && reads(of, name) ? NO_VGROUP : NO_TOPIC, NULL);
    return at;
}

/* ---- committing ---- */

typedef struct step {
    place *at;
    int64_t offset;
} step;

/* All that has been polled; the number of steps, which the caller frees. */
static int all_steps(const consumer *of, step **steps) {
    int number = 0;
    *steps = NULL;
    for (int i = 0; i < of->topic_count; i++) {
        topic *what = find_topic(of->topics[i]);
        for (int k = 0; what != NULL && k < what->count; k++) {
            place *at = hold(of, what, k);
            if (at == NULL || at->position < 0 || at->position == at->saved) continue;
            *steps = grow(*steps, (size_t)(number + 1) * sizeof **steps);
            (*steps)[number++] = (step){at, at->position};
        }
    }
    return number;
}

/* What a message or, for NULL, everything polled commits. */
static int message_steps(const consumer *of, const TAOS_RES *res, step **steps, int32_t *code) {
    *steps = NULL;
    if (res == NULL) return all_steps(of, steps);
    result *from = handle_get(res, RESULT);
    if (from == NULL || !from->is_message) {
        *code = set_error(INVALID_PARAMETER, NULL);
        return 0;
    }
    place *at = named(of, from->topic, from->vgroup, code);
    if (at == NULL) return 0;
    *steps = allocate(sizeof **steps);
    **steps = (step){at, from->offset + 1};
    return 1;
}

static void commit(const step *steps, int number) {
    for (int i = 0; i < number; i++) {
        place *at = steps[i].at;
        at->committed = steps[i].offset;
        if (at->committed == at->position) at->saved = at->position;
        count(COUNT_commits, 1);
        log_event("commit",
                  ", \"group\": \"%s\", \"topic\": \"%s\", \"vgroup\": %d, \"offset\": %" PRId64,
                  at->group, at->of->name, at->in->id, at->committed);
    }
}

static void commit_all(const consumer *of) {
    step *steps;
    commit(steps, all_steps(of, &steps));
    free(steps);
}

/* A callback of a commit; what it commits is in the job, the consumer may be gone. */
static void run_commit(job *what) {
    lock();
    int32_t code = what->code;
    if (!code) code = rule_for("tmq_commit_async");
    if (!code) commit(what->owned, (int)what->value);
    void *handle = handle_peek(what->handle, CONSUMER) ? what->handle : NULL;
    unlock();
    if (what->fn.commit != NULL) {
        enter_callback();
        what->fn.commit(handle, code, what->param);
        leave_callback();
    }
    lock();
    delivered();
    unlock();
    job_free(what);
}

/* Commit on a thread of the pool, or tell at once that there is nothing; leaves the lock. */
static void commit_later(void *handle, step *steps, int number, int32_t code, commit_fn fn,
                         void *param) {
    job *made = allocate(sizeof *made);
    made->run = run_commit;
    made->handle = handle;
    made->owned = steps;
    made->value = number;
    made->code = code;
    made->fn.commit = fn;
    made->param = param;
    bool at_once = code || number == 0;
    if (at_once)
        count(COUNT_outstanding, 1);
    else
        submit(made);
    unlock();
    if (at_once) run_commit(made);
}

EXPORT int32_t tmq_commit_sync(void *handle, const TAOS_RES *res) {
    int32_t code;
    consumer *of = begin(handle, "tmq_commit_sync", &code);
    step *steps = NULL;
    int number = of ? message_steps(of, res, &steps, &code) : 0;
    if (!code) commit(steps, number);
    free(steps);
    unlock();
    return code;
}

EXPORT void tmq_commit_async(void *handle, const TAOS_RES *res, commit_fn fn, void *param) {
    int32_t code = 0;
    step *steps = NULL;
    lock();
    consumer *of = handle_get(handle, CONSUMER);
    if (of == NULL) code = set_error(INVALID_PARAMETER, NULL);
    int number = of ? message_steps(of, res, &steps, &code) : 0;
    commit_later(handle, steps, number, code, fn, param);
}

/* An offset that a call names: between the first of the vgroup and the one after the last. */
static place *named_offset(const consumer *of, const char *name, int id, int64_t offset,
                           int32_t *code) {
    place *at = named(of, name, id, code);
    if (at == NULL || (offset >= at->in->begin && offset <= at->in->end)) return at;
    *code = set_error(OFFSET_OUT_OF_RANGE, NULL);
    return NULL;
}

#ifdef HAS_LATEST
EXPORT int32_t tmq_commit_offset_sync(void *handle, const char *name, int32_t id,
                                      int64_t offset) {
    int32_t code;
    consumer *of = begin(handle, "tmq_commit_offset_sync", &code);
    place *at = of ? named_offset(of, name, id, offset, &code) : NULL;
    if (at != NULL) commit(&(step){at, offset}, 1);
    unlock();
    return code;
}

EXPORT void tmq_commit_offset_async(void *handle, const char *name, int32_t id, int64_t offset,
                                    commit_fn fn, void *param) {
    int32_t code = 0;
    step *steps = NULL;
    lock();
    consumer *of = handle_get(handle, CONSUMER);
    if (of == NULL) code = set_error(INVALID_PARAMETER, NULL);
    place *at = of ? named_offset(of, name, id, offset, &code) : NULL;
    if (at != NULL) {
        steps = allocate(sizeof *steps);
        *steps = (step){at, offset};
    }
    commit_later(handle, steps, at != NULL, code, fn, param);
}

EXPORT int64_t tmq_position(void *handle, const char *name, int32_t id) {
    int32_t code;
    consumer *of = begin(handle, "tmq_position", &code);
    place *at = of ? named(of, name, id, &code) : NULL;
    int64_t told = at == NULL ? code : at->position < 0 ? NO_COMMITTED : at->position;
    unlock();
    return told;
}

EXPORT int64_t tmq_committed(void *handle, const char *name, int32_t id) {
    int32_t code;
    consumer *of = begin(handle, "tmq_committed", &code);
    place *at = of ? named(of, name, id, &code) : NULL;
    int64_t told = at == NULL ? code : at->committed < 0 ? NO_COMMITTED : at->committed;
    unlock();
    return told;
}
#endif

/* ---- subscribing ---- */

EXPORT int32_t tmq_subscribe(void *handle, const void *names) {
    int32_t code;
    consumer *of = begin(handle, "tmq_subscribe", &code);
    list *asked = of ? list_get(names) : NULL;
    if (of != NULL && asked == NULL) code = set_error(INVALID_PARAMETER, NULL);
    for (int i = 0; !code && i < asked->count; i++)
        if (find_topic(asked->items[i]) == NULL) code = set_error(NO_TOPIC, NULL);
    if (!code) {
        text line = {0};
        forget_topics(of);
        of->topics = allocate((size_t)asked->count * sizeof *of->topics);
        for (int i = 0; i < asked->count; i++) {
            of->topics[of->topic_count++] = copy_text(asked->items[i]);
            if (i) text_bytes(&line, ",", 1);
            text_json(&line, asked->items[i]);
        }
        log_event("subscribe", ", \"group\": \"%s\", \"client\": \"%s\", \"topics\": [%s]",
                  of->group, of->client, line.data ? line.data : "");
        text_free(&line);
        of->subscribed = of->topic_count > 0;
        of->committed_at = now_us();
        for (int i = 0; i < of->topic_count; i++) {
            topic *what = find_topic(of->topics[i]);
            for (int k = 0; k < what->count; k++) hold(of, what, k); /* "latest" is now */
        }
    }
    unlock();
    return code;
}

EXPORT int32_t tmq_unsubscribe(void *handle) {
    int32_t code;
    consumer *of = begin(handle, "tmq_unsubscribe", &code);
    if (of != NULL) {
        if (of->auto_commit) commit_all(of);
        forget_topics(of);
        wake_all();
    }
    unlock();
    return code;
}

EXPORT int32_t tmq_subscription(void *handle, void **names) {
    lock();
    consumer *of = handle_get(handle, CONSUMER);
    if (of != NULL) *names = list_make(of->topics, of->topic_count);
    unlock();
    return of ? 0 : INVALID_PARAMETER;
}

EXPORT int32_t tmq_consumer_close(void *handle) {
    lock();
    note_blocking();
    int32_t code = rule_for("tmq_consumer_close"); /* the consumer is gone all the same */
    consumer *of = handle_drop(handle, CONSUMER, COUNT_double_closes);
    if (of != NULL) {
        if (of->in_use) count(COUNT_concurrent_uses, 1);
        of->closing = true;
        unlink_consumer(of);
        wake_all();
        while (of->in_use) wait_until(FOREVER);
        /* its handle is dead: nobody holds anything, so what it had is committed by itself */
        for (int i = 0; of->auto_commit && i < of->topic_count; i++) {
            topic *what = find_topic(of->topics[i]);
            for (int k = 0; what != NULL && k < what->count; k++) {
                place *at = place_of(of->group, what, &what->vgroups[k]);
                bool moved = at->position >= 0 && at->position != at->saved;
                if (at->owner == handle && moved) commit(&(step){at, at->position}, 1);
            }
        }
        connection *conn = handle_drop(of->conn->handle, CONNECTION, COUNT_double_closes);
        free(conn);
        destroy(of);
    }
    unlock();
    return of ? code : INVALID_PARAMETER;
}

/* ---- polling ---- */

static TAOS_RES *deliver(const consumer *of, place *at, const message *what) {
    result *made = result_new(of->conn->handle, source_keep(what->from), OF_CALLER);
    made->is_message = true;
    made->topic = copy_text(at->of->name);
    made->db = copy_text(at->of->db);
    made->json = copy_text(what->json);
    made->vgroup = at->in->id;
    made->message_type = what->type;
    made->offset = what->offset;
    at->position = what->offset + 1;
    return made->handle;
}

/* The next message of any vgroup the consumer has; the vgroups take turns. */
static TAOS_RES *take(consumer *of, int32_t *code) {
    int number = 0;
    place *found[256];
    for (int i = 0; i < of->topic_count; i++) {
        topic *what = find_topic(of->topics[i]);
        for (int k = 0; what != NULL && k < what->count && number < 256; k++) {
            place *at = hold(of, what, k);
            if (at != NULL) found[number++] = at;
        }
    }
    for (int i = 0; i < number; i++) {
        place *at = found[(of->turn + i) % number];
        if (at->position < 0) *code = set_error(NO_COMMITTED, NULL); /* auto.offset.reset none */
        for (int k = 0; at->position >= 0 && k < at->in->count; k++) {
            const message *what = &at->in->messages[k];
            if (what->offset < at->position) continue;
            of->turn = (of->turn + i + 1) % number;
            return deliver(of, at, what);
        }
    }
    return NULL;
}

/* Commits that are due are made by polls, as in libtaos; leaves and takes the lock. */
static void commit_on_time(consumer *of) {
    int64_t now = now_us();
    if (!of->auto_commit || now - of->committed_at < of->interval) return;
    step *steps;
    int number = all_steps(of, &steps);
    of->committed_at = now;
    if (number == 0) return;
    commit_later(of->handle, steps, number, 0, of->fn, of->param);
    lock();
}

static void note_thread(consumer *of) {
    pthread_t here = pthread_self();
    if (of->polled && !pthread_equal(of->thread, here)) count(COUNT_poll_threads, 1);
    of->thread = here;
    of->polled = true;
}

EXPORT TAOS_RES *tmq_consumer_poll(void *handle, int64_t timeout) {
    int32_t code;
    consumer *of = begin(handle, "tmq_consumer_poll", &code);
    TAOS_RES *res = NULL;
    if (of != NULL && (of->in_use || !of->subscribed)) code = set_error(NOT_SUBSCRIBED, NULL);
    if (!code) {
        count(COUNT_polls, 1);
        note_thread(of);
        of->in_use = true;
        commit_on_time(of);
        int64_t due = timeout < 0 ? FOREVER : now_us() + timeout * 1000;
        while (!of->closing && !(res = take(of, &code)) && !code && now_us() < due)
            wait_until(due);
        if (of->closing) code = set_error(CONSUMER_CLOSED, NULL);
        if (!code) set_error(0, NULL);
        of->in_use = false;
        wake_all();
    }
    unlock();
    return res;
}

/* ---- where it is ---- */

typedef struct assignment {
    int32_t id;
    int64_t current, begin, end;
} assignment;

EXPORT int32_t tmq_get_topic_assignment(void *handle, const char *name, assignment **to,
                                        int32_t *number) {
    int32_t code;
    consumer *of = begin(handle, "tmq_get_topic_assignment", &code);
    topic *what = of ? find_topic(name) : NULL;
    if (of != NULL && (what == NULL || !reads(of, name))) code = set_error(NO_TOPIC, NULL);
    *number = 0;
    *to = NULL;
    if (!code) {
        *to = give(allocate((size_t)what->count * sizeof **to), COUNT_assignments);
        for (int i = 0; i < what->count; i++) {
            const place *at = hold(of, what, i);
            if (at == NULL) continue;
            int64_t current = at->position < 0 ? at->in->begin : at->position;
            (*to)[(*number)++] = (assignment){at->in->id, current, at->in->begin, at->in->end};
        }
    }
    unlock();
    return code;
}

EXPORT void tmq_free_assignment(assignment *what) { take_back(what, COUNT_assignments); }

EXPORT int32_t tmq_offset_seek(void *handle, const char *name, int32_t id, int64_t offset) {
    int32_t code;
    consumer *of = begin(handle, "tmq_offset_seek", &code);
    place *at = of ? named_offset(of, name, id, offset, &code) : NULL;
    if (at != NULL) {
        at->position = offset;
        log_event("seek", ", \"topic\": \"%s\", \"vgroup\": %d, \"offset\": %" PRId64, name, id,
                  offset);
    }
    unlock();
    return code;
}

EXPORT TAOS *tmq_get_connect(void *handle) {
    lock();
    consumer *of = handle_get(handle, CONSUMER);
    void *conn = of ? of->conn->handle : NULL;
    unlock();
    return conn;
}

#else
typedef int no_consumers; /* an empty file is no C */
#endif
