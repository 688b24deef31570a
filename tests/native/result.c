/* Results: what they are, how blocks are fetched, how long these live. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standin.h"

/* ---- memory that must not be read any more ---- */

#define STALE 32
#define STALE_SIZE (1 << 20)

static struct {
    void *data;
    size_t size;
} stale[STALE];
static int stale_next;

/*
 * What is overwritten stays allocated for a while: who still reads it finds 0xDD, not by chance
 * the next block at the same place.
 */
void scribble(void *data, size_t size) {
    if (data == NULL) return;
    memset(data, 0xDD, size);
    if (size > STALE_SIZE) {
        free(data);
        return;
    }
    free(stale[stale_next].data);
    stale[stale_next].data = data;
    stale[stale_next].size = size;
    stale_next = (stale_next + 1) % STALE;
}

void reset_results(void) {
    for (int i = 0; i < STALE; i++) {
        free(stale[i].data);
        stale[i].data = NULL;
    }
}

/* ---- objects ---- */

static void destroy(void *object) { result_free(object); }

result *result_new(void *conn, source *from, owner belongs) {
    result *made = allocate(sizeof *made);
    made->conn = conn;
    made->from = from;
    made->belongs = belongs;
    made->how.rows = made->how.affected = made->until = -1;
    result_fail(made, from->code, from->message);
    made->handle = handle_new(RESULT, made, destroy);
    return made;
}

void result_fail(result *what, int32_t code, const char *message) {
    what->code = code;
    snprintf(what->message, sizeof what->message, "%s",
             message && message[0] ? message : error_text(code));
}

static void forget_fields(result *what) {
    int number;
    result_fields(what, &number);
    scribble(what->fields, (size_t)number * sizeof *what->fields);
    scribble(what->fields_e, (size_t)number * sizeof *what->fields_e);
    what->fields = NULL;
    what->fields_e = NULL;
}

void forget_block(result *what) {
    forget_views(what);
    scribble(what->raw, (size_t)what->raw_length);
    what->raw = NULL;
    what->rows = what->row = 0;
}

void result_free(result *what) {
    forget_block(what);
    forget_fields(what);
    source_drop(what->from);
    free(what->topic);
    free(what->db);
    free(what->json);
    scribble(what, sizeof *what);
}

/* The end of a result whose handle is dead now; whoever fetches frees it. */
static void release(result *what) {
    if (!what->fetching) {
        result_free(what);
        return;
    }
    count(COUNT_freed_while_fetching, 1);
    what->doomed = true;
    end_jobs(NULL, what->handle, false, QUERY_KILLED);
}

/* A result that is a statement's or a subscription's own ends. */
void result_drop_owned(result *what) {
    if (what != NULL && handle_drop(what->handle, RESULT, COUNT_double_frees)) release(what);
}

const TAOS_FIELD_ALL *result_fields(const result *what, int *number) {
    bool own = what->at != NULL && what->at->fields != NULL;
    *number = own ? what->at->nfields : what->from->nfields;
    return own ? what->at->fields : what->from->fields;
}

EXPORT void taos_free_result(TAOS_RES *res) {
    if (res == NULL) return;
    lock();
    result *found = handle_peek(res, RESULT);
    if (found != NULL && found->belongs != OF_CALLER) {
        count(COUNT_double_frees, 1); /* its owner frees it as well */
    } else if ((found = handle_drop(res, RESULT, COUNT_double_frees)) != NULL) {
        release(found);
    }
    unlock();
}

EXPORT void taos_stop_query(TAOS_RES *res) {
    if (res == NULL) return;
    lock();
    if (handle_get(res, RESULT) != NULL) end_jobs(NULL, res, false, QUERY_KILLED);
    unlock();
}

/* ---- fetching ---- */

