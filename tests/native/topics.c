/* Topics and their messages, as tests script them; the lists and settings of consumers. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "consumer.h"

#ifdef HAS_3X

static topic *topics;
static place *places;

topic *find_topic(const char *name) {
    topic *found = topics;
    while (found != NULL && (name == NULL || strcmp(found->name, name))) found = found->next;
    return found;
}

vgroup *find_vgroup(const topic *of, int id) {
    for (int i = 0; i < of->count; i++)
        if (of->vgroups[i].id == id) return &of->vgroups[i];
    return NULL;
}

place *place_of(const char *group, topic *of, vgroup *in) {
    for (place *each = places; each != NULL; each = each->next)
        if (each->in == in && strcmp(each->group, group) == 0) return each;
    place *made = allocate(sizeof *made);
    made->group = copy_text(group);
    made->of = of;
    made->in = in;
    made->committed = made->position = -1;
    made->next = places;
    places = made;
    return made;
}

/* ---- what tests say ---- */

/* A topic about a database, with vgroups 2, 3, ... */
EXPORT int standin_topic(const char *name, const char *db, int vgroups) {
    lock();
    bool there = find_topic(name) != NULL;
    if (!there) {
        topic *made = allocate(sizeof *made);
        made->name = copy_text(name);
        made->db = copy_text(db);
        made->vgroups = allocate((size_t)vgroups * sizeof *made->vgroups);
        made->count = vgroups;
        for (int i = 0; i < vgroups; i++) made->vgroups[i].id = 2 + i;
        made->next = topics;
        topics = made;
    }
    unlock();
    return there ? -1 : 0;
}

/*
 * A message, after those that its vgroup has; `offset` -1: the next. Each block has fields of its
 * own, which lie one after the other, and the name of a table (or NULL). `type` is a tmq_res_t;
 * `json` what tmq_get_json_meta tells. Returns the offset, or -1 where it cannot be.
 */
EXPORT int64_t standin_message(const char *name, int vgroup_id, int64_t offset, int type,
                               int precision, const void *fields, const int *nfields,
                               const void *blocks, const int64_t *lengths, int nblocks,
                               const char *const *tables, const char *json) {
    lock();
    topic *of = find_topic(name);
    vgroup *in = of ? find_vgroup(of, vgroup_id) : NULL;
    if (in == NULL || (offset >= 0 && offset < in->end)) {
        unlock();
        return -1;
    }
    if (offset < 0) offset = in->end;
    if (in->count == 0) in->begin = offset;
    in->end = offset + 1;
    source *from = source_new();
    from->precision = precision;
    source_blocks(from, blocks, lengths, nblocks);
    const TAOS_FIELD_ALL *at = fields;
    for (int i = 0; i < nblocks; at += nfields[i++]) {
        from->blocks[i].fields = copy_bytes(at, (size_t)nfields[i] * sizeof *at);
        from->blocks[i].nfields = nfields[i];
        from->blocks[i].table = copy_text(tables[i]);
    }
    in->messages = grow(in->messages, (size_t)(in->count + 1) * sizeof *in->messages);
    in->messages[in->count++] = (message){from, offset, type, copy_text(json)};
    wake_all();
    unlock();
    return offset;
}

static void free_vgroup(vgroup *in) {
    for (int i = 0; i < in->count; i++) {
        source_drop(in->messages[i].from);
        free(in->messages[i].json);
    }
    free(in->messages);
}

void reset_topics(void) {
    while (topics != NULL) {
        topic *next = topics->next;
        for (int i = 0; i < topics->count; i++) free_vgroup(&topics->vgroups[i]);
        free(topics->vgroups);
        free(topics->name);
        free(topics->db);
        free(topics);
        topics = next;
    }
    while (places != NULL) {
        place *next = places->next;
        free(places->group);
        free(places);
        places = next;
    }
}

/* ---- lists ---- */

static void destroy_list(void *object) {
    list *of = object;
    for (int i = 0; i < of->count; i++) free(of->items[i]);
    free(of->items);
    free(of);
}

list *list_get(const void *handle) { return handle_get(handle, LIST); }

static void append(list *to, const char *item) {
    to->items = grow(to->items, (size_t)(to->count + 1) * sizeof *to->items);
    to->items[to->count++] = copy_text(item);
}

