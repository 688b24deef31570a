/* The second generation of prepared statements, with asynchronous execution and binding. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "statement.h"

#ifdef HAS_LATEST

typedef void TAOS_STMT2;

typedef struct TAOS_STMT2_OPTION {
    int64_t reqid;
    bool one_table, bind_once;
    async_fn fn;
    void *userdata;
} TAOS_STMT2_OPTION;

typedef struct TAOS_STMT2_BIND {
    int buffer_type;
    void *buffer;
    int32_t *length;
    char *is_null;
    int num;
} TAOS_STMT2_BIND;

typedef struct TAOS_STMT2_BINDV {
    int count;
    char **tbnames;
    TAOS_STMT2_BIND **tags;
    TAOS_STMT2_BIND **bind_cols;
} TAOS_STMT2_BINDV;

EXPORT TAOS_STMT2 *taos_stmt2_init(TAOS *taos, TAOS_STMT2_OPTION *option) {
    lock();
    int32_t code = rule_for("taos_stmt2_init");
    statement *made = code ? NULL : statement_new(taos, true);
    if (made != NULL && option != NULL) {
        made->reqid = option->reqid;
        made->one_table = option->one_table;
        made->bind_once = option->bind_once;
        made->fn = option->fn;
        made->userdata = option->userdata;
    }
    unlock();
    return made ? made->handle : NULL;
}

/* libtaos waits for the running callback, which on the callback's own thread never ends. */
static bool would_hang(const statement *of) {
    if (executing != of) return false;
    count(COUNT_deadlocks, 1);
    return true;
}

/* After taos_cleanup nothing that is pending will end. */
static bool is_busy(const statement *of) { return of->pending && counted(COUNT_threads); }

/* The beginning of a call: under the lock, the statement after its pending work, or NULL. */
static statement *begin(TAOS_STMT2 *stmt, const char *call, bool prepared, int32_t *code) {
    lock();
    *code = rule_for(call);
    statement *of = statement_get(stmt);
    if (of == NULL) {
        *code = INVALID_PARAMETER;
        return NULL;
    }
    if (*code)
        statement_fail(of, *code, taos_errstr(NULL));
    else if (would_hang(of) || (prepared && of->sql == NULL))
        *code = statement_fail(of, STMT_MISUSED, NULL);
    while (!*code && is_busy(of)) {
        wait_until(FOREVER);
        if (handle_peek(stmt, STATEMENT) != of) {
            *code = set_error(INVALID_PARAMETER, NULL);
            return NULL;
        }
    }
    return *code ? NULL : of;
}

EXPORT int taos_stmt2_prepare(TAOS_STMT2 *stmt, const char *sql, unsigned long length) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt2_prepare", false, &code);
    note_blocking();
    if (of != NULL) code = statement_prepare(of, sql, length);
    unlock();
    return code;
}

/* ---- binding ---- */

static bound *bounds(const TAOS_STMT2_BIND *from, int number) {
    bound *made = allocate((size_t)number * sizeof *made);
    for (int i = 0; i < number; i++)
        made[i] = (bound){from[i].buffer_type, from[i].num,    from[i].buffer, 0,
                          from[i].length,      from[i].is_null};
    return made;
}

static void count_parameters(const statement *of, int *tags, int *columns) {
    int all;
    const TAOS_FIELD_ALL *fields = fields_for(of->bare, &all);
    *tags = *columns = 0;
    for (int i = 0; i < all; i++) {
        *tags += fields[i].field_type == FIELD_TAG;
        *columns += fields[i].field_type == FIELD_COL;
    }
    if (fields == NULL || !of->insert) *columns = statement_parameters(of);
}

/* How many tags and columns there are is known from standin_fields() alone. */
static int32_t bind(statement *of, const TAOS_STMT2_BINDV *from, int32_t column) {
    int tag_count, column_count;
    count_parameters(of, &tag_count, &column_count);
    result_drop_owned(of->got);
    of->got = NULL;
    for (int i = 0; i < from->count; i++) {
        text tags = {0};
        if (from->tags != NULL && from->tags[i] != NULL) {
            bound *all = bounds(from->tags[i], tag_count);
            record_bounds(&tags, all, tag_count);
            free(all);
        }
        bool has_columns = from->bind_cols != NULL && from->bind_cols[i] != NULL;
        int number = !has_columns ? 0 : column < 0 ? column_count : 1;
        bound *all = bounds(has_columns ? from->bind_cols[i] : NULL, number);
        const char *table = from->tbnames ? from->tbnames[i] : NULL;
        record_bind(of, table, &tags, column, all, number);
        free(all);
        text_free(&tags);
    }
    return 0;
}

EXPORT int taos_stmt2_bind_param(TAOS_STMT2 *stmt, TAOS_STMT2_BINDV *bindv, int32_t column) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt2_bind_param", true, &code);
    if (of != NULL) code = bind(of, bindv, column);
    unlock();
    return code;
}

/* A callback of the statement; its work is over only when the callback has returned. */
static void call_back(statement *of, async_fn fn, void *param, void *res, int32_t code) {
    statement *before = executing;
    executing = of;
    enter_callback();
    fn(param, res, code);
    leave_callback();
    executing = before;
    lock();
    of->pending--;
    delivered();
    unlock();
}