/* The next block becomes the current one: its rows, 0 at the end, or an error. */
static int32_t next_block(result *what) {
    source *from = what->from;
    const char *data;
    char *made = NULL;
    int64_t length;
    if (what->code) return what->code;
    if (what->until >= 0 && what->next >= what->until) return 0;
    if (from->generated >= 0) {
        if (what->next >= from->generated) return 0;
        data = made = generate_block(from, what->next, &length);
    } else {
        if (what->next >= from->nblocks) return 0;
        const block *at = &from->blocks[what->next];
        if (at->fields != NULL) forget_fields(what);
        what->at = at;
        data = at->data;
        length = at->length;
    }
    what->raw = made ? made : copy_bytes(data, (size_t)length);
    what->raw_length = length;
    memcpy(&what->rows, what->raw + 8, 4);
    memcpy(&what->columns, what->raw + 12, 4);
    what->row = 0;
    what->next += from->generated >= 0 ? what->rows : 1;
    what->blocks_given++;
    return what->rows;
}

static bool is_special(const result *what) { return what->blocks_given == what->how.fetch_after; }

static job *fetch_job(result *what) {
    job *made = allocate(sizeof *made);
    const script *how = &what->how;
    made->conn = what->conn;
    made->handle = what->handle;
    made->object = what;
    made->due = how->fetch_delay ? now_us() + how->fetch_delay : 0;
    made->endless = is_special(what) && how->fetch_never;
    bool held = is_special(what) && how->fetch_hold[0];
    if (held) memcpy(made->gate, how->fetch_hold, sizeof made->gate);
    if (made->endless || held) made->due = FOREVER;
    return made;
}

static void begin_fetch(result *what) {
    what->fetching = true;
    forget_block(what);
    count(COUNT_fetches, 1);
}

static int32_t finish_fetch(result *what, int32_t code) {
    const script *how = &what->how;
    what->fetching = false;
    if (what->doomed) return QUERY_KILLED;
    if (code) {
        result_fail(what, code, NULL);
        return code;
    }
    if (is_special(what) && how->fetch_error) {
        result_fail(what, FAIL(how->fetch_error), how->fetch_error_text);
        return how->fetch_quiet ? 0 : what->code;
    }
    return next_block(what);
}

/* Fetch on this thread, waiting: rows, 0 or an error. */
static int32_t fetch_now(result *what) {
    if (what->fetching) {
        count(COUNT_overlapping_fetches, 1);
        return INVALID_OPERATION;
    }
    if (!what->is_message) note_blocking(); /* a message has all its blocks */
    begin_fetch(what);
    job *waiting = fetch_job(what);
    int32_t code = wait_for(waiting);
    job_free(waiting);
    int32_t rows = finish_fetch(what, code);
    if (what->doomed) result_free(what);
    return rows;
}

static void run_fetch(job *what) {
    lock();
    result *of = what->object;
    int32_t rows = finish_fetch(of, what->code);
    bool doomed = of->doomed;
    unlock();
    enter_callback();
    what->fn.call(what->param, what->handle, rows);
    leave_callback();
    lock();
    if (doomed) result_free(of);
    delivered();
    unlock();
    job_free(what);
}

static void refuse_fetch(job *what) {
    enter_callback();
    what->fn.call(what->param, what->handle, what->code);
    leave_callback();
    lock();
    delivered();
    unlock();
    job_free(what);
}

static void start_fetch(TAOS_RES *res, async_fn fn, void *param, bool raw) {
    lock();
    result *found = handle_get(res, RESULT);
    job *made;
    bool at_once = found == NULL;
    if (found == NULL || found->fetching) {
        made = allocate(sizeof *made);
        made->handle = res;
        made->code = found ? INVALID_OPERATION : INVALID_PARAMETER;
        made->run = refuse_fetch;
        if (found != NULL) count(COUNT_overlapping_fetches, 1);
    } else {
        begin_fetch(found);
        found->raw_read = found->raw_read || raw;
        made = fetch_job(found);
        made->run = run_fetch;
        at_once = found->how.fetch_inline && made->due != FOREVER;
    }
    made->fn.call = fn;
    made->param = param;
    if (at_once)
        count(COUNT_outstanding, 1);
    else
        submit(made);
    unlock();
    if (at_once) made->run(made);
}

EXPORT void taos_fetch_rows_a(TAOS_RES *res, async_fn fn, void *param) {
    start_fetch(res, fn, param, false);
}

