/* SPDX-License-Identifier: BSD-3-Clause */
#include "module.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graph.h"

#ifdef HAVE_GNUTLS

#define BYTES 16384u
#define FAR (3ull << 33) /* the sector number needs more than 32 bits */

static char key_file[64];
static unsigned char plain[BYTES], back[BYTES], below[BYTES];

static void put_file(const void *bytes, size_t length)
{
	FILE *f = fopen(key_file, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, length, f), length);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
	unsigned char key[64];
	uint32_t i;

	snprintf(key_file, sizeof(key_file), "/tmp/blktap-key-%d",
		 (int)getpid());
	for (i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)(i * 7 + 3);
	for (i = 0; i < BYTES; i++)
		plain[i] = (unsigned char)(i * 31 + (i >> 8) * 5);
	put_file(key, sizeof(key));
}

static void teardown(void)
{
	unlink(key_file);
}

static uint64_t digest(const unsigned char *p, size_t length)
{
	uint64_t h = 0xcbf29ce484222325u;

	while (length--)
		h = (h ^ *p++) * 0x100000001b3u;
	return h;
}

static const char *args(const char *more)
{
	static char text[160];

	snprintf(text, sizeof(text), "key=file:%s %s", key_file, more);
	return text;
}

static void make(struct rig *rig, const char *more)
{
	struct bt_node *ram;

	rig_init(rig);
	ram = rig_ram(rig, "ram", "25G");
	rig_top(rig, rig_node(rig, &bt_crypt_class, "c", args(more), &ram, 1));
}

static void read_below(struct rig *rig, uint64_t offset)
{
	ck_assert_int_eq(bt_node_transfer(&rig->root->ports[0], BLKTAP_OP_READ,
					  offset, below, BYTES),
			 0);
}

/* Computed by another implementation of XTS, as dm-crypt numbers sectors. */
static const struct vector {
	const char *args;
	uint32_t key;
	uint64_t offset, digest;
	unsigned char first[4];
} vectors[] = {
	{ "cipher=aes-xts-128 sector=512",
	  32,
	  0,
	  0x309df92fa70a4131,
	  { 0x3d, 0x81, 0x3b, 0x4d } },
	{ "cipher=aes-xts-128 sector=512",
	  32,
	  FAR,
	  0xfe4714324f642352,
	  { 0x11, 0x9f, 0x50, 0xb3 } },
	{ "cipher=aes-xts-128 sector=4096",
	  32,
	  0,
	  0xa4723395a0539a73,
	  { 0x3d, 0x81, 0x3b, 0x4d } },
	{ "cipher=aes-xts-128 sector=4096",
	  32,
	  FAR,
	  0x440bf39f6ddfde6a,
	  { 0x11, 0x9f, 0x50, 0xb3 } },
	{ "cipher=aes-xts-256 sector=512",
	  64,
	  0,
	  0xae59704a1243b36c,
	  { 0xc6, 0xda, 0x26, 0x64 } },
	{ "sector=512",
	  64,
	  FAR,
	  0xc94587ef39178e2b,
	  { 0x64, 0xee, 0x81, 0x13 } },
	{ "sector=4096",
	  64,
	  0,
	  0x81b540d8d0dc4783,
	  { 0xc6, 0xda, 0x26, 0x64 } },
	{ "cipher=aes-xts-256 sector=4096",
	  64,
	  FAR,
	  0x17f56200014a6c62,
	  { 0x64, 0xee, 0x81, 0x13 } },
};

START_TEST(ciphertext_is_what_other_implementations_write)
{
	const struct vector *v = &vectors[_i];
	unsigned char key[64];
	struct rig rig;
	uint32_t i;

	for (i = 0; i < v->key; i++)
		key[i] = (unsigned char)(i * 7 + 3);
	put_file(key, v->key);
	make(&rig, v->args);
	memcpy(back, plain, BYTES);
	ck_assert_int_eq(rig_write(&rig, v->offset, plain, BYTES), 0);
	ck_assert_mem_eq(plain, back, BYTES); /* the writer's is untouched */
	read_below(&rig, v->offset);
	ck_assert_mem_eq(below, v->first, sizeof(v->first));
	ck_assert_uint_eq(digest(below, BYTES), v->digest);
	memset(back, 0, BYTES);
	ck_assert_int_eq(rig_read(&rig, v->offset, back, BYTES), 0);
	ck_assert_mem_eq(back, plain, BYTES);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_key_may_be_written_in_hexadecimal)
{
	char text[130];
	struct rig rig;
	uint32_t i;

	for (i = 0; i < 64; i++)
		snprintf(text + 2 * i, 3, i % 2 ? "%02x" : "%02X",
			 (i * 7 + 3) & 255);
	text[128] = '\n';
	put_file(text, 129);
	make(&rig, "");
	ck_assert_int_eq(rig_write(&rig, 0, plain, BYTES), 0);
	read_below(&rig, 0);
	ck_assert_uint_eq(digest(below, BYTES), 0xae59704a1243b36c);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_key_may_come_by_a_descriptor)
{
	struct bt_node *ram;
	struct rig rig;
	char text[32];
	FILE *f = fopen(key_file, "r");

	ck_assert_ptr_nonnull(f);
	rig_init(&rig);
	ram = rig_ram(&rig, "ram", "1M");
	snprintf(text, sizeof(text), "key=fd:%d", fileno(f));
	rig_top(&rig, rig_node(&rig, &bt_crypt_class, "c", text, &ram, 1));
	ck_assert_int_eq(rig_write(&rig, 0, plain, BYTES), 0);
	read_below(&rig, 0);
	ck_assert_uint_eq(digest(below, BYTES), 0xae59704a1243b36c);
	/* it is the caller's, and still open */
	ck_assert_int_ge(fileno(f), 0);
	ck_assert_int_eq(fclose(f), 0);
	rig_fini(&rig);
}
END_TEST

