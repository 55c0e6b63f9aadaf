/* SPDX-License-Identifier: BSD-3-Clause */
#include "classes.h"

#include <errno.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"

#define END                  \
	{                    \
		.name = NULL \
	}
#define PARAM(n, t, ...)                                                   \
	{                                                                  \
		.name = n, .type = BLKTAP_PARAM_##t, .help = "help of " n, \
		__VA_ARGS__                                                \
	}
#define IDENTITY .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY

static const struct bt_port_desc one_port[] = {
	{ .name = "lower", .help = "what is filtered" },
	END,
};

static const struct bt_port_desc base_port[] = {
	{ .name = "base",
	  .optional = true,
	  .flags = BT_PORT_READS | BT_PORT_UNCHANGED },
	END,
};

static const struct bt_port_desc legs[] = {
	{ .name = "leg",
	  .help = "link its legs with =>",
	  .flags = BT_PORT_ARRAY | BT_PORT_SAME_SIZE },
	END,
};

static const struct bt_port_desc concat_ports[] = {
	{ .name = "part", .flags = BT_PORT_ARRAY },
	END,
};

static const struct bt_port_desc cow_ports[] = {
	{ .name = "top" },
	{ .name = "base", .flags = BT_PORT_READS | BT_PORT_UNCHANGED },
	END,
};

static const struct bt_port_desc cache_ports[] = {
	{ .name = "origin", .help = "what is cached" },
	{ .name = "store",
	  .help = "where the cache is kept",
	  .flags = BT_PORT_STORE,
	  .durable_when = "mode=writeback" },
	END,
};

static const struct bt_port_desc snap_ports[] = {
	{ .name = "origin", .help = "what a snapshot is taken of" },
	{ .name = "delta",
	  .help = "where old data goes",
	  .flags = BT_PORT_STORE },
	END,
};

static const struct bt_port_desc snap_uppers[] = {
	{ .name = "live" },
	{ .name = "image", .flags = BT_PORT_READS },
	END,
};

static const struct bt_port_desc bitmap_ports[] = {
	{ .name = "lower" },
	{ .name = "store", .flags = BT_PORT_STORE, .durable_when = "" },
	END,
};

static const struct bt_port_desc compare_ports[] = {
	{ .name = "a", .flags = BT_PORT_SAME_SIZE },
	{ .name = "b", .flags = BT_PORT_SAME_SIZE },
	END,
};

static const struct blktap_param raw_params[] = {
	PARAM("path", PATH, IDENTITY),
	PARAM("ro", BOOL, .fallback = "false"),
	PARAM("block_size", SIZE, .min = 512, .max = 65536),
	END,
};
static const struct blktap_param ram_params[] = {
	PARAM("size", SIZE, IDENTITY, .min = 512),
	END,
};
static const struct blktap_param nbd_params[] = {
	PARAM("uri", STRING, IDENTITY),
	PARAM("connections", INT, .min = 1, .max = 16, .fallback = "1"),
	END,
};
static const struct blktap_param throttle_params[] = {
	PARAM("iops", RATE, .flags = BLKTAP_PARAM_LIVE),
	PARAM("bytes", RATE, .flags = BLKTAP_PARAM_LIVE),
	PARAM("burst", DURATION, .flags = BLKTAP_PARAM_LIVE),
	END,
};
static const struct blktap_param mirror_params[] = {
	PARAM("read", ENUM, .choices = "first|fastest|spread"),
	PARAM("sync", ENUM, .choices = "none|background"),
	PARAM("source", INT, .max = 255),
	END,
};
static const struct blktap_param retry_params[] = {
	PARAM("for", DURATION, .flags = BLKTAP_PARAM_REQUIRED),
	END,
};
static const struct blktap_param crypt_params[] = {
	PARAM("cipher", ENUM, .choices = "aes-xts-128|aes-xts-256",
	      .fallback = "aes-xts-256"),
	PARAM("key", STRING,
	      .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_SECRET),
	END,
};
static const struct blktap_param cache_params[] = {
	PARAM("mode", ENUM, .choices = "writethrough|writeback",
	      .fallback = "writethrough"),
	PARAM("size", SIZE, .min = 1 << 20, .fallback = "1G"),
	END,
};
static const struct blktap_param snap_params[] = {
	PARAM("on_full", ENUM, .choices = "drop-image|stop",
	      .fallback = "drop-image"),
	END,
};
static const struct blktap_param stripe_params[] = {
	PARAM("chunk", SIZE, .flags = BLKTAP_PARAM_REQUIRED, .min = 4096),
	END,
};
static const struct blktap_param slice_params[] = {
	PARAM("offset", SIZE, .flags = BLKTAP_PARAM_REQUIRED),
	PARAM("size", SIZE, .flags = BLKTAP_PARAM_REQUIRED, .min = 512),
	END,
};
static const struct blktap_param fault_params[] = {
	PARAM("seed", INT),
	PARAM("rules", LIST),
	PARAM("share", PERCENT, .fallback = "100%"),
	END,
};
static const struct blktap_param delay_params[] = {
	PARAM("min", DURATION),
	PARAM("max", DURATION),
	END,
};

