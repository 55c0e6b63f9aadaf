/* SPDX-License-Identifier: BSD-3-Clause */
/* Intrusive, circular, doubly linked list. A node that is on no list points to
 * itself, so that removing twice is harmless. */
#ifndef BT_UTIL_LIST_H
#define BT_UTIL_LIST_H

#include "util/checked.h"

struct bt_list {
	struct bt_list *next;
	struct bt_list *prev;
};

#define BT_LIST_INIT(name)       \
	{                        \
		&(name), &(name) \
	}

static inline void bt_list_init(struct bt_list *list)
{
	list->next = list;
	list->prev = list;
}

static inline bool bt_list_empty(const struct bt_list *list)
{
	return list->next == list;
}

static inline void bt_list_insert(struct bt_list *prev, struct bt_list *node)
{
	node->prev = prev;
	node->next = prev->next;
	prev->next->prev = node;
	prev->next = node;
}

static inline void bt_list_add(struct bt_list *list, struct bt_list *node)
{
	bt_list_insert(list, node);
}

static inline void bt_list_add_tail(struct bt_list *list, struct bt_list *node)
{
	bt_list_insert(list->prev, node);
}

static inline void bt_list_del(struct bt_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	bt_list_init(node);
}

/* Moves all of src to the tail of dst; src is empty afterwards. */
static inline void bt_list_splice_tail(struct bt_list *dst, struct bt_list *src)
{
	if (bt_list_empty(src))
		return;
	src->next->prev = dst->prev;
	dst->prev->next = src->next;
	src->prev->next = dst;
	dst->prev = src->prev;
	bt_list_init(src);
}

#define bt_list_entry(ptr, type, member) bt_container_of(ptr, type, member)

#define bt_list_first(list, type, member) \
	bt_list_entry((list)->next, type, member)

#define bt_list_for_each(pos, list) \
	for ((pos) = (list)->next; (pos) != (list); (pos) = (pos)->next)

/* Safe against removal of pos; tmp is of pos' type. */
#define bt_list_for_each_safe(pos, tmp, list)                            \
	for ((pos) = (list)->next, (tmp) = (pos)->next; (pos) != (list); \
	     (pos) = (tmp), (tmp) = (pos)->next)

static inline struct bt_list *bt_list_pop(struct bt_list *list)
{
	struct bt_list *node;

	if (bt_list_empty(list))
		return NULL;
	node = list->next;
	bt_list_del(node);
	return node;
}

#endif
