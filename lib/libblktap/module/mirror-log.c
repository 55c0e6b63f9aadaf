/* SPDX-License-Identifier: BSD-3-Clause */
/* The words of a mirror when it opens. In the log:
 *
 *	header (twice) | the words, a table
 *
 * whose header holds size (8), region size (4), 0 (4), and a record for each bit:
 * the name of the leg's node (48), a hash of what it stands for (8), and what its
 * file was when it was left (8). A leg under another name or on another file is a
 * new leg, and gets a full copy. */
#include "module/mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "port/args.h"
#include "util/checked.h"

#define LAYOUT 1u
#define RECORD_BYTES 64u
#define RECORDS_AT 16u
#define PAYLOAD (RECORDS_AT + BT_MIRROR_LEGS * RECORD_BYTES)
/* of a new log: 8 MiB of words. What a header claims may be 16 times as many.
 */
#define MAX_REGIONS (1u << 22)

/* ---- records --------------------------------------------------------------- */

/* FNV-1a, 64 bit, with the 0 at the end, so that "a" "bc" and "ab" "c" are two.
 */
static uint64_t hash(uint64_t h, const char *text)
{
	do { /* the end of the text counts too */
		h = (h ^ (unsigned char)*text) * 1099511628211ull;
	} while (*text++);
	return h;
}

/* What the leaf below a leg stands for. */
static uint64_t identity_of(const struct bt_node *node)
{
	while (node->port_count && node->ports[0].lower)
		node = node->ports[0].lower;
	return hash(hash(14695981039346656037ull, node->cls->name),
		    bt_node_path(node));
}

/* The node below, where a filter is only that: those come and go while the mirror
 * runs, and the leg is the same without them. */
static const struct bt_node *below_filter(const struct bt_node *node)
{
	return node->cls->pause == BT_PAUSE_NONE && node->port_count == 1
		       ? node->ports[0].lower
		       : NULL;
}

/* The one whose name is the leg's. */
static const struct bt_node *named(const struct bt_node *leg)
{
	const struct bt_node *lower;

	while ((lower = below_filter(leg)))
		leg = lower;
	return leg;
}

/* A name longer than 47 bytes is cut; the identity tells those apart. */
static void fill_name(struct bt_mirror_record *record, const char *name)
{
	memset(record->name, 0, sizeof(record->name));
	strncpy(record->name, name, BT_MIRROR_NAME - 1);
}

static void fill_record(struct bt_mirror_record *record,
			const struct bt_node *leg)
{
	memset(record, 0, sizeof(*record));
	fill_name(record, named(leg)->name);
	record->identity = identity_of(leg);
}

/* The number of a node without a name, "raw#3", only counts those before it in the
 * text, and is another one when one more stands there. */
static bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b) {
		if (*a++ == '#')
			a += strspn(a, "0123456789");
		if (*b++ == '#')
			b += strspn(b, "0123456789");
	}
	return *a == *b;
}

static uint32_t linked_bits(const struct bt_mirror *m, uint32_t legs)
{
	uint32_t i, bits = 0;

	for (i = 0; i < legs; i++)
		bits |= 1u << m->legs[i].bit;
	return bits;
}

/* No other leg, linked or in the log, stands on that leaf: of two slices of it, the
 * number is all that tells them apart. */
static bool is_alone(const struct bt_mirror *m, uint64_t identity)
{
	uint32_t i, legs = 0, records = 0;

	for (i = 0; i < m->leg_count; i++)
		legs += identity_of(m->legs[i].port->lower) == identity;
	for (i = 0; i < BT_MIRROR_LEGS; i++)
		records += m->records[i].name[0] &&
			   m->records[i].identity == identity;
	return legs == 1 && records == 1;
}

/* By name and identity: the same file under another name, or another file under
 * the name, is a new leg. That costs a copy; believing it might cost data. Logs of
 * former versions have the name of the filter that was the first. */
static bool is_leg(const struct bt_mirror *m,
		   const struct bt_mirror_record *record,
		   const struct bt_node *leg)
{
	struct bt_mirror_record want;
	const struct bt_node *node;
	bool alone;

	fill_record(&want, leg);
	if (!record->name[0] || record->identity != want.identity)
		return false;
	alone = is_alone(m, want.identity);
	for (node = leg; node; node = below_filter(node)) {
		fill_name(&want, node->name);
		if (!strcmp(record->name, want.name) ||
		    (alone && same_name(record->name, want.name)))
			return true;
	}
	return false;
}

