/* SPDX-License-Identifier: BSD-3-Clause */
/* A job's map: a bit a grain, set where it is to be looked at. job->left counts the bits
 * that are set, so that it is known without a walk when nothing is to be done. */
#include "vbd/job.h"

bool bt_job_is_marked(const struct blktap_job *job, uint64_t n)
{
	return job->todo[n >> 3] >> (n & 7) & 1;
}

static void put_bits(struct blktap_job *job, uint64_t from, uint64_t to,
		     bool value)
{
	uint64_t n;

	for (n = from; n < to; n++) {
		if (bt_job_is_marked(job, n) == value)
			continue;
		job->todo[n >> 3] ^= (uint8_t)(1u << (n & 7));
		job->left += value ? 1 : UINT64_MAX;
	}
}

void bt_job_unmark(struct blktap_job *job, uint64_t first, uint64_t last)
{
	put_bits(job, first, last, false);
}

/* Rounded outwards: a grain of which a byte has changed is looked at again. */
void bt_job_mark(struct blktap_job *job, uint64_t from, uint64_t to)
{
	if (from < to)
		put_bits(job, from >> BT_JOB_GRAIN_BITS,
			 ((to - 1) >> BT_JOB_GRAIN_BITS) + 1, true);
}

void bt_job_mark_all(struct blktap_job *job)
{
	put_bits(job, 0, job->grains, true);
	job->cursor = 0;
}

/* The place comes from a file, and may be anything. */
uint64_t bt_job_skip(struct blktap_job *job, uint64_t place)
{
	if (place > job->size)
		return 0;
	place = bt_align_down(place, 1u << BT_JOB_GRAIN_BITS);
	put_bits(job, 0, place >> BT_JOB_GRAIN_BITS, false);
	return place;
}

/* A stream sees clients' writes by its locks, and a coalesce is below them. */
void bt_job_wrote(struct blktap_disk *disk, uint64_t offset, uint64_t length)
{
	struct blktap_job *job = disk->job;

	if (job->options.kind == BLKTAP_JOB_COMMIT && offset < job->size)
		bt_job_mark(job, offset,
			    bt_min_u64(offset + length, job->size));
}

/* The next bit that is set from cursor on; false where there is none. */
bool bt_job_next_marked(const struct blktap_job *job, uint64_t *at)
{
	uint64_t n = job->cursor;

	while (n < job->grains && !bt_job_is_marked(job, n))
		n += n & 7 || job->todo[n >> 3] ? 1 : 8;
	*at = n;
	return n < job->grains;
}
