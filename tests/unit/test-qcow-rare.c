/* SPDX-License-Identifier: BSD-3-Clause */
/* What is rare in qcow images: encryption, Xen's checksum, reserved space, tables
 * in the byte order of an old machine, entries that name a table, a writer who
 * leaves while the next one comes. */
#include "qcow-images.h"

#include <sys/syscall.h>

/* ---- encryption ----------------------------------------------------------- */

#define QEMU_KEY "--object secret,id=s,data=geheim"
#define QEMU_AES "encrypt.format=aes,encrypt.key-secret=s"

static bool make_encrypted(const char *format, unsigned int cluster)
{
	char option[32] = "";

	if (!have_qemu())
		return false;
	if (cluster)
		snprintf(option, sizeof(option), ",cluster_size=%u", cluster);
	sh("printf 'geheim\\n' >key");
	return !sh("qemu-img create -q -f %s " QEMU_KEY " -o " QEMU_AES
		   "%s i.img 3M >/dev/null 2>&1",
		   format, option);
}

static const struct {
	const char *format;
	unsigned int cluster;
} encrypted[] = { { "qcow", 0 }, { "qcow2", 512 }, { "qcow2", 65536 } };

static const char *keyed(const char *format, const char *key)
{
	static char spec[128];

	snprintf(spec, sizeof(spec), "%s(\"@/i.img\", key=\"file:@/%s\")",
		 format, key);
	return spec;
}

/* What QEMU decrypts is what the model holds. */
static void compare_encrypted(const struct model *m, const char *format)
{
	unsigned char *data = malloc(m->size);

	ck_assert_int_eq(sh("qemu-img convert -O raw " QEMU_KEY
			    " --image-opts driver=%s," QEMU_AES
			    ",file.filename=i.img out.raw",
			    format),
			 0);
	file_io("out.raw", 0, data, m->size, false);
	ck_assert_int_eq(memcmp(data, m->flat, m->size), 0);
	free(data);
}

/* Shipped: the key was never set, so ciphertext was served as data; and a new
 * cluster was set up past the end of a buffer of one cluster. */
START_TEST(encrypted_image_is_read_and_written_with_its_key)
{
	const char *format = encrypted[_i].format;
	struct model m;
	int round;

	if (!make_encrypted(format, encrypted[_i].cluster))
		return;
	model_init(&m, context, 3 * MIB, 512, seed_take());
	for (round = 0; round < 2; round++) {
		m.disk = open_disk(keyed(format, "key"), 0);
		model_verify(&m);
		model_run(&m, 250);
		model_verify(&m);
		close_disk(m.disk);
		compare_encrypted(&m, format);
	}
	if (!strcmp(format, "qcow2"))
		ck_assert_int_eq(sh("qemu-img check -q " QEMU_KEY
				    " --image-opts driver=qcow2," QEMU_AES
				    ",file.filename=i.img"),
				 0);
	model_fini(&m);
}
END_TEST

START_TEST(encrypted_image_is_refused_without_its_key)
{
	struct blktap_disk *disk;
	char message[600];

	if (!make_encrypted("qcow", 0))
		return;
	ck_assert_int_eq(try_open("qcow:@/i.img", 0, &disk, message), -ENOKEY);
	ck_assert_ptr_nonnull(strstr(message, "is encrypted"));
	ck_assert_int_eq(
		try_open("qcow:@/i.img", BLKTAP_OPEN_READ_ONLY, &disk, message),
		-ENOKEY);
	ck_assert_int_eq(try_open(keyed("qcow", "none"), 0, &disk, message),
			 -ENOENT);
	sh("printf 12345678901234567 >long; : >empty");
	ck_assert_int_eq(try_open(keyed("qcow", "long"), 0, &disk, message),
			 -EINVAL);
	ck_assert_int_eq(try_open(keyed("qcow", "empty"), 0, &disk, message),
			 -EINVAL);
	ck_assert_int_eq(try_open("qcow(\"@/i.img\", key=\"geheim\")", 0, &disk,
				  message),
			 -EINVAL);
	ck_assert_ptr_null(strstr(message, "geheim"));
	make("qcow", "plain", MIB, 0, NULL, NULL, NULL, 0);
	ck_assert_int_eq(try_open("qcow(\"@/plain\", key=\"file:@/key\")", 0,
				  &disk, message),
			 -EINVAL);
	ck_assert_ptr_nonnull(strstr(message, "not encrypted"));
}
END_TEST

