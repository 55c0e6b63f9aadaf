/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing. Data goes over a cluster that is the disk's own; anything else gets
 * new clusters first:
 *
 *   clusters -> [copy what the write leaves of them] -> data -> L2 entries
 *
 * From the first arrow to the last the guest's clusters are on q->allocs, and
 * whoever else writes or unmaps them waits; a reader meanwhile sees what was
 * there before. A new cluster that reads as zeroes where the old one did needs
 * no copying: the write leaves holes.
 *
 * Nothing on disk leads to a new cluster before its data is there: entries
 * change in memory when the data has been written, and reach the disk with a
 * commit, whose first sync covers that data. A process that dies between the
 * two leaves clusters that are counted and nobody's, and the disk as it was
 * before the write.
 *
 * A run may get fewer clusters than it wished for. It writes and links what it
 * got, a piece, and wishes again for the rest; so a file with many small free
 * places is used without a list of places for each write. */
#include <errno.h>
#include <string.h>

#include "driver/qcow/qcow.h"
#include "util/bytes.h"
#include "util/checked.h"

static void next_piece(struct bt_qcow_run *run);
static void copy_on(struct bt_qcow_run *run);
static void link_entries(struct bt_qcow_run *run);

/* ---- who waits for whom --------------------------------------------------- */

/* q->allocs has the runs in no order. A frame does not wait for a certain one:
 * each that ends lets all go on, and they look again. *end is cut at the next
 * allocation, so what comes before that need not wait. */
bool bt_qcow_is_blocked(struct bt_qcow_frame *frame, uint64_t *end)
{
	struct bt_qcow *q = frame->run.q;
	struct bt_list *pos;

	bt_list_for_each (pos, &q->allocs) {
		struct bt_qcow_run *run =
			bt_list_entry(pos, struct bt_qcow_run, link);
		uint64_t cluster = bt_align_down(frame->at, bt_qcow_cluster(q));

		if (run->end <= cluster || run->first >= *end)
			continue;
		if (run->first <= frame->at) {
			bt_list_add_tail(&q->blocked, &frame->link);
			return true;
		}
		*end = run->first;
	}
	return false;
}

/* The clusters from first on that the run did not get to are as they were: the
 * guest may have an error for a write of which a part is there, as of any
 * disk. */
static void alloc_done(struct bt_qcow_run *run, int error)
{
	struct bt_qcow *q = run->q;

	bt_list_del(&run->link);
	bt_qcow_run_done(run, error);
	if (!bt_list_empty(&q->blocked))
		bt_qcow_go_list(&q->blocked);
}

/* The piece that was being written is given up. Its clusters are counted as
 * used, and no entry names them: they are given back as those are that lost
 * their pointer. */
static void piece_failed(struct bt_qcow_run *run, int error)
{
	bt_qcow_drop(run->q, run->want.host,
		     (uint64_t)run->want.got << run->q->geo.cluster_bits);
	alloc_done(run, error);
}

/* ---- in place ------------------------------------------------------------- */

/* Nothing but the data has changed, so no table and no commit is concerned. */
static void over_done(struct bt_io *io, int error)
{
	bt_qcow_run_done(bt_container_of(io, struct bt_qcow_run, io), error);
}

/* The guest's memory is not ours to encrypt in; the run's buffer bounds the
 * piece, and the step is taken again for the rest. */
static int write_over_encrypted(struct bt_qcow_frame *frame,
				const struct bt_qcow_map *map)
{
	uint64_t length = bt_min_u64(map->length, QCOW_BOUNCE);
	struct bt_qcow_run *run = bt_qcow_take_run(frame, true);
	struct bt_sgl sgl = { .count = 1 };
	int rc;

	if (!run)
		return 0;
	rc = bt_qcow_encrypt_data(run, frame->at, &frame->data, length);
	bt_qcow_advance(frame, length);
	if (rc < 0) {
		bt_qcow_run_done(run, rc);
		return 1;
	}
	sgl.iov = &run->bounce;
	bt_qcow_submit_io(run, BT_IO_WRITE, map->host, &sgl, length, over_done);
	return 1;
}

