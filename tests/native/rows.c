/* Raw blocks as the functions show them that give rows and columns: NCHAR and DECIMAL converted. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standin.h"

#define DECIMAL_TEXT 64

int type_width(int type) {
    switch (type) {
    case T_BOOL: case T_TINYINT: case T_UTINYINT: return 1;
    case T_SMALLINT: case T_USMALLINT: return 2;
    case T_INT: case T_UINT: case T_FLOAT: return 4;
    case T_BIGINT: case T_UBIGINT: case T_DOUBLE: case T_TIMESTAMP: case T_DECIMAL64: return 8;
    case T_DECIMAL: return 16;
    default: return 0;
    }
}

int prefix_width(int type) { return type == T_BLOB || type == T_MEDIUMBLOB ? 4 : 2; }

bool view_is_null(const view *of, int row) {
    if (of->type == T_NULL) return true;
    if (of->nulls != NULL) return of->nulls[row >> 3] & (0x80 >> (row & 7));
    int32_t offset;
    memcpy(&offset, &of->offsets[row], 4);
    return offset < 0;
}

/* ---- NCHAR ---- */

static size_t put_utf8(uint32_t code, char *to) {
    unsigned char *out = (unsigned char *)to;
    if (code < 0x80) return out[0] = (unsigned char)code, 1;
    size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    for (size_t i = more; i > 0; i--, code >>= 6) out[i] = (unsigned char)(0x80 | (code & 0x3f));
    static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (unsigned char)(leads[more] | code);
    return more + 1;
}

/* UTF-8 is never longer than UTF-32: the values stay within the room they had. */
static void convert_nchar(view *to, int rows, size_t size) {
    char *made = allocate(size);
    size_t end = 0;
    for (int i = 0; i < rows; i++) {
        if (to->offsets[i] < 0) continue;
        const char *from = to->data + to->offsets[i];
        uint16_t length;
        memcpy(&length, from, 2);
        size_t start = end;
        end += 2;
        for (int k = 0; k < length; k += 4) {
            uint32_t code;
            memcpy(&code, from + 2 + k, 4);
            end += put_utf8(code, made + end);
        }
        uint16_t prefix = (uint16_t)(end - start - 2);
        memcpy(made + start, &prefix, 2);
        to->offsets[i] = (int)start;
    }
    to->data = to->made = made;
    to->made_size = size;
}

/* ---- DECIMAL ---- */

static void decimal_text(const char *from, int size, int scale, char *to) {
    __int128 value = 0;
    int64_t small;
    if (size == 16) {
        memcpy(&value, from, 16);
    } else {
        memcpy(&small, from, 8);
        value = small;
    }
    bool negative = value < 0;
    unsigned __int128 left = negative ? -(unsigned __int128)value : (unsigned __int128)value;
    char digits[48];
    int count = 0;
    for (; left || count <= scale; left /= 10) digits[count++] = (char)('0' + (int)(left % 10));
    if (negative) *to++ = '-';
    while (count--) {
        *to++ = digits[count];
        if (count == scale && scale) *to++ = '.';
    }
    *to = 0;
}

/* In a decimal column of a raw block the schema's bytes are: scale, precision, 0, size. */
static void convert_decimal(view *to, int rows, int scale) {
    int size = type_width(to->type);
    char *made = allocate((size_t)rows * DECIMAL_TEXT);
    for (int i = 0; i < rows; i++)
        decimal_text(to->data + (size_t)i * (size_t)size, size, scale,
                     made + (size_t)i * DECIMAL_TEXT);
    to->data = to->made = made;
    to->made_size = (size_t)rows * DECIMAL_TEXT;
    to->width = DECIMAL_TEXT;
}

/* ---- views ---- */

