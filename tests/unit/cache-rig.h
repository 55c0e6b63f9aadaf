/* SPDX-License-Identifier: BSD-3-Clause */
/* A cache over a disk of more chunks than it has slots, both platters. */
#ifndef BT_TESTS_CACHE_RIG_H
#define BT_TESTS_CACHE_RIG_H

#include "guest.h"

#include "seed.h"

#ifndef SLOTS
#define SLOTS 5u
#define SECTORS 2048u
#endif
#define SIZE (SECTORS * 512u)
#define STORE ((SLOTS + 1) * (64u << 10)) /* the first is header and table */
#define NS_PER_S 1000000000ull

static struct guest guest;
static struct rig rig;
static unsigned char back[SIZE];

static inline void cache_setup(void)
{
	platter_reset(seed_take());
	platter_make(0, SIZE);
	platter_make(1, STORE);
	memset(&guest, 0, sizeof(guest));
}

static inline void cache_teardown(void)
{
	platter_reset(0);
}

static inline int open_cache(const char *args, struct blktap_error **err)
{
	struct bt_node *lowers[2], *node;
	int rc;

	platters.hold = false;
	rig_init(&rig);
	lowers[0] = rig_node(&rig, &platter_class, "o", "index=0", NULL, 0);
	lowers[1] = rig_node(&rig, &platter_class, "s", "index=1", NULL, 0);
	node = rig_make(&rig, &bt_cache_class, "c", args, lowers, 2, &rc, err);
	if (!rc)
		rig_top(&rig, node);
	return rc;
}

static inline void must_open(const char *args)
{
	struct blktap_error *err = NULL;
	int rc = open_cache(args, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "?");
}

/* All that goes on in the background and is not waiting for time. */
static inline void settle(void)
{
	uint32_t idle = 0;

	while (idle < 10) {
		if (platter_turn())
			idle = 0;
		else if (bt_loop_turn(rig.env.loop, 0) == 0)
			idle++;
	}
}

static inline void pass_time(uint64_t ns)
{
	bt_loop_advance(rig.env.loop, ns);
	settle();
}

/* Closes it as a crash would: nothing is flushed. */
static inline void drop_cache(void)
{
	platters.hold = false;
	if (rig.root)
		settle();
	rig_fini(&rig);
}

/* Sends a request and does not wait; *done is set when it is over. */
static inline struct bt_request *send(enum blktap_op op, uint32_t flags,
				      uint64_t offset, struct iovec *iov,
				      bool *done)
{
	struct bt_request *req = bt_pool_take(rig.pool);

	*done = false;
	req->op = op;
	req->flags = flags;
	req->offset = offset;
	if (iov) {
		req->length = iov->iov_len;
		req->data = (struct bt_sgl){ .iov = iov, .count = 1 };
	}
	req->opaque = done;
	bt_port_submit(&rig.top, req);
	return req;
}

static inline int last_flush(void)
{
	platters.hold = false;
	settle();
	return rig_run(&rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST, 0, NULL, 0);
}

static inline void close_cache(void)
{
	ck_assert_int_eq(last_flush(), 0);
	drop_cache();
}

static inline uint64_t value(const char *name)
{
	char text[32];

	ck_assert(bt_cache_class.get_value(rig.root, name, text, sizeof(text)));
	return strtoull(text, NULL, 10);
}

static inline bool has_state(const char *state)
{
	char text[32];

	ck_assert(bt_cache_class.get_value(rig.root, "state", text,
					   sizeof(text)));
	return !strcmp(text, state);
}

/* Other live arguments, "name=value name=value". */
static inline void change(const char *text)
{
	struct bt_args *args, *old = rig.root->args;
	char *copy = strdup(text), *save, *word;

	ck_assert_int_eq(bt_args_create(&bt_cache_class, &args), 0);
	for (word = strtok_r(copy, " ", &save); word;
	     word = strtok_r(NULL, " ", &save)) {
		char *equal = strchr(word, '=');

		*equal = '\0';
		ck_assert_int_eq(bt_args_set(args, word, equal + 1, NULL), 0);
	}
	free(copy);
	ck_assert_int_eq(bt_args_finish(args, NULL), 0);
	rig.root->args = args;
	bt_cache_class.reconfigure(rig.root, args);
	bt_args_destroy(old);
}

static inline int read_all(void)
{
	return rig_read(&rig, 0, back, SIZE);
}

static inline void fill(unsigned char byte, uint64_t offset, uint64_t length)
{
	static unsigned char data[SIZE];

	memset(data, byte, length);
	ck_assert_int_eq(rig_write(&rig, offset, data, length), 0);
}

static inline void expect(unsigned char byte, uint64_t offset, uint64_t length)
{
	uint64_t i;

	ck_assert_int_eq(rig_read(&rig, offset, back, length), 0);
	for (i = 0; i < length; i++)
		ck_assert_uint_eq(back[i], byte);
}

#endif