/* The cluster is the guest's own (copied bit: counted once), so it is written
 * in place, and a cut leaves old or new sectors as on any disk. The guard knows
 * what the entry cannot: that a table lies there, in a damaged image. */
static int write_over(struct bt_qcow_frame *frame,
		      const struct bt_qcow_map *map)
{
	struct bt_fault fault = { .field = "L2 entry",
				  .value = map->host,
				  .reason = "points to a table" };
	struct bt_qcow *q = frame->run.q;
	struct bt_qcow_run *run;

	if (bt_unlikely(bt_qcow_guard_hits(q, map->host, map->length)))
		return bt_qcow_complain(q, frame->at, &fault, -EIO);
	if (bt_unlikely(q->cipher))
		return write_over_encrypted(frame, map);
	run = bt_qcow_take_run(frame, false);
	if (!run)
		return 0;
	bt_qcow_submit_io(run, BT_IO_WRITE, map->host, &frame->data,
			  map->length, over_done);
	bt_qcow_advance(frame, map->length);
	return 1;
}

/* ---- the entries ---------------------------------------------------------- */

/* One page holds the entries of all of the run: lookup cuts it at the page's
 * end. What the old entries named is dropped here, in the same turn as the
 * pointer goes from memory. */
static void set_entries(struct bt_qcow_run *run, struct bt_meta_block *block,
			uint32_t index)
{
	struct bt_qcow *q = run->q;
	size_t at = (size_t)index * 8 & (q->l2_page - 1);
	struct bt_qcow_mapping old;
	uint32_t i;

	for (i = 0; i < run->want.got; i++) {
		unsigned char *entry = block->data + at + (size_t)i * 8;
		uint64_t in = (uint64_t)i << q->geo.cluster_bits;
		uint64_t host = run->want.host + in;

		/* of a damaged entry nobody knows what it named: that leaks */
		if (!bt_qcow_l2_decode(&q->geo, bt_load_be64(entry),
				       q->file_end, &old, NULL))
			bt_qcow_drop_entry(q, run->first + in, &old);
		bt_store_be64(entry,
			      bt_qcow_l2_encode_data(&q->geo, host, true));
	}
	bt_meta_dirty(block, (uint32_t)at, run->want.got * 8);
}

/* The page is here now: begin again at the L1 table, as either may have been
 * evicted. */
static void linked(struct bt_meta_wait *wait, struct bt_meta_block *block,
		   int error)
{
	struct bt_qcow_run *run =
		bt_container_of(wait, struct bt_qcow_run, wait);

	if (block)
		bt_meta_put(block);
	if (error)
		piece_failed(run, error);
	else
		link_entries(run);
}

/* The data is written: the disk gets to see it. Which they are is looked up
 * anew: the run waited for clusters and for I/O since its frame looked. Nobody
 * has changed them meanwhile, as the run is on q->allocs. */
static void link_entries(struct bt_qcow_run *run)
{
	struct bt_qcow *q = run->q;
	struct bt_qcow_place place = bt_qcow_locate(&q->geo, run->first);
	uint64_t clusters = (uint64_t)run->want.got << q->geo.cluster_bits;
	struct bt_meta_block *block;
	struct bt_qcow_l1 l1;
	int rc;

	run->wait.fn = linked;
	rc = bt_qcow_get_l1(q, &run->wait, place.l1_index, &l1);
	if (rc == 1 && !l1.offset)
		rc = -EIO; /* it was there when the run began */
	if (rc == 1)
		rc = bt_qcow_get_l2_page(q, &run->wait, l1.offset,
					 place.l2_index, &block);
	if (rc < 0)
		piece_failed(run, rc);
	if (rc <= 0)
		return;
	set_entries(run, block, place.l2_index);
	bt_meta_put(block);
	run->first += clusters;
	run->at += run->piece;
	run->length -= run->piece;
	bt_sgl_advance(&run->data, run->piece);
	next_piece(run);
}