void *list_make(char **items, int number) {
    list *made = allocate(sizeof *made);
    made->handle = handle_new(LIST, made, destroy_list);
    for (int i = 0; i < number; i++) append(made, items[i]);
    return made->handle;
}

EXPORT void *tmq_list_new(void) {
    lock();
    void *made = list_make(NULL, 0);
    unlock();
    return made;
}

EXPORT int32_t tmq_list_append(void *handle, const char *item) {
    lock();
    list *to = list_get(handle);
    int32_t code = to && item && item[0] ? 0 : set_error(INVALID_PARAMETER, NULL);
    if (!code) append(to, item);
    unlock();
    return code;
}

EXPORT void tmq_list_destroy(void *handle) {
    if (handle == NULL) return;
    lock();
    list *of = handle_drop(handle, LIST, COUNT_double_closes);
    if (of != NULL) destroy_list(of);
    unlock();
}

EXPORT int32_t tmq_list_get_size(const void *handle) {
    lock();
    list *of = list_get(handle);
    int32_t number = of ? of->count : -1;
    unlock();
    return number;
}

EXPORT char **tmq_list_to_c_array(const void *handle) {
    lock();
    list *of = list_get(handle);
    char **items = of && of->count ? of->items : NULL;
    unlock();
    return items;
}

/* ---- what messages are ---- */

static result *message_get(TAOS_RES *res) {
    result *found = handle_get(res, RESULT);
    return found != NULL && found->is_message ? found : NULL;
}

EXPORT int tmq_get_res_type(TAOS_RES *res) {
    lock();
    result *of = message_get(res);
    int type = of ? of->message_type : -1;
    unlock();
    return type;
}

EXPORT const char *tmq_get_topic_name(TAOS_RES *res) {
    lock();
    result *of = message_get(res);
    const char *name = of ? of->topic : NULL;
    unlock();
    return name;
}

EXPORT const char *tmq_get_db_name(TAOS_RES *res) {
    lock();
    result *of = message_get(res);
    const char *name = of ? of->db : NULL;
    unlock();
    return name;
}

EXPORT int32_t tmq_get_vgroup_id(TAOS_RES *res) {
    lock();
    result *of = message_get(res);
    int32_t id = of ? of->vgroup : -1;
    unlock();
    return id;
}

EXPORT int64_t tmq_get_vgroup_offset(TAOS_RES *res) {
    lock();
    result *of = message_get(res);
    int64_t offset = of ? of->offset : INVALID_PARAMETER;
    unlock();
    return offset;
}

/* The table of the block fetched last. */
EXPORT const char *tmq_get_table_name(TAOS_RES *res) {
    lock();
    result *of = message_get(res);
    const char *name = of && of->at ? of->at->table : NULL;
    unlock();
    return name;
}

EXPORT char *tmq_get_json_meta(TAOS_RES *res) {
    lock();
    result *of = message_get(res);
    int32_t code = rule_for("tmq_get_json_meta");
    char *told = of && !code ? copy_text(of->json) : NULL;
    if (told != NULL) give(told, COUNT_texts);
    unlock();
    return told;
}

EXPORT void tmq_free_json_meta(char *json) { take_back(json, COUNT_texts); }

typedef struct tmq_raw_data {
    void *raw;
    uint32_t raw_len;
    uint16_t raw_type;
} tmq_raw_data;

static void add_number(text *to, uint64_t number, int bytes) {
    text_bytes(to, (const char *)&number, (size_t)bytes); /* little-endian, as all that runs it */
}

static void add_varint(text *to, uint64_t number) {
    for (; number > 0x7f; number >>= 7) add_number(to, (number & 0x7f) | 0x80, 1);
    add_number(to, number, 1);
}

static void add_name(text *to, const char *name) {
    add_varint(to, strlen(name) + 1);
    text_bytes(to, name, strlen(name) + 1);
}

static void add_block(text *to, const block *from, int precision, bool named) {
    int32_t rows;
    memcpy(&rows, from->data + 8, 4);
    add_varint(to, 18 + (uint64_t)from->length);
    add_number(to, 1, 8);
    add_number(to, __builtin_bswap64((uint64_t)rows), 8);
    add_number(to, 0, 1);
    add_number(to, (uint64_t)precision, 1);
    text_bytes(to, from->data, (size_t)from->length);
    add_varint(to, 2 * (uint64_t)from->nfields);
    add_varint(to, 0); /* the version of the schema */
    for (int i = 0; i < from->nfields; i++) {
        const TAOS_FIELD_ALL *field = &from->fields[i];
        int64_t size = field->bytes;
        if (field->type == T_NCHAR) size *= 4;
        if (type_width(field->type) == 0) size += prefix_width(field->type);
        add_number(to, (uint8_t)field->type, 1);
        add_number(to, 0, 1);
        add_varint(to, 2 * (uint64_t)size);
        add_varint(to, 2 * (uint64_t)(i + 1));
        add_name(to, field->name);
    }
    if (named) add_name(to, from->table ? from->table : "");
}

