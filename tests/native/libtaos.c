/* The process, connections, and statements that are sent as text; see standin.h. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standin.h"

#define MAX_SQL 1048576
#define AUTH "54f4b2fea6d9b5fd4f2dbd1ef3a0cd05" /* accepted by taos_connect_auth */

/* ---- process ---- */

static bool in_use;

void reset_use(void) { in_use = false; }

EXPORT int taos_init(void) {
    lock();
    in_use = true;
    start_pool();
    unlock();
    return 0;
}

EXPORT int taos_options(int option, const void *arg, ...) {
    text value = {0};
    text_json(&value, arg);
    lock();
    log_event("option", ", \"option\": %d, \"value\": %s", option, value.data);
    int code = in_use && option != 4 ? -1 : 0; /* all but the activity timer come first */
    unlock();
    text_free(&value);
    return code;
}

EXPORT const char *taos_get_client_info(void) { return CLIENT_VERSION; }

EXPORT const char *taos_data_type(int type) {
    static const char *const names[] = {
        "TSDB_DATA_TYPE_NULL", "TSDB_DATA_TYPE_BOOL", "TSDB_DATA_TYPE_TINYINT",
        "TSDB_DATA_TYPE_SMALLINT", "TSDB_DATA_TYPE_INT", "TSDB_DATA_TYPE_BIGINT",
        "TSDB_DATA_TYPE_FLOAT", "TSDB_DATA_TYPE_DOUBLE", "TSDB_DATA_TYPE_VARCHAR",
        "TSDB_DATA_TYPE_TIMESTAMP", "TSDB_DATA_TYPE_NCHAR", "TSDB_DATA_TYPE_UTINYINT",
        "TSDB_DATA_TYPE_USMALLINT", "TSDB_DATA_TYPE_UINT", "TSDB_DATA_TYPE_UBIGINT",
        "TSDB_DATA_TYPE_JSON", "TSDB_DATA_TYPE_VARBINARY", "TSDB_DATA_TYPE_DECIMAL",
        "TSDB_DATA_TYPE_BLOB", "TSDB_DATA_TYPE_MEDIUMBLOB", "TSDB_DATA_TYPE_GEOMETRY",
        "TSDB_DATA_TYPE_DECIMAL64"};
    return type >= 0 && type < T_MAX ? names[type] : "UNKNOWN";
}

#ifdef HAS_3X
typedef struct setConfRet {
    int code;
    char message[1024];
} setConfRet;

EXPORT setConfRet taos_set_config(const char *config) {
    setConfRet told = {0};
    text value = {0};
    text_json(&value, config);
    lock();
    log_event("config", ", \"value\": %s", value.data);
    unlock();
    text_free(&value);
    return told;
}

EXPORT int taos_check_server_status(const char *host, int port, char *details, int size) {
    (void)host, (void)port;
    lock();
    note_blocking();
    int32_t code = rule_for("taos_check_server_status");
    unlock();
    if (details != NULL && size > 0) snprintf(details, (size_t)size, "%s", code ? "down" : "");
    return code ? 0 : 2;
}
#endif

/* ---- connections ---- */

static void destroy(void *object) { free(object); }

static TAOS *connect_as(const char *call, const char *host, const char *user, bool allowed,
                        const char *database, int port) {
    text line = {0};
    text_add(&line, ", \"host\": ");
    text_json(&line, host);
    text_add(&line, ", \"port\": %d, \"user\": ", port);
    text_json(&line, user);
    text_add(&line, ", \"database\": ");
    text_json(&line, database);
    lock();
    in_use = true;
    start_pool();
    note_blocking();
    log_event("connect", "%s", line.data);
    text_free(&line);
    int32_t code = rule_for(call);
    bool named = database != NULL && database[0];
    if (!code && !allowed) code = set_error(AUTH_FAILURE, NULL);
    if (!code && named && !database_exists(database)) code = set_error(NO_DATABASE, NULL);
    void *handle = NULL;
    if (!code) {
        connection *made = allocate(sizeof *made);
        snprintf(made->database, sizeof made->database, "%s", named ? database : "");
        handle = made->handle = handle_new(CONNECTION, made, destroy);
        set_error(0, NULL);
    }
    unlock();
    return handle;
}

