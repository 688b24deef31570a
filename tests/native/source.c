/* What statements are answered with: registered answers, directives, what the stand-in knows. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "standin.h"

/* ---- errors ---- */

static _Thread_local int32_t last_code;
static _Thread_local char last_text[512];

const char *error_text(int32_t code) {
    switch (code) {
    case 0: return "success";
    case NETWORK_UNAVAILABLE: return "Unable to establish connection";
    case INVALID_PARAMETER: return "Invalid parameters";
    case INVALID_OPERATION: return "Invalid operation";
    case DISCONNECTED: return "Connection killed";
    case SQL_TOO_LONG: return "SQL statement too long";
    case STMT_MISUSED: return "Stmt API usage error";
    case QUERY_KILLED: return "Query killed";
    case AUTH_FAILURE: return "Authentication failure";
    case NO_DATABASE: return "Database not exist";
    case SYNTAX_ERROR: return "syntax error";
    case NO_VGROUP: return "Invalid vgroup id";
    case NO_TOPIC: return "Invalid topic";
    case OFFSET_OUT_OF_RANGE: return "Offset out of range";
    case CONSUMER_CLOSED: return "Consumer closed";
    case NOT_SUBSCRIBED: return "Invalid status";
    case NO_COMMITTED: return "No committed info";
    default: return "an error of the stand-in";
    }
}

int32_t set_error(int32_t code, const char *told) {
    last_code = code;
    snprintf(last_text, sizeof last_text, "%s", told ? told : error_text(code));
    return code;
}

EXPORT int taos_errno(TAOS_RES *res) {
    if (res == NULL) return last_code;
    lock();
    result *found = handle_get(res, RESULT);
    int32_t code = found ? found->code : INVALID_PARAMETER;
    unlock();
    return code;
}

EXPORT const char *taos_errstr(TAOS_RES *res) {
    if (res == NULL) return last_text[0] ? last_text : error_text(0);
    lock();
    result *found = handle_get(res, RESULT);
    const char *told = found ? found->message : error_text(INVALID_PARAMETER);
    unlock();
    return told;
}

/* ---- sources ---- */

source *source_new(void) {
    source *made = allocate(sizeof *made);
    made->refs = 1;
    made->generated = -1;
    return made;
}

source *source_keep(source *what) {
    what->refs++;
    return what;
}

void source_drop(source *what) {
    if (what == NULL || --what->refs) return;
    for (int i = 0; i < what->nblocks; i++) {
        free(what->blocks[i].data);
        free(what->blocks[i].fields);
        free(what->blocks[i].table);
    }
    free(what->blocks);
    free(what->fields);
    free(what->message);
    free(what);
}

source *source_error(int32_t code, const char *message) {
    source *made = source_new();
    made->code = code;
    made->message = copy_text(message && message[0] ? message : error_text(code));
    return made;
}

source *source_written(int64_t affected) {
    source *made = source_new();
    made->affected = affected;
    return made;
}

void source_blocks(source *to, const void *blocks, const int64_t *lengths, int nblocks) {
    const char *data = blocks;
    to->blocks = allocate((size_t)nblocks * sizeof *to->blocks);
    to->nblocks = nblocks;
    for (int i = 0; i < nblocks; i++) {
        to->blocks[i].data = copy_bytes(data, (size_t)lengths[i]);
        to->blocks[i].length = lengths[i];
        data += lengths[i];
    }
}

static TAOS_FIELD_ALL make_field(const char *name, int type, int bytes) {
    TAOS_FIELD_ALL made = {.type = (int8_t)type, .bytes = bytes};
    snprintf(made.name, sizeof made.name, "%s", name);
    return made;
}

static source *source_fields(const TAOS_FIELD_ALL *fields, int nfields) {
    source *made = source_new();
    made->fields = copy_bytes(fields, (size_t)nfields * sizeof *fields);
    made->nfields = nfields;
    return made;
}

/* ---- generated rows ---- */

