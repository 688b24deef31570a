/*
 * A stand-in for TDengine's client library libtaos, for tests.
 *
 * It exports the C functions of libtaos, and behind them is no database but a script: tests say
 * beforehand what a statement is answered with, or write in the statement itself how the answer
 * comes. What tests need besides is watched: handles that are used after they were freed, results
 * freed twice, SQL that is gone before the callback, blocks that are read after their time.
 *
 * FLAVOURS (one of them with -D)
 *   STANDIN_FULL  3.3.x.
 *   STANDIN_OLD3  3.0.x: no stmt2, *_with_reqid, taos_options_connection, taos_fetch_fields_e,
 *                 tmq_position, tmq_committed, tmq_commit_offset_*.
 *   STANDIN_2X    2.6: rows alone (no raw blocks, and taos_fetch_block is left out), no tmq either;
 *                 taos_subscribe; TAOS_BIND and the short TAOS_FIELD.
 * What a flavour does not have, is not exported.
 *
 * HOW A STATEMENT IS ANSWERED, the first of these that applies
 *   1. its last comment, as described below, tells error=;
 *   2. standin_answer() registered its text, with or without that comment;
 *   3. the comment tells null, rows= or affected=;
 *   4. it is one that the stand-in knows: select server_version() | client_version() |
 *      server_status() | database() | <integer>; select * from generated (10 rows, 4 columns);
 *      use, create database, drop database (`test` is there from the start); other create, drop and
 *      alter (0 rows affected); insert (1 row affected);
 *   5. a syntax error, 0x2600.
 *
 * DIRECTIVES are words in a comment at the very end of the SQL; a comment that begins with a plus
 * is a hint, and none of the stand-in's business. A word that is not known is an error, 0x2600.
 *   delay=50ms         the answer comes later (us, ms, s)
 *   inline             the callback runs before the call that starts the query returns
 *   never              no answer before taos_kill_query (0x022D) or taos_close (0x0213)
 *   hold=name          the answer waits for standin_release("name")
 *   error=0x2662:"text"  the answer is an error; the text may be left out
 *   null               with an error: the callback gets no result, as with the websocket driver
 *   rows=N cols=K block=B precision=ms|us|ns   N generated rows, K columns, B rows in a block
 *   affected=N         a write of N rows
 *   fetch_delay=5ms    each fetch takes that long
 *   fetch_inline       callbacks of fetches run inline
 *   fetch_after=K      the following three begin with the fetch after K blocks (0)
 *   fetch_never        that fetch is not answered before taos_stop_query, kill or close
 *   fetch_hold=name    that fetch waits for standin_release("name")
 *   fetch_error=0x..:"text"  that fetch fails
 *   fetch_quiet        the error is told with 0 rows, and by taos_errno(res) alone
 * Prepared statements carry directives too; they count when the statement is executed.
 *
 * THE LOG has these kinds of events: option, config, connect, connection_option, mode, kill;
 * query and insert (sql, reqid, async); schemaless (lines and how they are to be read); execute,
 * of a prepared statement: api ("stmt" or "stmt2"), sql, reqid, rows, and binds, a list of what
 * each call of a bind function gave: table, tags, column (-1: all) and columns. Tags and columns
 * are lists of {"type", "values"}: each value its bytes in hex, null, or "none" (is_null 2). Then
 * prepare; subscribe, commit, seek of consumers; raw_block.
 *
 * GENERATED ROWS. Column 0 is the TIMESTAMP `ts`, 1700000000000 + row; column k is `c<k>`, by turns
 * a BIGINT (row), DOUBLE (row / 2; NULL where row % 5 == 4), VARCHAR(16) ("s<row>", NULL where
 * row % 3 == 2), NCHAR(16) ("é😀<row>").
 *
 * WHAT TESTS CALL BESIDES (all copy what they are given; fields are TAOS_FIELD_ALL, 76 bytes)
 *   standin_answer   answers a statement with raw blocks, a number of rows written, or an error
 *   standin_script   directives of a statement that has no comment
 *   standin_fields   parameters of a prepared statement
 *   standin_topic, standin_message   topics and what is in them
 *   standin_rule     a function fails or is slow the next times it is called
 *   standin_release  ends what hold=name, or a rule with delay -1, holds back now: nothing that
 *                    comes later; the counter `held` tells when something waits
 *   standin_notify   calls what taos_set_notify_cb registered, from a thread of the library
 *   standin_log      what was asked and written, as JSON
 *   standin_count, standin_wait   counters (COUNTERS below), and waiting for one
 *   standin_set      "log" 0: nothing is logged any more
 *   standin_reset    forgets everything; all handles are dead
 *
 * Handles are no addresses but numbers that are never used again: dereferencing one crashes, and
 * each use of a dead one is known. One lock guards everything; no callback runs under it.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

#if defined(STANDIN_FULL)
#define CLIENT_VERSION "3.3.7.0"
#define HAS_3X 1
#define HAS_LATEST 1
#elif defined(STANDIN_OLD3)
#define CLIENT_VERSION "3.0.4.2"
#define HAS_3X 1
#elif defined(STANDIN_2X)
#define CLIENT_VERSION "2.6.0.34"
#else
#error "one of STANDIN_FULL, STANDIN_OLD3, STANDIN_2X"
#endif

/* ---- types of the interface ---- */

