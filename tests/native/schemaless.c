/* Lines in the protocols of others; they are logged as "schemaless". */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "standin.h"

typedef struct written {
    int protocol, precision, ttl;
    int64_t reqid;
    const char *table_key;
    bool raw;
} written;

/* Log and answer; the rule for all of the family is "taos_schemaless_insert". */
static TAOS_RES *write_lines(TAOS *taos, const text *lines, int number, const written *how) {
    lock();
    note_blocking();
    if (handle_get(taos, CONNECTION) == NULL) {
        set_error(DISCONNECTED, NULL);
        unlock();
        return NULL;
    }
    text key = {0};
    text_json(&key, how->table_key);
    log_event("schemaless",
              ", \"protocol\": %d, \"precision\": %d, \"ttl\": %d, \"reqid\": %" PRId64
              ", \"table_key\": %s, \"raw\": %s, \"lines\": [%s]",
              how->protocol, how->precision, how->ttl, how->reqid, key.data,
              how->raw ? "true" : "false", lines->data ? lines->data : "");
    text_free(&key);
    int32_t code = rule_for("taos_schemaless_insert");
    source *from = code ? source_error(code, taos_errstr(NULL)) : source_written(number);
    void *told = result_new(taos, from, OF_CALLER)->handle;
    unlock();
    return told;
}

static TAOS_RES *write_array(TAOS *taos, char *lines[], int number, written how) {
    text made = {0};
    for (int i = 0; i < number; i++) {
        if (i) text_bytes(&made, ",", 1);
        text_json(&made, lines[i]);
    }
    TAOS_RES *told = write_lines(taos, &made, number, &how);
    text_free(&made);
    return told;
}

EXPORT TAOS_RES *taos_schemaless_insert(TAOS *taos, char *lines[], int number, int protocol,
                                        int precision) {
    return write_array(taos, lines, number, (written){protocol, precision, 0, 0, NULL, false});
}

#ifdef HAS_3X
static TAOS_RES *write_raw(TAOS *taos, char *lines, int length, int32_t *total, written how) {
    text made = {0};
    int number = 0;
    how.raw = true;
    for (char *at = lines, *end = lines + length; at < end;) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t size = (size_t)((stop ? stop : end) - at);
        if (size) {
            if (number++) text_bytes(&made, ",", 1);
            text_json_n(&made, at, size);
        }
        at += size + 1;
    }
    TAOS_RES *told = write_lines(taos, &made, number, &how);
    if (total != NULL) *total = number;
    text_free(&made);
    return told;
}

EXPORT TAOS_RES *taos_schemaless_insert_raw(TAOS *taos, char *lines, int length, int32_t *total,
                                            int protocol, int precision) {
    return write_raw(taos, lines, length, total,
                     (written){protocol, precision, 0, 0, NULL, true});
}

EXPORT TAOS_RES *taos_schemaless_insert_ttl(TAOS *taos, char *lines[], int number, int protocol,
                                            int precision, int32_t ttl) {
    return write_array(taos, lines, number, (written){protocol, precision, ttl, 0, NULL, false});
}

EXPORT TAOS_RES *taos_schemaless_insert_raw_ttl(TAOS *taos, char *lines, int length,
                                                int32_t *total, int protocol, int precision,
                                                int32_t ttl) {
    return write_raw(taos, lines, length, total,
                     (written){protocol, precision, ttl, 0, NULL, true});
}
#endif

#ifdef HAS_LATEST
EXPORT TAOS_RES *taos_schemaless_insert_with_reqid(TAOS *taos, char *lines[], int number,
                                                   int protocol, int precision, int64_t reqid) {
    return write_array(taos, lines, number,
                       (written){protocol, precision, 0, reqid, NULL, false});
}

EXPORT TAOS_RES *taos_schemaless_insert_raw_with_reqid(TAOS *taos, char *lines, int length,
                                                       int32_t *total, int protocol, int precision,
                                                       int64_t reqid) {
    return write_raw(taos, lines, length, total,
                     (written){protocol, precision, 0, reqid, NULL, true});
}

EXPORT TAOS_RES *taos_schemaless_insert_ttl_with_reqid(TAOS *taos, char *lines[], int number,
                                                       int protocol, int precision, int32_t ttl,
                                                       int64_t reqid) {
    return write_array(taos, lines, number,
                       (written){protocol, precision, ttl, reqid, NULL, false});
}

EXPORT TAOS_RES *taos_schemaless_insert_raw_ttl_with_reqid(TAOS *taos, char *lines, int length,
                                                           int32_t *total, int protocol,
                                                           int precision, int32_t ttl,
                                                           int64_t reqid) {
    return write_raw(taos, lines, length, total,
                     (written){protocol, precision, ttl, reqid, NULL, true});
}

EXPORT TAOS_RES *taos_schemaless_insert_raw_ttl_with_reqid_tbname_key(
    TAOS *taos, char *lines, int length, int32_t *total, int protocol, int precision, int32_t ttl,
    int64_t reqid, char *table_key) {
    return write_raw(taos, lines, length, total,
                     (written){protocol, precision, ttl, reqid, table_key, true});
}

EXPORT TAOS_RES *taos_schemaless_insert_ttl_with_reqid_tbname_key(TAOS *taos, char *lines[],
                                                                  int number, int protocol,
                                                                  int precision, int32_t ttl,
                                                                  int64_t reqid, char *table_key) {
    return write_array(taos, lines, number,
                       (written){protocol, precision, ttl, reqid, table_key, false});
}
#endif