EXPORT TAOS *taos_connect(const char *host, const char *user, const char *password,
                          const char *database, uint16_t port) {
    bool allowed = password == NULL || strcmp(password, "taosdata") == 0;
    return connect_as("taos_connect", host, user, allowed, database, port);
}

EXPORT TAOS *taos_connect_auth(const char *host, const char *user, const char *auth,
                               const char *database, uint16_t port) {
    bool allowed = auth != NULL && strcmp(auth, AUTH) == 0;
    return connect_as("taos_connect_auth", host, user, allowed, database, port);
}

/* What runs on the connection goes on, as in libtaos; what would never end, ends. */
EXPORT void taos_close(TAOS *taos) {
    if (taos == NULL) return;
    lock();
    connection *found = handle_peek(taos, CONNECTION);
    if (found != NULL && found->owned) {
        count(COUNT_double_closes, 1); /* its consumer closes it as well */
    } else if ((found = handle_drop(taos, CONNECTION, COUNT_double_closes)) != NULL) {
        end_jobs(taos, NULL, true, DISCONNECTED);
        free(found);
    }
    unlock();
}

EXPORT void taos_kill_query(TAOS *taos) {
    if (taos == NULL) return;
    lock();
    if (handle_get(taos, CONNECTION) != NULL) {
        log_event("kill", ", \"outstanding\": %d", (int)counted(COUNT_outstanding));
        end_jobs(taos, NULL, false, QUERY_KILLED);
    }
    unlock();
}

static int32_t dead_connection(void) { return set_error(DISCONNECTED, NULL); }

EXPORT int taos_select_db(TAOS *taos, const char *database) {
    char sql[300];
    snprintf(sql, sizeof sql, "use %s", database ? database : "");
    lock();
    note_blocking();
    int32_t code = rule_for("taos_select_db");
    connection *conn = handle_get(taos, CONNECTION);
    if (!code && conn == NULL) code = dead_connection();
    if (!code) {
        script none = {.rows = -1, .affected = -1};
        source *told = answer_for(conn, sql, sql, &none);
        code = told->code ? set_error(told->code, told->message) : 0;
        source_drop(told);
    }
    unlock();
    return code;
}

EXPORT int taos_get_current_db(TAOS *taos, char *to, int size, int *required) {
    lock();
    connection *conn = handle_get(taos, CONNECTION);
    int32_t code = conn ? 0 : dead_connection();
    if (conn != NULL) {
        int needed = (int)strlen(conn->database) + 1;
        if (to == NULL || size < needed) {
            if (required != NULL) *required = needed;
            code = set_error(INVALID_PARAMETER, NULL);
        } else {
            memcpy(to, conn->database, (size_t)needed);
        }
    }
    unlock();
    return code;
}

EXPORT void taos_reset_current_db(TAOS *taos) {
    lock();
    connection *conn = handle_get(taos, CONNECTION);
    if (conn != NULL) conn->database[0] = 0;
    unlock();
}

EXPORT const char *taos_get_server_info(TAOS *taos) {
    lock();
    bool alive = handle_get(taos, CONNECTION) != NULL && !rule_for("taos_get_server_info");
    unlock();
    return alive ? CLIENT_VERSION : NULL;
}

#ifdef HAS_LATEST
EXPORT int taos_options_connection(TAOS *taos, int option, const void *arg, ...) {
    text value = {0};
    text_json(&value, arg);
    lock();
    int32_t code = handle_get(taos, CONNECTION) ? 0 : dead_connection();
    if (!code && (option < -1 || option > 3)) code = set_error(INVALID_PARAMETER, NULL);
    if (!code)
        log_event("connection_option", ", \"option\": %d, \"value\": %s", option, value.data);
    unlock();
    text_free(&value);
    return code;
}
#endif

#ifdef HAS_3X
EXPORT int taos_set_conn_mode(TAOS *taos, int mode, int value) {
    lock();
    int32_t code = handle_get(taos, CONNECTION) ? 0 : dead_connection();
    log_event("mode", ", \"mode\": %d, \"value\": %d", mode, value);
    unlock();
    return code;
}

