/* SPDX-License-Identifier: BSD-3-Clause */
/* A control socket's name is made by rename: it appears when it can be
 * connected to, and takes the place of a dead one in one step. Where nobody
 * listens at a name that is there, connecting is refused, by which the dead are
 * known. */
#include "control/socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128
#define CONNECT_TRIES 100 /* of 10 ms */

/* The path is bounded before it is copied: cut, it would be another name. */
static int make_socket(const char *path, struct sockaddr_un *addr)
{
	int fd;

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	strcpy(addr->sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

/* Waits for a second at the most, and only where somebody is there who is busy.
 */
int bt_socket_connect(const char *path, int *fd)
{
	struct sockaddr_un addr;
	int rc, tries = 0;

	*fd = make_socket(path, &addr);
	if (*fd < 0)
		return *fd;
	/* EAGAIN: the backlog is full, and nothing tells when it is not. */
	while ((rc = connect(*fd, (struct sockaddr *)&addr, sizeof(addr)))) {
		if (errno != EINTR && errno != EAGAIN)
			break;
		if (++tries > CONNECT_TRIES)
			break;
		if (errno == EAGAIN)
			poll(NULL, 0, 10);
	}
	if (!rc)
		return 0;
	rc = -errno;
	close(*fd);
	return rc;
}

/* Under a name of its own until it listens: so what stands under the real one
 * is alive or dead, and never on its way. */
int bt_socket_listen(const char *path, int *fd)
{
	char temporary[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct sockaddr_un addr;
	int rc;

	if (snprintf(temporary, sizeof(temporary), "%s.new", path) >=
	    (int)sizeof(temporary))
		return -ENAMETOOLONG;
	*fd = make_socket(temporary, &addr);
	if (*fd < 0)
		return *fd;
	unlink(temporary);
	/* Before bind: then the name never exists with another mode. */
	if (fchmod(*fd, 0600) ||
	    bind(*fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    listen(*fd, BACKLOG) || rename(temporary, path)) {
		rc = -errno;
		unlink(temporary);
		close(*fd);
		return rc;
	}
	return 0;
}
