/* SPDX-License-Identifier: BSD-3-Clause */
/* The address that a disk is served at beside its socket, in the clear or by TLS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/server.h"
#include "frontend/nbd.h"

void bt_tap_forget_tcp(struct bt_tap *tap)
{
	bt_tap_set_name(&tap->mark.tcp, NULL);
	bt_tap_set_name(&tap->mark.tls, NULL);
	bt_tap_set_name(&tap->mark.tls_certificates, NULL);
	bt_tap_set_name(&tap->mark.tls_psk, NULL);
	tap->mark.tls_verify_peer = false;
}

/* For whoever takes over, in the mark. */
static void record_tcp(struct bt_tap *tap, const char *address,
		       const struct bt_tap_tls *tls)
{
	bt_tap_set_name(&tap->mark.tcp, address);
	bt_tap_set_name(&tap->mark.tls, tls->mode);
	bt_tap_set_name(&tap->mark.tls_certificates, tls->certificates);
	bt_tap_set_name(&tap->mark.tls_psk, tls->psk);
	tap->mark.tls_verify_peer = tls->verify_peer;
	bt_mark_write(tap->lock_fd, &tap->mark);
}

static int set_tls(struct blktap_nbd_options *options,
		   const struct bt_tap_tls *tls, struct blktap_error **err)
{
	options->tls_certificates = tls->certificates;
	options->tls_psk = tls->psk;
	options->tls_verify_peer = tls->verify_peer;
	if (!tls->mode)
		return 0;
	if (!strcmp(tls->mode, "require"))
		options->tls = BLKTAP_NBD_TLS_REQUIRE;
	else if (!strcmp(tls->mode, "on"))
		options->tls = BLKTAP_NBD_TLS_ON;
	else
		return bt_fail(err, -EINVAL, NULL, "TLS is on or require");
	return 0;
}

/* One address beside the socket. The mark has it as it was written, so that the
 * next tapdisk serves it, too. */
int bt_tap_serve_tcp(struct bt_tap *tap, const char *address,
		     const struct bt_tap_tls *tls, struct blktap_error **err)
{
	const char *colon = strrchr(address, ':'), *whole = address;
	struct blktap_nbd_options options;
	size_t length = colon ? (size_t)(colon - address) : 0;
	char *host;
	int rc;

	if (!tap->disk)
		return bt_fail(err, -EINVAL, "open one first: tap-ctl open",
			       "minor %d: no image is open", tap->minor);
	if (tap->tcp)
		return bt_fail(err, -EEXIST, NULL, "minor %d is served at %s",
			       tap->minor, blktap_nbd_server_get_uri(tap->tcp));
	if (!length || !colon[1])
		return bt_fail(err, -EINVAL,
			       "write it as HOST:PORT, e.g. 127.0.0.1:10809",
			       "'%s' is no address", address);
	/* [::1]:10809 */
	if (address[0] == '[' && address[length - 1] == ']') {
		address++;
		length -= 2;
	}
	host = strndup(address, length);
	if (!host)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	blktap_nbd_options_init(&options);
	options.host = host;
	options.port = colon + 1;
	options.any_name = true;
	rc = set_tls(&options, tls, err);
	if (!rc)
		rc = blktap_nbd_server_create(tap->disk, &options, &tap->tcp,
					      err);
	free(host);
	if (!rc && tap->mark.ring)
		record_tcp(tap, whole, tls);
	return rc;
}