EXPORT int taos_set_notify_cb(TAOS *taos, notify_fn fn, void *param, int type) {
    lock();
    connection *conn = handle_get(taos, CONNECTION);
    int32_t code = conn ? 0 : dead_connection();
    if (conn != NULL && (type < 0 || type > 2)) code = set_error(INVALID_PARAMETER, NULL);
    if (!code) {
        conn->notify[type] = fn;
        conn->notify_param[type] = param;
    }
    unlock();
    return code;
}

static void run_notify(job *what) {
    int32_t version = (int32_t)what->value;
    void *extra = what->type == 0 ? (void *)&version : what->type == 1 ? (void *)&what->value : NULL;
    enter_callback();
    what->fn.notify(what->param, extra, what->type);
    leave_callback();
    lock();
    delivered();
    unlock();
    job_free(what);
}

/* Tell what taos_set_notify_cb asked for; 0 where nothing is registered. */
EXPORT int standin_notify(TAOS *taos, int type, int64_t value) {
    lock();
    connection *conn = handle_peek(taos, CONNECTION);
    bool asked = conn != NULL && type >= 0 && type <= 2 && conn->notify[type] != NULL;
    if (asked) {
        job *made = allocate(sizeof *made);
        made->run = run_notify;
        made->fn.notify = conn->notify[type];
        made->param = conn->notify_param[type];
        made->type = type;
        made->value = value;
        submit(made);
    }
    unlock();
    return asked;
}
#endif

/* ---- queries ---- */

result *query_result(connection *conn, const char *sql, int64_t reqid, bool async) {
    script how;
    char *bare = script_read(sql, &how);
    if (logging()) {
        text line = {0};
        text_json(&line, sql);
        log_event(starts_with(bare, "insert") ? "insert" : "query",
                  ", \"sql\": %s, \"reqid\": %" PRId64 ", \"async\": %s", line.data, reqid,
                  async ? "true" : "false");
        text_free(&line);
    }
    result *made = result_new(conn->handle, answer_for(conn, sql, bare, &how), OF_CALLER);
    made->how = how;
    free(bare);
    count(COUNT_queries, 1);
    return made;
}

job *answer_job(const script *how, void *conn) {
    job *made = allocate(sizeof *made);
    made->conn = conn;
    made->due = how->delay ? now_us() + how->delay : 0;
    made->endless = how->never;
    if (how->hold[0]) memcpy(made->gate, how->hold, sizeof made->gate);
    if (how->never || how->hold[0]) made->due = FOREVER;
    return made;
}

/* What became of a query: it may have been killed, or its result be kept back. */
static result *settle(result *what, int32_t code) {
    if (code) {
        source_drop(what->from);
        what->from = source_error(code, NULL);
        result_fail(what, code, NULL);
    }
    if (!what->code || !what->how.null) return what;
    set_error(what->code, what->message);
    handle_drop(what->handle, RESULT, COUNT_double_frees);
    result_free(what);
    return NULL;
}

static void run_query(job *what) {
    lock();
    result *of = what->object;
    if (strcmp(what->sql, what->sql_before)) count(COUNT_sql_changed, 1);
    int32_t code = what->code ? what->code : of->code;
    void *handle = NULL;
    if ((of = settle(of, what->code)) != NULL) {
        handle = of->handle;
        of->in_callback = true;
    }
    unlock();
    enter_callback();
    what->fn.call(what->param, handle, code);
    leave_callback();
    lock();
    if (handle != NULL && (of = handle_peek(handle, RESULT)) != NULL) of->in_callback = false;
    delivered();
    unlock();
    job_free(what);
}

/* Why a query cannot even begin. */
static int32_t refusal(const char *sql, const connection *conn) {
    if (conn == NULL) return DISCONNECTED;
    if (sql == NULL) return INVALID_PARAMETER;
    return strlen(sql) > MAX_SQL ? SQL_TOO_LONG : 0;
}

