/* SPDX-License-Identifier: BSD-3-Clause */
/* Control: drive tapdisks from another process, or be one.
 *
 * All that tapdisks and those who drive them share is a runtime directory:
 *
 *	ctl<pid>                 the control socket of a tapdisk
 *	nbd<pid>.<minor>         the NBD socket of an open disk
 *	tapdisk/tapdisk-<minor>  a minor that is allocated
 *
 * A disk's life there: a minor is allocated, a tapdisk spawned, the minor
 * attached to it, an image opened; and back: close, detach, free. A tapdisk ends
 * when its last minor is detached.
 *
 * struct blktap_control is the driver's side. Its functions block, at most for
 * its timeout; they need no context, and each handle is for one thread at a
 * time. struct blktap_control_server is the tapdisk's side and lives in a
 * context. */
#ifndef BLKTAP_CONTROL_H
#define BLKTAP_CONTROL_H

#include <blktap/context.h>

BLKTAP_BEGIN_DECLS

struct blktap_control;
struct blktap_control_server;

/* Minors are less than this. */
#define BLKTAP_MINOR_MAX 16384

/* What state a disk is in; 0: running, or attached and never opened. */
#define BLKTAP_STATE_DEAD 0x001u
#define BLKTAP_STATE_CLOSED 0x002u
#define BLKTAP_STATE_QUIESCE_REQUESTED 0x004u
#define BLKTAP_STATE_QUIESCED 0x008u
#define BLKTAP_STATE_PAUSE_REQUESTED 0x010u
#define BLKTAP_STATE_PAUSED 0x020u
#define BLKTAP_STATE_SHUTDOWN_REQUESTED 0x040u

/* The runtime directory that the library was configured with. Static text. Any
 * thread. Since 0.1. */
BLKTAP_API const char *blktap_control_default_rundir(void);

/* ---- the driver's side ---------------------------------------------------- */