static const struct bad_key {
	const char *args;
	const void *bytes;
	size_t length;
	int error;
	const char *text;
} bad_keys[] = {
	{ NULL, "short", 5, -EINVAL, "64 bytes or 128 hexadecimal" },
	{ NULL, "", 0, -EINVAL, "64 bytes or 128 hexadecimal" },
	{ NULL,
	  "0123456789012345678901234567890101234567890123456789012345678901",
	  64, -EINVAL, "halves" },
	{ "key=file:/nowhere/key", "", 0, -ENOENT, "No such file" },
	{ "key=00112233", "", 0, -EINVAL, "holds the secret" },
	{ "key=secret:../passwd", "", 0, -EINVAL, "Invalid" },
	{ "key=secret:no-such-secret", "", 0, -ENOENT, "No such file" },
	{ "key=fd:987654", "", 0, -EBADF, "Bad file" },
	{ "key=fd:00112233x", "", 0, -EINVAL, "number of a descriptor" },
	{ "key=fd:abc", "", 0, -EINVAL, "number of a descriptor" },
	{ "key=fd:", "", 0, -EINVAL, "number of a descriptor" },
	{ "key=fd:-1", "", 0, -EINVAL, "number of a descriptor" },
	{ "key=fd:99999999999", "", 0, -EINVAL, "number of a descriptor" },
};

START_TEST(a_bad_key_is_refused_and_not_shown)
{
	const struct bad_key *k = &bad_keys[_i];
	struct blktap_error *err = NULL;
	struct bt_node *ram;
	struct rig rig;
	int rc;

	put_file(k->bytes, k->length);
	rig_init(&rig);
	ram = rig_ram(&rig, "ram", "1M");
	ck_assert_ptr_null(rig_make(&rig, &bt_crypt_class, "c",
				    k->args ? k->args : args(""), &ram, 1, &rc,
				    &err));
	ck_assert_int_eq(rc, k->error);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), k->text));
	ck_assert_ptr_null(strstr(blktap_error_get_message(err), "00112233"));
	blktap_error_destroy(err);
	rig_fini(&rig);
}
END_TEST

/* Memory in pieces of odd sizes, so that sectors lie across them. */
START_TEST(sectors_may_lie_across_pieces_of_memory)
{
	static const size_t sizes[] = { 1, 510, 513, 4096, 3000, 8264 };
	struct iovec iov[BT_ARRAY_SIZE(sizes)];
	struct bt_request *req;
	struct rig rig;
	bool done;
	size_t at;
	uint32_t i, pass;

	make(&rig, "");
	for (pass = 0; pass < 2; pass++) {
		req = bt_pool_take(rig.pool);
		for (i = 0, at = 0; i < BT_ARRAY_SIZE(sizes); i++) {
			iov[i].iov_base = (pass ? back : plain) + at;
			iov[i].iov_len = sizes[i];
			at += sizes[i];
		}
		ck_assert_uint_eq(at, BYTES);
		req->op = pass ? BLKTAP_OP_READ : BLKTAP_OP_WRITE;
		req->length = BYTES;
		req->data = (struct bt_sgl){ .iov = iov, .count = i };
		req->opaque = &done;
		done = false;
		bt_port_submit(&rig.top, req);
		ck_assert(done);
		ck_assert_int_eq(req->error, 0);
		bt_pool_give(req);
	}
	read_below(&rig, 0);
	ck_assert_uint_eq(digest(below, BYTES), 0xae59704a1243b36c);
	ck_assert_mem_eq(back, plain, BYTES);
	rig_fini(&rig);
}
END_TEST

/* A VHD above counts in 512 bytes. What lies beside the piece is another's. */
START_TEST(a_part_of_a_sector_is_refused)
{
	static const struct {
		enum blktap_op op;
		uint64_t offset, length;
	} parts[] = {
		{ BLKTAP_OP_READ, 0, 512 },	{ BLKTAP_OP_READ, 512, 4096 },
		{ BLKTAP_OP_READ, 4096, 4608 }, { BLKTAP_OP_WRITE, 0, 512 },
		{ BLKTAP_OP_WRITE, 3584, 512 },
	};
	struct rig rig;
	size_t i;

	make(&rig, "sector=4096");
	for (i = 0; i < BT_ARRAY_SIZE(parts); i++) {
		memset(back, 0x5a, BYTES);
		ck_assert_int_eq(rig_run(&rig, parts[i].op, 0, parts[i].offset,
					 back, parts[i].length),
				 -EINVAL);
		ck_assert_int_eq(back[parts[i].length], 0x5a);
		ck_assert_int_eq(back[0], 0x5a);
	}
	rig_fini(&rig);
}
END_TEST