static source *source_generated(const script *how) {
    int cols = how->cols > 0 ? how->cols : 2;
    static const int types[] = {T_BIGINT, T_DOUBLE, T_VARCHAR, T_NCHAR};
    static const int bytes[] = {8, 8, 16, 16};
    source *made = source_new();
    made->fields = allocate((size_t)cols * sizeof *made->fields);
    made->nfields = cols;
    made->fields[0] = make_field("ts", T_TIMESTAMP, 8);
    for (int i = 1; i < cols; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        made->fields[i] = make_field(name, types[(i - 1) % 4], bytes[(i - 1) % 4]);
    }
    made->generated = how->rows;
    made->per_block = how->block > 0 ? how->block : 1000;
    made->precision = how->precision;
    return made;
}

static void add_i32(text *to, int32_t value) { text_bytes(to, (char *)&value, 4); }

static void add_fixed(text *to, int type, int64_t start, int rows) {
    size_t bits = (size_t)(rows + 7) / 8;
    char *nulls = allocate(bits);
    text values = {0};
    for (int i = 0; i < rows; i++) {
        int64_t row = start + i, whole = type == T_TIMESTAMP ? 1700000000000 + row : row;
        double half = (double)row / 2;
        bool null = type == T_DOUBLE && row % 5 == 4;
        if (null) nulls[i / 8] = (char)(nulls[i / 8] | 0x80 >> i % 8);
        if (null) half = 0;
        text_bytes(&values, type == T_DOUBLE ? (char *)&half : (char *)&whole, 8);
    }
    text_bytes(to, nulls, bits);
    text_bytes(to, values.data, values.length);
    text_free(&values);
    free(nulls);
}

static void add_variable(text *to, int type, int64_t start, int rows, int32_t *length) {
    text values = {0};
    for (int i = 0; i < rows; i++) {
        bool null = type == T_VARCHAR && (start + i) % 3 == 2;
        add_i32(to, null ? -1 : (int32_t)values.length);
        if (null) continue;
        char digits[32];
        int size = snprintf(digits, sizeof digits, "%lld", (long long)(start + i));
        uint16_t prefix = (uint16_t)(type == T_NCHAR ? 4 * (size + 2) : size + 1);
        text_bytes(&values, (char *)&prefix, 2);
        if (type == T_NCHAR) {
            add_i32(&values, 0xe9);
            add_i32(&values, 0x1f600);
            for (int k = 0; k < size; k++) add_i32(&values, digits[k]);
        } else {
            text_bytes(&values, "s", 1);
            text_bytes(&values, digits, (size_t)size);
        }
    }
    *length = (int32_t)values.length;
    if (values.length) text_bytes(to, values.data, values.length);
    text_free(&values);
}

char *generate_block(const source *of, int64_t start, int64_t *length) {
    int64_t left = of->generated - start;
    int rows = (int)(left < of->per_block ? left : of->per_block);
    text made = {0}, body = {0};
    int32_t *lengths = allocate((size_t)of->nfields * sizeof *lengths);
    for (int i = 0; i < of->nfields; i++) {
        int type = of->fields[i].type;
        lengths[i] = rows * 8;
        if (type_width(type))
            add_fixed(&body, type, start, rows);
        else
            add_variable(&body, type, start, rows, &lengths[i]);
    }
    int32_t total = (int32_t)(28 + 9 * (size_t)of->nfields + body.length + 1);
    int32_t head[7] = {1, total, rows, of->nfields, (int32_t)0x80000000u, 0, 0};
    text_bytes(&made, (char *)head, sizeof head);
    for (int i = 0; i < of->nfields; i++) {
        const TAOS_FIELD_ALL *field = &of->fields[i];
        int bytes = field->type == T_NCHAR ? field->bytes * 4 + 2
                                           : field->bytes + (type_width(field->type) ? 0 : 2);
        text_bytes(&made, (const char *)&field->type, 1);
        add_i32(&made, bytes);
    }
    text_bytes(&made, (char *)lengths, (size_t)of->nfields * 4);
    text_bytes(&made, body.data, body.length);
    text_bytes(&made, "", 1);
    free(lengths);
    text_free(&body);
    *length = (int64_t)made.length;
    return made.data;
}

/* ---- directives ---- */

bool starts_with(const char *sql, const char *word) {
    while (isspace((unsigned char)*sql)) sql++;
    size_t length = strlen(word);
    return strncasecmp(sql, word, length) == 0 && !isalnum((unsigned char)sql[length]);
}

static int64_t read_time(const char *value) {
    char *unit;
    double amount = strtod(value, &unit);
    if (strcmp(unit, "us") == 0) return (int64_t)amount;
    if (strcmp(unit, "ms") == 0) return (int64_t)(amount * 1e3);
    return (int64_t)(amount * 1e6);
}

