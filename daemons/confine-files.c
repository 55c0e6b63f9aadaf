/* SPDX-License-Identifier: BSD-3-Clause */
/* Landlock: from here on this process reaches the files that were allowed, and
 * no others, whoever its user is. */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_include) && __has_include(<linux/landlock.h>) && \
	defined(SYS_landlock_create_ruleset)

#include <linux/landlock.h>

/* Of later versions than some headers know. */
#define RIGHT_REFER (1ull << 13)
#define RIGHT_TRUNCATE (1ull << 14)

#define RIGHTS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RIGHTS_WRITE \
	(RIGHTS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE)
#define RIGHTS_SOCKET                                                 \
	(LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_DIR | \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR)
#define RIGHTS_ALL                                                    \
	(RIGHTS_WRITE | RIGHTS_SOCKET | LANDLOCK_ACCESS_FS_MAKE_REG | \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | RIGHT_REFER)
/* Nobody gets these. */
#define RIGHTS_NONE                                                  \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO)
#define RIGHTS_OF_FILES                                                 \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	 RIGHT_TRUNCATE)

static const uint64_t rights[] = {
	[CONFINE_READ] = RIGHTS_READ,
	[CONFINE_WRITE] = RIGHTS_WRITE,
	[CONFINE_ALL] = RIGHTS_ALL,
	[CONFINE_SOCKET] = RIGHTS_SOCKET,
	[CONFINE_RMDIR] = LANDLOCK_ACCESS_FS_REMOVE_DIR,
};

int confine_files_probe(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);

	return version < 0 ? -errno : (int)version;
}

int confine_files_init(struct confine_files *c)
{
	struct landlock_ruleset_attr attr = { 0 };
	int version = confine_files_probe();
	long fd;

	c->ruleset = -1;
	if (version < 0)
		return version;
	c->handled = RIGHTS_ALL | RIGHTS_NONE;
	if (version < 2) /* it then refuses links across directories */
		c->handled &= ~RIGHT_REFER;
	if (version < 3) /* a file that may not be written may be cut */
		c->handled &= ~RIGHT_TRUNCATE;
	attr.handled_access_fs = c->handled;
	fd = syscall(SYS_landlock_create_ruleset, &attr,
		     sizeof(attr.handled_access_fs), 0);
	c->ruleset = (int)fd;
	return fd < 0 ? -errno : 0;
}

int confine_files_allow(struct confine_files *c, const char *path,
			enum confine_right right)
{
	struct landlock_path_beneath_attr attr = {
		.allowed_access = rights[right] & c->handled
	};
	struct stat st;
	int rc = 0;

	attr.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (attr.parent_fd < 0)
		return -errno;
	if (!fstat(attr.parent_fd, &st) && !S_ISDIR(st.st_mode))
		attr.allowed_access &= RIGHTS_OF_FILES;
	if (attr.allowed_access &&
	    syscall(SYS_landlock_add_rule, c->ruleset,
		    LANDLOCK_RULE_PATH_BENEATH, &attr, 0))
		rc = -errno;
	close(attr.parent_fd);
	return rc;
}

/* What libc and GnuTLS open behind our back, and the blktap module's devices. */
static const struct {
	const char *path;
	enum confine_right right;
} always[] = {
	{ "/lib", CONFINE_READ },
	{ "/lib64", CONFINE_READ },
	{ "/usr/lib", CONFINE_READ },
	{ "/usr/lib64", CONFINE_READ },
	{ "/usr/local/lib", CONFINE_READ },
	{ "/usr/share/zoneinfo", CONFINE_READ },
	{ "/etc/ld.so.cache", CONFINE_READ },
	{ "/etc/localtime", CONFINE_READ },
	{ "/etc/nsswitch.conf", CONFINE_READ },
	{ "/etc/host.conf", CONFINE_READ },
	{ "/etc/hosts", CONFINE_READ },
	{ "/etc/resolv.conf", CONFINE_READ },
	{ "/etc/gai.conf", CONFINE_READ },
	{ "/etc/services", CONFINE_READ },
	{ "/etc/gnutls", CONFINE_READ },
	{ "/etc/crypto-policies", CONFINE_READ },
	{ "/etc/ssl/certs", CONFINE_READ }, /* whom the system trusts */
	{ "/etc/pki/tls/certs", CONFINE_READ },
	{ "/dev/null", CONFINE_WRITE },
	{ "/dev/urandom", CONFINE_READ },
	{ "/dev/xen/blktap-2", CONFINE_WRITE },
#if defined(__SANITIZE_ADDRESS__)
	{ "/proc", CONFINE_READ }, /* where leaks are looked for */
#endif
};

int confine_files_enforce(struct confine_files *c)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < sizeof(always) / sizeof(*always) && !rc; i++) {
		rc = confine_files_allow(c, always[i].path, always[i].right);
		if (rc == -ENOENT || rc == -EACCES || rc == -ENOTDIR)
			rc = 0;
	}
	if (!rc && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		rc = -errno;
	if (!rc && syscall(SYS_landlock_restrict_self, c->ruleset, 0))
		rc = -errno;
	confine_files_fini(c);
	return rc;
}

void confine_files_fini(struct confine_files *c)
{
	if (c->ruleset >= 0)
		close(c->ruleset);
	c->ruleset = -1;
}

#else

int confine_files_probe(void)
{
	return -ENOSYS;
}

int confine_files_init(struct confine_files *c)
{
	c->ruleset = -1;
	return -ENOSYS;
}

int confine_files_allow(struct confine_files *c, const char *path,
			enum confine_right right)
{
	return -ENOSYS;
}

int confine_files_enforce(struct confine_files *c)
{
	return -ENOSYS;
}

void confine_files_fini(struct confine_files *c)
{
}

#endif