static bool find_bit(const struct bt_mirror *m, const struct bt_node *leg,
		     uint32_t taken, uint32_t *bit)
{
	for (*bit = 0; *bit < BT_MIRROR_LEGS; (*bit)++)
		if (!(taken >> *bit & 1u) && is_leg(m, &m->records[*bit], leg))
			return true;
	return false;
}

/* A free bit, or that of a leg which is not linked; there are as many bits as
 * legs, at least. */
static uint32_t take_bit(const struct bt_mirror *m, uint32_t taken)
{
	uint32_t bit;

	for (bit = 0; bit < BT_MIRROR_LEGS; bit++)
		if (!m->records[bit].name[0] && !(taken >> bit & 1u))
			return bit;
	for (bit = 0; taken >> bit & 1u; bit++)
		;
	return bit;
}

/* Gives every leg its bit; new_legs are those the log does not know. A leg that
 * is linked twice finds its bit taken and is a new one. */
static uint32_t match_legs(struct bt_mirror *m)
{
	uint32_t i, bit, taken = 0, new_legs = 0;

	for (i = 0; i < m->leg_count; i++) {
		if (find_bit(m, m->legs[i].port->lower, taken, &bit)) {
			m->legs[i].bit = bit;
			taken |= 1u << bit;
		} else {
			new_legs |= 1u << i;
		}
	}
	for (i = 0; i < m->leg_count; i++) {
		if (!(new_legs >> i & 1u))
			continue;
		m->legs[i].bit = take_bit(m, taken);
		taken |= 1u << m->legs[i].bit;
		fill_record(&m->records[m->legs[i].bit],
			    m->legs[i].port->lower);
	}
	/* records that no linked leg has now: those legs miss what is written,
	 * which their bits say until they come back */
	m->absent = 0;
	for (bit = 0; bit < BT_MIRROR_LEGS; bit++)
		if (m->records[bit].name[0] &&
		    !(linked_bits(m, m->leg_count) >> bit & 1u))
			m->absent |= 1u << bit;
	return new_legs;
}

/* ---- the header ------------------------------------------------------------ */

/* Little-endian. Layout: see the top; a name fills 48 bytes with zeroes behind
 * it, and identity is the next 8 of a record's 64. */
static void put_header(struct bt_mirror *m)
{
	unsigned char *p = m->header.payload;
	uint32_t i;

	m->header.length = PAYLOAD;
	bt_store_le64(p, m->size);
	bt_store_le32(p + 8, (uint32_t)m->region_size);
	bt_store_le32(p + 12, 0);
	for (i = 0, p += RECORDS_AT; i < BT_MIRROR_LEGS;
	     i++, p += RECORD_BYTES) {
		memset(p, 0, RECORD_BYTES);
		memcpy(p, m->records[i].name, BT_MIRROR_NAME);
		bt_store_le64(p + BT_MIRROR_NAME, m->records[i].identity);
		bt_store_le64(p + BT_MIRROR_NAME + 8, m->records[i].stamp);
	}
}

/* Those of legs that are not linked stay. A leg may have been given another name
 * while the mirror runs. */
void bt_mirror_stamp(struct bt_mirror *m, bool stamped)
{
	uint32_t i;

	for (i = 0; i < m->leg_count; i++) {
		const struct bt_mirror_leg *leg = &m->legs[i];
		uint64_t stamp = BT_MIRROR_RUNNING;

		if (stamped)
			stamp = leg->failed ? BT_MIRROR_UNKNOWN
					    : bt_port_stamp(leg->port);
		m->records[leg->bit].stamp = stamp;
		fill_name(&m->records[leg->bit], named(leg->port->lower)->name);
	}
	m->header.clean = stamped;
	put_header(m);
}

/* A leg's name is shown where it is missing. */
static bool is_text(const char *name)
{
	for (; *name; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7f)
			return false;
	return true;
}

static int take_header(struct bt_mirror *m, struct blktap_error **err)
{
	const unsigned char *p = m->header.payload;
	const char *log = m->log->lower->name;
	uint64_t size = bt_load_le64(p);
	uint32_t i;

	m->region_size = bt_load_le32(p + 8);
	if (m->header.length < PAYLOAD || !bt_is_pow2(m->region_size) ||
	    m->region_size < 4096)
		return bt_fail(err, -EUCLEAN, NULL,
			       "'%s': the header of a mirror makes no sense",
			       log);
	if (size != m->size)
		return bt_fail(err, -EINVAL, "give it a log of its own",
			       "'%s' is the log of a mirror of %llu bytes, "
			       "'%s' has %llu",
			       log, (unsigned long long)size, m->node->name,
			       (unsigned long long)m->size);
	for (i = 0, p += RECORDS_AT; i < BT_MIRROR_LEGS;
	     i++, p += RECORD_BYTES) {
		/* one byte less than there is: the 0 that ends it is ours */
		memcpy(m->records[i].name, p, BT_MIRROR_NAME - 1);
		if (!is_text(m->records[i].name))
			return bt_fail(err, -EUCLEAN, NULL,
				       "'%s': the name of leg %u in it is no "
				       "text",
				       log, i);
		m->records[i].identity = bt_load_le64(p + BT_MIRROR_NAME);
		m->records[i].stamp = bt_load_le64(p + BT_MIRROR_NAME + 8);
	}
	return 0;
}

