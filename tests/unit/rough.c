/* SPDX-License-Identifier: BSD-3-Clause */
#include "rough.h"

#include "seed.h"
#include "util/checked.h"

struct rough_write {
	struct rough_write *older;
	uint64_t number;
	uint64_t offset, length;
	bool fua;
	unsigned char data[];
};

static const struct blktap_param params[] = {
	{ .name = "size", .type = BLKTAP_PARAM_SIZE, .help = "bytes" },
	{ .name = "block",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "512",
	  .help = "bytes" },
	{ .name = NULL },
};

uint64_t rough_random(struct rough_world *world, uint64_t below)
{
	return seed_next(&world->random) % below;
}

/* A flush makes durable what was complete when it was submitted, and not what came
 * while it was on its way. */
struct rough_frame {
	uint64_t mark;
};

static void settle(struct rough *rough, struct rough_write *write)
{
	if (!write)
		return;
	settle(rough, write->older);
	memcpy(rough->stable + write->offset, write->data, write->length);
	free(write);
}

static void forget(struct rough *rough, uint64_t mark)
{
	struct rough_write **at = &rough->writes, *covered;

	while (*at && (*at)->number > mark)
		at = &(*at)->older;
	covered = *at;
	*at = NULL;
	settle(rough, covered);
}

static void put(struct rough *rough, const struct bt_request *req)
{
	struct rough_write *write = calloc(1, sizeof(*write) + req->length);

	write->offset = req->offset;
	write->length = req->length;
	if (req->op == BLKTAP_OP_WRITE)
		bt_sgl_copy_out(&req->data, write->data, req->length);
	write->fua = req->flags & BLKTAP_FUA;
	write->number = ++rough->written;
	write->older = rough->writes;
	rough->writes = write;
	memcpy(rough->now + req->offset, write->data, req->length);
}

static void perform(struct rough *rough, struct bt_request *req)
{
	struct rough_world *world = rough->world;
	int error = rough->dead ? -EIO : 0;

	if (world && ++world->events >= world->cut_at && world->cut_at &&
	    (!world->cut_at_flush || req->op == BLKTAP_OP_FLUSH)) {
		world->cut_at = 0;
		world->on_cut(world);
	}
	rough->seen[req->op]++;
	if (!error && rough->spoil)
		error = rough->spoil(rough, req);
	if (!error && bt_op_is_writing(req->op))
		put(rough, req);
	if (!error && req->op == BLKTAP_OP_READ)
		bt_sgl_copy_in(&req->data, rough->now + req->offset,
			       req->length);
	if (!error && req->op == BLKTAP_OP_FLUSH)
		forget(rough,
		       ((struct rough_frame *)bt_request_frame(req))->mark);
	if (req->op == BLKTAP_OP_BLOCK_STATUS) {
		req->extents[0].length = req->length;
		req->extents[0].flags = 0;
		req->extents[0].depth = 0;
		req->extent_count = 1;
	}
	bt_request_complete(req, error);
}

/* One of those it has, whichever. */
static void work(struct bt_work *w)
{
	struct rough *rough = bt_container_of(w, struct rough, work);
	struct bt_list *pos = rough->has.next;
	uint32_t skip;

	if (bt_list_empty(&rough->has))
		return;
	for (skip = rough->world ? (uint32_t)rough_random(rough->world, 4) : 0;
	     skip && pos->next != &rough->has; skip--)
		pos = pos->next;
	bt_list_del(pos);
	if (!bt_list_empty(&rough->has))
		bt_loop_defer(rough->node->env->loop, &rough->work);
	perform(rough, bt_list_entry(pos, struct bt_request, link));
}

static void rough_submit(struct bt_node *node, struct bt_request *req)
{
	struct rough *rough = node->data;

	ck_assert(req->op == BLKTAP_OP_FLUSH ||
		  bt_range_within(req->offset, req->length, rough->size));
	ck_assert_uint_eq(
		(req->offset | req->length) & (node->limits.block_size - 1), 0);
	((struct rough_frame *)bt_request_frame(req))->mark = rough->written;
	bt_list_add_tail(&rough->has, &req->link);
	bt_loop_defer(node->env->loop, &rough->work);
}

static int rough_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	struct rough *rough = node->data;

	rough->node = node;
	rough->size = bt_args_number(args, "size");
	rough->now = calloc(1, rough->size);
	rough->stable = calloc(1, rough->size);
	bt_list_init(&rough->has);
	bt_work_init(&rough->work, work);
	return 0;
}

static void rough_close(struct bt_node *node)
{
	struct rough *rough = node->data;

	ck_assert(bt_list_empty(&rough->has));
	bt_work_cancel(&rough->work);
	forget(rough, UINT64_MAX);
	free(rough->now);
	free(rough->stable);
}

static void rough_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct rough *rough = node->data;

	limits->size = rough->size;
	limits->block_size = (uint32_t)bt_args_number(node->args, "block");
}

const struct blktap_class rough_class = {
	.name = "rough",
	.summary = "a leaf for tests",
	.params = params,
	.operations = BT_OPS_ALL,
	.node_bytes = sizeof(struct rough),
	.frame_bytes = sizeof(struct rough_frame),
	.open = rough_open,
	.close = rough_close,
	.get_limits = rough_limits,
	.submit = rough_submit,
};

struct bt_node *rough_make(struct rig *rig, struct rough_world *world,
			   const char *name, const char *args)
{
	struct bt_node *node = rig_node(rig, &rough_class, name, args, NULL, 0);

	rough_of(node)->world = world;
	return node;
}

/* From the oldest on, so that what came later lies on top. */
static void cut_from(struct rough *rough, const struct rough_write *write,
		     uint64_t how, unsigned char *image)
{
	const struct rough_write **order;
	uint32_t count = 0, i;
	uint64_t n;

	for (; write; write = write->older)
		count++;
	order = calloc(count + 1, sizeof(*order));
	for (i = count, write = rough->writes; write; write = write->older)
		order[--i] = write;
	for (i = 0; i < count; i++)
		for (n = 0; n < order[i]->length; n += ROUGH_SECTOR)
			if (order[i]->fua || how == 1 ||
			    (how > 1 && rough_random(rough->world, 2)))
				memcpy(image + order[i]->offset + n,
				       order[i]->data + n, ROUGH_SECTOR);
	free(order);
}

void rough_cut(struct rough *rough, unsigned char *image)
{
	memcpy(image, rough->stable, rough->size);
	/* nothing, all, or each sector or not */
	cut_from(rough, rough->writes, rough_random(rough->world, 4), image);
}

void rough_load(struct rough *rough, const unsigned char *image)
{
	memcpy(rough->now, image, rough->size);
	memcpy(rough->stable, image, rough->size);
}
