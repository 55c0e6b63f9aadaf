/* SPDX-License-Identifier: BSD-3-Clause */
/* What failed, in words: whose certificate, which key, what the peer said. */
#include "tls/private.h"

#ifdef HAVE_GNUTLS

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "util/checked.h"
#include "util/strbuf.h"

/* A peer's words may hold anything; a line of log must not. */
void bt_tls_set_why(struct bt_tls *tls, int error, const char *fmt, ...)
{
	va_list ap;
	char *p;

	tls->error = error;
	va_start(ap, fmt);
	vsnprintf(tls->why, sizeof(tls->why), fmt, ap);
	va_end(ap);
	for (p = tls->why; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

static const struct {
	unsigned int flag;
	const char *text;
	const char *hint; /* for a client */
} faults[] = {
	{ GNUTLS_CERT_REVOKED, "was revoked", NULL },
	{ GNUTLS_CERT_EXPIRED, "has expired", NULL },
	{ GNUTLS_CERT_NOT_ACTIVATED, "is not valid yet",
	  "are the clocks of both machines right?" },
	{ GNUTLS_CERT_SIGNER_NOT_FOUND, "is signed by nobody we trust",
	  "tls-certificates=DIR names the directory of the ca-cert.pem that "
	  "signed it" },
	{ GNUTLS_CERT_SIGNER_NOT_CA, "is signed by one that may not sign",
	  NULL },
	{ GNUTLS_CERT_SIGNATURE_FAILURE, "is signed by somebody else", NULL },
	{ GNUTLS_CERT_INSECURE_ALGORITHM, "has too weak an algorithm", NULL },
	{ GNUTLS_CERT_PURPOSE_MISMATCH, "is for another purpose", NULL },
	{ GNUTLS_CERT_UNEXPECTED_OWNER, "is not for",
	  "tls-hostname=NAME says whose certificate it should be" },
};

/* All that is wrong with it; a revoked one that has expired is both. */
static void explain_certificate(struct bt_tls *tls)
{
	const char *whose = tls->creds->is_server ? "client" : "server";
	unsigned int status =
		tls->gnutls->session_get_verify_cert_status(tls->session);
	struct bt_strbuf sb = BT_STRBUF_INIT;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(faults); i++) {
		if (!(status & faults[i].flag))
			continue;
		bt_strbuf_printf(&sb, "%s %s", sb.len ? "," : "",
				 faults[i].text);
		if (!tls->hint && !tls->creds->is_server)
			tls->hint = faults[i].hint;
	}
	if (status & GNUTLS_CERT_UNEXPECTED_OWNER && tls->host)
		bt_strbuf_printf(&sb, " '%.100s'", tls->host);
	bt_tls_set_why(tls, -EACCES, "the %s's certificate%s", whose,
		       sb.len ? bt_strbuf_str(&sb) : " is not trusted");
	bt_strbuf_fini(&sb);
}

static void explain_alert(struct bt_tls *tls)
{
	gnutls_alert_description_t alert = tls->gnutls->alert_get(tls->session);
	const char *name = tls->gnutls->alert_get_name(alert);

	bt_tls_set_why(tls, -EACCES, "the %s ended TLS: %s",
		       tls->creds->is_server ? "client" : "server",
		       name ? name : "for a reason unknown");
	if (tls->creds->psk_client)
		tls->hint = "does the server know this user, with this key?";
	else if (!tls->creds->is_server)
		tls->hint = "the server's log may tell more";
}

/* A server's client with another key, or none. Which of the two it is goes to our
 * own log alone. */
static bool explain_user(struct bt_tls *tls, int rc)
{
	bool is_wrong_key = rc == GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER ||
			    rc == GNUTLS_E_DECRYPTION_FAILED ||
			    rc == GNUTLS_E_ERROR_IN_FINISHED_PACKET;

	if (!is_wrong_key || !tls->creds->psk_server || !*tls->user)
		return false;
	if (tls->unknown_user)
		bt_tls_set_why(tls, -EACCES,
			       "no user '%s' in the file of keys (PSK)",
			       tls->user);
	else
		bt_tls_set_why(tls, -EACCES,
			       "the client has another key than ours for user "
			       "'%s'",
			       tls->user);
	return true;
}

/* What is likely to be missing, where the server does not say. */
static void hint_at_secret(struct bt_tls *tls)
{
	if (tls->creds->psk_client)
		tls->hint = "does the server know this user, with this key?";
	else if (!tls->creds->is_server)
		tls->hint = "does it want keys (PSK), or a certificate of ours "
			    "(client-cert.pem)?";
}

/* In TLS 1.3 a client is done with the handshake before the server has looked at
 * what it showed. */
void bt_tls_explain_end(struct bt_tls *tls)
{
	char reason[BT_STRERROR_MAX];

	if (tls->error || tls->creds->is_server)
		return;
	if (!tls->has_data) {
		bt_tls_set_why(tls, -ECONNRESET,
			       "the server closed the connection right after "
			       "the handshake of TLS");
		hint_at_secret(tls);
	} else if (tls->lost) {
		bt_tls_set_why(tls, -tls->lost, "cannot receive: %s",
			       bt_strerror(-tls->lost, reason));
	}
}

static void explain_close(struct bt_tls *tls, const char *peer)
{
	bt_tls_set_why(tls, -ECONNRESET,
		       "the %s closed the connection in the handshake of TLS",
		       peer);
	hint_at_secret(tls);
}

static bool is_no_tls(int rc)
{
	return rc == GNUTLS_E_UNSUPPORTED_VERSION_PACKET ||
	       rc == GNUTLS_E_UNEXPECTED_PACKET_LENGTH ||
	       rc == GNUTLS_E_UNEXPECTED_PACKET ||
	       rc == GNUTLS_E_RECORD_OVERFLOW;
}

void bt_tls_explain(struct bt_tls *tls, int rc)
{
	const char *peer = tls->creds->is_server ? "client" : "server";
	const char *text = tls->gnutls->strerror(rc);
	int len = (int)strcspn(text, ".");

	if (rc == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
		explain_certificate(tls);
	else if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
		explain_alert(tls);
	else if (rc == GNUTLS_E_PREMATURE_TERMINATION)
		explain_close(tls, peer);
	else if (rc == GNUTLS_E_INSUFFICIENT_CREDENTIALS &&
		 tls->creds->psk_client)
		bt_tls_set_why(tls, -EACCES,
			       "the server has certificates, and takes no keys "
			       "(PSK)");
	else if (rc == GNUTLS_E_INSUFFICIENT_CREDENTIALS &&
		 tls->creds->psk_server)
		bt_tls_set_why(tls, -EACCES,
			       "the client wants certificates, and has no key "
			       "(PSK)");
	else if (rc == GNUTLS_E_NO_CERTIFICATE_FOUND ||
		 rc == GNUTLS_E_CERTIFICATE_REQUIRED)
		bt_tls_set_why(tls, -EACCES, "the %s has shown no certificate",
			       peer);
	else if (tls->is_shaking && is_no_tls(rc))
		bt_tls_set_why(tls, -EPROTO, "the %s does not speak TLS: %.*s",
			       peer, len, text);
	else if (!tls->is_shaking || !explain_user(tls, rc))
		bt_tls_set_why(tls, -EPROTO, "TLS with the %s: %.*s", peer, len,
			       text);
}

#endif
