/* SPDX-License-Identifier: BSD-3-Clause */
/* The journal of a resize, and undoing one with it.
 *
 * Undoing puts back what was saved: everything but the footers first, synced,
 * then the copy at offset 0, synced, then the footer at the end. It may be
 * interrupted and begun again, since the journal goes last. A journal of the
 * older blktap may hold blocks as well, and its image is poisoned until the
 * footers are back.
 *
 * A journal is a header of 512 bytes, then entries, each with 32 bytes of its
 * own and whole sectors of the image as they were (libvhd/journal.h). The
 * header's counts are written last, behind a sync, so a journal that was cut
 * short says of itself that it is empty, and nothing in the image has been
 * changed by then. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/vhd/tool.h"
#include "libvhd/journal.h"
#include "util/path.h"

struct bt_vhdjournal {
	struct bt_vhdimg *img;
	char *path;
	struct bt_image_file f; /* its descriptor alone is used */
	struct bt_vhd_journal header;
	bool is_device;
	bool made; /* by this call, and nothing has been changed yet */
	bool ended;
};

/* Buffered, at any offset (set_file). */
static int put(struct bt_vhdjournal *j, uint64_t at, const void *buf,
	       size_t len)
{
	return bt_image_file_write(&j->f, at, buf, len);
}

/* "journal: path: cause", for 0 nothing. */
static int fail(struct bt_vhdjournal *j, int rc, struct blktap_error **err)
{
	if (rc < 0) {
		bt_image_file_fail(j->path, rc, err);
		bt_error_prefix(err, "journal");
	}
	return rc;
}

/* Enough of a bt_image_file for its blocking calls: no node, no lock, no
 * engine. */
static void set_file(struct bt_vhdjournal *j, int fd)
{
	memset(&j->f, 0, sizeof(j->f));
	j->f.file.fd = fd;
	j->f.file.offset_align = 1;
	j->f.path = j->path;
}

/* ---- making one ----------------------------------------------------------- */

/* With the counts as they are in memory. */
static int write_header(struct bt_vhdjournal *j)
{
	uint8_t bytes[BT_VHD_JOURNAL_HEADER_SIZE];

	bt_vhd_journal_encode(&j->header, bytes);
	return put(j, 0, bytes, sizeof(bytes));
}

/* A file that is not empty may be anything; a device is taken unless a journal
 * is on it. */
static int open_new(struct bt_vhdjournal *j, struct blktap_error **err)
{
	uint8_t bytes[BT_VHD_JOURNAL_HEADER_SIZE] = { 0 };
	struct bt_vhd_journal old;
	struct stat st;
	int fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(j, -errno, err);
	set_file(j, fd);
	j->is_device = S_ISBLK(st.st_mode);
	j->made = !j->is_device && st.st_size == 0;
	if (j->made)
		return 0;
	/* nothing else is overwritten, least of all another journal */
	bt_image_file_read(&j->f, 0, bytes, sizeof(bytes));
	if (j->is_device &&
	    bt_vhd_journal_decode(bytes, sizeof(bytes), &old, NULL))
		return 0;
	return bt_fail(err, -EEXIST,
		       "undo that first: vhd-util revert, or choose another "
		       "name",
		       "journal %s: is there already", j->path);
}

/* An empty journal is written at once, so that another resize sees that there
 * is one. */
int bt_vhdjournal_create(struct bt_vhdimg *img, const char *path,
			 struct bt_vhdjournal **out, struct blktap_error **err)
{
	struct bt_vhdjournal *j;
	int rc;

	*out = NULL;
	if (!path)
		return 0;
	j = calloc(1, sizeof(*j));
	if (!j || !(j->path = strdup(path))) {
		free(j);
		return bt_image_file_fail(path, -ENOMEM, err);
	}
	set_file(j, -1);
	j->img = img;
	bt_vhd_journal_init(&j->header, img->footer.uuid,
			    bt_vhdtool_footer_at(img));
	rc = open_new(j, err);
	if (!rc)
		rc = fail(j, write_header(j), err);
	if (rc < 0)
		bt_vhdjournal_close(j);
	else
		*out = j;
	return rc;
}

/* Entry and data behind what is there; the header counts it when it is
 * synced. */
static int save_piece(struct bt_vhdjournal *j, uint32_t type, uint64_t offset,
		      uint32_t length, uint8_t *buf)
{
	struct bt_vhd_journal_entry e = {
		.type = type,
		.size = length,
		.offset = offset,
	};
	uint8_t header[BT_VHD_JOURNAL_ENTRY_SIZE];
	int rc = bt_image_file_read(&j->img->f, offset, buf, length);

	bt_vhd_journal_entry_encode(&e, buf, header);
	if (!rc)
		rc = put(j, j->header.eof, header, sizeof(header));
	if (!rc)
		rc = put(j, j->header.eof + sizeof(header), buf, length);
	if (!rc)
		bt_vhd_journal_added(&j->header, &e);
	return rc;
}