static void query_a(TAOS *taos, const char *sql, async_fn fn, void *param, int64_t reqid) {
    lock();
    connection *conn = handle_get(taos, CONNECTION);
    int32_t code = refusal(sql, conn);
    if (code) {
        unlock();
        set_error(code, NULL);
        enter_callback();
        fn(param, NULL, code);
        leave_callback();
        return;
    }
    result *of = query_result(conn, sql, reqid, true);
    job *made = answer_job(&of->how, taos);
    made->run = run_query;
    made->handle = of->handle;
    made->object = of;
    made->fn.call = fn;
    made->param = param;
    made->sql = sql;
    made->sql_before = copy_text(sql);
    bool at_once = of->how.is_inline && made->due != FOREVER;
    if (at_once)
        count(COUNT_outstanding, 1);
    else
        submit(made);
    unlock();
    if (at_once) made->run(made);
}

static TAOS_RES *query(TAOS *taos, const char *sql, int64_t reqid) {
    lock();
    note_blocking();
    connection *conn = handle_get(taos, CONNECTION);
    int32_t code = refusal(sql, conn);
    TAOS_RES *told = NULL;
    if (code) {
        set_error(code, NULL);
    } else {
        result *of = query_result(conn, sql, reqid, false);
        job *waiting = answer_job(&of->how, taos);
        of = settle(of, wait_for(waiting));
        job_free(waiting);
        if (of != NULL) {
            told = of->handle;
            set_error(of->code, of->message);
        }
    }
    unlock();
    return told;
}

EXPORT TAOS_RES *taos_query(TAOS *taos, const char *sql) { return query(taos, sql, 0); }

EXPORT void taos_query_a(TAOS *taos, const char *sql, async_fn fn, void *param) {
    query_a(taos, sql, fn, param, 0);
}

#ifdef HAS_LATEST
EXPORT TAOS_RES *taos_query_with_reqid(TAOS *taos, const char *sql, int64_t reqid) {
    return query(taos, sql, reqid);
}

EXPORT void taos_query_a_with_reqid(TAOS *taos, const char *sql, async_fn fn, void *param,
                                    int64_t reqid) {
    query_a(taos, sql, fn, param, reqid);
}
#endif

/* ---- tables ---- */

static int simple_call(const char *call, TAOS *taos) {
    lock();
    note_blocking();
    int32_t code = rule_for(call);
    if (!code && handle_get(taos, CONNECTION) == NULL) code = dead_connection();
    unlock();
    return code;
}

EXPORT int taos_validate_sql(TAOS *taos, const char *sql) {
    lock();
    note_blocking();
    int32_t code = rule_for("taos_validate_sql");
    connection *conn = handle_get(taos, CONNECTION);
    if (!code) code = refusal(sql, conn);
    if (!code) {
        script how;
        char *bare = script_read(sql, &how);
        char *database = copy_text(conn->database);
        source *told = answer_for(conn, sql, bare, &how);
        snprintf(conn->database, sizeof conn->database, "%s", database); /* `use` was not run */
        code = told->code ? set_error(told->code, told->message) : 0;
        source_drop(told);
        free(database);
        free(bare);
    }
    unlock();
    return code;
}

EXPORT int taos_load_table_info(TAOS *taos, const char *tables) {
    (void)tables;
    return simple_call("taos_load_table_info", taos);
}

#ifdef HAS_3X
/* Tables are spread over the vgroups 2 and 3 by the length of their names. */
static int vgroup_of(const char *table) { return 2 + (int)(strlen(table) % 2); }

EXPORT int taos_get_table_vgId(TAOS *taos, const char *database, const char *table, int *vgroup) {
    (void)database;
    int code = simple_call("taos_get_table_vgId", taos);
    if (!code) *vgroup = vgroup_of(table);
    return code;
}

EXPORT int taos_get_tables_vgId(TAOS *taos, const char *database, const char *tables[], int number,
                                int *vgroups) {
    (void)database;
    int code = simple_call("taos_get_tables_vgId", taos);
    for (int i = 0; !code && i < number; i++) vgroups[i] = vgroup_of(tables[i]);
    return code;
}
#endif