/* ---- the data ------------------------------------------------------------- */

/* Behind the data: the arrow in the picture above. */
static void data_written(struct bt_io *io, int error)
{
	struct bt_qcow_run *run = bt_container_of(io, struct bt_qcow_run, io);

	if (error)
		piece_failed(run, error);
	else
		link_entries(run);
}

/* The bytes of the step that the guest writes: their place in the step. Both
 * are cut to the run: the cluster's other bytes are the old ones. False where
 * the guest writes nothing of the step. */
static bool overlay(const struct bt_qcow_run *run, uint64_t *from, uint64_t *to)
{
	uint64_t begin = run->first + run->done;
	uint64_t end = begin + run->step;

	*from = bt_max_u64(begin, run->at);
	*to = bt_min_u64(end, run->at + run->length);
	if (*from >= *to)
		return false;
	*from -= begin;
	*to -= begin;
	return true;
}

/* A cluster larger than the bounce buffer is copied in steps; the entry changes
 * when all of it is written. */
static void step_written(struct bt_io *io, int error)
{
	struct bt_qcow_run *run = bt_container_of(io, struct bt_qcow_run, io);

	if (error) {
		piece_failed(run, error);
		return;
	}
	run->done += run->step;
	copy_on(run);
}

/* The bounce buffer holds the old bytes; the guest's go over them. In an
 * encrypted image the buffer holds plain text until here, whether it came from
 * the old cluster, which was decrypted, or from the base, which is not
 * encrypted with this key. */
static void write_step(struct bt_qcow_run *run)
{
	struct bt_sgl sgl = { .iov = &run->bounce, .count = 1 };
	struct bt_sgl data = run->data;
	char *buffer = run->bounce.iov_base;
	uint64_t from, to;

	if (overlay(run, &from, &to)) {
		bt_sgl_advance(&data, run->first + run->done + from - run->at);
		bt_sgl_copy_out(&data, buffer + from, to - from);
	}
	if (bt_unlikely(run->q->cipher) &&
	    bt_qcow_encrypt(run->q->cipher, run->first + run->done, buffer,
			    run->step)) {
		piece_failed(run, -EIO);
		return;
	}
	bt_qcow_submit_io(run, BT_IO_WRITE, run->want.host + run->done, &sgl,
			  run->step, step_written);
}

/* The old cluster is the same guest's place, so the same sector numbers decrypt
 * it. */
static void old_read(struct bt_io *io, int error)
{
	struct bt_qcow_run *run = bt_container_of(io, struct bt_qcow_run, io);

	if (!error && run->q->cipher)
		error = bt_qcow_decrypt(run->q->cipher, run->first + run->done,
					run->bounce.iov_base, run->step);
	if (error)
		piece_failed(run, error);
	else
		write_step(run);
}

/* The base's answer to what read_base asked: it is in the bounce buffer. */
void bt_qcow_copy_back(struct bt_qcow_run *run, int error)
{
	if (error)
		piece_failed(run, error);
	else
		write_step(run);
}

/* data is the unpacker's, for this call alone: the step's part of it is taken
 * along. */
static void old_unpacked(struct bt_qcow_inflate *wait, const char *data,
			 int error)
{
	struct bt_qcow_run *run =
		bt_container_of(wait, struct bt_qcow_run, inflate);

	if (error) {
		piece_failed(run, error);
		return;
	}
	memcpy(run->bounce.iov_base, data + run->done, run->step);
	write_step(run);
}