/* In pieces of BT_VHD_JOURNAL_DATA_MAX, so that undoing needs no more memory
 * than that. */
int bt_vhdjournal_save(struct bt_vhdjournal *j, uint32_t type, uint64_t offset,
		       uint64_t length, struct blktap_error **err)
{
	uint32_t n = (uint32_t)bt_min_u64(length, BT_VHD_JOURNAL_DATA_MAX);
	uint8_t *buf;
	int rc = 0;

	if (!j)
		return 0;
	buf = malloc(n + 1);
	if (!buf)
		return fail(j, -ENOMEM, err);
	while (length && !rc) {
		n = (uint32_t)bt_min_u64(length, BT_VHD_JOURNAL_DATA_MAX);
		rc = save_piece(j, type, offset, n, buf);
		offset += n;
		length -= n;
	}
	free(buf);
	return fail(j, rc, err);
}

/* Entries, sync, header, sync, name, sync: from here on the journal undoes what
 * follows, and is not removed by an error any more. */
int bt_vhdjournal_sync(struct bt_vhdjournal *j, struct blktap_error **err)
{
	int rc;

	if (!j)
		return 0;
	rc = bt_image_file_sync(&j->f);
	if (!rc)
		rc = write_header(j);
	if (!rc)
		rc = bt_image_file_sync(&j->f);
	if (!rc)
		rc = bt_path_sync_directory(j->path);
	j->made &= rc != 0;
	return fail(j, rc, err);
}

/* A second call does nothing. Of a device the header is wiped, as its name
 * cannot go. */
int bt_vhdjournal_end(struct bt_vhdjournal *j, struct blktap_error **err)
{
	static const uint8_t zeroes[BT_VHD_JOURNAL_HEADER_SIZE];
	int rc;

	if (!j || j->ended)
		return 0;
	j->ended = true;
	j->made = false;
	if (j->is_device) {
		rc = put(j, 0, zeroes, sizeof(zeroes));
		if (!rc)
			rc = bt_image_file_sync(&j->f);
	} else {
		rc = unlink(j->path) < 0 ? -errno
					 : bt_path_sync_directory(j->path);
	}
	return fail(j, rc, err);
}

/* One that was made and never became whole goes. */
void bt_vhdjournal_close(struct bt_vhdjournal *j)
{
	if (!j)
		return;
	if (j->made)
		unlink(j->path);
	if (j->f.file.fd >= 0)
		close(j->f.file.fd);
	free(j->path);
	free(j);
}

/* ---- undoing -------------------------------------------------------------- */

struct undo {
	struct bt_vhdjournal *j;
	struct bt_image_file *to;
	uint8_t *buf;
};

/* The codec's fault where it was one, else an error of the file. */
static int bad(struct undo *u, int rc, const struct bt_fault *fault,
	       struct blktap_error **err)
{
	return fault->field ? bt_vhdimg_fault(u->j->path, rc, fault, err)
			    : fail(u->j, rc, err);
}

/* One entry; written where wanted says so. Its checksum covers header and data;
 * an entry that does not check ends the undoing, before the first write if it
 * is found in the first pass. */
static int replay_entry(struct undo *u, uint64_t at,
			bool (*wanted)(uint32_t type), bool write,
			uint32_t *size, struct blktap_error **err)
{
	uint8_t header[BT_VHD_JOURNAL_ENTRY_SIZE];
	struct bt_vhd_journal_entry e;
	struct bt_fault fault = { 0 };
	int rc = bt_image_file_read(&u->j->f, at, header, sizeof(header));

	if (!rc)
		rc = bt_vhd_journal_entry_decode(&u->j->header, at, header,
						 sizeof(header), &e, &fault);
	if (!rc)
		rc = bt_image_file_read(&u->j->f, at + sizeof(header), u->buf,
					e.size);
	if (!rc)
		rc = bt_vhd_journal_entry_check(&e, header, u->buf, &fault);
	if (rc < 0)
		return bad(u, rc, &fault, err);
	*size = e.size;
	if (!write || !wanted(e.type))
		return 0;
	rc = bt_image_file_write(u->to, e.offset, u->buf, e.size);
	return rc ? bt_image_file_fail(u->to->path, rc, err) : 0;
}

/* Entries one behind the other, as many as the header counts. Synced once,
 * behind all of this pass. */
static int replay(struct undo *u, bool (*wanted)(uint32_t type), bool write,
		  struct blktap_error **err)
{
	const struct bt_vhd_journal *h = &u->j->header;
	uint64_t at = BT_VHD_JOURNAL_HEADER_SIZE;
	uint32_t n = h->data_entries + h->metadata_entries, size = 0;
	int rc = 0;

