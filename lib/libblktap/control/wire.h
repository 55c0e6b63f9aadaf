/* SPDX-License-Identifier: BSD-3-Clause */
/* The messages of the control socket, as bytes.
 *
 * A message is 544 bytes in the host's byte order: u16 type, u16 cookie (the
 * minor), four bytes of nothing, and a variant from byte 8 on. Some are
 * followed by a trailer, see bt_wire_trailer. A connection carries one request.
 *
 * Types up to 30 and their layout are those that toolstacks have always used
 * and never change. Type 64 is ours: a verb by name with "key=value" texts,
 * answered by JSON; so what is new needs neither a type nor a field. */
#ifndef BT_CONTROL_WIRE_H
#define BT_CONTROL_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define BT_WIRE_SIZE 544
#define BT_WIRE_PATH 256
#define BT_WIRE_VERB 32
#define BT_WIRE_KEY_MAX 64 /* bytes of an encryption key */
#define BT_WIRE_EXT_VERSION 1
#define BT_WIRE_EXT_MAX 65536 /* bytes of an extension's parameters */
#define BT_WIRE_ERROR_MAX 8192 /* bytes of the words of an error */
#define BT_WIRE_REPLY_MAX (16u << 20) /* bytes a client takes of a trailer */
#define BT_WIRE_ALL 0xffff /* cookie: not one minor but all */

enum bt_wire_type {
	BT_WIRE_ERROR = 1,
	BT_WIRE_RUNTIME_ERROR = 2,
	BT_WIRE_PID = 3,
	BT_WIRE_PID_RSP = 4,
	BT_WIRE_ATTACH = 5,
	BT_WIRE_ATTACH_RSP = 6,
	BT_WIRE_OPEN = 7,
	BT_WIRE_OPEN_RSP = 8,
	BT_WIRE_PAUSE = 9,
	BT_WIRE_PAUSE_RSP = 10,
	BT_WIRE_RESUME = 11,
	BT_WIRE_RESUME_RSP = 12,
	BT_WIRE_CLOSE = 13,
	BT_WIRE_CLOSE_RSP = 14,
	BT_WIRE_DETACH = 15,
	BT_WIRE_DETACH_RSP = 16,
	BT_WIRE_LIST_MINORS = 17,
	BT_WIRE_LIST_MINORS_RSP = 18,
	BT_WIRE_LIST = 19,
	BT_WIRE_LIST_RSP = 20,
	BT_WIRE_STATS = 21,
	BT_WIRE_STATS_RSP = 22,
	BT_WIRE_FORCE_SHUTDOWN = 23,
	BT_WIRE_XENBLKIF_CONNECT = 24,
	BT_WIRE_XENBLKIF_CONNECT_RSP = 25,
	BT_WIRE_XENBLKIF_DISCONNECT = 26,
	BT_WIRE_XENBLKIF_DISCONNECT_RSP = 27,
	BT_WIRE_DISK_INFO = 28,
	BT_WIRE_DISK_INFO_RSP = 29,
	BT_WIRE_EXIT = 30,
	BT_WIRE_EXT = 64,
	BT_WIRE_EXT_RSP = 65
};

/* params.flags */
#define BT_WIRE_SHARED 0x001u
#define BT_WIRE_RDONLY 0x002u
#define BT_WIRE_ADD_CACHE 0x004u
#define BT_WIRE_VHD_INDEX 0x008u
#define BT_WIRE_ADD_LOG 0x010u
#define BT_WIRE_ADD_LCACHE 0x020u
#define BT_WIRE_REUSE_PRT 0x040u
#define BT_WIRE_SECONDARY 0x080u
#define BT_WIRE_STANDBY 0x100u
#define BT_WIRE_NO_O_DIRECT 0x200u
#define BT_WIRE_OPEN_ENCRYPTED 0x400u

struct bt_wire_params {
	uint32_t flags;
	uint32_t devnum;
	uint32_t domid;
	char path[BT_WIRE_PATH];
	uint32_t prt_devnum;
	/* OPEN: seconds for a request. PAUSE, CLOSE, from our client: seconds
	 * after which to give up. 0: the default. */
	uint16_t req_timeout;
	char secondary[BT_WIRE_PATH];
};

struct bt_wire_image {
	uint64_t sectors;
	uint32_t sector_size;
	uint32_t info;
};

struct bt_wire_response {
	int32_t error; /* a positive errno */
	char text[BT_WIRE_PATH];
	/* Ours, and 0 from others: bytes of the whole "message\nhint" that
	 * follow an ERROR. */
	uint32_t more;
};

struct bt_wire_list {
	int32_t count; /* messages still to come, this one included */
	int32_t minor; /* -1 in the last, which names no disk */
	int32_t state; /* BLKTAP_STATE_* */
	char path[BT_WIRE_PATH];
};

struct bt_wire_stat {
	uint16_t first;
	uint16_t second;
	uint64_t length; /* bytes that follow */
};

struct bt_wire_blkif {
	uint32_t domid;
	uint32_t devid;
	uint32_t gref[8];
	uint32_t order;
	uint32_t proto;
	char pool[BT_WIRE_PATH];
	uint32_t port;
	uint32_t poll_duration;
	uint32_t poll_idle_threshold;
};

struct bt_wire_ext {
	uint32_t version;
	uint32_t length; /* bytes that follow */
	char verb[BT_WIRE_VERB];
};

/* The type says which member of u is meant. */
struct bt_message {
	uint16_t type;
	uint16_t cookie;
	union {
		int32_t pid;
		struct bt_wire_params params;
		struct bt_wire_image image;
		struct bt_wire_response response;
		struct bt_wire_list list;
		struct bt_wire_stat stat;
		struct bt_wire_blkif blkif;
		struct bt_wire_ext ext;
	} u;
};

/* Texts longer than their field are cut; unused bytes are 0. */
void bt_wire_encode(const struct bt_message *msg, uint8_t out[BT_WIRE_SIZE]);

/* 0, -EINVAL for a type that there is not (msg->type and cookie are set all the
 * same), or -ENAMETOOLONG for a text that does not end in its field. */
int bt_wire_decode(const uint8_t in[BT_WIRE_SIZE], struct bt_message *msg);

/* How long the trailer of a request is of which the first `have` bytes are at
 * `got`: *need grows from call to call until it is no more than `have`. -EINVAL
 * or -EMSGSIZE where it cannot be. */
int bt_wire_trailer(const struct bt_message *msg, const uint8_t *got,
		    size_t have, size_t *need);

/* "OPEN"; "?" for what there is not. Static. */
const char *bt_wire_type_name(uint16_t type);

/* The parameters of an extension: "key=value" texts, each with its NUL. 0, or
 * -EINVAL where the last NUL or a '=' is missing or a key is empty. */
int bt_wire_params_check(const char *data, size_t length);
/* The value of key in checked parameters, or NULL. */
const char *bt_wire_params_get(const char *data, size_t length,
			       const char *key);

#endif
