/* SPDX-License-Identifier: BSD-3-Clause */
/* What a session shows and asks for. Certificates lie in a directory by the names
 * that qemu, nbdkit and libnbd give them. */
#include "tls/private.h"

#ifdef HAVE_GNUTLS

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"

/* Keys that both know only with a fresh secret beside them, so that who learns the
 * key later cannot read what he had recorded. */
#define VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PSK_ONLY ":-KX-ALL:+ECDHE-PSK:+DHE-PSK"

/* What is being made, for messages. */
struct maker {
	const char *who;
	const struct bt_tls_files *files;
	struct bt_tls_creds *creds;
	struct blktap_error **err;
};

static int no_memory(const struct maker *m)
{
	return bt_fail(m->err, -ENOMEM, NULL, "%s: out of memory", m->who);
}

/* The path of a file of the directory, to be freed. A file that need not be there
 * is NULL where it is not; one that is there and may not be read is an error. */
static int find(const struct maker *m, const char *name, bool is_needed,
		char **out)
{
	char reason[BT_STRERROR_MAX];
	int rc;

	if (asprintf(out, "%s/%s", m->files->certificates, name) < 0) {
		*out = NULL;
		return no_memory(m);
	}
	if (!access(*out, R_OK))
		return 0;
	rc = -errno;
	if (rc == -ENOENT && !is_needed)
		rc = 0;
	else
		bt_fail(m->err, rc,
			"the names of the files are ca-cert.pem, "
			"server-cert.pem, server-key.pem, client-cert.pem, "
			"client-key.pem and ca-crl.pem",
			"%s: %s: %s", m->who, *out, bt_strerror(rc, reason));
	free(*out);
	*out = NULL;
	return rc;
}

static int bad_file(const struct maker *m, const char *path, int rc)
{
	return bt_fail(m->err, -EINVAL, NULL, "%s: %s: %s", m->who, path,
		       rc < 0 ? m->creds->gnutls.strerror(rc)
			      : "has no certificate");
}

/* Whose certificates are believed, and which of these no more. */
static int read_authority(const struct maker *m, bool is_needed)
{
	const struct bt_gnutls *g = &m->creds->gnutls;
	char *ca, *crl;
	int n, rc = find(m, "ca-cert.pem", is_needed, &ca);

	if (!rc && ca) {
		n = g->certificate_set_x509_trust_file(m->creds->certificates,
						       ca, GNUTLS_X509_FMT_PEM);
		if (n <= 0)
			rc = bad_file(m, ca, n);
	}
	free(ca);
	if (rc)
		return rc;
	rc = find(m, "ca-crl.pem", false, &crl);
	if (!rc && crl) {
		n = g->certificate_set_x509_crl_file(m->creds->certificates,
						     crl, GNUTLS_X509_FMT_PEM);
		if (n <= 0)
			rc = bad_file(m, crl, n);
	}
	free(crl);
	return rc;
}

/* Certificate and key, both or none. */
static int read_own(const struct maker *m, const char *cert_name,
		    const char *key_name, bool is_needed)
{
	char *cert, *key = NULL;
	int n, rc = find(m, cert_name, is_needed, &cert);

	if (!rc)
		rc = find(m, key_name, is_needed || cert, &key);
	if (!rc && cert) {
		n = m->creds->gnutls.certificate_set_x509_key_file(
			m->creds->certificates, cert, key, GNUTLS_X509_FMT_PEM);
		if (n < 0)
			rc = bad_file(m, key, n);
	}
	free(cert);
	free(key);
	return rc;
}

static int use_certificates(const struct maker *m)
{
	const struct bt_gnutls *g = &m->creds->gnutls;
	const struct bt_tls_files *files = m->files;
	int rc;

	if (g->certificate_allocate_credentials(&m->creds->certificates) < 0)
		return no_memory(m);
	if (!files->certificates) {
		g->certificate_set_x509_system_trust(m->creds->certificates);
		return 0;
	}
	rc = read_authority(m, files->verify_peer);
	if (rc)
		return rc;
	if (files->is_server)
		return read_own(m, "server-cert.pem", "server-key.pem", true);
	return read_own(m, "client-cert.pem", "client-key.pem", false);
}