/* `0x2662` or `0x2662:text`, the quotes gone already. */
static int32_t read_error(const char *value, char *told, size_t size) {
    char *rest;
    int32_t code = (int32_t)strtol(value, &rest, 0);
    snprintf(told, size, "%s", *rest == ':' ? rest + 1 : "");
    return code;
}

static int read_precision(const char *value) { return value[0] == 'm' ? 0 : value[0] == 'u' ? 1 : 2; }

static bool read_word(script *to, const char *word, const char *value) {
#define IS(name) (strcmp(word, name) == 0)
    if (IS("inline")) to->is_inline = true;
    else if (IS("never")) to->never = true;
    else if (IS("null")) to->null = true;
    else if (IS("fetch_inline")) to->fetch_inline = true;
    else if (IS("fetch_never")) to->fetch_never = true;
    else if (IS("fetch_quiet")) to->fetch_quiet = true;
    else if (value == NULL) return false;
    else if (IS("delay")) to->delay = read_time(value);
    else if (IS("fetch_delay")) to->fetch_delay = read_time(value);
    else if (IS("hold")) snprintf(to->hold, sizeof to->hold, "%s", value);
    else if (IS("fetch_hold")) snprintf(to->fetch_hold, sizeof to->fetch_hold, "%s", value);
    else if (IS("error")) to->error = read_error(value, to->error_text, sizeof to->error_text);
    else if (IS("fetch_error"))
        to->fetch_error = read_error(value, to->fetch_error_text, sizeof to->fetch_error_text);
    else if (IS("rows")) to->rows = strtoll(value, NULL, 0);
    else if (IS("affected")) to->affected = strtoll(value, NULL, 0);
    else if (IS("fetch_after")) to->fetch_after = strtoll(value, NULL, 0);
    else if (IS("cols")) to->cols = atoi(value);
    else if (IS("block")) to->block = atoi(value);
    else if (IS("precision")) to->precision = read_precision(value);
    else return false;
    return true;
#undef IS
}

/* Cut the next word off: up to a space that is not within quotes; the quotes go. */
static char *next_word(char **rest) {
    char *from = *rest;
    while (isspace((unsigned char)*from)) from++;
    if (*from == 0) return NULL;
    char *to = from, *word = from;
    bool quoted = false;
    for (; *from && (quoted || !isspace((unsigned char)*from)); from++) {
        if (*from == '"')
            quoted = !quoted;
        else
            *to++ = *from;
    }
    *rest = *from ? from + 1 : from;
    *to = 0;
    return word;
}

static void read_words(script *into, char *words) {
    for (char *word; (word = next_word(&words)) != NULL;) {
        char *value = strchr(word, '=');
        if (value != NULL) *value++ = 0;
        if (read_word(into, word, value)) continue;
        into->error = 0x2600;
        snprintf(into->error_text, sizeof into->error_text,
                 "the stand-in knows no directive '%.100s'", word);
        return;
    }
}

static void trim_end(char *sql) {
    size_t length = strlen(sql);
    while (length && (isspace((unsigned char)sql[length - 1]) || sql[length - 1] == ';'))
        sql[--length] = 0;
}

typedef struct registered { /* directives of statements that have no comment */
    struct registered *next;
    char *sql, *words;
} registered;

static registered *scripts;

static registered *find_script(const char *sql) {
    registered *found = scripts;
    while (found != NULL && strcmp(found->sql, sql)) found = found->next;
    return found;
}

/* Directives for a statement from now on, for one that somebody else makes; "" takes them back. */
EXPORT void standin_script(const char *sql, const char *words) {
    lock();
    registered *found = find_script(sql);
    if (found == NULL) {
        found = allocate(sizeof *found);
        found->sql = copy_text(sql);
        found->next = scripts;
        scripts = found;
    }
    free(found->words);
    found->words = copy_text(words);
    unlock();
}

static void reset_scripts(void) {
    while (scripts != NULL) {
        registered *next = scripts->next;
        free(scripts->sql);
        free(scripts->words);
        free(scripts);
        scripts = next;
    }
}