/* A base may be shorter than the image: what it has not got is zeroes. */
static void read_base(struct bt_qcow_run *run)
{
	struct bt_qcow *q = run->q;
	uint64_t at = run->first + run->done;
	uint64_t have = at < q->base_size
				? bt_min_u64(run->step, q->base_size - at)
				: 0;
	struct bt_request *child = run->child;

	memset((char *)run->bounce.iov_base + have, 0, run->step - have);
	if (!have) {
		write_step(run);
		return;
	}
	child->op = BLKTAP_OP_READ;
	child->offset = at;
	child->length = have;
	child->data = (struct bt_sgl){ .iov = &run->bounce, .count = 1 };
	bt_port_submit(&q->node->ports[0], child);
}

/* The old bytes of the step, from where they are. Where the guest writes all of
 * the step there is nothing to read. */
static void read_old(struct bt_qcow_run *run)
{
	struct bt_sgl sgl = { .iov = &run->bounce, .count = 1 };
	uint64_t from, to;

	if (overlay(run, &from, &to) && from == 0 && to == run->step) {
		write_step(run);
		return;
	}
	switch (run->old.kind) {
	case BT_QCOW_DATA:
		bt_qcow_submit_io(run, BT_IO_READ, run->old.host + run->done,
				  &sgl, run->step, old_read);
		break;
	case BT_QCOW_COMPRESSED:
		run->inflate.host = run->old.host;
		run->inflate.bytes = run->old.bytes;
		run->inflate.fn = old_unpacked;
		bt_qcow_unpack(run->q, &run->inflate);
		break;
	case BT_QCOW_UNALLOCATED:
		read_base(run);
		break;
	default:
		memset(run->bounce.iov_base, 0, run->step);
		write_step(run);
	}
}

/* The next step of the cluster; behind the last one its entry. */
static void copy_on(struct bt_qcow_run *run)
{
	uint32_t left = bt_qcow_cluster(run->q) - run->done;

	if (!left) {
		link_entries(run);
		return;
	}
	run->step = left < QCOW_BOUNCE ? left : QCOW_BOUNCE;
	run->bounce.iov_len = run->step;
	read_old(run);
}

/* ---- the clusters --------------------------------------------------------- */

/* run->first is where the clusters begin for the guest, run->at where its data
 * does: only the first piece can begin inside of a cluster. */
static void have_clusters(struct bt_qcow_want *want, int error)
{
	struct bt_qcow_run *run =
		bt_container_of(want, struct bt_qcow_run, want);
	uint64_t end;

	if (error) {
		alloc_done(run, error);
		return;
	}
	end = run->first + ((uint64_t)want->got << run->q->geo.cluster_bits);
	run->piece = bt_min_u64(end, run->at + run->length) - run->at;
	run->done = 0;
	if (run->copy)
		copy_on(run);
	else
		bt_qcow_submit_io(run, BT_IO_WRITE,
				  want->host + (run->at - run->first),
				  &run->data, run->piece, data_written);
}

/* Wishes for all that is left. The wish may be answered inside of the call, but
 * what follows ends in I/O, so pieces do not nest. */
static void next_piece(struct bt_qcow_run *run)
{
	uint64_t left = run->end - run->first;

	if (!left) {
		alloc_done(run, 0);
		return;
	}
	run->want.count = (uint32_t)(left >> run->q->geo.cluster_bits);
	run->want.fn = have_clusters;
	bt_qcow_alloc(run->q, &run->want);
}

/* Whether a new cluster has to be filled where the write leaves it alone. A
 * place in the file that was used before holds old bytes. The last line is
 * about the cluster that would be given out: the end of a file is a hole and
 * reads as zeroes, that of a device does not, nor does a place that was freed
 * and not made a hole. If that changes until the wish is answered, want.fresh
 * asks for zeroes. */
static bool must_copy(const struct bt_qcow *q, const struct bt_qcow_map *map,
		      uint64_t first)
{
	if (map->kind == BT_QCOW_DATA || map->kind == BT_QCOW_COMPRESSED)
		return true;
	if (map->kind == BT_QCOW_UNALLOCATED && first < q->base_size)
		return true;
	return q->f.is_device || q->cipher ||
	       (q->free.count && !q->free.list[q->free.count - 1].zero);
}