/* The key that the child is given is that of what it stands on. */
START_TEST(encrypted_parent_is_read_with_the_key_of_its_child)
{
	struct blktap_disk *disk;
	char message[600];

	if (!make_encrypted("qcow2", 0))
		return;
	disk = open_disk(keyed("qcow2", "key"), 0);
	put(disk, 0, 5, 65536);
	close_disk(disk);
	make("qcow2", "child", 3 * MIB, 0, NULL, "i.img", "qcow2", 0);
	ck_assert_int_eq(try_open("qcow2:@/child", 0, &disk, message), -ENOKEY);
	ck_assert_ptr_nonnull(strstr(message, "i.img"));
	disk = open_disk("qcow2(\"@/child\", key=\"file:@/key\")", 0);
	put(disk, 4096, 6, 4096);
	expect(disk, 0, 5, 4096);
	expect(disk, 4096, 6, 4096);
	expect(disk, 8192, 5, 4096);
	close_disk(disk);
}
END_TEST

/* ---- Xen's images --------------------------------------------------------- */

static bool make_xen(void)
{
	struct blktap_disk *disk;

	make("qcow", "x.img", 8 * MIB, 0, "xen=true", NULL, NULL, 0);
	if (get32("x.img", 48) != 0x58454efb)
		return false; /* no digest in this build */
	disk = open_disk("qcow:@/x.img", 0);
	put(disk, 0, 1, 8192);
	put(disk, 5 * MIB, 2, 8192);
	close_disk(disk);
	return true;
}

/* Shipped: a wrong checksum was warned of, and nothing was looked at. */
START_TEST(checksum_of_an_l1_table_is_kept_and_believed)
{
	struct blktap_disk *disk;
	char message[600];
	uint64_t entry;
	uint32_t sum;

	if (!make_xen())
		return;
	close_disk(open_disk("qcow:@/x.img", 0));
	ck_assert_uint_eq(warnings, 0);
	/* not closed, and sound */
	sum = get32("x.img", 52);
	set64("x.img", 48, (uint64_t)0x58454efb << 32 | (sum ^ 1));
	close_disk(open_disk("qcow:@/x.img", BLKTAP_OPEN_READ_ONLY));
	ck_assert_uint_eq(warnings, 1);
	disk = open_disk("qcow:@/x.img", 0);
	expect(disk, 5 * MIB, 2, 8192);
	put(disk, 3 * MIB, 3, 4096);
	close_disk(disk);
	ck_assert_uint_eq(warnings, 2);
	close_disk(open_disk("qcow:@/x.img", 0));
	ck_assert_uint_eq(warnings, 2);
	/* damaged */
	entry = get64("x.img", (off_t)get64("x.img", 40));
	set64("x.img", (off_t)get64("x.img", 40), entry + 1);
	ck_assert_int_eq(
		try_open("qcow:@/x.img", BLKTAP_OPEN_READ_ONLY, &disk, message),
		-EIO);
	ck_assert_ptr_nonnull(strstr(message, "L1 entry"));
}
END_TEST

static void make_native(void)
{
	off_t table = (off_t)get64("x.img", 40);
	uint32_t flags;
	int i;

	for (i = 0; i < 4; i++)
		set64("x.img", table + i * 8,
		      be64toh(htole64(get64("x.img", table + i * 8))));
	flags = htobe32(get32("x.img", 60) & ~2u);
	file_io("x.img", 60, &flags, 4, true);
}

/* Shipped: the table was converted where the image was only read, and flipped
 * back every second time. */
