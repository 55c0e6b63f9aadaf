/* SPDX-License-Identifier: BSD-3-Clause */
/* The words of a mirror's regions while it runs: intent before writes, dirty where a
 * leg missed one, and the sweep that takes intents back.
 *
 * A sweep marks what has an intent as OLD, flushes all legs, and clears the intents
 * that are OLD still: writes take the mark away when they begin and when they end,
 * and those that are under way at the sweep's end as well. */
#include "module/mirror.h"

#include "core/log.h"
#include "port/args.h"
#include "util/checked.h"

#define NS_PER_S 1000000000ull
/* How long intents stand. After a crash, what has one is copied to all legs but
 * the first clean one; a shorter time would flush the legs more often for that.
 */
#define SWEEP_NS (5 * NS_PER_S)

uint32_t bt_mirror_clean(const struct bt_mirror *m, uint64_t region)
{
	uint32_t i, word = bt_mirror_word(m, region), clean = 0;

	for (i = 0; i < m->leg_count; i++)
		if (!(word >> m->legs[i].bit & 1u))
			clean |= 1u << i;
	return clean;
}

/* All changes of a word while the mirror runs come by here; it gets to the log
 * with the next commit, whoever asks for it. */
static void set_word(struct bt_mirror *m, uint64_t region, uint32_t word)
{
	bt_store_le16(m->words + 2 * region, (uint16_t)word);
	if (m->log)
		bt_table_touch(&m->table, 2 * region);
}

void bt_mirror_set_dirty(struct bt_mirror *m, uint32_t leg, uint64_t region)
{
	uint32_t bit = 1u << m->legs[leg].bit;
	uint32_t word = bt_mirror_word(m, region);

	if (word & bit)
		return;
	m->legs[leg].dirty++;
	set_word(m, region, word | bit);
}

/* The copy is flushed. In memory the leg is read from now on; that the log
 * still calls it dirty costs a copy at worst. */
void bt_mirror_clear_dirty(struct bt_mirror *m, uint32_t leg, uint64_t region)
{
	uint32_t bit = 1u << m->legs[leg].bit;
	uint32_t word = bt_mirror_word(m, region);

	if (!(word & bit))
		return;
	set_word(m, region, word & ~bit);
	if (--m->legs[leg].dirty == 0)
		m->legs[leg].fresh = false;
}

/* ---- writes ---------------------------------------------------------------- */

static uint64_t first_region(const struct bt_mirror *m, uint64_t offset)
{
	return offset / m->region_size;
}

static uint64_t end_region(const struct bt_mirror *m, uint64_t offset,
			   uint64_t length)
{
	return length ? (offset + length - 1) / m->region_size + 1
		      : first_region(m, offset);
}

/* A leg that gets no writes is dirty where there are any, as long as another is
 * clean. */
static void mark_missing(struct bt_mirror *m, uint64_t region)
{
	uint32_t i, clean = bt_mirror_clean(m, region);

	for (i = 0; i < m->leg_count; i++)
		if (m->legs[i].failed && clean & ~(1u << i)) {
			bt_mirror_set_dirty(m, i, region);
			/* the last clean one stays clean, failed or not: its
			 * data is all there is */
			clean &= ~(1u << i);
		}
}

bool bt_mirror_begin_write(struct bt_mirror *m, uint64_t offset,
			   uint64_t length)
{
	uint64_t r, end = end_region(m, offset, length);
	bool wait = false;

	for (r = first_region(m, offset); r < end; r++) {
		m->flags[r] &= (unsigned char)~BT_MIRROR_OLD;
		/* the word is on disk as this would make it; nothing is to be
		 * waited for. That holds until a leg fails (new_epoch) or a
		 * sweep takes the intent. */
		if (m->flags[r] & BT_MIRROR_SURE)
			continue;
		wait = true;
		set_word(m, r,
			 bt_mirror_word(m, r) | BT_MIRROR_INTENT | m->absent);
		mark_missing(m, r);
	}
	if (wait)
		bt_mirror_start_sweep(m);
	return wait && m->log;
}

/* Without a log at once: it only saves the next write of the region the look at
 * its word. */
