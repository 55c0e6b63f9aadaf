/* SPDX-License-Identifier: BSD-3-Clause */
/* Where GnuTLS was not there when this was built: nobody gets credentials, and
 * so nobody a pump. */
#include "tls/private.h"

#ifndef HAVE_GNUTLS

#include <errno.h>
#include <unistd.h>

#include "core/error.h"

int bt_tls_creds_create(const char *who, const struct bt_tls_files *files,
			struct bt_tls_creds **out, struct blktap_error **err)
{
	(void)files;
	(void)out;
	return bt_fail(err, -ENOTSUP, "build with GnuTLS, or use a tunnel",
		       "%s: TLS is not built", who);
}

void bt_tls_creds_destroy(struct bt_tls_creds *creds)
{
	(void)creds;
}

int bt_tls_create(struct bt_loop *loop, const struct bt_tls_options *options,
		  int fd, int *out_fd, struct bt_tls **out)
{
	(void)loop;
	(void)options;
	(void)out_fd;
	(void)out;
	close(fd);
	return -ENOTSUP;
}

void bt_tls_destroy(struct bt_tls *tls)
{
	(void)tls;
}

void bt_tls_step(struct bt_tls *tls)
{
	(void)tls;
}

void bt_tls_get_polls(const struct bt_tls *tls, struct pollfd polls[2])
{
	(void)tls;
	(void)polls;
}

int bt_tls_get_error(const struct bt_tls *tls, const char **why,
		     const char **hint)
{
	(void)tls;
	(void)why;
	(void)hint;
	return 0;
}

#endif