typedef void TAOS;
typedef void TAOS_RES;
typedef void TAOS_STMT;
typedef void **TAOS_ROW;
typedef void (*async_fn)(void *param, TAOS_RES *res, int code);
typedef void (*notify_fn)(void *param, void *ext, int type);
typedef void (*commit_fn)(void *tmq, int32_t code, void *param);
typedef void (*subscribe_fn)(void *sub, TAOS_RES *res, void *param, int code);

enum {
    T_NULL, T_BOOL, T_TINYINT, T_SMALLINT, T_INT, T_BIGINT, T_FLOAT, T_DOUBLE, T_VARCHAR,
    T_TIMESTAMP, T_NCHAR, T_UTINYINT, T_USMALLINT, T_UINT, T_UBIGINT, T_JSON, T_VARBINARY,
    T_DECIMAL, T_BLOB, T_MEDIUMBLOB, T_GEOMETRY, T_DECIMAL64, T_MAX
};

enum { FIELD_COL = 1, FIELD_TAG, FIELD_QUERY, FIELD_TBNAME };

#ifdef HAS_3X
typedef struct TAOS_FIELD {
    char name[65];
    int8_t type;
    int32_t bytes;
} TAOS_FIELD;
#else
typedef struct TAOS_FIELD {
    char name[65];
    uint8_t type;
    int16_t bytes;
} TAOS_FIELD;
#endif

typedef struct TAOS_FIELD_E {
    char name[65];
    int8_t type;
    uint8_t precision;
    uint8_t scale;
    int32_t bytes;
} TAOS_FIELD_E;

typedef struct TAOS_FIELD_ALL {
    char name[65];
    int8_t type;
    uint8_t precision;
    uint8_t scale;
    int32_t bytes;
    uint8_t field_type;
} TAOS_FIELD_ALL;

/* ---- errors ---- */

#define FAIL(code) ((int32_t)(0x80000000u | (uint32_t)(code)))
#define NETWORK_UNAVAILABLE FAIL(0x000B)
#define INVALID_PARAMETER FAIL(0x0118)
#define INVALID_OPERATION FAIL(0x0200)
#define DISCONNECTED FAIL(0x0213)
#define SQL_TOO_LONG FAIL(0x0219)
#define STMT_MISUSED FAIL(0x022A)
#define QUERY_KILLED FAIL(0x022D)
#define AUTH_FAILURE FAIL(0x0357)
#define NO_DATABASE FAIL(0x0388)
#define SYNTAX_ERROR FAIL(0x2600)
#define NO_VGROUP FAIL(0x4008)
#define NO_TOPIC FAIL(0x4009)
#define OFFSET_OUT_OF_RANGE FAIL(0x4007)
#define CONSUMER_CLOSED FAIL(0x4002)
#define NO_COMMITTED FAIL(0x4011)
#define NOT_SUBSCRIBED FAIL(0x4017)

/* Set what taos_errno(NULL) tells on this thread; the code again. `told` NULL: the usual text. */
int32_t set_error(int32_t code, const char *told);
const char *error_text(int32_t code);
EXPORT int taos_errno(TAOS_RES *res);
EXPORT const char *taos_errstr(TAOS_RES *res);

/* ---- counters ---- */