void bt_mirror_set_sure(struct bt_mirror *m, uint64_t offset, uint64_t length)
{
	uint64_t r, end = end_region(m, offset, length);

	for (r = first_region(m, offset); r < end; r++)
		m->flags[r] |= BT_MIRROR_SURE;
}

/* A write that ended behind the sweep's flush is not covered by it, so its
 * region is not OLD; the next sweep clears it. */
void bt_mirror_end_write(struct bt_mirror *m, uint64_t offset, uint64_t length)
{
	uint64_t r, end = end_region(m, offset, length);

	for (r = first_region(m, offset); r < end; r++)
		m->flags[r] &= (unsigned char)~BT_MIRROR_OLD;
}

/* ---- a leg that failed ----------------------------------------------------- */

/* A leg is left out only where another has everything; else it is tried on,
 * since it may hold the only good copy of something. */
static bool others_in_sync(const struct bt_mirror *m, uint32_t leg)
{
	uint32_t i;

	for (i = 0; i < m->leg_count; i++)
		if (i != leg && !m->legs[i].failed && !m->legs[i].dirty)
			return true;
	return false;
}

/* Everything that was written since the last sweep may be lost on it. Regions
 * without an intent were flushed on all legs before that was taken. */
static void mark_unflushed(struct bt_mirror *m, uint32_t leg)
{
	uint64_t r;

	for (r = 0; r < m->regions; r++)
		if (bt_mirror_word(m, r) & BT_MIRROR_INTENT &&
		    bt_mirror_clean(m, r) & ~(1u << leg))
			bt_mirror_set_dirty(m, leg, r);
}

/* Cheap where nothing happened: one comparison, so that it can be asked before
 * each answer that relies on what a leg holds. */
void bt_mirror_look(struct bt_mirror *m)
{
	uint32_t i;

	if (bt_likely(m->losses == m->node->env->losses))
		return;
	m->losses = m->node->env->losses;
	for (i = 0; i < m->leg_count; i++) {
		struct bt_mirror_leg *l = &m->legs[i];
		uint64_t losses = bt_port_losses(l->port);

		if (losses == l->losses)
			continue;
		l->losses = losses;
		bt_log(m->node->env->log, BLKTAP_LOG_WARNING,
		       "%s: leg '%s' may have lost what it had not flushed",
		       m->node->name, l->port->lower->name);
		bt_mirror_sync_spoil(m, i);
		mark_unflushed(m, i);
	}
	bt_mirror_sync_kick(m);
}

/* What was sure has to be written anew before a write may rely on it. Writes
 * that are under way see the epoch, and commit once more before they answer;
 * those that come find nothing SURE and mark the failed leg dirty first. */
static void new_epoch(struct bt_mirror *m)
{
	uint64_t r;

	m->epoch++;
	for (r = 0; r < m->regions; r++)
		m->flags[r] &= (unsigned char)~BT_MIRROR_SURE;
}

/* Where no leg that did the write was clean in the region, nobody has the new
 * data whole: then the guest gets the error. */
static int mark_range(struct bt_mirror *m, uint32_t leg, uint32_t ok,
		      uint64_t r, uint64_t end, int error)
{
	int result = 0;

	for (; r < end; r++) {
		uint32_t clean = bt_mirror_clean(m, r);

		if (!(clean >> leg & 1u))
			continue; /* it was dirty before */
		if (clean & ok)
			bt_mirror_set_dirty(m, leg, r);
		else
			result = error;
	}
	return result;
}

int bt_mirror_leg_failed(struct bt_mirror *m, uint32_t leg, uint32_t ok,
			 uint64_t offset, uint64_t length, int error)
{
	struct bt_mirror_leg *l = &m->legs[leg];
	int result = mark_range(m, leg, ok, first_region(m, offset),
				end_region(m, offset, length), error);

	bt_mirror_sync_spoil(m, leg);
	if (others_in_sync(m, leg)) {
		if (!l->failed)
			bt_log(m->node->env->log, BLKTAP_LOG_WARNING,
			       "%s: leg '%s' failed (%d) and is left out",
			       m->node->name, l->port->lower->name, error);
		l->failed = true;
		mark_unflushed(m, leg);
	} else if (!length) {
		/* a flush: without another leg in sync nobody can stand in for
		 * what this one did not make durable */
		result = error; /* what it lost is on no other leg for sure */
	}
	new_epoch(m);
	bt_mirror_sync_kick(m);
	return result;
}

