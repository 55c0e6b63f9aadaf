// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * Copies between a request's pages and its slot; whole requests only.
 *
 * Functions of their own, although each is called from one place: a copy takes the
 * registers that the loops around it need.
 */
#include <linux/bio.h>
#include <linux/highmem.h>

#include "blktap.h"

struct page_words {
	unsigned long words[PAGE_SIZE / sizeof(unsigned long)];
};

static __always_inline bool is_word_aligned(const u8 *to, const u8 *from)
{
	return !(((unsigned long)to | (unsigned long)from) &
		 (sizeof(unsigned long) - 1));
}

/*
 * A copy of constant size is made in line, which on x86 is by the string
 * instructions, and by nothing else where the alignment is known; memcpy itself
 * moves words where those are slow for few bytes.
 */
static __always_inline void copy_page_words(u8 *to, const u8 *from)
{
	*(struct page_words *)to = *(const struct page_words *)from;
}

static noinline void copy_odd(u8 *to, const u8 *from, u32 n)
{
	if (is_word_aligned(to, from)) {
		for (; n >= PAGE_SIZE; n -= PAGE_SIZE) {
			copy_page_words(to, from);
			to += PAGE_SIZE;
			from += PAGE_SIZE;
		}
	}
	if (n)
		memcpy(to, from, n);
}

/* A page nearly always. */
static __always_inline void copy_part(u8 *slot, u8 *part, u32 n, bool to_slot)
{
	u8 *to = to_slot ? slot : part, *from = to_slot ? part : slot;

	if (likely(n == PAGE_SIZE && is_word_aligned(to, from)))
		copy_page_words(to, from);
	else
		copy_odd(to, from, n);
}

#if defined(CONFIG_HIGHMEM) || ARCH_IMPLEMENTS_FLUSH_DCACHE_PAGE
static __always_inline void copy(u8 *slot, struct request *rq, bool to_slot)
{
	struct req_iterator iter;
	struct bio_vec bv;

	rq_for_each_segment(bv, rq, iter)
	{
		u8 *part = bvec_kmap_local(&bv);

		copy_part(slot, part, bv.bv_len, to_slot);
		slot += bv.bv_len;
		if (!to_slot)
			flush_dcache_page(bv.bv_page);
		kunmap_local(part);
	}
}
#else
/* All memory is mapped, and what is contiguous is so here, too. */
static __always_inline u8 *address_of(const struct bio_vec *bv, u32 skip)
{
	return (u8 *)page_address(bv->bv_page) + (bv->bv_offset + skip);
}

static __always_inline void copy_bios(u8 *slot, const struct bio *bio,
				      bool to_slot)
{
	do {
		const struct bvec_iter *at = &bio->bi_iter;
		const struct bio_vec *bv = &bio->bi_io_vec[at->bi_idx];
		u32 skip = at->bi_bvec_done, left = at->bi_size;

		for (; left; bv++, skip = 0) {
			u32 n = min(bv->bv_len - skip, left);

			copy_part(slot, address_of(bv, skip), n, to_slot);
			slot += n;
			left -= n;
		}
	} while ((bio = bio->bi_next));
}

static noinline void bios_in(u8 *slot, const struct bio *bio)
{
	copy_bios(slot, bio, true);
}

static noinline void bios_out(u8 *slot, const struct bio *bio)
{
	copy_bios(slot, bio, false);
}

/* A small request is one part nearly always, and needs no loop. */
static __always_inline void copy(u8 *slot, struct request *rq, bool to_slot)
{
	const struct bio *bio = rq->bio;
	const struct bvec_iter *at = &bio->bi_iter;
	const struct bio_vec *bv;

	if (unlikely(!bio))
		return;
	bv = &bio->bi_io_vec[at->bi_idx];
	if (!bio->bi_next && bv->bv_len - at->bi_bvec_done >= at->bi_size)
		copy_part(slot, address_of(bv, at->bi_bvec_done), at->bi_size,
			  to_slot);
	else if (to_slot)
		bios_in(slot, bio);
	else
		bios_out(slot, bio);
}
#endif

void bt_copy_in(u8 *slot, struct request *rq)
{
	copy(slot, rq, true);
}

void bt_copy_out(u8 *slot, struct request *rq)
{
	copy(slot, rq, false);
}
