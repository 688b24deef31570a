/* Prepared statements: what both generations do alike, and the first generation's functions. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "statement.h"

_Thread_local statement *executing;

/* ---- life ---- */

static void forget_bound(statement *of) {
    text_free(&of->tags);
    text_free(&of->binds);
    free(of->table);
    of->table = NULL;
    of->bind_count = 0;
    of->rows = 0;
    of->unbatched = false;
}

static void forget_sql(statement *of) {
    free(of->sql);
    free(of->bare);
    of->sql = of->bare = NULL;
}

static void destroy(void *object) {
    statement *of = object; /* its result has a handle of its own and goes with that */
    forget_bound(of);
    forget_sql(of);
    free(of);
}

void statement_free(statement *of) {
    result_drop_owned(of->got);
    destroy(of);
}

statement *statement_new(void *conn, bool second) {
    if (handle_get(conn, CONNECTION) == NULL) {
        set_error(DISCONNECTED, NULL);
        return NULL;
    }
    statement *made = allocate(sizeof *made);
    made->conn = conn;
    made->second = second;
    made->handle = handle_new(STATEMENT, made, destroy);
    return made;
}

statement *statement_get(void *handle) {
    statement *found = handle_get(handle, STATEMENT);
    if (found == NULL) set_error(INVALID_PARAMETER, NULL);
    return found;
}

int32_t statement_fail(statement *of, int32_t code, const char *message) {
    snprintf(of->error, sizeof of->error, "%s", message ? message : error_text(code));
    return set_error(code, of->error);
}

const char *statement_error(void *handle) {
    lock();
    statement *of = statement_get(handle);
    const char *told = of && of->error[0] ? of->error : taos_errstr(NULL);
    unlock();
    return told;
}

int32_t statement_prepare(statement *of, const char *sql, unsigned long length) {
    result_drop_owned(of->got);
    of->got = NULL;
    forget_bound(of);
    forget_sql(of);
    if (sql == NULL) return statement_fail(of, INVALID_PARAMETER, NULL);
    of->sql = length ? copy_bytes(sql, length) : copy_text(sql);
    of->bare = script_read(of->sql, &of->how);
    of->insert = starts_with(of->bare, "insert");
    text line = {0};
    text_json(&line, of->sql);
    log_event("prepare", ", \"sql\": %s", line.data);
    text_free(&line);
    if (of->insert || starts_with(of->bare, "select")) return 0;
    forget_sql(of);
    return statement_fail(of, SYNTAX_ERROR, "neither an INSERT nor a SELECT");
}

int statement_parameters(const statement *of) {
    int number = 0;
    for (const char *at = of->bare; *at; at++) number += *at == '?';
    return number;
}

/* ---- what is bound ---- */

static void record_bound(text *to, const bound *what) {
    const char *at = what->buffer;
    int width = type_width(what->type);
    bool decimal = what->type == T_DECIMAL || what->type == T_DECIMAL64;
    if (decimal && what->length) width = 0; /* bound as text */
    text_add(to, "{\"type\": %d, \"values\": [", what->type);
    for (int i = 0; i < what->number; i++) {
        int null = what->is_null ? what->is_null[i] : 0;
        size_t size = width ? (size_t)width : what->length ? (size_t)what->length[i] : 0;
        if (i) text_bytes(to, ",", 1);
        if (null || at == NULL)
            text_json(to, null == 2 ? "none" : NULL);
        else
            text_hex(to, at, size);
        if (at != NULL && width)
            at += width;
        else if (at != NULL && what->stride)
            at += what->stride;
        else if (at != NULL && !null)
            at += size; /* packed: a NULL takes no room */
    }
    text_bytes(to, "]}", 2);
}

void record_bounds(text *to, const bound *what, int number) {
    text_bytes(to, "[", 1);
    for (int i = 0; i < number; i++) {
        if (i) text_bytes(to, ",", 1);
        record_bound(to, &what[i]);
    }
    text_bytes(to, "]", 1);
}

void record_bind(statement *of, const char *table, const text *tags, int column,
                 const bound *columns, int number) {
    text *to = &of->binds;
    if (of->bind_count++) text_bytes(to, ",", 1);
    text_add(to, "{\"table\": ");
    text_json(to, table);
    text_add(to, ", \"tags\": %s, \"column\": %d, \"columns\": ",
             tags != NULL && tags->data ? tags->data : "null", column);
    record_bounds(to, columns, number);
    text_bytes(to, "}", 1);
    if (number && column <= 0) of->rows += columns[0].number;
}

/* ---- execution ---- */

