/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers of the NBD protocol, by the names its document gives them (without
 * the NBD_ that stands before all), for the server and the client. Everything on
 * the wire is big endian. */
#ifndef BT_UTIL_NBD_PROTO_H
#define BT_UTIL_NBD_PROTO_H

#define NBD_MAGIC 0x4e42444d41474943ULL /* "NBDMAGIC" */
#define NBD_IHAVEOPT 0x49484156454f5054ULL /* "IHAVEOPT" */
#define NBD_OLDSTYLE 0x00420281861253ULL /* in the place of the second */
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ULL
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu

/* Lengths on the wire. */
#define NBD_GREETING_LEN 18 /* two magics, 16 bits of flags */
#define NBD_CLIENT_FLAGS_LEN 4
#define NBD_OPTION_LEN 16 /* magic, option, length of data */
#define NBD_OPTION_REPLY_LEN 20 /* magic, option, type, length of data */
#define NBD_EXPORT_NAME_ZEROES 124
#define NBD_REQUEST_LEN 28
#define NBD_SIMPLE_REPLY_LEN 16
#define NBD_CHUNK_LEN 20
#define NBD_STRING_MAX 4096 /* names, queries */

/* Flags of the greeting, and of the client's answer. */
#define NBD_FLAG_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_NO_ZEROES 0x2u

enum bt_nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ERROR_BIT 0x80000000u
#define NBD_REP_ACK 1u
#define NBD_REP_SERVER 2u
#define NBD_REP_INFO 3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR_UNSUP 0x80000001u
#define NBD_REP_ERR_POLICY 0x80000002u
#define NBD_REP_ERR_INVALID 0x80000003u
#define NBD_REP_ERR_TLS_REQD 0x80000005u
#define NBD_REP_ERR_UNKNOWN 0x80000006u
#define NBD_REP_ERR_SHUTDOWN 0x80000007u
#define NBD_REP_ERR_BLOCK_SIZE_REQD 0x80000008u
#define NBD_REP_ERR_TOO_BIG 0x80000009u

#define NBD_INFO_EXPORT 0
#define NBD_INFO_NAME 1
#define NBD_INFO_DESCRIPTION 2
#define NBD_INFO_BLOCK_SIZE 3

/* Transmission flags. */
#define NBD_FLAG_HAS_FLAGS 0x1u
#define NBD_FLAG_READ_ONLY 0x2u
#define NBD_FLAG_SEND_FLUSH 0x4u
#define NBD_FLAG_SEND_FUA 0x8u
#define NBD_FLAG_SEND_TRIM 0x20u
#define NBD_FLAG_SEND_WRITE_ZEROES 0x40u
#define NBD_FLAG_SEND_DF 0x80u
#define NBD_FLAG_CAN_MULTI_CONN 0x100u
#define NBD_FLAG_SEND_CACHE 0x400u
#define NBD_FLAG_SEND_FAST_ZERO 0x800u

enum bt_nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
	NBD_CMD_COUNT
};

#define NBD_CMD_FLAG_FUA 0x1u
#define NBD_CMD_FLAG_NO_HOLE 0x2u
#define NBD_CMD_FLAG_DF 0x4u
#define NBD_CMD_FLAG_REQ_ONE 0x8u
#define NBD_CMD_FLAG_FAST_ZERO 0x10u

#define NBD_REPLY_FLAG_DONE 0x1u
#define NBD_REPLY_TYPE_NONE 0
#define NBD_REPLY_TYPE_OFFSET_DATA 1
#define NBD_REPLY_TYPE_OFFSET_HOLE 2
#define NBD_REPLY_TYPE_BLOCK_STATUS 5
#define NBD_REPLY_TYPE_ERROR_BIT 0x8000u
#define NBD_REPLY_TYPE_ERROR 0x8001u
#define NBD_REPLY_TYPE_ERROR_OFFSET 0x8002u

#define NBD_CONTEXT_ALLOCATION "base:allocation"
#define NBD_STATE_HOLE 0x1u
#define NBD_STATE_ZERO 0x2u
#define NBD_STATE_DIRTY 0x1u /* of qemu:dirty-bitmap: */

/* Errors on the wire are numbers of the protocol, not of this system. */
#define NBD_EPERM 1u
#define NBD_EIO 5u
#define NBD_ENOMEM 12u
#define NBD_EINVAL 22u
#define NBD_ENOSPC 28u
#define NBD_EOVERFLOW 75u
#define NBD_ENOTSUP 95u
#define NBD_ESHUTDOWN 108u

#endif
