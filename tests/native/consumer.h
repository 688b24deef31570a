/* Topics, what groups have read of them, and consumers. */
#ifndef STANDIN_CONSUMER_H
#define STANDIN_CONSUMER_H

#include "standin.h"

typedef struct message {
    source *from;
    int64_t offset;
    int type; /* tmq_res_t */
    char *json;
} message;

typedef struct vgroup {
    int id;
    message *messages;
    int count;
    int64_t begin, end; /* the first offset, and the one after the last */
} vgroup;

typedef struct topic {
    struct topic *next;
    char *name, *db;
    vgroup *vgroups;
    int count;
} topic;

/* Where a group is in a vgroup of a topic. */
typedef struct place {
    struct place *next;
    char *group;
    topic *of;
    vgroup *in;
    int64_t committed, position; /* -1: not yet */
    int64_t saved;               /* the position that needs no commit */
    const void *owner;           /* handle of the consumer that has it */
} place;

typedef struct list {
    void *handle;
    char **items;
    int count;
} list;

typedef struct consumer {
    struct consumer *next; /* in the order they were made */
    void *handle;
    connection *conn;
    char *group, *client;
    bool auto_commit;
    int64_t interval, committed_at; /* microseconds */
    enum { EARLIEST, LATEST, NONE } start;
    commit_fn fn;
    void *param;
    char **topics;
    int topic_count;
    bool subscribed, in_use, closing, polled;
    pthread_t thread; /* of the poll before */
    int turn;
} consumer;

topic *find_topic(const char *name);
vgroup *find_vgroup(const topic *of, int id);
place *place_of(const char *group, topic *of, vgroup *in); /* made where there is none */
list *list_get(const void *handle);
void *list_make(char **items, int count);

#endif