/* ---- keys that both sides know -------------------------------------------- */

/* 1: such a user is not known; GnuTLS then goes on with a random key, so that
 * names cannot be tried. */
static int on_user(gnutls_session_t session, const char *user,
		   gnutls_datum_t *out)
{
	struct bt_tls *tls = bt_gnutls_get_ptr(session);
	const struct bt_tls_key *key;
	void *data;

	if (!tls)
		return -1;
	snprintf(tls->user, sizeof(tls->user), "%s", user);
	key = bt_tls_psk_find(&tls->creds->psk, user);
	tls->unknown_user = !key;
	if (!key)
		return 1;
	data = (*tls->gnutls->malloc)(key->size);
	if (!data)
		return -1;
	memcpy(data, key->data, key->size);
	out->data = data;
	out->size = (unsigned int)key->size;
	return 0;
}

static int use_psk_server(const struct maker *m)
{
	struct bt_tls_creds *creds = m->creds;
	int rc = bt_tls_psk_read(m->who, m->files->psk, &creds->psk, m->err);

	if (rc)
		return rc;
	if (creds->gnutls.psk_allocate_server_credentials(&creds->psk_server))
		return no_memory(m);
	creds->gnutls.psk_set_server_credentials_function(creds->psk_server,
							  on_user);
	return 0;
}

static int use_psk_client(const struct maker *m)
{
	struct bt_tls_creds *creds = m->creds;
	const char *user = m->files->user;
	const struct bt_tls_key *key;
	struct bt_tls_psk psk = { 0 };
	gnutls_datum_t datum;
	int rc;

	if (!user)
		return bt_fail(m->err, -EINVAL,
			       "write it as nbds://USER@HOST, or nbds+unix://"
			       "USER@/ with a socket",
			       "%s: %s: whose key of these?", m->who,
			       m->files->psk);
	rc = bt_tls_psk_read(m->who, m->files->psk, &psk, m->err);
	if (rc)
		return rc;
	key = bt_tls_psk_find(&psk, user);
	if (!key) {
		rc = bt_fail(m->err, -ENOENT, NULL, "%s: %s: has no user '%s'",
			     m->who, m->files->psk, user);
	} else {
		datum.data = key->data;
		datum.size = (unsigned int)key->size;
		if (creds->gnutls.psk_allocate_client_credentials(
			    &creds->psk_client) ||
		    creds->gnutls.psk_set_client_credentials(
			    creds->psk_client, user, &datum,
			    GNUTLS_PSK_KEY_RAW))
			rc = no_memory(m);
	}
	bt_tls_psk_fini(&psk);
	return rc;
}

/* ---- life ----------------------------------------------------------------- */

static int check(const struct maker *m)
{
	const struct bt_tls_files *files = m->files;

	if (files->certificates && files->psk)
		return bt_fail(m->err, -EINVAL, "give one of them",
			       "%s: TLS by certificates and by PSK", m->who);
	if (files->is_server && !files->certificates && !files->psk)
		return bt_fail(m->err, -EINVAL,
			       "give a directory of certificates or a file of "
			       "keys (PSK)",
			       "%s: TLS needs something to show", m->who);
	if (files->is_server && files->verify_peer && !files->certificates)
		return bt_fail(m->err, -EINVAL,
			       "with PSK every client has to know its key",
			       "%s: certificates of clients are checked "
			       "against those of a directory",
			       m->who);
	return 0;
}

