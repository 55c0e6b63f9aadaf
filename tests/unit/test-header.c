/* SPDX-License-Identifier: BSD-3-Clause */
#include "module.h"

#include "module/header.h"
#include "seed.h"

/* A node that has nothing but a store. */
static const struct bt_port_desc keeper_ports[] = {
	{ .name = "store", .flags = BT_PORT_STORE },
	{ .name = NULL },
};

struct keeper {
	struct bt_header header;
	struct bt_header_writer writer;
	int error;
	bool told;
};

static int keeper_open(struct bt_node *node, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err)
{
	struct keeper *k = node->data;
	int rc = bt_header_check_store(node, &node->ports[0], BT_HEADER_AREA,
				       err);

	if (!rc)
		rc = bt_header_read(&node->ports[0], "keeper", 3, &k->header,
				    err);
	if (rc == -ENOENT)
		rc = bt_header_init(&k->header, "keeper", 3);
	return rc ? rc
		  : bt_header_writer_init(&k->writer, node, &node->ports[0],
					  &k->header);
}

static void keeper_close(struct bt_node *node)
{
	bt_header_writer_fini(&((struct keeper *)node->data)->writer);
}

static const struct blktap_class keeper_class = {
	.name = "keeper",
	.summary = "keeps a header",
	.ports = keeper_ports,
	.node_bytes = sizeof(struct keeper),
	.open = keeper_open,
	.close = keeper_close,
};

static struct keeper *open_keeper(struct rig *rig, struct bt_node *ram)
{
	struct bt_node *node = rig_node(rig, &keeper_class, "k", "", &ram, 1);

	rig_top(rig, node);
	return node->data;
}

/* Closes the keeper and opens another on the same memory. */
static struct keeper *reopen(struct rig *rig, struct bt_node *ram)
{
	ram->refs++; /* stays */
	bt_port_link(&rig->top, NULL);
	bt_node_destroy(rig->root);
	bt_pool_destroy(rig->pool);
	ram->refs--;
	return open_keeper(rig, ram);
}

static void poke(struct bt_port *store, uint64_t offset, unsigned char xor)
{
	unsigned char block[512];
	uint64_t at = offset & ~511ull;

	ck_assert_int_eq(
		bt_node_transfer(store, BLKTAP_OP_READ, at, block, 512), 0);
	block[offset - at] ^= xor;
	ck_assert_int_eq(
		bt_node_transfer(store, BLKTAP_OP_WRITE, at, block, 512), 0);
}

START_TEST(what_is_written_is_read_again)
{
	struct bt_header copy;
	struct bt_node *ram;
	struct keeper *k;
	struct rig rig;
	uint64_t i;

	rig_init(&rig);
	ram = rig_ram(&rig, "ram", "64k");
	k = open_keeper(&rig, ram);
	ck_assert_uint_eq(k->header.generation, 0);
	memcpy(k->header.payload, "hello", 5);
	k->header.length = 5;
	for (i = 2; i < 6; i++) { /* the first is written twice */
		k->header.clean = i & 1;
		ck_assert_int_eq(bt_header_write(k->writer.store, &k->header),
				 0);
		ck_assert_uint_eq(k->header.generation, i);
		copy = k->header;
		k = reopen(&rig, ram);
		ck_assert_mem_eq(&k->header, &copy, sizeof(copy));
	}
	rig_fini(&rig);
}
END_TEST

START_TEST(a_damaged_slot_leaves_the_generation_before)
{
	struct bt_node *ram;
	struct keeper *k;
	struct rig rig;
	uint64_t byte;

	/* every byte of the newer slot counts */
	for (byte = 0; byte < BT_HEADER_SLOT; byte += 37) {
		rig_init(&rig);
		ram = rig_ram(&rig, "ram", "64k");
		k = open_keeper(&rig, ram);
		ck_assert_int_eq(bt_header_write(k->writer.store, &k->header),
				 0);
		k->header.clean = true;
		ck_assert_int_eq(bt_header_write(k->writer.store, &k->header),
				 0);
		/* generation 3: slot 1 */
		poke(k->writer.store, BT_HEADER_SLOT + byte, 0x10);
		k = reopen(&rig, ram);
		ck_assert_uint_eq(k->header.generation, 2);
		ck_assert(!k->header.clean);
		rig_fini(&rig);
	}
}
END_TEST

static void expect_refused(struct rig *rig, struct bt_node *ram, int code,
			   const char *text)
{
	struct blktap_error *err = NULL;
	int rc;

	ram->refs++;
	bt_port_link(&rig->top, NULL);
	bt_node_destroy(rig->root);
	ck_assert_ptr_null(
		rig_make(rig, &keeper_class, "k", "", &ram, 1, &rc, &err));
	rig->root = NULL;
	ram->refs--;
	bt_node_destroy(ram);
	ck_assert_int_eq(rc, code);
	ck_assert_msg(strstr(blktap_error_get_message(err), text) != NULL, "%s",
		      blktap_error_get_message(err));
	blktap_error_destroy(err);
}