#define COUNTERS(C)                                                                             \
    C(connections) /* live handles of each kind, in the order of `kind` */                      \
    C(results)                                                                                  \
    C(statements)                                                                               \
    C(consumers)                                                                                \
    C(confs)                                                                                    \
    C(lists)                                                                                    \
    C(subscriptions)                                                                            \
    C(fields)      /* arrays of fields that are still to be given back */                       \
    C(assignments) /* arrays of assignments, likewise */                                        \
    C(texts)       /* texts and raw data of messages, likewise */                               \
    C(threads)     /* of the pool; more than 0 once the library is in use */                    \
    C(outstanding) /* callbacks that were asked for and have not returned yet */                \
    C(delivered)   /* callbacks that have returned */                                           \
    C(held)        /* what waits for standin_release, a kill, a stop or a close */              \
    C(dropped)     /* callbacks that taos_cleanup or standin_reset threw away */                \
    C(queries)                                                                                  \
    C(fetches)                                                                                  \
    C(polls)       /* polls that have begun */                                                  \
    C(commits)                                                                                  \
    C(logged)                                                                                   \
    C(double_frees)         /* also of results that are a statement's or a subscription's, */   \
                            /* and of fields, assignments, texts */                             \
    C(double_closes)        /* of anything but results; also of a consumer's connection */      \
    C(use_after_free)                                                                           \
    C(wrong_handles)        /* never were one, or of another kind */                            \
    C(sql_changed)          /* the caller's SQL was gone when its callback was due */           \
    C(overlapping_fetches)  /* a fetch while one is outstanding */                              \
    C(freed_while_fetching)                                                                     \
    C(concurrent_uses)      /* two threads at once in a statement or consumer */                \
    C(poll_threads)         /* polls on another thread than the one before */                   \
    C(blocking_in_callback) /* calls that block, inside a callback */                           \
    C(deadlocks)            /* calls that would hang forever in libtaos; here they fail */      \
    C(rows_refused)         /* taos_fetch_row before the query's callback returned */           \
    C(raw_and_rows)         /* rows of a result that was read in raw blocks */

#define COUNTER_NAME(name) COUNT_##name,
typedef enum { COUNTERS(COUNTER_NAME) COUNTERS_END } counter;

void count(counter which, int64_t by);
int64_t counted(counter which);

/* ---- lock, handles ---- */

void lock(void);
void unlock(void);
void wait_until(int64_t due); /* under the lock: until something changes, or that moment */
void wake_all(void);
int64_t now_us(void);

typedef enum {
    CONNECTION, RESULT, STATEMENT, CONSUMER, CONF, LIST, SUBSCRIPTION
} kind;
typedef void (*destroy_fn)(void *object);

void *handle_new(kind what, void *object, destroy_fn destroy);
void *handle_peek(const void *handle, kind what); /* NULL where it is not one; nothing is counted */
void *handle_get(const void *handle, kind what);  /* likewise, counted where it is wrong */
/* The object of a handle that dies now; else counted as `twice`. */
void *handle_drop(const void *handle, kind what, counter twice);

/* Memory that the caller gives back with a function of the library; twice is counted. */
void *give(void *data, counter which);
void take_back(void *data, counter which); /* takes the lock */

/* ---- text, log ---- */

typedef struct text {
    char *data;
    size_t length, room;
} text;

