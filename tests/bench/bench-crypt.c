/* SPDX-License-Identifier: BSD-3-Clause */
/* The module crypt beside the crypto library alone, on one core: GB/s of AES-XTS
 * with keys of 256 bits, over a leaf that does nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver/driver.h"
#include "module/module.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/gnutls.h"

#ifdef HAVE_GNUTLS
#define REQUEST 131072u
#define SECONDS 0.5

static unsigned char data[REQUEST] __attribute__((aligned(4096)));
static unsigned char out[REQUEST] __attribute__((aligned(4096)));

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double bare(const unsigned char *key, uint32_t sector)
{
	unsigned char iv[16] = { 0 };
	gnutls_datum_t k = { (unsigned char *)(uintptr_t)key, 64 };
	gnutls_datum_t i = { iv, sizeof(iv) };
	struct bt_gnutls tls = { .library = NULL };
	gnutls_cipher_hd_t handle;
	uint64_t bytes = 0;
	double start, t;
	size_t at;

	if (bt_gnutls_load(&tls) ||
	    tls.cipher_init(&handle, GNUTLS_CIPHER_AES_256_XTS, &k, &i))
		return 0;
	start = now();
	do {
		for (at = 0; at < REQUEST; at += sector) {
			bt_store_le64(iv, at / 512);
			tls.cipher_set_iv(handle, iv, sizeof(iv));
			tls.cipher_encrypt2(handle, data + at, sector, out + at,
					    sector);
		}
		bytes += REQUEST;
		t = now() - start;
	} while (t < SECONDS);
	tls.cipher_deinit(handle);
	bt_gnutls_unload(&tls);
	return (double)bytes / t / 1e9;
}

static void done(struct bt_port *port, struct bt_request *req)
{
	(void)port;
	(void)req;
}

static struct bt_node *make(struct bt_env *env, const struct blktap_class *cls,
			    const char *a, const char *b, const char *c,
			    const char *d, struct bt_node *lower)
{
	struct bt_args *args;
	struct bt_node *node;

	if (bt_args_create(cls, &args) || bt_args_set(args, a, b, NULL) ||
	    (c && bt_args_set(args, c, d, NULL)) ||
	    bt_node_create(env, cls, NULL, args, &node, NULL))
		exit(1);
	if (lower)
		bt_port_link(&node->ports[0], lower);
	if (bt_node_open(node, 0, NULL))
		exit(1);
	return node;
}

static double module(const char *ref, enum blktap_op op, uint32_t sector,
		     uint32_t length)
{
	struct iovec iov = { .iov_base = data, .iov_len = length };
	struct bt_env env = { .loop = NULL };
	struct bt_pool *pool;
	struct bt_node *node;
	struct bt_port top;
	uint64_t bytes = 0;
	double start, t;
	uint32_t i;

	if (bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &env.loop))
		exit(1);
	node = make(&env, &bt_null_class, "size", "1G", "fill", "false", NULL);
	node = make(&env, &bt_crypt_class, "key", ref, "sector",
		    sector == 512 ? "512" : "4096", node);
	bt_port_init(&top, &env, NULL, "top");
	top.done = done;
	bt_port_link(&top, node);
	if (bt_pool_create(1, sizeof(struct bt_request), node->frame_sum,
			   &pool))
		exit(1);
	start = now();
	do {
		for (i = 0; i < 16; i++) {
			struct bt_request *req = bt_pool_take(pool);

			req->op = op;
			req->offset = i * (uint64_t)length;
			req->length = length;
			req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
			bt_port_submit(&top, req);
			bt_pool_give(req);
			bytes += length;
		}
		t = now() - start;
	} while (t < SECONDS);
	bt_pool_destroy(pool);
	bt_port_link(&top, NULL);
	bt_node_destroy(node);
	bt_loop_destroy(env.loop);
	return (double)bytes / t / 1e9;
}

int main(void)
{
	unsigned char key[64];
	char ref[32];
	FILE *f = tmpfile();
	uint32_t i, sector;

	for (i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)(i * 11 + 1);
	if (!f || fwrite(key, 1, sizeof(key), f) != sizeof(key) || fflush(f))
		return 1;
	snprintf(ref, sizeof(ref), "fd:%d", fileno(f));
	for (sector = 512; sector <= 4096; sector *= 8) {
		double b = bare(key, sector);

		printf("sector %4u: library %.2f GB/s\n", sector, b);
		for (i = 4096; i <= REQUEST; i *= 32) {
			double w = module(ref, BLKTAP_OP_WRITE, sector, i);
			double r = module(ref, BLKTAP_OP_READ, sector, i);

			printf("  requests of %6u: write %.2f GB/s (%.2f), "
			       "read %.2f GB/s (%.2f)\n",
			       i, w, w / b, r, r / b);
		}
	}
	fclose(f);
	return 0;
}
#else
int main(void)
{
	puts("built without a crypto library");
	return 0;
}
#endif