static int delay_check(const struct bt_args *args, struct blktap_error **err)
{
	if (bt_args_number(args, "min") <= bt_args_number(args, "max"))
		return 0;
	return bt_fail(err, -EINVAL, "exchange them",
		       "delay: min is more "
		       "than max");
}

static uint64_t slice_size(const struct bt_args *args, const uint64_t *lower,
			   uint32_t count)
{
	return bt_args_number(args, "size");
}

static uint64_t concat_size(const struct bt_args *args, const uint64_t *lower,
			    uint32_t count)
{
	uint64_t sum = 0;

	while (count--) {
		if (!*lower || !bt_checked_add(sum, *lower, &sum))
			return 0;
		lower++;
	}
	return sum;
}

/* A cache's map: 16 bytes for each 64 KiB. */
static uint64_t cache_memory(const struct bt_args *args, uint64_t size,
			     uint32_t edges)
{
	return bt_args_number(args, "size") / 4096;
}

static uint64_t ram_memory(const struct bt_args *args, uint64_t size,
			   uint32_t edges)
{
	return bt_args_number(args, "size");
}

/* Nothing is opened here. */
static int no_stamp(const struct bt_node *node, struct bt_stamp *stamp)
{
	return -ENOTSUP;
}

#define LEAF(n, p, ...)                                                  \
	{                                                                \
		.name = n, .summary = "a leaf", .params = p, __VA_ARGS__ \
	}
#define FILTER(n, p, q, ...)                                               \
	{                                                                  \
		.name = n, .summary = "a filter", .params = p, .ports = q, \
		__VA_ARGS__                                                \
	}

static const struct blktap_class classes[] = {
	LEAF("raw", raw_params, .aliases = "aio,file", .get_stamp = no_stamp),
	LEAF("ram", ram_params, .flags = BT_CLASS_VOLATILE,
	     .get_memory = ram_memory),
	LEAF("null", NULL, .flags = BT_CLASS_VOLATILE),
	LEAF("nbd", nbd_params),
	FILTER("qcow", raw_params, base_port),
	FILTER("vhd", raw_params, base_port),
	FILTER("cow", NULL, cow_ports),
	FILTER("mirror", mirror_params, legs, .flags = BT_CLASS_REDUNDANT),
	FILTER("stripe", stripe_params, legs),
	FILTER("concat", NULL, concat_ports, .get_size = concat_size),
	FILTER("slice", slice_params, one_port, .flags = BT_CLASS_PART,
	       .get_size = slice_size),
	FILTER("snap", snap_params, snap_ports, .uppers = snap_uppers),
	FILTER("bitmap", NULL, bitmap_ports),
	FILTER("throttle", throttle_params, one_port, .node_bytes = 100),
	FILTER("cache", cache_params, cache_ports, .get_memory = cache_memory),
	FILTER("crypt", crypt_params, one_port, .flags = BT_CLASS_ENCRYPTS),
	FILTER("retry", retry_params, one_port),
	FILTER("fault", fault_params, one_port),
	FILTER("delay", delay_params, one_port, .check_args = delay_check),
	FILTER("compare", NULL, compare_ports),
};

const struct blktap_class *test_class_next(const struct blktap_class *previous)
{
	if (!previous)
		return classes;
	return ++previous == classes + BT_ARRAY_SIZE(classes) ? NULL : previous;
}
