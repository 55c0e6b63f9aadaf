/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory that `mason check` prints is the memory that is used: what the
 * allocator has given out once a node is open, for each module and for disks of
 * different sizes. */
#include "module.h"

#include <malloc.h>
#include <stdlib.h>

#define M ((uint64_t)1 << 20)

/* Of the allocator's own, names, and arguments; and the blocks of memory that a
 * store of the test's has for the two copies of its header. */
#define SLACK (4096u + 2u * 4096u)

static struct rig rig;

static size_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

struct bench {
	const struct blktap_class *cls;
	const char *args;
	uint64_t size;
	const char *lowers[3];
	uint32_t count;
};

static const struct bench benches[] = {
	{ &bt_bitmap_class, "checkpoints=a", 64 * M, { "64M", "8M" }, 2 },
	{ &bt_bitmap_class, "checkpoints=a", 8192 * M, { "8G", "8M" }, 2 },
	{ &bt_cache_class, "mode=writeback size=16M", 0, { "64M", "32M" }, 2 },
	{ &bt_cache_class, "mode=writeback size=64M", 0, { "64M", "99M" }, 2 },
	{ &bt_checksum_class, "", 64 * M, { "64M", "8M" }, 2 },
	{ &bt_checksum_class, "", 1024 * M, { "1G", "32M" }, 2 },
	{ &bt_copy_on_read_class, "", 64 * M, { "64M" }, 1 },
	{ &bt_copy_on_read_class, "", 65536 * M, { "64G" }, 1 },
	{ &bt_cow_class, "", 64 * M, { "128M", "64M" }, 2 },
	{ &bt_cow_class, "", 8192 * M, { "9G", "8G" }, 2 },
	{ &bt_snap_class, "", 64 * M, { "64M", "128M" }, 2 },
	{ &bt_snap_class, "", 8192 * M, { "8G", "9G" }, 2 },
	{ &bt_mirror_class, "", 64 * M, { "64M", "64M" }, 3 },
	{ &bt_mirror_class, "", 65536 * M, { "64G", "64G" }, 3 },
	{ &bt_concat_class, "", 128 * M, { "64M", "64M" }, 2 },
	{ &bt_stripe_class, "chunk=64k", 128 * M, { "64M", "64M" }, 2 },
	{ &bt_compare_class, "", 64 * M, { "64M", "64M" }, 2 },
	{ &bt_throttle_class, "iops=1000", 64 * M, { "64M" }, 1 },
	{ &bt_writelog_class, "", 64 * M, { "64M", "64M" }, 2 },
};

/* mallinfo2 knows nothing of another allocator. */
static bool is_counted(void)
{
	size_t before = allocated();
	void *volatile memory = malloc(M);
	bool counted = allocated() - before >= M;

	free(memory);
	return counted;
}

START_TEST(memory_that_is_said_is_the_memory_that_is_used)
{
	const struct bench *b = &benches[_i];
	struct bt_node *lowers[3] = { NULL };
	size_t used;
	uint64_t said;
	uint32_t i, edges = 0;

	rig_init(&rig);
	for (i = 0; i < b->count; i++) {
		if (!b->lowers[i])
			continue;
		lowers[i] = rig_ram(&rig, "r", b->lowers[i]);
		edges++;
	}
	used = allocated();
	rig.root = rig_node(&rig, b->cls, "n", b->args, lowers, b->count);
	used = allocated() - used;
	rig_top(&rig, rig.root);
	said = b->cls->get_memory(rig.root->args, b->size, edges) +
	       bt_node_memory(edges);
	ck_assert_msg(used <= said + said / 50 + SLACK &&
			      said <= used + used / 50 + SLACK,
		      "%s: %zu bytes are used, %llu were said", b->cls->name,
		      used, (unsigned long long)said);
	rig_fini(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("module-memory");
	TCase *tc = tcase_create("memory");

	if (is_counted())
		tcase_add_loop_test(
			tc, memory_that_is_said_is_the_memory_that_is_used, 0,
			BT_ARRAY_SIZE(benches));
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