job *statement_run(statement *of) {
    text line = {0};
    text_json(&line, of->sql);
    log_event("execute",
              ", \"api\": \"%s\", \"sql\": %s, \"reqid\": %" PRId64
              ", \"one_table\": %s, \"bind_once\": %s, \"rows\": %" PRId64 ", \"binds\": [%s]",
              of->second ? "stmt2" : "stmt", line.data, of->reqid,
              of->one_table ? "true" : "false", of->bind_once ? "true" : "false", of->rows,
              of->binds.data ? of->binds.data : "");
    text_free(&line);
    source *from;
    connection *conn = handle_peek(of->conn, CONNECTION);
    if (conn == NULL)
        from = source_error(DISCONNECTED, NULL);
    else if (of->insert && !of->how.error)
        from = source_written(of->rows);
    else
        from = answer_for(conn, of->sql, of->bare, &of->how);
    result_drop_owned(of->got);
    of->got = result_new(of->conn, from, OF_STATEMENT);
    of->got->how = of->how;
    forget_bound(of);
    job *made = answer_job(&of->how, of->conn);
    made->handle = of->handle;
    made->object = of;
    return made;
}

int32_t statement_ran(statement *of, int32_t code) {
    if (code) result_fail(of->got, code, NULL);
    code = of->got->code;
    of->affected_once = code ? 0 : of->got->from->affected;
    of->affected += of->affected_once;
    return code ? statement_fail(of, code, of->got->message) : 0;
}

int32_t statement_execute(void *handle, const char *call, int *affected) {
    lock();
    note_blocking();
    int32_t code = rule_for(call);
    statement *of = statement_get(handle);
    if (of == NULL) {
        code = INVALID_PARAMETER;
    } else if (code) {
        statement_fail(of, code, taos_errstr(NULL));
    } else if (of->sql == NULL || of->unbatched || (of->insert && !of->bind_count)) {
        code = statement_fail(of, STMT_MISUSED, NULL);
    } else if (of->in_use) {
        count(COUNT_concurrent_uses, 1);
        code = statement_fail(of, STMT_MISUSED, NULL);
    } else {
        of->in_use = true;
        job *waiting = statement_run(of);
        code = statement_ran(of, wait_for(waiting));
        job_free(waiting);
        of->in_use = false;
        if (affected != NULL) *affected = (int)of->affected_once;
    }
    unlock();
    return code;
}

/* ---- first generation ---- */

typedef struct TAOS_MULTI_BIND {
    int buffer_type;
    void *buffer;
    uintptr_t buffer_length;
    int32_t *length;
    char *is_null;
    int num;
} TAOS_MULTI_BIND;

/* What rows and tags are bound with: TAOS_BIND in 2.x, where a length has eight bytes. */
#ifdef HAS_3X
typedef TAOS_MULTI_BIND single_bind;
#else
typedef struct TAOS_BIND {
    int buffer_type;
    void *buffer;
    uintptr_t buffer_length;
    uintptr_t *length;
    int *is_null;
    int is_unsigned;
    int *error;
    int64_t value;
    unsigned int allocated;
} single_bind;
#endif

static bound bound_batch(const TAOS_MULTI_BIND *from) {
    return (bound){from->buffer_type, from->num,    from->buffer,
                   from->buffer_length, from->length, from->is_null};
}

/* A single value; `length` and `null` are room for what the bound one then points to. */
static bound bound_single(const single_bind *from, int32_t *length, char *null) {
    bound made = {from->buffer_type, 1, from->buffer, from->buffer_length, length, null};
    *length = from->length ? (int32_t)*from->length : (int32_t)from->buffer_length;
    *null = from->is_null ? (char)*from->is_null : 0;
    return made;
}

static void record_singles(text *to, const single_bind *from, int number) {
    text_bytes(to, "[", 1);
    for (int i = 0; i < number; i++) {
        int32_t length;
        char null;
        bound value = bound_single(&from[i], &length, &null);
        if (i) text_bytes(to, ",", 1);
        record_bound(to, &value);
    }
    text_bytes(to, "]", 1);
}

EXPORT TAOS_STMT *taos_stmt_init(TAOS *taos) {
    lock();
    statement *made = statement_new(taos, false);
    unlock();
    return made ? made->handle : NULL;
}

#ifdef HAS_LATEST
typedef struct TAOS_STMT_OPTIONS {
    int64_t reqid;
    bool one_table, bind_once;
} TAOS_STMT_OPTIONS;

EXPORT TAOS_STMT *taos_stmt_init_with_options(TAOS *taos, TAOS_STMT_OPTIONS *options) {
    lock();
    statement *made = statement_new(taos, false);
    if (made != NULL && options != NULL) {
        made->reqid = options->reqid;
        made->one_table = options->one_table;
        made->bind_once = options->bind_once;
    }
    unlock();
    return made ? made->handle : NULL;
}