#ifdef HAS_3X
EXPORT void taos_fetch_raw_block_a(TAOS_RES *res, async_fn fn, void *param) {
    start_fetch(res, fn, param, true);
}

EXPORT const void *taos_get_raw_block(TAOS_RES *res) {
    lock();
    result *found = handle_get(res, RESULT);
    const void *data = found ? found->raw : NULL;
    unlock();
    return data;
}

EXPORT int taos_fetch_raw_block(TAOS_RES *res, int *rows, void **data) {
    *rows = 0;
    *data = NULL;
    lock();
    result *found = handle_get(res, RESULT);
    int32_t got = INVALID_PARAMETER;
    if (found != NULL) {
        found->raw_read = true;
        got = fetch_now(found);
        found = handle_peek(res, RESULT);
    }
    if (found != NULL && got >= 0) {
        got = found->code; /* a quiet error */
        *rows = found->rows;
        *data = found->raw;
    }
    unlock();
    return got;
}
#endif

/* ---- rows ---- */

EXPORT TAOS_ROW taos_fetch_row(TAOS_RES *res) {
    lock();
    result *found = handle_get(res, RESULT);
    TAOS_ROW row = NULL;
    if (found != NULL && found->in_callback) {
        count(COUNT_rows_refused, 1);
        set_error(INVALID_OPERATION, "can not call before query callback ends");
        found = NULL;
    }
    if (found != NULL && found->row >= found->rows && fetch_now(found) <= 0)
        found = NULL; /* it may be gone now */
    if (found != NULL) {
        if (found->raw_read) count(COUNT_raw_and_rows, 1);
        if (found->views == NULL) make_views(found);
        for (int i = 0; i < found->columns; i++) {
            view *of = &found->views[i];
            bool null = view_is_null(of, found->row);
            char *at = of->data;
            int length = of->width;
            if (null) {
                length = 0;
            } else if (of->offsets == NULL) {
                at += (size_t)found->row * (size_t)of->width;
            } else {
                uint32_t size = 0;
                int prefix = prefix_width(of->type);
                at += of->offsets[found->row];
                memcpy(&size, at, (size_t)prefix);
                at += prefix;
                length = (int)size;
            }
            if (!null && (of->type == T_DECIMAL || of->type == T_DECIMAL64))
                length = (int)strlen(at);
            found->row_pointers[i] = null ? NULL : at;
            found->lengths[i] = length;
        }
        found->row++;
        row = found->row_pointers;
    }
    unlock();
    return row;
}

EXPORT int *taos_fetch_lengths(TAOS_RES *res) {
    lock();
    result *found = handle_get(res, RESULT);
    int *lengths = found ? found->lengths : NULL;
    unlock();
    return lengths;
}

EXPORT TAOS_ROW *taos_result_block(TAOS_RES *res) {
    lock();
    result *found = handle_get(res, RESULT);
    TAOS_ROW *row = found ? &found->row_pointers : NULL;
    unlock();
    return row;
}

#ifdef HAS_3X
EXPORT int taos_fetch_block_s(TAOS_RES *res, int *rows, TAOS_ROW *columns) {
    *rows = 0;
    *columns = NULL;
    lock();
    result *found = handle_get(res, RESULT);
    int32_t got = found ? fetch_now(found) : INVALID_PARAMETER;
    if (got >= 0 && (found = handle_peek(res, RESULT)) != NULL) {
        *rows = got;
        got = found->code;
        if (*rows) {
            make_views(found);
            for (int i = 0; i < found->columns; i++)
                found->column_pointers[i] = found->views[i].data;
            found->row = found->rows; /* taos_fetch_row goes on with the next block */
            *columns = found->column_pointers;
        }
    }
    unlock();
    return got;
}

EXPORT int taos_fetch_block(TAOS_RES *res, TAOS_ROW *columns) {
    int rows;
    taos_fetch_block_s(res, &rows, columns);
    return rows;
}
#endif

static const view *view_at(result *of, int column) {
    if (of == NULL || of->raw == NULL || column < 0 || column >= of->columns) return NULL;
    if (of->views == NULL) make_views(of);
    return &of->views[column];
}