/* A store with one header written, as it lies on the disk once it is used. */
static struct bt_node *used(struct rig *rig, struct bt_port **store)
{
	struct bt_node *ram;
	struct keeper *k;

	rig_init(rig);
	ram = rig_ram(rig, "ram", "64k");
	k = open_keeper(rig, ram);
	*store = k->writer.store;
	ck_assert_int_eq(bt_header_write(*store, &k->header), 0);
	return ram;
}

START_TEST(two_damaged_slots_are_no_new_store)
{
	struct bt_port *store;
	struct bt_node *ram;
	struct rig rig;

	ram = used(&rig, &store);
	poke(store, 70, 1);
	poke(store, BT_HEADER_SLOT + 70, 1);
	expect_refused(&rig, ram, -EUCLEAN,
		       "'ram': both copies of the header are damaged");
	rig_fini(&rig);
}
END_TEST

START_TEST(a_new_store_has_two_headers_before_it_is_used)
{
	struct bt_port *store;
	struct bt_node *ram;
	struct rig rig;
	int slot;

	for (slot = 0; slot < 2; slot++) {
		ram = used(&rig, &store);
		poke(store, (uint64_t)slot * BT_HEADER_SLOT + 70, 1);
		ck_assert_uint_eq(reopen(&rig, ram)->header.generation,
				  slot ? 2 : 1);
		rig_fini(&rig);
	}
}
END_TEST

/* The first copy alone is a store, and one that is torn is told for what it may
 * be. */
START_TEST(a_store_cut_while_it_was_made_is_told_from_one_that_was_used)
{
	static const unsigned char blank[BT_HEADER_SLOT];
	struct bt_port *store;
	struct bt_node *ram;
	struct rig rig;

	ram = used(&rig, &store);
	ck_assert_int_eq(bt_node_transfer(store, BLKTAP_OP_WRITE, 0,
					  (void *)(uintptr_t)blank,
					  sizeof(blank)),
			 0);
	ck_assert_uint_eq(reopen(&rig, ram)->header.generation, 1);
	rig_fini(&rig);

	ram = used(&rig, &store);
	ck_assert_int_eq(bt_node_transfer(store, BLKTAP_OP_WRITE, 0,
					  (void *)(uintptr_t)blank,
					  sizeof(blank)),
			 0);
	poke(store, BT_HEADER_SLOT + 40, 1); /* torn, within a sector */
	expect_refused(&rig, ram, -EUCLEAN, "there is no second one");
	rig_fini(&rig);
}
END_TEST

/* Whose image was named by mistake is not told to clear it. */
START_TEST(what_is_no_store_is_called_so)
{
	static unsigned char image[BT_HEADER_AREA];
	struct bt_port *store;
	struct bt_node *ram;
	struct rig rig;
	int at;

	for (at = 0; at < 2; at++) {
		memset(image, 0, sizeof(image));
		memcpy(image + (at ? 5000 : 510), "\x55\xaa", 2);
		ram = used(&rig, &store);
		ck_assert_int_eq(bt_node_transfer(store, BLKTAP_OP_WRITE, 0,
						  image, sizeof(image)),
				 0);
		expect_refused(&rig, ram, -EUCLEAN,
			       "'ram': holds other data, and is no store");
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(another_class_and_a_later_layout_are_refused)
{
	struct bt_node *ram;
	struct keeper *k;
	struct rig rig;
	int later;

	for (later = 0; later < 2; later++) {
		rig_init(&rig);
		ram = rig_ram(&rig, "ram", "64k");
		k = open_keeper(&rig, ram);
		if (later)
			k->header.version = 4;
		else
			strcpy(k->header.kind, "mirror");
		ck_assert_int_eq(bt_header_write(k->writer.store, &k->header),
				 0);
		expect_refused(&rig, ram, -EINVAL,
			       later ? "layout 4" : "'mirror'");
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(a_store_too_small_is_refused_with_both_sizes)
{
	struct blktap_error *err = NULL;
	struct bt_node *ram;
	struct rig rig;
	int rc;

	rig_init(&rig);
	ram = rig_ram(&rig, "ram", "4k");
	ck_assert_ptr_null(
		rig_make(&rig, &keeper_class, "k", "", &ram, 1, &rc, &err));
	ck_assert_int_eq(rc, -ENOSPC);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "4096"));
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "8192"));
	blktap_error_destroy(err);
	rig_fini(&rig);
}
END_TEST

