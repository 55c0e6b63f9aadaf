/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's side: a handle, and a session, which is one request on one
 * connection and its answer, all under one deadline. */
#ifndef BT_CONTROL_CLIENT_H
#define BT_CONTROL_CLIENT_H

#include <blktap/control.h>

#include "control/rundir.h"
#include "control/wire.h"
#include "core/log.h"

struct blktap_control {
	struct bt_rundir dir;
	struct bt_log log;
	char *tapdisk;
	char *const *environment; /* the caller's */
	uint32_t timeout_ms;
	uint32_t start_timeout_ms; /* of a tapdisk */
	bool no_ring;
};

struct bt_session {
	const struct blktap_control *control;
	pid_t pid;
	int fd;
	uint64_t deadline_ns; /* 0: none */
};

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t bt_client_now(void);
/* For poll(2): ms until deadline_ns, -1 for ever. */
int bt_client_timeout(uint64_t deadline_ns);

/* timeout_ms 0: for ever. */
int bt_session_open(struct bt_session *session,
		    const struct blktap_control *control, pid_t pid,
		    uint32_t timeout_ms, struct blktap_error **err);
void bt_session_close(struct bt_session *session);
int bt_session_send(struct bt_session *session, const struct bt_message *msg,
		    const void *trailer, size_t length,
		    struct blktap_error **err);
/* The next message, which must be of that type; an ERROR is turned into the
 * error it tells of. */
int bt_session_receive(struct bt_session *session, uint16_t type,
		       struct bt_message *msg, struct blktap_error **err);
/* length bytes that follow a message, with a NUL behind them. */
int bt_session_text(struct bt_session *session, uint64_t length, char **out,
		    struct blktap_error **err);

/* All of it, for a request with an answer of one message. */
int bt_session_run(const struct blktap_control *control, pid_t pid,
		   uint32_t timeout_ms, const struct bt_message *request,
		   uint16_t type, struct bt_message *answer,
		   struct blktap_error **err);

/* Asks a tapdisk to end, with all that it has. */
void bt_client_dismiss(const struct blktap_control *control, pid_t pid);

#endif