START_TEST(table_in_the_order_of_an_old_machine_is_converted_on_request_alone)
{
	struct blktap_disk *disk;
	char message[600];
	int round;

	if (!make_xen())
		return;
	make_native();
	sh("cp x.img before.img");
	disk = open_disk("qcow(\"@/x.img\", convert_l1=true)",
			 BLKTAP_OPEN_READ_ONLY);
	expect(disk, 0, 1, 8192);
	expect(disk, 5 * MIB, 2, 8192);
	close_disk(disk);
	ck_assert_int_eq(try_open("qcow:@/x.img", 0, &disk, message), -EROFS);
	ck_assert_int_eq(sh("cmp x.img before.img"), 0);
	for (round = 0; round < 3; round++) {
		disk = open_disk("qcow(\"@/x.img\", convert_l1=true)", 0);
		expect(disk, 0, 1, 8192);
		expect(disk, 8192, 0, 4096);
		expect(disk, 5 * MIB, 2, 8192);
		put(disk, 7 * MIB, 3 + round, 4096);
		close_disk(disk);
		ck_assert_uint_eq(get32("x.img", 60) & 2, 2);
	}
	disk = open_disk("qcow:@/x.img", 0);
	expect(disk, 5 * MIB, 2, 8192);
	expect(disk, 7 * MIB, 5, 4096);
	close_disk(disk);
	ck_assert_uint_eq(warnings, 0);
	if (have_qemu())
		ck_assert_int_eq(sh("qemu-io -r -f qcow -c 'read -P 2 5M 8k' "
				    "x.img | grep -qv failed"),
				 0);
}
END_TEST

/* Shipped: a reserved image had its L2 tables 512 bytes long, over its data. */
START_TEST(reserved_image_has_room_for_its_tables_and_does_not_grow)
{
	struct blktap_disk *disk;
	uint64_t size, at;

	make("qcow", "r.img", 5 * MIB, 0, "xen=true", NULL, NULL,
	     BLKTAP_CREATE_RESERVE);
	size = file_size("r.img");
	disk = open_disk("qcow:@/r.img", 0);
	expect(disk, 0, 0, 5 * MIB);
	for (at = 0; at < 5 * MIB; at += 36864)
		put(disk, at, (int)(at / 36864), 4096);
	close_disk(disk);
	disk = open_disk("qcow:@/r.img", 0);
	for (at = 0; at < 5 * MIB; at += 36864) {
		expect(disk, at, (int)(at / 36864), 4096);
		if (at + 36864 < 5 * MIB)
			expect(disk, at + 4096, 0, 32768);
	}
	close_disk(disk);
	ck_assert_uint_eq(file_size("r.img"), size);
}
END_TEST

/* ---- entries that name a table -------------------------------------------- */

#define CLUSTER 65536
#define TABLE (6 * CLUSTER)

/* Two L2 tables, in the clusters 4 and 6, each with the cluster behind it for data;
 * an entry of the first is made to name the second. */
static struct blktap_disk *open_damaged(void)
{
	struct blktap_disk *disk;

	make("qcow2", "t.img", 1024 * (uint64_t)MIB, CLUSTER, NULL, NULL, NULL,
	     0);
	disk = open_disk("qcow2:@/t.img", 0);
	put(disk, 0, 1, CLUSTER);
	put(disk, 512 * MIB, 2, CLUSTER);
	close_disk(disk);
	ck_assert_uint_eq(get64("t.img", TABLE),
			  UINT64_C(1) << 63 | 7 * CLUSTER);
	set64("t.img", 4 * CLUSTER + 8, UINT64_C(1) << 63 | TABLE);
	return open_disk("qcow2:@/t.img", 0);
}

START_TEST(write_that_runs_into_a_table_behind_sound_data_is_refused)
{
	static char data[8192];
	struct blktap_disk *disk = open_damaged();

	ck_assert_int_eq(transfer(disk, BLKTAP_OP_WRITE, CLUSTER - 4096, data,
				  sizeof(data)),
			 -EIO);
	expect(disk, 512 * MIB, 2, CLUSTER);
	close_disk(disk);
	ck_assert_uint_eq(get64("t.img", TABLE),
			  UINT64_C(1) << 63 | 7 * CLUSTER);
}
END_TEST

START_TEST(table_that_an_entry_points_to_is_not_given_back_with_it)
{
	struct blktap_disk *disk = open_damaged();

	ck_assert_int_eq(
		transfer(disk, BLKTAP_OP_DISCARD, CLUSTER, NULL, CLUSTER), 0);
	expect(disk, CLUSTER, 0, CLUSTER);
	close_disk(disk);
	ck_assert_uint_eq(get64("t.img", TABLE),
			  UINT64_C(1) << 63 | 7 * CLUSTER);
	disk = open_disk("qcow2:@/t.img", 0);
	expect(disk, 512 * MIB, 2, CLUSTER);
	close_disk(disk);
}
END_TEST

/* ---- a table in the header's sector --------------------------------------- */

static void ended(void *opaque, int error, const char *message)
{
	int *result = opaque;

	ck_assert_msg(!error, "%s", message);
	*result = 1;
}

