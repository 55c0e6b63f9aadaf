/* SPDX-License-Identifier: BSD-3-Clause */
/* Each user has its own table of functions, of a library that is loaded once: there
 * is no state here. All functions of the table are there, or bt_gnutls_load fails. */
#include "util/gnutls.h"

#ifdef HAVE_GNUTLS
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

/* The ABI of all of 3.x. */
#define SONAME "libgnutls.so.30"

#define FIND(name)                                                           \
	tls->name =                                                          \
		(__typeof__(tls->name))dlsym(tls->library, "gnutls_" #name); \
	missing |= !tls->name

int bt_gnutls_load(struct bt_gnutls *tls)
{
	int missing = 0;

	memset(tls, 0, sizeof(*tls));
	/* it registers things for the process's end: it must not be unmapped */
	tls->library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!tls->library)
		return -ENOTSUP;
	BT_GNUTLS_FUNCTIONS(FIND);
	if (missing) {
		bt_gnutls_unload(tls);
		return -ENOTSUP;
	}
	return 0;
}

void bt_gnutls_unload(struct bt_gnutls *tls)
{
	if (tls->library)
		dlclose(tls->library);
	memset(tls, 0, sizeof(*tls));
}

void *bt_gnutls_get_ptr(gnutls_session_t session)
{
	void *library = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
	__typeof__(gnutls_session_get_ptr) *get = NULL;
	void *ptr;

	if (library)
		get = (__typeof__(get))dlsym(library, "gnutls_session_get_ptr");
	ptr = get ? get(session) : NULL;
	if (library)
		dlclose(library);
	return ptr;
}
#endif