EXPORT TAOS_STMT *taos_stmt_init_with_reqid(TAOS *taos, int64_t reqid) {
    TAOS_STMT_OPTIONS options = {reqid, false, false};
    return taos_stmt_init_with_options(taos, &options);
}
#endif

/* The beginning of a call: under the lock, the statement, prepared, or NULL and the code. */
static statement *begin(TAOS_STMT *stmt, const char *call, int32_t *code) {
    lock();
    *code = rule_for(call);
    statement *of = statement_get(stmt);
    if (of == NULL) {
        *code = INVALID_PARAMETER;
        return NULL;
    }
    if (*code)
        statement_fail(of, *code, taos_errstr(NULL));
    else if (of->sql == NULL)
        *code = statement_fail(of, STMT_MISUSED, NULL);
    return *code ? NULL : of;
}

EXPORT int taos_stmt_prepare(TAOS_STMT *stmt, const char *sql, unsigned long length) {
    lock();
    int32_t code = rule_for("taos_stmt_prepare");
    statement *of = statement_get(stmt);
    if (of == NULL)
        code = INVALID_PARAMETER;
    else if (code)
        statement_fail(of, code, taos_errstr(NULL));
    else
        code = statement_prepare(of, sql, length);
    unlock();
    return code;
}

static int tag_count(const statement *of) {
    int all, tags = 0;
    const TAOS_FIELD_ALL *fields = fields_for(of->bare, &all);
    for (int i = 0; i < all; i++) tags += fields[i].field_type == FIELD_TAG;
    return tags;
}

static int column_count(const statement *of) {
    int all, columns = 0;
    const TAOS_FIELD_ALL *fields = fields_for(of->bare, &all);
    for (int i = 0; i < all; i++) columns += fields[i].field_type == FIELD_COL;
    return fields ? columns : statement_parameters(of);
}

static int name_table(TAOS_STMT *stmt, const char *call, const char *name,
                      const single_bind *tags) {
    int32_t code;
    statement *of = begin(stmt, call, &code);
    if (of != NULL && name != NULL) {
        free(of->table);
        of->table = copy_text(name);
        text_free(&of->tags);
    }
    if (of != NULL && tags != NULL) {
        text_free(&of->tags);
        record_singles(&of->tags, tags, tag_count(of));
    }
    unlock();
    return code;
}

EXPORT int taos_stmt_set_tbname(TAOS_STMT *stmt, const char *name) {
    return name_table(stmt, "taos_stmt_set_tbname", name, NULL);
}

EXPORT int taos_stmt_set_tbname_tags(TAOS_STMT *stmt, const char *name, single_bind *tags) {
    return name_table(stmt, "taos_stmt_set_tbname_tags", name, tags);
}

EXPORT int taos_stmt_set_sub_tbname(TAOS_STMT *stmt, const char *name) {
    return name_table(stmt, "taos_stmt_set_sub_tbname", name, NULL);
}

EXPORT int taos_stmt_bind_param(TAOS_STMT *stmt, single_bind *values) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt_bind_param", &code);
    if (of != NULL) {
        int number = column_count(of);
        bound *columns = allocate((size_t)number * sizeof *columns);
        int32_t *lengths = allocate((size_t)number * sizeof *lengths);
        char *nulls = allocate((size_t)number);
        for (int i = 0; i < number; i++)
            columns[i] = bound_single(&values[i], &lengths[i], &nulls[i]);
        record_bind(of, of->table, &of->tags, -1, columns, number);
        of->unbatched = true;
        free(columns);
        free(lengths);
        free(nulls);
    }
    unlock();
    return code;
}

static int bind_batch(TAOS_STMT *stmt, const char *call, const TAOS_MULTI_BIND *values,
                      int column) {
    int32_t code;
    statement *of = begin(stmt, call, &code);
    if (of != NULL) {
        int number = column < 0 ? column_count(of) : 1;
        bound *columns = allocate((size_t)number * sizeof *columns);
        for (int i = 0; i < number; i++) columns[i] = bound_batch(&values[i]);
        record_bind(of, of->table, &of->tags, column, columns, number);
        of->unbatched = true;
        free(columns);
    }
    unlock();
    return code;
}

EXPORT int taos_stmt_bind_param_batch(TAOS_STMT *stmt, TAOS_MULTI_BIND *values) {
    return bind_batch(stmt, "taos_stmt_bind_param_batch", values, -1);
}