/* ---- the sweep ------------------------------------------------------------- */

static void tidied(struct bt_table_wait *wait, int error)
{
	struct bt_mirror *m = bt_container_of(wait, struct bt_mirror, tidy);

	(void)error; /* what did not get there goes with the next commit */
	/* a LAST flush may wait for it */
	m->tidying = false;
	if (m->resting)
		bt_mirror_sync_kick(m);
}

/* Nobody waits for this one, so what is under way already is enough: it takes
 * what changes until it runs, and the rest goes with the next. */
void bt_mirror_tidy(struct bt_mirror *m)
{
	if (!m->log || m->tidying || m->read_only)
		return;
	m->tidying = true;
	m->tidy.fn = tidied;
	bt_table_commit(&m->table, &m->tidy);
}

/* Ranges that wait are spared, too, which does no harm. */
static void spare_running(struct bt_mirror *m)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &m->lock.ranges) {
		struct bt_range *range =
			bt_list_entry(pos, struct bt_range, link);

		if (!range->owner) /* a copy changes nothing */
			bt_mirror_end_write(m, range->offset, range->length);
	}
}

/* All: nothing but what is in the lock has an intent that counts, since every
 * leg was flushed with no write under way. The word goes to the log by the
 * caller's commit, later, so the log calls too much intended and never too
 * little. */
void bt_mirror_clear_intents(struct bt_mirror *m, bool all)
{
	uint64_t r;

	m->intents = false;
	for (r = 0; r < m->regions && all; r++)
		m->flags[r] |= BT_MIRROR_OLD;
	spare_running(m);
	for (r = 0; r < m->regions; r++) {
		uint32_t word = bt_mirror_word(m, r);

		if (!(word & BT_MIRROR_INTENT))
			continue;
		if (!(m->flags[r] & BT_MIRROR_OLD)) {
			m->intents = true;
			continue;
		}
		set_word(m, r, word & ~BT_MIRROR_INTENT);
		/* not SURE either: the next write sets the intent and waits for
		 * the log */
		m->flags[r] = 0;
	}
}

/* A leg that failed the flush is dirty in whatever had an intent, which stays:
 * the intents are cleared by a sweep that all legs took. */
static void sweep_flushed(struct bt_mirror_fan *fan)
{
	struct bt_mirror *m = bt_container_of(fan, struct bt_mirror, sweep);
	uint32_t i;

	bt_mirror_look(m);
	for (i = 0; i < m->leg_count; i++)
		if (fan->failed >> i & 1u)
			bt_mirror_leg_failed(m, i, fan->ok, 0, 0, fan->error);
	m->sweeping = false;
	if (!fan->failed)
		bt_mirror_clear_intents(m, false);
	bt_mirror_tidy(m);
	if (m->intents)
		bt_mirror_start_sweep(m);
	if (m->resting)
		bt_mirror_sync_kick(m);
}

/* A region that is still OLD when the flush is back had no write under way when
 * it was sent, and none since. */
void bt_mirror_sweep_fired(struct bt_timer *timer)
{
	struct bt_mirror *m =
		bt_container_of(timer, struct bt_mirror, sweep_timer);
	uint64_t r;

	m->sweeping = true;
	for (r = 0; r < m->regions; r++)
		if (bt_mirror_word(m, r) & BT_MIRROR_INTENT)
			m->flags[r] |= BT_MIRROR_OLD;
	m->sweep.mirror = m;
	m->sweep.fn = sweep_flushed;
	bt_mirror_fan_flush(&m->sweep, m->sweep_pool, 0);
}

/* Without a timer the intents stay, which costs a longer copy at worst. */
void bt_mirror_start_sweep(struct bt_mirror *m)
{
	struct bt_loop *loop = m->node->env->loop;

	m->intents = true;
	if (!m->sweeping && !m->resting && !m->sweep_timer.loop)
		bt_timer_arm(loop, &m->sweep_timer,
			     bt_loop_now(loop) + SWEEP_NS);
}