static void stream(struct blktap_disk *disk, const char *base)
{
	struct blktap_job_options o;
	struct blktap_error *err = NULL;
	struct blktap_job *job = NULL;
	int result = 0, rc;

	blktap_job_options_init(&o);
	o.kind = BLKTAP_JOB_STREAM;
	o.base = base;
	rc = blktap_job_start(disk, &o, ended, &result, &job, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	while (!result)
		ck_assert_int_eq(blktap_context_run(context, 5000), 0);
	blktap_job_destroy(job);
}

/* As QEMU makes them: the L1 table begins behind the name of the base. */
START_TEST(parent_that_is_gone_does_not_come_back_with_a_new_table)
{
	struct blktap_disk *disk;

	sh("head -c 65536 /dev/urandom >base; truncate -s 4M base");
	make("qcow", "c.img", 4 * MIB, 0, NULL, "base", "raw", 0);
	ck_assert_uint_eq(get64("c.img", 8) + get32("c.img", 16), 68);
	set64("c.img", 40, 72);
	disk = open_disk("qcow:@/c.img", 0);
	put(disk, 0, 1, 512);
	stream(disk, NULL);
	ck_assert_uint_eq(get64("c.img", 8), 0);
	put(disk, 3 * MIB, 2, 512);
	ck_assert_int_eq(transfer(disk, BLKTAP_OP_FLUSH, 0, NULL, 0), 0);
	ck_assert_uint_eq(get64("c.img", 8), 0);
	close_disk(disk);
	sh("rm base");
	disk = open_disk("qcow:@/c.img", 0);
	expect(disk, 0, 1, 512);
	expect(disk, 3 * MIB, 2, 512);
	close_disk(disk);
}
END_TEST

/* ---- one after another ---------------------------------------------------- */

/* What another program does to the file before it lets go of the lock. */
static const char *until_the_lock;
static bool again_and_again;

/* Before the C library's. */
int fcntl(int fd, int cmd, ...)
{
	const char *command = until_the_lock;
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (cmd == F_OFD_SETLK && command) {
		until_the_lock = NULL;
		ck_assert_int_eq(sh("%s", command), 0);
		until_the_lock = again_and_again ? command : NULL;
	}
	return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

START_TEST(what_was_written_up_to_the_lock_is_neither_lost_nor_written_over)
{
	const char *format = _i ? "qcow2" : "qcow";
	struct blktap_disk *disk;
	char spec[32];
	int i;

	make(format, "i.img", MIB, 4096, NULL, NULL, NULL, 0);
	snprintf(spec, sizeof(spec), "%s:@/i.img", format);
	disk = open_disk(spec, 0);
	put(disk, 0, 1, 4096);
	close_disk(disk);
	sh("cp i.img early.img");
	disk = open_disk(spec, 0);
	for (i = 1; i < 8; i++)
		put(disk, (uint64_t)i * 8192, i + 1, 4096);
	close_disk(disk);
	sh("cp i.img late.img && cat early.img >i.img");
	until_the_lock = "cat late.img >i.img";
	disk = open_disk(spec, 0);
	ck_assert_ptr_null(until_the_lock);
	put(disk, 4096, 99, 4096);
	for (i = 0; i < 8; i++)
		expect(disk, (uint64_t)i * 8192, i + 1, 4096);
	expect(disk, 4096, 99, 4096);
	close_disk(disk);
}
END_TEST

/* Another program gives the name to another file: what is opened is what the name
 * leads to when it is locked, or nothing. */
START_TEST(name_that_goes_to_another_file_up_to_the_lock_is_followed)
{
	struct blktap_disk *disk;
	char message[600];

	make("qcow2", "i.img", MIB, 4096, NULL, NULL, NULL, 0);
	make("qcow2", "other.img", MIB, 4096, NULL, NULL, NULL, 0);
	disk = open_disk("qcow2:@/other.img", 0);
	put(disk, 0, 7, 4096);
	close_disk(disk);
	sh("ln i.img old.img");
	until_the_lock = "mv other.img i.img";
	disk = open_disk("qcow2:@/i.img", 0);
	ck_assert_ptr_null(until_the_lock);
	expect(disk, 0, 7, 4096);
	put(disk, 8192, 8, 4096);
	close_disk(disk);
	disk = open_disk("qcow2:@/old.img", BLKTAP_OPEN_READ_ONLY);
	expect(disk, 0, 0, MIB);
	close_disk(disk);
	until_the_lock = "rm i.img";
	ck_assert_int_eq(try_open("qcow2:@/i.img", 0, &disk, message), -ENOENT);
	until_the_lock = "cp old.img new.img && mv new.img old.img";
	again_and_again = true;
	ck_assert_int_eq(try_open("qcow2:@/old.img", 0, &disk, message),
			 -ESTALE);
	until_the_lock = NULL;
}
END_TEST

/* Appends to the header of c.img at *at. */
static void put_ext(off_t *at, uint32_t type, void *data, uint32_t bytes)
{
	uint32_t words[2] = { htobe32(type), htobe32(bytes) };

	file_io("c.img", *at, words, 8, true);
	file_io("c.img", *at + 8, data, bytes, true);
	*at += 8 + (bytes + 7) / 8 * 8;
}

/* A name that is too long for the first sector has a place of its own, written
 * before the sector: a cut between the two must leave the old header whole. */
START_TEST(long_name_of_a_parent_is_not_put_over_old_extensions)
{
	static char format[] = "qcow2", mid[] = "m.img", names[384], none[1];
	char kept[40], after[40], sub[201], file[201], path[512], base[600];
	struct blktap_disk *disk;
	off_t at, kept_at;

	memset(kept, 'k', sizeof(kept));
	memset(sub, 's', 200);
	memset(file, 'f', 200);
	sub[200] = file[200] = '\0';
	snprintf(path, sizeof(path), "%s/%s", sub, file);
	sh("mkdir %s; truncate -s 4M %s", sub, path);
	make("qcow2", "m.img", 4 * MIB, 0, NULL, path, "raw", 0);
	make("qcow2", "c.img", 4 * MIB, 0, NULL, "m.img", "qcow2", 0);
	at = get32("c.img", 100);
	put_ext(&at, 0xe2792aca, format, 5);
	put_ext(&at, 0x6803f857, names, sizeof(names));
	kept_at = at + 8;
	put_ext(&at, 0x6b657074, kept, sizeof(kept));
	put_ext(&at, 0, none, 0);
	ck_assert_int_gt(at, 512 + 40);
	file_io("c.img", 2000, mid, 5, true);
	set64("c.img", 8, 2000);
	disk = open_disk("qcow2:@/c.img", 0);
	put(disk, 0, 1, 512);
	snprintf(base, sizeof(base), "%s/%s", dir, path);
	stream(disk, base);
	close_disk(disk);
	/* the old ones are untouched, and the one to keep stands again */
	file_io("c.img", kept_at, after, sizeof(after), false);
	ck_assert_mem_eq(kept, after, sizeof(kept));
	file_io("c.img", get32("c.img", 100) + 24, after, sizeof(after), false);
	ck_assert_mem_eq(kept, after, sizeof(kept));
	ck_assert_uint_ge(get64("c.img", 8), (uint64_t)at);
	sh("rm m.img");
	disk = open_disk("qcow2:@/c.img", 0);
	expect(disk, 0, 1, 512);
	close_disk(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qcow-rare");
	TCase *tc = tcase_create("rare");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(
		tc, encrypted_image_is_read_and_written_with_its_key, 0, 3);
	tcase_add_test(tc, encrypted_image_is_refused_without_its_key);
	tcase_add_test(tc, encrypted_parent_is_read_with_the_key_of_its_child);
	tcase_add_test(tc, checksum_of_an_l1_table_is_kept_and_believed);
	tcase_add_test(
		tc,
		table_in_the_order_of_an_old_machine_is_converted_on_request_alone);
	tcase_add_test(
		tc, reserved_image_has_room_for_its_tables_and_does_not_grow);
	tcase_add_test(
		tc, write_that_runs_into_a_table_behind_sound_data_is_refused);
	tcase_add_test(tc,
		       table_that_an_entry_points_to_is_not_given_back_with_it);
	tcase_add_test(tc,
		       parent_that_is_gone_does_not_come_back_with_a_new_table);
	tcase_add_loop_test(
		tc,
		what_was_written_up_to_the_lock_is_neither_lost_nor_written_over,
		0, 2);
	tcase_add_test(
		tc, name_that_goes_to_another_file_up_to_the_lock_is_followed);
	tcase_add_test(tc,
		       long_name_of_a_parent_is_not_put_over_old_extensions);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
