/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine as an object, and the choice of a backend.
 *
 * The engine lives in its loop's hook (on_idle): that is where ios leave and
 * where most of them come back, so that a turn costs one system call for all
 * that was submitted in it. */
#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/log.h"
#include "engine/private.h"

#define DEPTH_DEFAULT 256
#define DEPTH_MAX 4096

/* The loop's last question before it waits. What ended since comes first: its
 * owners may submit at once, and that goes out with this batch. True: look
 * again before you wait. */
static bool on_idle(struct bt_idle *idle)
{
	struct bt_engine *engine = bt_list_entry(idle, struct bt_engine, idle);
	bool any = bt_queue_deliver(engine);

	/* A backend may finish inside the submission, by itself (sync) or with
	 * the kernel's help (reap). */
	if (bt_queue_flush(engine)) {
		any = true;
		bt_queue_deliver(engine);
	}
	any |= engine->backend->reap(engine->state);
	return any;
}

/* Nothing is handed over here: the hook follows, and takes them along with what
 * else there is. */
static void on_retry(struct bt_timer *timer)
{
	struct bt_engine *engine =
		bt_list_entry(timer, struct bt_engine, retry);
	struct bt_list *node;

	while ((node = bt_list_pop(&engine->delayed)))
		bt_queue_make_ready(
			engine,
			bt_list_entry(node, struct bt_engine_slot, pub.link));
}

/* Within its submit a backend is in the middle of the ready slots, and a
 * callback could add to them: so these wait for the hook. */
static void on_completed(void *opaque, struct bt_slot *pub)
{
	struct bt_engine *engine = opaque;
	struct bt_engine_slot *slot =
		bt_list_entry(pub, struct bt_engine_slot, pub);

	if (engine->submitting)
		bt_list_add_tail(&engine->finished, &pub->link);
	else
		bt_transfer_finish(engine, slot);
}

/* All there will ever be: the data path takes a slot and a vector from here,
 * and asks for no memory. */
static int make_slots(struct bt_engine *engine)
{
	uint32_t i;

	engine->slots = calloc(engine->depth, sizeof(*engine->slots));
	engine->ready = calloc(engine->depth, sizeof(struct bt_slot *));
	if (!engine->slots || !engine->ready)
		return -ENOMEM;
	for (i = 0; i < engine->depth; i++) {
		struct bt_slot *pub = &engine->slots[i].pub;

		pub->index = i;
		pub->iov = engine->slots[i].iov;
		bt_list_init(&pub->ios);
		bt_list_add_tail(&engine->free, &pub->link);
	}
	return 0;
}

/* Everything that destroy looks at is set, so that it can be called from here
 * on. */
static struct bt_engine *engine_new(struct bt_loop *loop,
				    const struct bt_log *log, uint32_t depth)
{
	struct bt_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return NULL;
	engine->loop = loop;
	engine->log = log;
	engine->depth = depth ? depth : DEPTH_DEFAULT;
	if (engine->depth > DEPTH_MAX)
		engine->depth = DEPTH_MAX;
	bt_list_init(&engine->refused);
	bt_list_init(&engine->moving);
	bt_list_init(&engine->moved);
	bt_list_init(&engine->alone);
	bt_list_init(&engine->pending);
	bt_list_init(&engine->free);
	bt_list_init(&engine->streaming);
	bt_list_init(&engine->delayed);
	bt_list_init(&engine->finished);
	bt_timer_init(&engine->retry, on_retry);
	bt_list_init(&engine->idle.link);
	return engine;
}

/* engine->backend says that its state is there to be ended: it is set last. */
int bt_engine_create_backend(struct bt_loop *loop, const struct bt_log *log,
			     const struct bt_backend *backend,
			     uint32_t queue_depth, struct bt_engine **out,
			     struct blktap_error **err)
{
	struct bt_engine *engine = engine_new(loop, log, queue_depth);
	char text[BT_STRERROR_MAX];
	int rc;

	if (!engine)
		return bt_fail(err, -ENOMEM, NULL, "engine: out of memory");
	rc = make_slots(engine);
	if (!rc)
		rc = backend->init(loop, engine->depth, on_completed, engine,
				   &engine->state);
	if (rc < 0) {
		bt_engine_destroy(engine);
		return bt_fail(err, rc, NULL, "engine %s: %s", backend->name,
			       bt_strerror(rc, text));
	}
	engine->backend = backend;
	bt_idle_add(loop, &engine->idle, on_idle);
	*out = engine;
	return 0;
}

/* The hook goes first, since it would look at all that follows. */
void bt_engine_destroy(struct bt_engine *engine)
{
	if (!engine)
		return;
	bt_idle_del(&engine->idle);
	bt_timer_cancel(&engine->retry);
	if (engine->backend)
		engine->backend->fini(engine->state);
	bt_bounce_fini(&engine->bounces);
	free(engine->ready);
	free(engine->slots);
	free(engine);
}

/* Best first. */
static const struct {
	enum blktap_engine kind;
	const struct bt_backend *backend;
} backends[] = {
#ifdef HAVE_LIBURING
	{ BLKTAP_ENGINE_IO_URING, &bt_backend_uring },
#endif
	{ BLKTAP_ENGINE_LIBAIO, &bt_backend_libaio },
	{ BLKTAP_ENGINE_SYNC, &bt_backend_sync },
};

static const char *kind_name(enum blktap_engine kind)
{
	switch (kind) {
	case BLKTAP_ENGINE_AUTO:
		return "auto";
	case BLKTAP_ENGINE_IO_URING:
		return "io_uring";
	case BLKTAP_ENGINE_LIBAIO:
		return "libaio";
	case BLKTAP_ENGINE_SYNC:
		return "sync";
	}
	return "(unknown)";
}

/* rc 0: none of the backends in this build is of the kind. */
static int not_to_be_had(enum blktap_engine kind, int rc,
			 struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];

	return bt_fail(err, -ENOTSUP,
		       "use engine auto, which takes the best "
		       "one that works here",
		       "engine %s is not available: %s", kind_name(kind),
		       rc ? bt_strerror(rc, text) : "not built in");
}

/* Without memory for the best one the next is not tried: a slower engine is not
 * what was wrong, and 'not available' would be the wrong word for it. */
int bt_engine_create(struct bt_loop *loop, const struct bt_log *log,
		     enum blktap_engine kind, uint32_t queue_depth,
		     struct bt_engine **out, struct blktap_error **err)
{
	int rc = 0;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(backends); i++) {
		if (kind != BLKTAP_ENGINE_AUTO && kind != backends[i].kind)
			continue;
		rc = bt_engine_create_backend(loop, log, backends[i].backend,
					      queue_depth, out, NULL);
		if (!rc || rc == -ENOMEM)
			break;
	}
	if (!rc && i < BT_ARRAY_SIZE(backends)) {
		bt_log(log, BLKTAP_LOG_DEBUG, "engine: %s",
		       backends[i].backend->name);
		return 0;
	}
	if (rc == -ENOMEM)
		return bt_fail(err, rc, NULL, "engine: out of memory");
	return not_to_be_had(kind, rc, err);
}

const char *bt_engine_name(const struct bt_engine *engine)
{
	return engine->backend->name;
}

const struct bt_engine_stats *bt_engine_get_stats(const struct bt_engine *e)
{
	return &e->stats;
}