/* A message with rows, as tEncodeMqDataRsp of tmsg.c writes it; of others the JSON text. */
EXPORT int32_t tmq_get_raw(TAOS_RES *res, tmq_raw_data *to) {
    lock();
    result *of = message_get(res);
    int32_t code = rule_for("tmq_get_raw");
    if (of == NULL) code = INVALID_PARAMETER;
    if (!code) {
        const source *from = of->from;
        bool with_rows = of->message_type == 1 || of->message_type == 3;
        bool named = from->nblocks > 0 && from->blocks[0].table != NULL;
        text made = {0};
        text_bytes(&made, "", 0);
        if (with_rows) {
            add_number(&made, 100, 1);
            add_number(&made, 18, 4);
            for (int i = 0; i < 2; i++) {
                add_number(&made, 0x11, 1);
                add_number(&made, (uint64_t)(of->offset + i), 8);
            }
            add_number(&made, (uint64_t)from->nblocks, 4);
            if (from->nblocks) add_number(&made, named ? 0x0101 : 0x0100, 2);
            for (int i = 0; i < from->nblocks; i++)
                add_block(&made, &from->blocks[i], from->precision, named);
            add_number(&made, 0, of->message_type == 3 ? 4 : 8);
        } else if (of->json != NULL) {
            text_add(&made, "%s", of->json);
        }
        uint16_t type = with_rows ? (of->message_type == 3 ? 4 : 2) : 5;
        *to = (tmq_raw_data){made.data, (uint32_t)made.length, type};
        give(made.data, COUNT_texts);
    }
    unlock();
    return code;
}

EXPORT void tmq_free_raw(tmq_raw_data raw) { tmq_free_json_meta(raw.raw); }

static int write_raw(TAOS *taos, const char *call, const void *data, size_t length,
                     const char *table) {
    text line = {0};
    text_add(&line, ", \"table\": ");
    text_json(&line, table);
    text_add(&line, ", \"data\": ");
    text_hex(&line, data, length);
    lock();
    note_blocking();
    int32_t code = rule_for(call);
    if (!code && handle_get(taos, CONNECTION) == NULL) code = set_error(DISCONNECTED, NULL);
    if (!code) log_event("raw_block", "%s", line.data);
    unlock();
    text_free(&line);
    return code;
}

EXPORT int32_t tmq_write_raw(TAOS *taos, tmq_raw_data raw) {
    return write_raw(taos, "tmq_write_raw", raw.raw, raw.raw_len, NULL);
}

EXPORT int taos_write_raw_block(TAOS *taos, int rows, char *data, const char *table) {
    (void)rows;
    int32_t length;
    memcpy(&length, data + 4, 4);
    return write_raw(taos, "taos_write_raw_block", data, (size_t)length, table);
}

EXPORT int taos_write_raw_block_with_fields(TAOS *taos, int rows, char *data, const char *table,
                                            TAOS_FIELD *fields, int number) {
    (void)fields, (void)number;
    return taos_write_raw_block(taos, rows, data, table);
}

#ifdef HAS_LATEST
EXPORT int taos_write_raw_block_with_reqid(TAOS *taos, int rows, char *data, const char *table,
                                           int64_t reqid) {
    (void)reqid;
    return taos_write_raw_block(taos, rows, data, table);
}

EXPORT int taos_write_raw_block_with_fields_with_reqid(TAOS *taos, int rows, char *data,
                                                       const char *table, TAOS_FIELD *fields,
                                                       int number, int64_t reqid) {
    (void)fields, (void)number, (void)reqid;
    return taos_write_raw_block(taos, rows, data, table);
}
#endif

EXPORT const char *tmq_err2str(int32_t code) {
    return code == -1 ? "fail" : error_text(code);
}

#else
typedef int no_topics; /* an empty file is no C */
#endif