static void choose_region(struct bt_mirror *m, const struct bt_args *args)
{
	m->region_size = bt_args_number(args, "region");
	while (m->size / m->region_size >= MAX_REGIONS)
		m->region_size *= 2;
}

static uint64_t count_regions(const struct bt_mirror *m)
{
	return m->size / m->region_size + (m->size % m->region_size != 0);
}

/* ---- the words ------------------------------------------------------------- */

/* After a cut, whatever of an intent's write arrived: the first clean leg says what
 * the data is. Only the legs behind the first clean one become dirty; that one
 * is believed, whatever a write that was cut off left on it: the guest was not
 * answered, so old data and new are both right. The intent goes with it: the
 * copy starts from here. */
static void settle_intents(struct bt_mirror *m)
{
	uint64_t r;

	for (r = 0; r < m->regions; r++) {
		uint32_t word = bt_mirror_word(m, r), i, clean;

		if (!(word & BT_MIRROR_INTENT))
			continue;
		clean = bt_mirror_clean(m, r);
		if (!clean)
			continue; /* one that is not linked has it */
		word = (word & ~BT_MIRROR_INTENT) | m->absent;
		for (i = 0; i < m->leg_count; i++)
			if (clean & ((1u << i) - 1))
				word |= 1u << m->legs[i].bit;
		bt_store_le16(m->words + 2 * r, (uint16_t)word);
		bt_table_touch(&m->table, 2 * r);
	}
}

/* By bt_store, not set_word: the whole table is written by write_log, or, for a
 * mirror that is opened read-only, never. */
static void set_all_dirty(struct bt_mirror *m, uint32_t leg)
{
	uint64_t r;

	for (r = 0; r < m->regions; r++)
		bt_store_le16(m->words + 2 * r,
			      (uint16_t)(bt_mirror_word(m, r) |
					 1u << m->legs[leg].bit));
	m->legs[leg].fresh = true;
}

static void count_dirty(struct bt_mirror *m)
{
	uint32_t i;
	uint64_t r;

	for (i = 0; i < m->leg_count; i++) {
		m->legs[i].dirty = 0;
		for (r = 0; r < m->regions; r++)
			m->legs[i].dirty +=
				bt_mirror_word(m, r) >> m->legs[i].bit & 1u;
	}
}

/* Every region is good on a leg that is linked. A region whose only clean leg
 * is absent must not be read from another. The message names that leg, so that
 * somebody can link it. */
static int check_complete(const struct bt_mirror *m, struct blktap_error **err)
{
	uint64_t r, lost = 0;
	uint32_t bit, holders = 0;

	for (r = 0; r < m->regions; r++)
		if (!bt_mirror_clean(m, r)) {
			lost++;
			holders |= ~bt_mirror_word(m, r);
		}
	if (!lost)
		return 0;
	for (bit = 0; bit < BT_MIRROR_LEGS; bit++)
		if (holders & m->absent & 1u << bit)
			break;
	return bt_fail(err, -ENODATA,
		       bit < BT_MIRROR_LEGS ? "link that leg as well"
					    : "clear the log's first 8 KiB to "
					      "believe the legs as they are",
		       "%s: %llu regions are good on no leg that is linked%s%s",
		       m->node->name, (unsigned long long)lost,
		       bit < BT_MIRROR_LEGS ? ", but on " : "",
		       bit < BT_MIRROR_LEGS ? m->records[bit].name : "");
}

static int alloc_words(struct bt_mirror *m)
{
	int rc = 0;

	m->regions = count_regions(m);
	m->flags = calloc(m->regions, 1);
	if (m->log)
		rc = bt_table_init(&m->table, m->node, m->log, BT_HEADER_AREA,
				   2 * m->regions);
	else
		m->words = calloc(m->regions, 2);
	if (m->log)
		m->words = m->table.bytes;
	return rc ? rc : m->flags && m->words ? 0 : -ENOMEM;
}