static void run_bind(job *what) {
    lock();
    statement *of = what->object;
    const TAOS_STMT2_BINDV *from = (const void *)what->sql;
    int32_t code = what->code ? what->code : bind(of, from, (int32_t)what->value);
    unlock();
    call_back(of, what->fn.call, what->param, NULL, code);
    job_free(what);
}

EXPORT int taos_stmt2_bind_param_a(TAOS_STMT2 *stmt, TAOS_STMT2_BINDV *bindv, int32_t column,
                                   async_fn fn, void *param) {
    lock();
    int32_t code = rule_for("taos_stmt2_bind_param_a");
    statement *of = statement_get(stmt);
    if (of == NULL) {
        code = INVALID_PARAMETER;
    } else if (!code && (of->pending || of->sql == NULL)) {
        code = statement_fail(of, STMT_MISUSED, NULL);
    } else if (!code) {
        job *made = allocate(sizeof *made);
        made->run = run_bind;
        made->conn = of->conn;
        made->handle = stmt;
        made->object = of;
        made->sql = (const char *)bindv;
        made->value = column;
        made->fn.call = fn;
        made->param = param;
        of->pending++;
        submit(made);
    }
    unlock();
    return code;
}

/* ---- execution ---- */

static void run_execution(job *what) {
    lock();
    statement *of = what->object;
    int32_t code = statement_ran(of, what->code);
    void *res = of->how.null && code ? NULL : of->got->handle;
    unlock();
    call_back(of, of->fn, of->userdata, res, code);
    job_free(what);
}

static int32_t execute_a(TAOS_STMT2 *stmt) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt2_exec", true, &code);
    if (of != NULL && of->insert && !of->bind_count) {
        code = statement_fail(of, STMT_MISUSED, NULL);
        of = NULL;
    }
    job *made = of ? statement_run(of) : NULL;
    bool at_once = of && of->how.is_inline && made->due != FOREVER;
    if (of != NULL) {
        made->run = run_execution;
        of->pending++;
        if (at_once)
            count(COUNT_outstanding, 1);
        else
            submit(made);
    }
    unlock();
    if (at_once) made->run(made);
    return code;
}

EXPORT int taos_stmt2_exec(TAOS_STMT2 *stmt, int *affected) {
    lock();
    statement *of = handle_peek(stmt, STATEMENT);
    bool async = of != NULL && of->fn != NULL;
    unlock();
    return async ? execute_a(stmt) : statement_execute(stmt, "taos_stmt2_exec", affected);
}

EXPORT TAOS_RES *taos_stmt2_result(TAOS_STMT2 *stmt) {
    lock();
    statement *of = statement_get(stmt);
    bool there = of != NULL && !of->insert && of->got != NULL;
    if (there && of->pending && executing != of) there = false; /* not executed yet */
    if (of != NULL && !there) statement_fail(of, STMT_MISUSED, NULL);
    TAOS_RES *told = there ? of->got->handle : NULL;
    unlock();
    return told;
}

/* ---- the rest ---- */

EXPORT int taos_stmt2_is_insert(TAOS_STMT2 *stmt, int *insert) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt2_is_insert", true, &code);
    if (of != NULL) *insert = of->insert;
    unlock();
    return code;
}

EXPORT int taos_stmt2_get_fields(TAOS_STMT2 *stmt, int *number, TAOS_FIELD_ALL **fields) {
    int32_t code;
    statement *of = begin(stmt, "taos_stmt2_get_fields", true, &code);
    note_blocking();
    int all = 0;
    const TAOS_FIELD_ALL *from = of ? fields_for(of->bare, &all) : NULL;
    if (of != NULL && !of->insert) {
        *number = statement_parameters(of);
        if (fields != NULL) *fields = NULL;
    } else if (of != NULL && from == NULL) {
        code = statement_fail(of, INVALID_OPERATION, "no standin_fields() for this statement");
    } else if (of != NULL) {
        *number = all;
        if (fields != NULL)
            *fields = give(copy_bytes(from, (size_t)all * sizeof *from), COUNT_fields);
    }
    unlock();
    return code;
}

EXPORT void taos_stmt2_free_fields(TAOS_STMT2 *stmt, TAOS_FIELD_ALL *fields) {
    (void)stmt;
    take_back(fields, COUNT_fields);
}

EXPORT char *taos_stmt2_error(TAOS_STMT2 *stmt) { return (char *)statement_error(stmt); }

/* Waits for what is pending; its handle dies first, so nobody begins anything more. */
EXPORT int taos_stmt2_close(TAOS_STMT2 *stmt) {
    lock();
    statement *of = handle_peek(stmt, STATEMENT);
    if (of != NULL && would_hang(of)) {
        unlock();
        return STMT_MISUSED;
    }
    note_blocking();
    of = handle_drop(stmt, STATEMENT, COUNT_double_closes);
    while (of != NULL && is_busy(of)) wait_until(FOREVER);
    if (of != NULL) statement_free(of);
    unlock();
    return of ? 0 : INVALID_PARAMETER;
}

#else
typedef int no_second_generation; /* an empty file is no C */
#endif