/* Messages name the class that a store is of, and the legs of a mirror. */
START_TEST(a_class_that_is_no_text_is_no_header)
{
	static const char *const kinds[] = { "keeper", "\033[2J", "a\nb", "",
					     "eightlet" };
	struct bt_header header, back;
	unsigned char slot[BT_HEADER_SLOT];
	size_t i;

	ck_assert_int_eq(bt_header_init(&header, "keeper", 1), 0);
	for (i = 0; i < BT_ARRAY_SIZE(kinds); i++) {
		memset(header.kind, 0, sizeof(header.kind));
		memcpy(header.kind, kinds[i], strlen(kinds[i]));
		bt_header_encode(&header, slot);
		ck_assert_int_eq(bt_header_decode(&back, slot),
				 i && i < 4 ? -EUCLEAN : 0);
	}
	memcpy(header.kind, "ab\0c", 5);
	bt_header_encode(&header, slot);
	ck_assert_int_eq(bt_header_decode(&back, slot), -EUCLEAN);
}
END_TEST

START_TEST(random_bytes_are_no_header)
{
	unsigned char slot[BT_HEADER_SLOT];
	struct bt_header header;
	uint64_t random = 88172645463325252ull;
	uint32_t i, round;

	for (round = 0; round < 2000; round++) {
		for (i = 0; i < sizeof(slot); i++) {
			slot[i] = (unsigned char)seed_next(&random);
		}
		if (round & 1)
			memcpy(slot, "btmodule", 8);
		ck_assert_int_eq(bt_header_decode(&header, slot), -EUCLEAN);
	}
}
END_TEST

static void writer_told(struct bt_header_writer *writer, int error)
{
	struct keeper *k = bt_container_of(writer, struct keeper, writer);

	k->told = true;
	k->error = error;
}

START_TEST(a_header_is_written_while_requests_run)
{
	struct bt_node *ram;
	struct keeper *k;
	struct rig rig;

	rig_init(&rig);
	ram = rig_ram(&rig, "ram", "64k");
	k = open_keeper(&rig, ram);
	k->header.clean = true;
	bt_header_writer_go(&k->writer, writer_told);
	ck_assert_int_eq(
		bt_loop_run_until(rig.env.loop, rig_is_done, &k->told, 1000),
		0);
	ck_assert_int_eq(k->error, 0);
	ck_assert(!k->writer.busy);
	k = reopen(&rig, ram);
	ck_assert_uint_eq(k->header.generation, 2);
	ck_assert(k->header.clean);
	rig_fini(&rig);
}
END_TEST

/* As a bitmap has, or a checksum, whose first header comes with the first write. */
START_TEST(a_new_store_gets_both_headers_while_requests_run)
{
	struct bt_port *store;
	struct bt_node *ram;
	struct keeper *k;
	struct rig rig;
	int slot;

	for (slot = 0; slot < 2; slot++) {
		rig_init(&rig);
		ram = rig_ram(&rig, "ram", "64k");
		k = open_keeper(&rig, ram);
		store = k->writer.store;
		memcpy(k->header.payload, "hello", 5);
		k->header.length = 5;
		bt_header_writer_go(&k->writer, writer_told);
		/* from here on it is the caller's again */
		memcpy(k->header.payload, "other", 5);
		ck_assert_int_eq(bt_loop_run_until(rig.env.loop, rig_is_done,
						   &k->told, 1000),
				 0);
		ck_assert_int_eq(k->error, 0);
		poke(store, (uint64_t)slot * BT_HEADER_SLOT + 70, 1);
		k = reopen(&rig, ram);
		ck_assert_uint_eq(k->header.generation, slot ? 2 : 1);
		ck_assert_mem_eq(k->header.payload, "hello", 5);
		rig_fini(&rig);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("header");
	TCase *tc = tcase_create("header");

	tcase_add_test(tc, what_is_written_is_read_again);
	tcase_add_test(tc, a_damaged_slot_leaves_the_generation_before);
	tcase_add_test(tc, two_damaged_slots_are_no_new_store);
	tcase_add_test(tc, a_new_store_has_two_headers_before_it_is_used);
	tcase_add_test(
		tc,
		a_store_cut_while_it_was_made_is_told_from_one_that_was_used);
	tcase_add_test(tc, what_is_no_store_is_called_so);
	tcase_add_test(tc, another_class_and_a_later_layout_are_refused);
	tcase_add_test(tc, a_store_too_small_is_refused_with_both_sizes);
	tcase_add_test(tc, a_class_that_is_no_text_is_no_header);
	tcase_add_test(tc, random_bytes_are_no_header);
	tcase_add_test(tc, a_header_is_written_while_requests_run);
	tcase_add_test(tc, a_new_store_gets_both_headers_while_requests_run);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