START_TEST(zeroes_below_are_not_told_as_zeroes)
{
	struct blktap_extent extent = { .length = 0 };
	struct bt_request *req;
	struct rig rig;
	bool done = false;

	make(&rig, "");
	ck_assert(
		!(rig.root->limits.operations >> BLKTAP_OP_WRITE_ZEROES & 1u));
	req = bt_pool_take(rig.pool);
	req->op = BLKTAP_OP_BLOCK_STATUS;
	req->length = BYTES;
	req->extents = &extent;
	req->extent_max = 1;
	req->opaque = &done;
	bt_port_submit(&rig.top, req);
	ck_assert(done);
	ck_assert_uint_eq(extent.flags, 0);
	bt_pool_give(req);
	/* a discard is done, and does nothing */
	ck_assert_int_eq(rig_write(&rig, 0, plain, BYTES), 0);
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, BYTES),
			 0);
	ck_assert_int_eq(rig_read(&rig, 0, back, BYTES), 0);
	ck_assert_mem_eq(back, plain, BYTES);
	rig_fini(&rig);
}
END_TEST

START_TEST(writes_without_a_buffer_wait_in_order)
{
	struct iovec iov = { .iov_base = plain, .iov_len = 512 };
	struct bt_node *leaf;
	bool done[100] = { false };
	struct bt_pool *pool;
	struct rig rig;
	uint32_t i, n;

	rig_init(&rig);
	leaf = make_node(&rig.env, &holder_class, "h", NULL);
	rig_top(&rig, rig_node(&rig, &bt_crypt_class, "c", args(""), &leaf, 1));
	ck_assert_int_eq(bt_pool_create(100, sizeof(struct bt_request),
					rig.root->frame_sum, &pool),
			 0);
	for (i = 0; i < 100; i++) {
		struct bt_request *req = bt_pool_take(pool);

		req->op = BLKTAP_OP_WRITE;
		req->offset = i * 512;
		req->length = 512;
		req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
		req->opaque = &done[i];
		bt_port_submit(&rig.top, req);
	}
	ck_assert_uint_eq(holder_of(leaf)->seen[BLKTAP_OP_WRITE], 64);
	for (i = 0; i < 100; i++) {
		for (n = 0; n < 100; n++)
			ck_assert_int_eq(done[n], n < i);
		ck_assert(holder_release(leaf, i == 7 ? -EIO : 0));
	}
	ck_assert(done[99]);
	/* test's own: what the requests came back as is with the pool */
	bt_pool_destroy(pool);
	rig_fini(&rig);
}
END_TEST

START_TEST(an_error_below_comes_up_and_the_buffer_back)
{
	struct bt_node *leaf;
	struct rig rig;
	uint32_t i;

	rig_init(&rig);
	leaf = make_node(&rig.env, &holder_class, "h", NULL);
	holder_of(leaf)->at_once = true;
	holder_of(leaf)->error = -ENOSPC;
	rig_top(&rig, rig_node(&rig, &bt_crypt_class, "c", args(""), &leaf, 1));
	for (i = 0; i < 200; i++)
		ck_assert_int_eq(rig_write(&rig, 0, plain, 4096), -ENOSPC);
	ck_assert_int_eq(rig_read(&rig, 0, back, 4096), -ENOSPC);
	ck_assert_int_eq(rig_flush(&rig), -ENOSPC);
	rig_fini(&rig);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("crypt");
	TCase *all = tcase_create("crypt");

#ifdef HAVE_GNUTLS
	tcase_add_checked_fixture(all, setup, teardown);
	tcase_add_loop_test(all, ciphertext_is_what_other_implementations_write,
			    0, (int)BT_ARRAY_SIZE(vectors));
	tcase_add_test(all, a_key_may_be_written_in_hexadecimal);
	tcase_add_test(all, a_key_may_come_by_a_descriptor);
	tcase_add_loop_test(all, a_bad_key_is_refused_and_not_shown, 0,
			    (int)BT_ARRAY_SIZE(bad_keys));
	tcase_add_test(all, sectors_may_lie_across_pieces_of_memory);
	tcase_add_test(all, a_part_of_a_sector_is_refused);
	tcase_add_test(all, zeroes_below_are_not_told_as_zeroes);
	tcase_add_test(all, writes_without_a_buffer_wait_in_order);
	tcase_add_test(all, an_error_below_comes_up_and_the_buffer_back);
#endif
	suite_add_tcase(suite, all);
	return unit_run(suite);
}