static int make(const struct maker *m)
{
	struct bt_tls_creds *creds = m->creds;
	int rc;

	rc = creds->gnutls.priority_init(
		&creds->priority, m->files->psk ? VERSIONS PSK_ONLY : VERSIONS,
		NULL);
	if (rc < 0)
		return bt_fail(m->err, -ENOTSUP,
			       "look at the system's settings of GnuTLS",
			       "%s: TLS 1.2 and newer cannot be had: %s",
			       m->who, creds->gnutls.strerror(rc));
	if (!m->files->psk)
		return use_certificates(m);
	return m->files->is_server ? use_psk_server(m) : use_psk_client(m);
}

int bt_tls_creds_create(const char *who, const struct bt_tls_files *files,
			struct bt_tls_creds **out, struct blktap_error **err)
{
	struct bt_tls_creds *creds = calloc(1, sizeof(*creds));
	struct maker m = { who, files, creds, err };
	int rc;

	if (!creds)
		return no_memory(&m);
	rc = check(&m);
	if (!rc && bt_gnutls_load(&creds->gnutls))
		rc = bt_fail(err, -ENOTSUP, "install GnuTLS",
			     "%s: TLS: libgnutls is not there", who);
	if (!rc) {
		creds->is_server = files->is_server;
		creds->verify_peer = files->verify_peer;
		rc = make(&m);
	}
	if (rc) {
		bt_tls_creds_destroy(creds);
		return rc;
	}
	*out = creds;
	return 0;
}

void bt_tls_creds_destroy(struct bt_tls_creds *creds)
{
	if (!creds)
		return;
	if (creds->certificates)
		creds->gnutls.certificate_free_credentials(creds->certificates);
	if (creds->psk_client)
		creds->gnutls.psk_free_client_credentials(creds->psk_client);
	if (creds->psk_server)
		creds->gnutls.psk_free_server_credentials(creds->psk_server);
	if (creds->priority)
		creds->gnutls.priority_deinit(creds->priority);
	bt_tls_psk_fini(&creds->psk);
	bt_gnutls_unload(&creds->gnutls);
	free(creds);
}

/* ---- sessions ------------------------------------------------------------- */

static bool is_address(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, address) == 1 ||
	       inet_pton(AF_INET6, host, address) == 1;
}

/* A server with several names knows by it whose certificate to show. */
static int set_host(const struct bt_tls_creds *creds, gnutls_session_t session,
		    const char *host)
{
	if (!host || is_address(host))
		return 0;
	return creds->gnutls.server_name_set(session, GNUTLS_NAME_DNS, host,
					     strlen(host));
}

static int set_credentials(const struct bt_tls_creds *creds,
			   gnutls_session_t session)
{
	if (creds->psk_client)
		return creds->gnutls.credentials_set(session, GNUTLS_CRD_PSK,
						     creds->psk_client);
	if (creds->psk_server)
		return creds->gnutls.credentials_set(session, GNUTLS_CRD_PSK,
						     creds->psk_server);
	return creds->gnutls.credentials_set(session, GNUTLS_CRD_CERTIFICATE,
					     creds->certificates);
}

/* host has to live as long as the session. */
static void set_verify(const struct bt_tls_creds *creds,
		       gnutls_session_t session, const char *host)
{
	if (!creds->certificates || !creds->verify_peer)
		return;
	if (creds->is_server)
		creds->gnutls.certificate_server_set_request(
			session, GNUTLS_CERT_REQUIRE);
	creds->gnutls.session_set_verify_cert(session, host, 0);
}

/* No tickets: nothing is resumed, and they would be another key to lose. */
int bt_tls_session_create(const struct bt_tls_creds *creds, const char *host,
			  gnutls_session_t *out)
{
	const struct bt_gnutls *g = &creds->gnutls;
	gnutls_session_t session;
	int rc = g->init(&session,
			 (creds->is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
				 GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS);

	if (rc < 0)
		return rc;
	rc = g->priority_set(session, creds->priority);
	if (rc >= 0)
		rc = set_credentials(creds, session);
	if (rc >= 0)
		rc = set_host(creds, session, host);
	if (rc < 0) {
		g->deinit(session);
		return rc;
	}
	set_verify(creds, session, host);
	*out = session;
	return 0;
}

#endif