struct blktap_control_options {
	size_t size; /* sizeof(struct blktap_control_options) */
	const char *rundir; /* NULL: blktap_control_default_rundir */
	/* The program to spawn; NULL: the tapdisk that was installed with the
	 * library. */
	const char *tapdisk;
	/* The environment of what is spawned, as environ(7); NULL: empty. */
	char *const *environment;
	/* For list, stats and call: ms until -ETIMEDOUT; 0: 10000. Other calls
	 * wait for as long as the disk takes, unless they say otherwise. */
	uint32_t timeout_ms;
	enum blktap_log_level log_level;
	blktap_log_fn *log; /* what goes over the socket; NULL: nobody */
	void *log_opaque;
	/* Minors are for NBD alone, even where the kernel module is. */
	bool no_ring;
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_control_options_init_sized(
	struct blktap_control_options *options, size_t size);
static inline void blktap_control_options_init(
	struct blktap_control_options *options)
{
	blktap_control_options_init_sized(options, sizeof(*options));
}

/* Makes a handle on a runtime directory, which need not be there yet. options
 * may be NULL. Returns 0 or a negative errno: -ENAMETOOLONG where the
 * directory's name leaves no room for a socket's. Since 0.1. */
BLKTAP_API int blktap_control_create(
	const struct blktap_control_options *options,
	struct blktap_control **out, struct blktap_error **err);

/* Frees the handle; NULL is fine. Since 0.1. */
BLKTAP_API void blktap_control_destroy(struct blktap_control *control);

/* Its runtime directory; owned by control. Since 0.1. */
BLKTAP_API const char *blktap_control_get_rundir(
	const struct blktap_control *control);

/* Allocates the lowest free minor, whoever else does so at the same time. Where
 * the kernel module can be used, it has that minor, too, and what is opened there
 * is a block device (see <blktap/ring.h>).
 * -ENOSPC where there is none or the directory is full. Since 0.1. */
BLKTAP_API int blktap_control_allocate(struct blktap_control *control,
				       int *minor, struct blktap_error **err);

/* Gives a minor back: -ENOENT where it is not allocated, -EAGAIN where a
 * tapdisk has it. Since 0.1. */
BLKTAP_API int blktap_control_free(struct blktap_control *control, int minor,
				   struct blktap_error **err);

/* The name that stands for an allocated minor; the caller frees it:
 * "/dev/xen/blktap-2/tapdev<minor>" where the kernel has it, too, else
 * "<rundir>/tapdisk/tapdisk-<minor>". NULL where memory is
 * short. Since 0.1. */
BLKTAP_API char *blktap_control_minor_path(struct blktap_control *control,
					   int minor);

/* Starts a tapdisk and returns when it listens. It inherits no descriptor but
 * those of its standard streams, and keeps none. Since 0.1. */
BLKTAP_API int blktap_control_spawn(struct blktap_control *control, pid_t *pid,
				    struct blktap_error **err);

/* Attaches an allocated minor to a tapdisk: -ENOENT no such tapdisk, -EINVAL
 * not allocated, -EEXIST this tapdisk has it, -EBUSY another one. Since 0.1. */
BLKTAP_API int blktap_control_attach(struct blktap_control *control, pid_t pid,
				     int minor, struct blktap_error **err);

/* Detaches it; -EBUSY while an image is open. A tapdisk without minors ends.
 * Since 0.1. */
BLKTAP_API int blktap_control_detach(struct blktap_control *control, pid_t pid,
				     int minor, struct blktap_error **err);

#define BLKTAP_CONTROL_READ_ONLY 0x1u
#define BLKTAP_CONTROL_BUFFERED 0x2u /* no O_DIRECT */
#define BLKTAP_CONTROL_STANDBY 0x4u /* secondary is for when space runs out */
#define BLKTAP_CONTROL_LEAF_CACHE 0x8u

struct blktap_control_open_options {
	size_t size; /* sizeof(struct blktap_control_open_options) */
	uint32_t flags; /* BLKTAP_CONTROL_* */
	uint32_t request_timeout_s; /* 0: 120 */
	int parent_minor; /* the disk to use as parent; -1: none */
	const char *secondary; /* type:path; NULL: none */
	const char *log_path; /* of changed blocks; NULL: none */
	const uint8_t *key; /* NULL: none */
	size_t key_length;
	/* "HOST:PORT" to serve NBD on TCP too; NULL: only on the socket in the
	 * runtime directory. */
	const char *tcp;
	/* TLS there: "on" (clients may use it) or "require"; NULL: none. Its
	 * files are read by the tapdisk, see struct blktap_nbd_options. */
	const char *tls;
	const char *tls_certificates;
	const char *tls_psk;
	bool tls_verify_peer;
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_control_open_options_init_sized(
	struct blktap_control_open_options *options, size_t size);
static inline void blktap_control_open_options_init(
	struct blktap_control_open_options *options)
{
	blktap_control_open_options_init_sized(options, sizeof(*options));
}

/* Opens the image that spec (`type:path`) names on an attached minor, and serves
 * it over NBD at "<rundir>/nbd<pid>.<minor>". options may be NULL. What the
 * tapdisk does not support is -ENOTSUP, never ignored. Others: -ENODEV not
 * attached, -EALREADY open, -ENOENT no such file or type, -ENAMETOOLONG.
 * Since 0.1. */
BLKTAP_API int blktap_control_open(
	struct blktap_control *control, pid_t pid, int minor, const char *spec,
	const struct blktap_control_open_options *options,
	struct blktap_error **err);

/* Closes the image: requests under way are finished and flushed. A minor on
 * which none is open is no error. force: also where requests cannot be
 * finished. timeout_s 0: no limit. Since 0.1. */
BLKTAP_API int blktap_control_close(struct blktap_control *control, pid_t pid,
				    int minor, bool force, uint32_t timeout_s,
				    struct blktap_error **err);

/* Holds the disk's requests, flushes and closes its files; a paused disk is no
 * error. timeout_s 0: no limit; -ETIMEDOUT leaves the disk running. Since 0.1.
 */
BLKTAP_API int blktap_control_pause(struct blktap_control *control, pid_t pid,
				    int minor, uint32_t timeout_s,
				    struct blktap_error **err);

/* Opens the image again, the one that spec names where it is not NULL, and lets
 * requests go on. options as in blktap_control_open; NULL: as before. -EINVAL
 * where the disk is not paused. Since 0.1. */
BLKTAP_API int blktap_control_resume(
	struct blktap_control *control, pid_t pid, int minor, const char *spec,
	const struct blktap_control_open_options *options,
	struct blktap_error **err);

/* Has the block device of a minor served by a new tapdisk, whose process id is
 * *pid: from the old one, where that lives, without an error to its users; or
 * from the image that was open when it died. -ENOTSUP where it is no block
 * device, -ENODATA where no image was open. Where it fails half-way, requests wait
 * and it can be called again. Since 0.1. */
BLKTAP_API int blktap_control_upgrade(struct blktap_control *control, int minor,
				      pid_t *pid, struct blktap_error **err);

/* The statistics of a disk: one line of JSON without a newline, with the keys
 * that toolstacks know; the caller frees it. Since 0.1. */
BLKTAP_API int blktap_control_stats(struct blktap_control *control, pid_t pid,
				    int minor, char **json,
				    struct blktap_error **err);

/* Allocate, spawn, attach and open; undone where one of them fails. pid may be
 * NULL. Since 0.1. */
BLKTAP_API int blktap_control_start(
	struct blktap_control *control, const char *spec,
	const struct blktap_control_open_options *options, pid_t *pid,
	int *minor, struct blktap_error **err);

/* Close, detach and free. Since 0.1. */
BLKTAP_API int blktap_control_stop(struct blktap_control *control, pid_t pid,
				   int minor, uint32_t timeout_s,
				   struct blktap_error **err);

/* One line of the list: a disk, a tapdisk that has none (minor -1), or a minor
 * that no tapdisk has (pid -1). */
struct blktap_control_row {
	size_t size; /* sizeof(struct blktap_control_row) */
	pid_t pid;
	int minor;
	uint32_t state; /* BLKTAP_STATE_*; where both pid and minor are there */
	const char *spec; /* `type:path`; NULL where no image is open */
};

/* What to list; -1 and NULL: whatever. type and path are the parts of the spec
 * before and after its first colon. */
struct blktap_control_filter {
	size_t size; /* sizeof(struct blktap_control_filter) */
	pid_t pid;
	int minor;
	const char *type;
	const char *path;
};

/* Fills filter so that it lets everything pass, size included: as many bytes as
 * the caller's headers have. Since 0.1. */
BLKTAP_API void blktap_control_filter_init_sized(
	struct blktap_control_filter *filter, size_t size);
static inline void blktap_control_filter_init(
	struct blktap_control_filter *filter)
{
	blktap_control_filter_init_sized(filter, sizeof(*filter));
}

/* row lives for the call only. */
typedef void blktap_control_row_fn(void *opaque,
				   const struct blktap_control_row *row);

/* Calls fn for all that filter (NULL: everything) lets pass: the disks of each
 * tapdisk, newest first, and then the minors that nobody has. A tapdisk that
 * does not answer is left out, and the first such failure is returned once the
 * rest was listed. Since 0.1. */
BLKTAP_API int blktap_control_list(struct blktap_control *control,
				   const struct blktap_control_filter *filter,
				   blktap_control_row_fn *fn, void *opaque,
				   struct blktap_error **err);

/* The same list as a JSON array of objects, with what else a tapdisk tells
 * of its disks; the caller frees it. Since 0.1. */
BLKTAP_API int blktap_control_list_json(
	struct blktap_control *control,
	const struct blktap_control_filter *filter, char **json,
	struct blktap_error **err);

/* Calls a verb of a tapdisk that has no function of its own here. params is a
 * NULL-terminated list of "key=value" texts; NULL: none. minor -1: the verb is
 * about the tapdisk. *json is its answer; the caller frees it. Verb "help"
 * lists the verbs. -ENOTSUP where the tapdisk does not know it. Since 0.1. */
BLKTAP_API int blktap_control_call(struct blktap_control *control, pid_t pid,
				   int minor, const char *verb,
				   const char *const *params, char **json,
				   struct blktap_error **err);

/* ---- the tapdisk's side --------------------------------------------------- */

struct blktap_control_server_options {
	size_t size; /* sizeof(struct blktap_control_server_options) */
	const char *rundir; /* NULL: blktap_control_default_rundir */
	uint32_t max_connections; /* 0: 256; then the one that idles longest
				   * makes room */
	uint32_t idle_timeout_ms; /* for a request to arrive and for its answer
				   * to leave; 0: 10000 */
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_control_server_options_init_sized(
	struct blktap_control_server_options *options, size_t size);
static inline void blktap_control_server_options_init(
	struct blktap_control_server_options *options)
{
	blktap_control_server_options_init_sized(options, sizeof(*options));
}

/* Makes the runtime directory where it is missing and listens there, on
 * "ctl<pid>", for drivers. Sockets that dead tapdisks left are removed. The
 * server must be destroyed before its context. -EADDRINUSE where this process
 * has one in that directory. Since 0.1. */
BLKTAP_API int blktap_control_server_create(
	struct blktap_context *context,
	const struct blktap_control_server_options *options,
	struct blktap_control_server **out, struct blktap_error **err);

/* Closes every disk, flushed, and removes all that the server made in the
 * runtime directory, the marks of minors it has included; NULL is fine. Returns
 * 0 or the first error of a disk's close. Not from inside a callback (-EDEADLK,
 * and the server stays). Since 0.1. */
BLKTAP_API int blktap_control_server_destroy(
	struct blktap_control_server *server);

/* The control socket; owned by server. Since 0.1. */
BLKTAP_API const char *blktap_control_server_get_path(
	const struct blktap_control_server *server);

/* Whether a tapdisk should end: its last minor was detached or a driver asked
 * for it, and the answers have left. Since 0.1. */
BLKTAP_API bool blktap_control_server_is_finished(
	const struct blktap_control_server *server);

BLKTAP_END_DECLS

#endif