	for (; n && !rc; n--) {
		rc = replay_entry(u, at, wanted, write, &size, err);
		at += BT_VHD_JOURNAL_ENTRY_SIZE + (uint64_t)size;
	}
	if (!rc && write && (rc = bt_image_file_sync(u->to)))
		bt_image_file_fail(u->to->path, rc, err);
	return rc;
}

/* Everything but the footers: data, header, BAT, batmap, locators. */
static bool is_other(uint32_t type)
{
	return type != BT_VHD_JOURNAL_FOOTER &&
	       type != BT_VHD_JOURNAL_FOOTER_COPY;
}

/* Its turn is between the others and the footer at the end. */
static bool is_copy(uint32_t type)
{
	return type == BT_VHD_JOURNAL_FOOTER_COPY;
}

/* The last: it is believed where both are whole. */
static bool is_footer(uint32_t type)
{
	return type == BT_VHD_JOURNAL_FOOTER;
}

/* The uuid of the image, from whichever footer there is, poisoned or not. The
 * size is that of a regular file; of a device nobody knows how much of it the
 * journal is. */
static int check_uuid(struct undo *u, struct blktap_error **err)
{
	struct bt_vhd_footer footer;
	struct bt_fault fault = { 0 };
	struct stat st;
	uint64_t size = UINT64_MAX;
	int rc = bt_vhdimg_read_footer(u->to->path, &footer, &fault);

	if (fstat(u->j->f.file.fd, &st) == 0 && S_ISREG(st.st_mode))
		size = (uint64_t)st.st_size;
	if (rc < 0 && fault.field)
		return bt_vhdimg_fault(u->to->path, rc, &fault, err);
	if (!rc)
		rc = bt_vhd_journal_check(&u->j->header, footer.uuid, size,
					  &fault);
	return rc ? bad(u, rc, &fault, err) : 0;
}

/* The footers go last, as they decide which size and which tables count. The
 * file is cut off behind the old footer, where it had ended. */
static int undo_all(struct undo *u, struct blktap_error **err)
{
	int rc = check_uuid(u, err);

	/* all of it is looked at before the first write */
	if (!rc)
		rc = replay(u, is_other, false, err);
	if (!rc)
		rc = replay(u, is_other, true, err);
	if (!rc)
		rc = replay(u, is_copy, true, err);
	if (!rc)
		rc = replay(u, is_footer, true, err);
	if (rc < 0)
		return rc;
	if (!u->to->is_device &&
	    ftruncate(u->to->file.fd, (off_t)(u->j->header.footer_offset +
					      BT_VHD_FOOTER_SIZE)) < 0)
		rc = -errno;
	if (!rc)
		rc = bt_image_file_sync(u->to);
	return rc ? bt_image_file_fail(u->to->path, rc, err) : 0;
}

/* Its counts are believed when check_uuid has been by. */
static int open_old(struct bt_vhdjournal *j, struct blktap_error **err)
{
	uint8_t bytes[BT_VHD_JOURNAL_HEADER_SIZE] = { 0 };
	struct bt_fault fault = { 0 };
	struct stat st;
	int fd = open(j->path, O_RDWR | O_CLOEXEC);
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(j, -errno, err);
	set_file(j, fd);
	j->is_device = S_ISBLK(st.st_mode);
	rc = bt_image_file_read(&j->f, 0, bytes, sizeof(bytes));
	if (rc < 0)
		return fail(j, rc, err);
	rc = bt_vhd_journal_decode(bytes, sizeof(bytes), &j->header, &fault);
	return rc ? bt_vhdimg_fault(j->path, rc, &fault, err) : 0;
}

/* The image is opened as a file, with its lock: as a VHD it may not open. */
int blktap_vhd_revert(const char *path, const char *journal,
		      struct blktap_error **err)
{
	struct bt_vhdjournal j = { .path = (char *)(uintptr_t)journal };
	struct bt_image_file f;
	struct undo u = { .j = &j, .to = &f };
	struct blktap_vhd vhd;
	int rc;

	set_file(&j, -1);
	rc = open_old(&j, err);
	if (!rc)
		rc = bt_vhdtool_open_file(&vhd, path, &f, err);
	if (!rc) {
		u.buf = malloc(BT_VHD_JOURNAL_DATA_MAX);
		rc = u.buf ? undo_all(&u, err)
			   : bt_image_file_fail(path, -ENOMEM, err);
		if (!rc)
			rc = bt_vhdjournal_end(&j, err);
		free(u.buf);
		bt_image_file_close(&f);
		bt_vhdtool_close(&vhd);
	}
	if (j.f.file.fd >= 0)
		close(j.f.file.fd);
	return rc;
}