void make_views(result *what) {
    int columns = what->columns, rows = what->rows;
    const char *schema = what->raw + 28, *lengths = schema + 5 * columns;
    char *at = what->raw + 28 + 9 * columns;
    what->views = allocate((size_t)columns * sizeof *what->views);
    what->row_pointers = allocate((size_t)columns * sizeof *what->row_pointers);
    what->column_pointers = allocate((size_t)columns * sizeof *what->column_pointers);
    what->lengths = allocate((size_t)columns * sizeof *what->lengths);
    for (int i = 0; i < columns; i++) {
        view *to = &what->views[i];
        int32_t size;
        memcpy(&size, lengths + 4 * i, 4);
        to->type = schema[5 * i];
        to->width = type_width(to->type);
        if (to->width || to->type == T_NULL) {
            to->nulls = (uint8_t *)at;
            at += (rows + 7) / 8;
        } else {
            to->offsets = copy_bytes(at, (size_t)rows * 4);
            at += (size_t)rows * 4;
        }
        to->data = at;
        at += size;
        if (to->type == T_NCHAR) convert_nchar(to, rows, (size_t)size);
        if (to->type == T_DECIMAL || to->type == T_DECIMAL64)
            convert_decimal(to, rows, schema[5 * i + 1]);
    }
}

void forget_views(result *what) {
    for (int i = 0; what->views != NULL && i < what->columns; i++) {
        view *of = &what->views[i];
        scribble(of->made, of->made_size);
        scribble(of->offsets, of->offsets ? (size_t)what->rows * 4 : 0);
    }
    size_t pointers = (size_t)what->columns * sizeof(void *);
    scribble(what->row_pointers, pointers);
    scribble(what->column_pointers, pointers);
    scribble(what->lengths, (size_t)what->columns * sizeof(int));
    free(what->views);
    what->views = NULL;
    what->row_pointers = what->column_pointers = NULL;
    what->lengths = NULL;
}

/* ---- text of rows ---- */

static int64_t integer_at(const void *data, int width, bool is_unsigned) {
    uint64_t value = 0;
    memcpy(&value, data, (size_t)width);
    if (is_unsigned || width == 8) return (int64_t)value;
    int shift = 64 - 8 * width;
    return (int64_t)(value << shift) >> shift;
}

static void print_value(text *to, const void *data, const TAOS_FIELD *field) {
    float single;
    double wide;
    uint16_t length;
    switch (field->type) {
    case T_FLOAT:
        memcpy(&single, data, 4);
        text_add(to, "%f", (double)single);
        break;
    case T_DOUBLE:
        memcpy(&wide, data, 8);
        text_add(to, "%lf", wide);
        break;
    case T_DECIMAL: case T_DECIMAL64:
        text_add(to, "%s", (const char *)data);
        break;
    case T_UBIGINT:
        text_add(to, "%" PRIu64, (uint64_t)integer_at(data, 8, true));
        break;
    case T_VARCHAR: case T_NCHAR: case T_JSON: case T_VARBINARY: case T_GEOMETRY:
        memcpy(&length, (const char *)data - 2, 2); /* libtaos looks there as well */
        text_bytes(to, data, length);
        break;
    default: {
        bool is_unsigned = field->type >= T_UTINYINT && field->type <= T_UINT;
        int width = type_width(field->type);
        text_add(to, "%" PRId64, width ? integer_at(data, width, is_unsigned) : 0);
    }
    }
}

static int print_row(char *to, size_t size, TAOS_ROW row, TAOS_FIELD *fields, int number) {
    text made = {0};
    text_bytes(&made, "", 0);
    for (int i = 0; i < number; i++) {
        if (i) text_bytes(&made, " ", 1);
        if (row[i] == NULL)
            text_bytes(&made, "NULL", 4);
        else
            print_value(&made, row[i], &fields[i]);
    }
    size_t length = made.length < size ? made.length : size - 1;
    memcpy(to, made.data, length);
    to[length] = 0;
    text_free(&made);
    return (int)length;
}

EXPORT int taos_print_row(char *to, TAOS_ROW row, TAOS_FIELD *fields, int number) {
    return print_row(to, SIZE_MAX, row, fields, number);
}

#ifdef HAS_LATEST
EXPORT int taos_print_row_with_size(char *to, uint32_t size, TAOS_ROW row, TAOS_FIELD *fields,
                                    int number) {
    return size ? print_row(to, size, row, fields, number) : 0;
}
#endif