void text_add(text *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_bytes(text *to, const char *data, size_t length);
void text_json(text *to, const char *string); /* quoted; NULL becomes null */
void text_json_n(text *to, const char *string, size_t length);
void text_hex(text *to, const void *data, size_t length);
void text_free(text *what);
char *copy_text(const char *string);
void *copy_bytes(const void *data, size_t length);
void *allocate(size_t size); /* zeroed */
void *grow(void *old, size_t size);
/* Put an event in the log: a JSON object with "kind", to which `rest` (or NULL) adds members. */
void log_event(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool logging(void);

/* ---- work ---- */

#define FOREVER INT64_MAX

typedef struct job job;
struct job {
    job *next;
    int64_t due;
    char gate[40];           /* what standin_release must name, if anything */
    bool waited;             /* somebody waits for it; it is not for the pool */
    bool endless;            /* closing the connection ends it */
    bool held;               /* counted as such */
    void (*run)(job *what);  /* not under the lock; it frees the job */
    void *conn, *handle, *object;
    union {
        async_fn call;
        commit_fn commit;
        notify_fn notify;
    } fn;
    void *param;
    const char *sql;         /* the caller's own, which must live until the callback */
    char *sql_before;
    void *owned;             /* goes with the job */
    int32_t code;            /* what ended it early */
    int64_t value;
    int type;
};

typedef struct script script;

void start_pool(void);
void submit(job *what);           /* under the lock; counted as outstanding */
int32_t wait_for(job *what);      /* under the lock: wait for it on this thread; its code */
void job_free(job *what);
void delivered(void);             /* under the lock: a callback has returned */
void enter_callback(void);
void leave_callback(void);
void note_blocking(void);         /* counts a call that blocks where it must not */
void end_jobs(const void *conn, const void *handle, bool only_endless, int32_t code);
/* A rule for the call of that name, its delay included: 0 or the error, which is set. */
int32_t rule_for(const char *call);

/* ---- answers ---- */

struct script {
    int64_t delay, fetch_delay; /* microseconds */
    bool is_inline, never, null, fetch_inline, fetch_never, fetch_quiet;
    char hold[40], fetch_hold[40];
    int32_t error, fetch_error;
    char error_text[256], fetch_error_text[256];
    int64_t rows, affected, fetch_after; /* rows and affected: -1 where they are not told */
    int cols, block, precision;
};

typedef struct block {
    char *data;
    int64_t length;
    TAOS_FIELD_ALL *fields; /* NULL: those of the source */
    int nfields;
    char *table;
} block;

/* What a result has to give; results share it. */
typedef struct source {
    int refs;
    TAOS_FIELD_ALL *fields;
    int nfields, precision;
    block *blocks;
    int nblocks;
    int64_t generated; /* rows to generate, or -1 */
    int per_block;
    int64_t affected;
    int32_t code;
    char *message;
} source;

source *source_new(void);
source *source_keep(source *what);
void source_drop(source *what);
source *source_error(int32_t code, const char *message);
source *source_written(int64_t affected);
void source_blocks(source *to, const void *blocks, const int64_t *lengths, int nblocks);
/* The rows of a generated source from `start`, as a raw block. */
char *generate_block(const source *of, int64_t start, int64_t *length);

/* Read the directives of a statement; a copy of its SQL without them. */
char *script_read(const char *sql, script *into);
bool starts_with(const char *sql, const char *word);

typedef struct connection {
    void *handle;
    char database[200];
    bool owned; /* a consumer's */
    notify_fn notify[3];
    void *notify_param[3];
} connection;

/* What a statement is answered with; `sql` is whole, `bare` without directives. */
source *answer_for(connection *conn, const char *sql, const char *bare, const script *how);
bool database_exists(const char *name);
const TAOS_FIELD_ALL *fields_for(const char *bare, int *count); /* of a prepared statement */

/* ---- results ---- */

typedef enum { OF_CALLER, OF_STATEMENT, OF_SUBSCRIPTION } owner;

typedef struct view { /* one column of the current block, as row functions show it */
    int type, width;
    const uint8_t *nulls;
    char *data;
    int *offsets; /* variable types */
    void *made;   /* what was allocated for data */
    size_t made_size;
} view;

typedef struct result {
    void *handle, *conn;
    source *from;
    script how;
    owner belongs;
    int64_t next;  /* block, or generated row */
    int64_t until; /* where it ends early, or -1 */
    int64_t blocks_given;
    int32_t code;
    char message[512];
    bool in_callback, fetching, doomed, raw_read;
    char *raw;
    int64_t raw_length;
    int rows, row, columns;
    view *views;
    void **row_pointers, **column_pointers;
    int *lengths;
    TAOS_FIELD *fields;
    TAOS_FIELD_E *fields_e;
    const block *at; /* the block fetched last */
    /* of a subscription's message */
    bool is_message;
    char *topic, *db, *json;
    int vgroup, message_type;
    int64_t offset;
} result;

result *result_new(void *conn, source *from, owner belongs); /* takes the source over */
void result_fail(result *what, int32_t code, const char *message);
void result_free(result *what); /* the object; its handle is dead already, or dies with it */
void result_drop_owned(result *what);
void forget_block(result *what);
void make_views(result *what);
void forget_views(result *what);
void scribble(void *data, size_t size); /* overwrite, keep for a while, then free */
const TAOS_FIELD_ALL *result_fields(const result *what, int *count);
int type_width(int type);   /* 0: variable */
int prefix_width(int type); /* of variable types */
bool view_is_null(const view *of, int row);

/* Run a statement's query for somebody else; NULL where the connection is dead. */
result *query_result(connection *conn, const char *sql, int64_t reqid, bool async);
/* The job that an answer's delay makes; `how` tells when. */
job *answer_job(const script *how, void *conn);

/* ---- what standin_reset clears ---- */

void reset_answers(void);
void reset_results(void);
void reset_use(void);
void reset_topics(void);
void reset_progress(void);

#endif