EXPORT bool taos_is_null(TAOS_RES *res, int32_t row, int32_t column) {
    lock();
    result *found = handle_get(res, RESULT);
    const view *of = view_at(found, column);
    bool null = of == NULL || row < 0 || row >= found->rows || view_is_null(of, row);
    unlock();
    return null;
}

#ifdef HAS_3X
EXPORT int *taos_get_column_data_offset(TAOS_RES *res, int column) {
    lock();
    const view *of = view_at(handle_get(res, RESULT), column);
    int *offsets = of ? of->offsets : NULL;
    unlock();
    return offsets;
}

EXPORT int taos_is_null_by_column(TAOS_RES *res, int column, bool *nulls, int *rows) {
    lock();
    result *found = handle_get(res, RESULT);
    int fields = 0;
    if (found != NULL) result_fields(found, &fields);
    bool is_valid = *rows > 0 && column >= 0 && column < fields;
    if (is_valid) {
        const view *of = view_at(found, column);
        int there = of ? found->rows : 0; /* none at the end of a result */
        if (*rows > there) *rows = there;
        for (int i = 0; i < *rows; i++) nulls[i] = view_is_null(of, i);
    }
    unlock();
    return is_valid ? 0 : INVALID_PARAMETER;
}
#endif

/* ---- what a result is ---- */

EXPORT int taos_num_fields(TAOS_RES *res) {
    int number = 0;
    lock();
    result *found = handle_get(res, RESULT);
    if (found != NULL) result_fields(found, &number);
    unlock();
    return number;
}

EXPORT int taos_field_count(TAOS_RES *res) { return taos_num_fields(res); }

EXPORT bool taos_is_update_query(TAOS_RES *res) { return taos_num_fields(res) == 0; }

EXPORT TAOS_FIELD *taos_fetch_fields(TAOS_RES *res) {
    int number;
    lock();
    result *found = handle_get(res, RESULT);
    const TAOS_FIELD_ALL *fields = found ? result_fields(found, &number) : NULL;
    if (fields != NULL && number && found->fields == NULL) {
        found->fields = allocate((size_t)number * sizeof *found->fields);
        for (int i = 0; i < number; i++) {
            TAOS_FIELD *to = &found->fields[i];
            memcpy(to->name, fields[i].name, sizeof to->name);
            to->type = fields[i].type;
#ifdef HAS_3X
            to->bytes = fields[i].bytes;
#else
            to->bytes = (int16_t)fields[i].bytes;
            to->type = (uint8_t)fields[i].type;
#endif
        }
    }
    TAOS_FIELD *told = found ? found->fields : NULL;
    unlock();
    return told;
}

#ifdef HAS_LATEST
EXPORT TAOS_FIELD_E *taos_fetch_fields_e(TAOS_RES *res) {
    int number;
    lock();
    result *found = handle_get(res, RESULT);
    const TAOS_FIELD_ALL *fields = found ? result_fields(found, &number) : NULL;
    if (fields != NULL && number && found->fields_e == NULL) {
        found->fields_e = allocate((size_t)number * sizeof *found->fields_e);
        for (int i = 0; i < number; i++) {
            TAOS_FIELD_E *to = &found->fields_e[i];
            memcpy(to->name, fields[i].name, sizeof to->name);
            to->type = fields[i].type;
            to->precision = fields[i].precision;
            to->scale = fields[i].scale;
            to->bytes = fields[i].bytes;
        }
    }
    TAOS_FIELD_E *told = found ? found->fields_e : NULL;
    unlock();
    return told;
}
#endif

static int64_t affected(TAOS_RES *res) {
    lock();
    result *found = handle_get(res, RESULT);
    int64_t rows = found && !found->code ? found->from->affected : 0;
    unlock();
    return rows;
}

EXPORT int taos_affected_rows(TAOS_RES *res) { return (int)affected(res); }

#ifdef HAS_3X
EXPORT int64_t taos_affected_rows64(TAOS_RES *res) { return affected(res); }
#endif

EXPORT int taos_result_precision(TAOS_RES *res) {
    lock();
    result *found = handle_get(res, RESULT);
    int precision = found ? found->from->precision : 0;
    unlock();
    return precision;
}