/* New: legs are believed to be the same, or to be copies of the source to be. */
static void start_words(struct bt_mirror *m)
{
	uint32_t i;

	match_legs(m);
	for (i = 0; i < m->leg_count && (m->background || m->copies); i++)
		if (i != m->source)
			set_all_dirty(m, i);
}

/* ---- legs that were written to without the mirror --------------------------- */

/* Somebody wrote to a leg, or put another file in its place; or a power cut just after
 * the last flush took the file's time back. Which of it, and which leg has the data then,
 * is not for us to guess: a copy in the wrong direction would be the end of it. */
static void warn_of_changed(const struct bt_mirror *m, uint32_t new_legs)
{
	uint32_t i;

	for (i = 0; i < m->leg_count; i++) {
		uint64_t was = m->records[m->legs[i].bit].stamp, is;

		if (new_legs >> i & 1u || was <= BT_MIRROR_RUNNING)
			continue;
		is = bt_port_stamp(m->legs[i].port);
		if (is && is != was)
			bt_log(m->node->env->log, BLKTAP_LOG_WARNING,
			       "%s: the file of '%s' is not as the mirror left "
			       "it: where it was written to, or replaced, give "
			       "the leg that lacks data another name, and it "
			       "gets a full copy",
			       m->node->name,
			       named(m->legs[i].port->lower)->name);
	}
}

static int load_words(struct bt_mirror *m, struct blktap_error **err)
{
	uint32_t i, new_legs;
	int rc = bt_table_load(&m->table, m->node->name, err);

	if (rc < 0)
		return rc;
	new_legs = match_legs(m);
	warn_of_changed(m, new_legs);
	for (i = 0; i < m->leg_count; i++)
		if (new_legs >> i & 1u)
			set_all_dirty(m, i);
	settle_intents(m);
	return check_complete(m, err);
}

/* All of the table, as bits may have got another owner; the header, which says
 * so, behind it and its flush. A cut between leaves the old header with bits
 * that are set in all words: more to copy, and nothing wrong. */
static int write_log(struct bt_mirror *m, struct blktap_error **err)
{
	char reason[BT_STRERROR_MAX];
	int rc = bt_table_store(&m->table);

	if (!rc)
		rc = bt_node_transfer(m->log, BLKTAP_OP_FLUSH, 0, NULL, 0);
	bt_mirror_stamp(m, false);
	if (!rc)
		rc = bt_header_write(m->log, &m->header);
	return rc ? bt_fail(err, rc, NULL,
			    "%s: the log '%s' cannot be written: %s",
			    m->node->name, m->log->lower->name,
			    bt_strerror(rc, reason))
		  : 0;
}

/* Whether it is large enough is asked again when the number of regions is
 * known. */
static int open_log(struct bt_mirror *m, const struct bt_args *args,
		    bool *fresh, struct blktap_error **err)
{
	int rc = bt_header_check_store(m->node, m->log, BT_HEADER_AREA, err);

	if (!rc)
		rc = bt_header_read(m->log, "mirror", LAYOUT, &m->header, err);
	*fresh = rc == -ENOENT;
	if (*fresh) {
		rc = bt_header_init(&m->header, "mirror", LAYOUT);
		choose_region(m, args);
	} else if (!rc) {
		rc = take_header(m, err);
	}
	if (!rc && count_regions(m) > 16ull * MAX_REGIONS)
		rc = bt_fail(err, -EUCLEAN, NULL,
			     "'%s': its regions are too many",
			     m->log->lower->name);
	return rc ? rc
		  : bt_header_check_store(
			    m->node, m->log,
			    BT_HEADER_AREA +
				    bt_table_space(2 * count_regions(m)),
			    err);
}

/* The words before the header, so that bits are given away only when their old
 * meaning is gone: a new leg takes a bit that is set in all words. */
int bt_mirror_open_words(struct bt_mirror *m, const struct bt_args *args,
			 struct blktap_error **err)
{
	bool fresh = true;
	int rc = 0;

	if (m->log)
		rc = open_log(m, args, &fresh, err);
	else
		choose_region(m, args);
	if (rc < 0)
		return rc;
	if (alloc_words(m) < 0)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       m->node->name);
	if (fresh)
		start_words(m);
	else
		rc = load_words(m, err);
	if (rc < 0)
		return rc;
	count_dirty(m);
	return m->log && !m->read_only ? write_log(m, err) : 0;
}

void bt_mirror_close_words(struct bt_mirror *m)
{
	if (!m->log)
		free(m->words);
	free(m->flags);
	bt_table_fini(&m->table);
}
