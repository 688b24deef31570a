/* What the two generations of prepared statements have in common. */
#ifndef STANDIN_STATEMENT_H
#define STANDIN_STATEMENT_H

#include "standin.h"

typedef struct statement {
    void *handle, *conn;
    bool second; /* stmt2 */
    int64_t reqid;
    bool one_table, bind_once; /* options */
    async_fn fn;
    void *userdata;
    char *sql, *bare; /* NULL: not prepared */
    script how;
    bool insert;
    char *table; /* v1: what the next bind is for */
    text tags, binds;
    int bind_count;
    int64_t rows;
    bool unbatched; /* v1: bound, and not added to the batch yet */
    int64_t affected, affected_once;
    result *got;
    char error[512];
    int pending;      /* asynchronous binds and executions */
    bool in_use;      /* a thread is inside a blocking call */
} statement;

/* A bound column or tag as both generations have it. */
typedef struct bound {
    int type, number;
    const void *buffer;
    uintptr_t stride; /* v1, variable types; 0: packed */
    const int32_t *length;
    const char *is_null;
} bound;

/* The statement in whose callback this thread is. */
extern _Thread_local statement *executing;

statement *statement_new(void *conn, bool second);
statement *statement_get(void *handle); /* NULL, and the last error is set */
int32_t statement_fail(statement *of, int32_t code, const char *message);
int32_t statement_prepare(statement *of, const char *sql, unsigned long length);
void statement_free(statement *of);
const char *statement_error(void *handle);
int statement_parameters(const statement *of); /* number of question marks */

/* Append one bind to what the execution will log; `column` -1: all. */
void record_bind(statement *of, const char *table, const text *tags, int column,
                 const bound *columns, int number);
void record_bounds(text *to, const bound *what, int number);

/* Log what was bound and make the result; the job that tells when it is there. */
job *statement_run(statement *of);
/* The end of an execution. */
int32_t statement_ran(statement *of, int32_t code);
int32_t statement_execute(void *handle, const char *call, int *affected);

#endif