/* Cut the comment off that ends a statement; what is in it, or NULL where there is none. */
static char *cut_comment(char *sql) {
    size_t length = strlen(sql);
    if (length < 4 || strcmp(sql + length - 2, "*/")) return NULL;
    char *start = NULL;
    for (char *at = sql; (at = strstr(at, "/*")) != NULL; at += 2) start = at;
    if (start == NULL || start[2] == '+' || start + 4 > sql + length) return NULL;
    sql[length - 2] = 0;
    *start = 0;
    return start + 2;
}

char *script_read(const char *sql, script *into) {
    memset(into, 0, sizeof *into);
    into->rows = into->affected = -1;
    char *bare = copy_text(sql);
    trim_end(bare);
    char *words = cut_comment(bare);
    trim_end(bare);
    const registered *found = find_script(bare);
    if (found != NULL) {
        char *copy = copy_text(found->words);
        read_words(into, copy);
        free(copy);
    }
    if (words != NULL) read_words(into, words);
    return bare;
}

/* ---- databases ---- */

static char **databases;
static int database_count;

static int database_place(const char *name) {
    for (int i = 0; i < database_count; i++)
        if (strcmp(databases[i], name) == 0) return i;
    return -1;
}

bool database_exists(const char *name) {
    return database_place(name) >= 0 || strcmp(name, "test") == 0;
}

/* The name at the end of `use x`, `create database [if not exists] x ...`. */
static void read_name(const char *sql, const char *const *skip, char *name, size_t size) {
    for (int i = 0; skip[i] != NULL; i++) {
        while (isspace((unsigned char)*sql)) sql++;
        if (starts_with(sql, skip[i])) sql += strlen(skip[i]);
    }
    while (isspace((unsigned char)*sql) || *sql == '`') sql++;
    size_t length = strcspn(sql, " \t\n`;");
    snprintf(name, size, "%.*s", (int)length, sql);
}

static source *run_database(connection *conn, const char *sql) {
    static const char *const words[] = {"use", "create", "drop", "database", "if",
                                        "not", "exists", NULL};
    char name[200];
    read_name(sql, words, name, sizeof name);
    int place = database_place(name);
    if (starts_with(sql, "use")) {
        if (!database_exists(name)) return source_error(NO_DATABASE, NULL);
        snprintf(conn->database, sizeof conn->database, "%s", name);
    } else if (starts_with(sql, "create") && !database_exists(name)) {
        databases = grow(databases, (size_t)(database_count + 1) * sizeof *databases);
        databases[database_count++] = copy_text(name);
    } else if (starts_with(sql, "drop") && place >= 0) {
        free(databases[place]);
        databases[place] = databases[--database_count];
    } else if (starts_with(sql, "drop") && strstr(sql, "exists") == NULL) {
        return source_error(NO_DATABASE, NULL);
    }
    return source_written(0);
}

/* ---- statements that are known ---- */

static source *one_value(const char *name, int type, const void *data, int length) {
    TAOS_FIELD_ALL field = make_field(name, type, type_width(type) ? length : 64);
    source *made = source_fields(&field, 1);
    text raw = {0};
    bool variable = type_width(type) == 0;
    int32_t size = data == NULL ? 0 : variable ? length + 2 : length;
    int32_t head[7] = {1, 28 + 9 + (variable ? 4 : 1) + size + 1, 1, 1, (int32_t)0x80000000u, 0, 0};
    text_bytes(&raw, (char *)head, sizeof head);
    text_bytes(&raw, (char *)&field.type, 1);
    add_i32(&raw, field.bytes + (variable ? 2 : 0));
    add_i32(&raw, size);
    if (variable)
        add_i32(&raw, data == NULL ? -1 : 0);
    else
        text_bytes(&raw, "", 1);
    uint16_t prefix = (uint16_t)length;
    if (variable && data != NULL) text_bytes(&raw, (char *)&prefix, 2);
    if (data != NULL) text_bytes(&raw, data, (size_t)length);
    text_bytes(&raw, "", 1);
    int64_t total = (int64_t)raw.length;
    source_blocks(made, raw.data, &total, 1);
    text_free(&raw);
    return made;
}