/* Cuts the write so that one run can do it: whole clusters, or one cluster that
 * is copied, or any where nothing needs copying. True: it is copied through the
 * bounce buffer. An encrypted image copies every cluster, as its data has to be
 * encrypted somewhere. */
static bool cut(const struct bt_qcow_frame *frame, struct bt_qcow_map *map)
{
	const struct bt_qcow *q = frame->run.q;
	uint64_t cluster = bt_qcow_cluster(q);
	uint64_t at = frame->at, end = at + map->length;
	uint64_t first = bt_align_down(at, cluster);
	uint64_t whole = bt_align_down(end, cluster);

	if (at == first && end == whole && !q->cipher)
		return false;
	if (!must_copy(q, map, first))
		return false;
	if (at == first && whole > first && !q->cipher) {
		map->length = whole - at;
		return false;
	}
	map->length = bt_min_u64(end, first + cluster) - at;
	return true;
}

/* From here to alloc_done the clusters from run->first to run->end are this
 * run's. */
static int write_new(struct bt_qcow_frame *frame, struct bt_qcow_map *map)
{
	struct bt_qcow *q = frame->run.q;
	uint64_t cluster = bt_qcow_cluster(q);
	bool copy = cut(frame, map);
	struct bt_qcow_run *run = bt_qcow_take_run(frame, copy);
	uint64_t end;

	if (!run)
		return 0;
	run->at = frame->at;
	run->length = map->length;
	run->data = frame->data;
	run->first = bt_align_down(run->at, cluster);
	end = run->at + run->length;
	run->end = bt_align_down(end + cluster - 1, cluster);
	run->old = *map;
	if (map->kind == BT_QCOW_DATA)
		run->old.host = map->host - (run->at - run->first);
	/* what the write leaves out has to read as zeroes */
	run->want.fresh = !copy && (run->at != run->first || end != run->end);
	run->want.whole = false;
	run->copy = copy;
	/* the entry that will show the data is in memory alone */
	frame->needs_commit = true;
	bt_list_add_tail(&q->allocs, &run->link);
	bt_qcow_advance(frame, map->length);
	next_piece(run);
	return 1;
}

/* An entry that is not on disk yet needs more than its data synced. Asked now, not
 * when the request came: it may have waited for whoever made the entry. */
static bool needs_tables(const struct bt_qcow *q, const struct bt_request *req)
{
	if (req->flags & BLKTAP_FUA)
		return bt_meta_is_dirty(q->meta);
	return bt_unlikely(req->flags & BT_REQUEST_OUTLIVE) &&
	       !bt_meta_is_stored(q->meta);
}

/* Where there is no L2 table the frame waits until one is made, and looks
 * again. */
int bt_qcow_write_mapped(struct bt_qcow_frame *frame, struct bt_qcow_map *map)
{
	struct bt_qcow *q = frame->run.q;

	if (needs_tables(q, frame->req))
		frame->needs_commit = true;
	if (map->kind == BT_QCOW_DATA && map->copied)
		return write_over(frame, map);
	if (!map->no_table)
		return write_new(frame, map);
	bt_qcow_make_table(frame, bt_qcow_locate(&q->geo, frame->at).l1_index);
	return 0;
}

/* Blocked first, then looked up: an allocation under way is about to change the
 * entries. */
int bt_qcow_step_write(struct bt_qcow_frame *frame)
{
	uint64_t end = frame->end;
	struct bt_qcow_map map;
	int rc;

	if (bt_qcow_is_blocked(frame, &end))
		return 0;
	rc = bt_qcow_lookup(frame->run.q, &frame->wait, frame->at, end, &map);
	return rc <= 0 ? rc : bt_qcow_write_mapped(frame, &map);
}