EXPORT int taos_stmt_bind_single_param_batch(TAOS_STMT *stmt, TAOS_MULTI_BIND *values,
                                             int column) {
    return bind_batch(stmt, "taos_stmt_bind_single_param_batch", values, column);
}

EXPORT int taos_stmt_add_batch(TAOS_STMT *stmt) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt_add_batch", &code);
    if (of != NULL && !of->unbatched) code = statement_fail(of, STMT_MISUSED, NULL);
    if (of != NULL) of->unbatched = false;
    unlock();
    return code;
}

EXPORT int taos_stmt_execute(TAOS_STMT *stmt) {
    return statement_execute(stmt, "taos_stmt_execute", NULL);
}

EXPORT TAOS_RES *taos_stmt_use_result(TAOS_STMT *stmt) {
    lock();
    statement *of = statement_get(stmt);
    TAOS_RES *told = of && !of->insert && of->got ? of->got->handle : NULL;
#ifndef HAS_3X
    if (told) { /* in 2.x the statement forgets it, and the caller frees it */
        of->got->belongs = OF_CALLER;
        of->got = NULL;
    }
#endif
    unlock();
    return told;
}

EXPORT int taos_stmt_is_insert(TAOS_STMT *stmt, int *insert) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt_is_insert", &code);
    if (of != NULL) *insert = of->insert;
    unlock();
    return code;
}

EXPORT int taos_stmt_num_params(TAOS_STMT *stmt, int *number) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt_num_params", &code);
    if (of != NULL) *number = column_count(of);
    unlock();
    return code;
}

EXPORT int taos_stmt_get_param(TAOS_STMT *stmt, int place, int *type, int *bytes) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt_get_param", &code);
    if (of != NULL) {
        int all;
        const TAOS_FIELD_ALL *fields = fields_for(of->bare, &all);
        if (place < 0 || place >= all) {
            code = statement_fail(of, INVALID_PARAMETER, NULL);
        } else {
            *type = fields[place].type;
            *bytes = fields[place].bytes;
        }
    }
    unlock();
    return code;
}

EXPORT int taos_stmt_affected_rows(TAOS_STMT *stmt) {
    lock();
    statement *of = statement_get(stmt);
    int rows = of ? (int)of->affected : 0;
    unlock();
    return rows;
}

EXPORT int taos_stmt_affected_rows_once(TAOS_STMT *stmt) {
    lock();
    statement *of = statement_get(stmt);
    int rows = of ? (int)of->affected_once : 0;
    unlock();
    return rows;
}

EXPORT char *taos_stmt_errstr(TAOS_STMT *stmt) { return (char *)statement_error(stmt); }

EXPORT int taos_stmt_close(TAOS_STMT *stmt) {
    lock();
    statement *of = handle_drop(stmt, STATEMENT, COUNT_double_closes);
    if (of != NULL) statement_free(of);
    unlock();
    return of ? 0 : INVALID_PARAMETER;
}

#ifdef HAS_3X
EXPORT int taos_stmt_set_tags(TAOS_STMT *stmt, TAOS_MULTI_BIND *tags) {
    return name_table(stmt, "taos_stmt_set_tags", NULL, tags);
}

static int get_fields(TAOS_STMT *stmt, const char *call, int kind_of, int *number,
                      TAOS_FIELD_E **fields) {
    int32_t code;
    statement *of = begin(stmt, call, &code);
    int all = 0, found = 0;
    const TAOS_FIELD_ALL *from = of ? fields_for(of->bare, &all) : NULL;
    if (of != NULL && from == NULL) code = statement_fail(of, INVALID_OPERATION, NULL);
    if (!code) {
        TAOS_FIELD_E *made = allocate((size_t)all * sizeof *made);
        for (int i = 0; i < all; i++)
            if (from[i].field_type == kind_of) memcpy(&made[found++], &from[i], sizeof *made);
        *number = found;
        *fields = give(made, COUNT_fields);
    }
    unlock();
    return code;
}

EXPORT int taos_stmt_get_tag_fields(TAOS_STMT *stmt, int *number, TAOS_FIELD_E **fields) {
    return get_fields(stmt, "taos_stmt_get_tag_fields", FIELD_TAG, number, fields);
}

EXPORT int taos_stmt_get_col_fields(TAOS_STMT *stmt, int *number, TAOS_FIELD_E **fields) {
    return get_fields(stmt, "taos_stmt_get_col_fields", FIELD_COL, number, fields);
}

EXPORT void taos_stmt_reclaim_fields(TAOS_STMT *stmt, TAOS_FIELD_E *fields) {
    (void)stmt;
    take_back(fields, COUNT_fields);
}
#endif