static source *known_select(connection *conn, const char *sql) {
    const char *what = sql + strlen("select");
    while (isspace((unsigned char)*what)) what++;
    const char *database = conn->database[0] ? conn->database : NULL;
    char *end;
    long long number = strtoll(what, &end, 10);
    int32_t one = 1;
    if (end != what && *end == 0) return one_value(what, T_BIGINT, &number, 8);
    if (strcasecmp(what, "server_version()") == 0 || strcasecmp(what, "client_version()") == 0)
        return one_value(what, T_VARCHAR, CLIENT_VERSION, (int)strlen(CLIENT_VERSION));
    if (strcasecmp(what, "server_status()") == 0) return one_value(what, T_INT, &one, 4);
    if (strcasecmp(what, "database()") == 0)
        return one_value(what, T_VARCHAR, database, database ? (int)strlen(database) : 0);
    if (strcasecmp(what, "* from generated") == 0) {
        script how = {.rows = 10, .cols = 4};
        return source_generated(&how);
    }
    return NULL;
}

static source *known(connection *conn, const char *sql) {
    static const char *const writes[] = {"create", "drop", "alter", NULL};
    while (isspace((unsigned char)*sql)) sql++;
    bool database = starts_with(sql, "create database") || starts_with(sql, "drop database");
    if (starts_with(sql, "use") || database) return run_database(conn, sql);
    if (starts_with(sql, "insert")) return source_written(1);
    for (int i = 0; writes[i] != NULL; i++)
        if (starts_with(sql, writes[i])) return source_written(0);
    source *found = starts_with(sql, "select") ? known_select(conn, sql) : NULL;
    if (found != NULL) return found;
    char told[64];
    snprintf(told, sizeof told, "syntax error near \"%.20s\"", sql);
    return source_error(SYNTAX_ERROR, told);
}

/* ---- registered answers ---- */

typedef struct answer {
    struct answer *next;
    char *sql;
    source *from;
} answer;

static answer *answers;    /* of statements */
static answer *parameters; /* of prepared ones: sources with fields alone */

static answer *find_answer(answer *from, const char *sql) {
    while (from != NULL && strcmp(from->sql, sql)) from = from->next;
    return from;
}

static void keep_answer(answer **in, const char *sql, source *from) {
    answer *found = find_answer(*in, sql);
    if (found == NULL) {
        found = allocate(sizeof *found);
        found->sql = copy_text(sql);
        found->next = *in;
        *in = found;
    }
    source_drop(found->from);
    found->from = from;
}

source *answer_for(connection *conn, const char *sql, const char *bare, const script *how) {
    answer *found = find_answer(answers, sql);
    if (found == NULL) found = find_answer(answers, bare);
    if (how->error || (how->null && found == NULL)) {
        int32_t code = how->error ? FAIL(how->error) : NETWORK_UNAVAILABLE;
        return source_error(code, how->error_text);
    }
    if (found != NULL) return source_keep(found->from);
    if (how->rows >= 0) return source_generated(how);
    if (how->affected >= 0) return source_written(how->affected);
    return known(conn, bare);
}

const TAOS_FIELD_ALL *fields_for(const char *bare, int *number) {
    answer *found = find_answer(parameters, bare);
    *number = found ? found->from->nfields : 0;
    return found ? found->from->fields : NULL;
}

/*
 * Answer a statement from now on. Blocks lie one after the other, their lengths beside them; where
 * there are no fields it is a write of `affected` rows; with a code other than 0 an error.
 */
EXPORT void standin_answer(const char *sql, const void *fields, int nfields, int precision,
                           const void *blocks, const int64_t *lengths, int nblocks,
                           int64_t affected, int code, const char *message) {
    lock();
    source *made = code ? source_error(FAIL(code), message) : source_fields(fields, nfields);
    made->precision = precision;
    made->affected = affected;
    source_blocks(made, blocks, lengths, nblocks);
    keep_answer(&answers, sql, made);
    unlock();
}

/* The parameters of a prepared statement, in the order of its question marks. */
EXPORT void standin_fields(const char *sql, const void *fields, int nfields) {
    lock();
    keep_answer(&parameters, sql, source_fields(fields, nfields));
    unlock();
}

static void free_answers(answer **all) {
    while (*all != NULL) {
        answer *next = (*all)->next;
        source_drop((*all)->from);
        free((*all)->sql);
        free(*all);
        *all = next;
    }
}

void reset_answers(void) {
    free_answers(&answers);
    free_answers(&parameters);
    reset_scripts();
    while (database_count) free(databases[--database_count]);
    free(databases);
    databases = NULL;
}
