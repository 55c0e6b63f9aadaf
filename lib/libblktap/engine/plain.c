/* SPDX-License-Identifier: BSD-3-Clause */
/* Slots that a plain system call serves best.
 *
 * A file in memory waits for no device, and io_uring would hand it to a pool of
 * threads, at three times the CPU. The same goes for whole-page writes to the
 * page cache: the kernel's asynchronous path is a pool of threads, unless the
 * file system can promise not to wait. Such a write rarely does wait, but it may:
 * for the journal, or for dirty pages to drain. So plain writes go on only while
 * they are quick. One that took longer than SLOW_NS sends the file's writes to
 * the backend for a pause, which doubles with each relapse, so that a loop that
 * serves others is held up once a pause at most.
 *
 * A file that streams serves nobody but a copy. All its cached writes are plain,
 * and every BEHIND_BYTES of them are given to the device while the next are made,
 * so that the last sync finds little to do. Its large reads are the backend's, in
 * whose threads they go on beside the writes: one write a turn, since the end of
 * each is what lets the copy ask for its next read. All that are ready at once
 * would have the threads wait for the last of them, and the writes then for the
 * threads. */
#include <fcntl.h>
#include <time.h>

#include "engine/private.h"
#include "util/checked.h"

#define PAGE_MASK 4095u
/* More than a busy machine's scheduler takes away at once. */
#define SLOW_NS 5000000ull
#define PAUSE_MIN_NS 100000000ull
#define PAUSE_MAX_NS 32000000000ull
#define BEHIND_BYTES (16ull << 20)

/* Not the loop's time, which stands still within a turn: what is measured is
 * within one. */
static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* Whole pages need no old bytes from the disk. */
static bool is_cached_write(const struct bt_engine_slot *slot)
{
	const struct bt_slot *pub = &slot->pub;

	return pub->op == BT_IO_WRITE && !pub->flags && !slot->file->direct &&
	       !((pub->offset | pub->length) & PAGE_MASK);
}

/* Twice the pause with each relapse, so that a slow file soon costs nearly nothing;
 * forgiven by time, as the reason for it may have passed. */
static void judge(struct bt_file *file, uint64_t start, uint64_t end)
{
	uint64_t pause = file->plain_pause_ns;

	if (end - start < SLOW_NS) {
		/* A good while without a relapse is forgiven. */
		if (pause && end - file->plain_from_ns > 4 * pause)
			file->plain_pause_ns = 0;
		return;
	}
	pause = bt_max_u64(2 * pause, PAUSE_MIN_NS);
	file->plain_pause_ns = bt_min_u64(pause, PAUSE_MAX_NS);
	file->plain_from_ns = end + file->plain_pause_ns;
}

/* Its end is told by the hook, as of any other. */
static void perform(struct bt_engine *engine, struct bt_slot *pub)
{
	engine->stats.batches++;
	pub->result = bt_sync_perform(pub);
	bt_list_add_tail(&engine->finished, &pub->link);
}

/* What fails here fails again, and is told, when somebody syncs. */
static void write_behind(const struct bt_engine_slot *slot)
{
	struct bt_file *file = slot->file;
	uint64_t from = slot->pub.offset, to = from + slot->pub.length;

	if (!file->behind_bytes || from < file->behind_from)
		file->behind_from = from;
	file->behind_to = bt_max_u64(file->behind_to, to);
	file->behind_bytes += slot->pub.length;
	if (file->behind_bytes < BEHIND_BYTES)
		return;
	sync_file_range(file->fd, (off_t)file->behind_from,
			(off_t)(file->behind_to - file->behind_from),
			SYNC_FILE_RANGE_WRITE);
	file->behind_bytes = 0;
	file->behind_to = 0;
}

/* False where the slot is the backend's; *now is read at most once a slot. */
static bool try_plain(struct bt_engine *engine, struct bt_engine_slot *slot,
		      uint64_t *now)
{
	uint64_t start;

	if (slot->pub.flags & BT_SLOT_THREAD)
		return false;
	if (slot->file->streams && is_cached_write(slot)) {
		bt_list_add_tail(&engine->streaming, &slot->pub.link);
		return true;
	}
	if (slot->file->in_memory) {
		perform(engine, &slot->pub);
		return true;
	}
	if (!is_cached_write(slot))
		return false;
	if (!*now)
		*now = clock_ns();
	start = *now;
	if (start < slot->file->plain_from_ns)
		return false;
	perform(engine, &slot->pub);
	*now = clock_ns();
	judge(slot->file, start, *now);
	return true;
}

/* In their order. What is not for a plain call moves to the front, and is the
 * backend's. */
bool bt_plain_perform(struct bt_engine *engine)
{
	uint32_t i, kept = 0, count = engine->ready_count;
	uint64_t now = 0;

	for (i = 0; i < count; i++) {
		struct bt_slot *pub = engine->ready[i];

		if (!try_plain(engine,
			       bt_list_entry(pub, struct bt_engine_slot, pub),
			       &now))
			engine->ready[kept++] = pub;
	}
	engine->ready_count = kept;
	return kept < count;
}

bool bt_plain_stream(struct bt_engine *engine)
{
	struct bt_list *node = bt_list_pop(&engine->streaming);
	struct bt_engine_slot *slot;

	if (!node)
		return false;
	slot = bt_list_entry(node, struct bt_engine_slot, pub.link);
	perform(engine, &slot->pub);
	if (!slot->file->in_memory)
		write_behind(slot);
	return true;
}
