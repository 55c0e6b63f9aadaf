/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding modules: every *.so of one directory, which only its owner can write
 * to. What runs in here has all that the process may do, so a file that somebody
 * else could have put there is refused, not skipped. */
#include "module/foreign.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

/* Empty: a set is filled by blktap_modules_load, from one directory or several. */
int blktap_modules_create(struct blktap_modules **out,
			  struct blktap_error **err)
{
	struct blktap_modules *modules = calloc(1, sizeof(*modules));

	if (!modules)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	bt_list_init(&modules->list);
	*out = modules;
	return 0;
}

/* The class is code and data of the library, so it goes first. No node of it is
 * left: a set outlives the contexts that it was given to. */
static void unload(struct bt_foreign *f)
{
	void *library = f->library;
	int fd = f->fd;

	bt_list_del(&f->link);
	bt_foreign_destroy(f);
	dlclose(library);
	close(fd);
}

void blktap_modules_destroy(struct blktap_modules *modules)
{
	if (!modules)
		return;
	while (!bt_list_empty(&modules->list))
		unload(bt_list_first(&modules->list, struct bt_foreign, link));
	free(modules);
}

/* ---- one file --------------------------------------------------------------- */

/* By the open descriptor, so that what was looked at is what is used. Root or
 * ourselves: nobody else may be able to write to it. */
static int check_owner(int fd, bool directory, const char *path,
		       struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return bt_fail(err, -errno, NULL, "%s: %s", path,
			       bt_strerror(-errno, text));
	if (!directory && !S_ISREG(st.st_mode))
		return bt_fail(err, -EPERM, NULL, "%s: is no file", path);
	if ((st.st_uid && st.st_uid != geteuid()) || st.st_mode & 022)
		return bt_fail(err, -EPERM,
			       "it must belong to root, and only root may "
			       "write to it",
			       "%s: others could have changed it", path);
	return 0;
}

/* Names are one space: our own classes, and those of the set. */
static bool is_taken(const struct blktap_modules *modules, const char *name)
{
	const struct blktap_class *cls = NULL;

	while ((cls = blktap_modules_next(modules, cls)))
		if (bt_class_is_called(cls, name))
			return true;
	return blktap_class_find(name) != NULL;
}

/* The library runs code when it is loaded; what it exports is looked at only
 * now, and checked in module/foreign.c. */
static int take_symbol(struct blktap_modules *modules, void *library, int fd,
		       const char *path, struct blktap_error **err)
{
	const struct blktap_module *module =
		dlsym(library, BLKTAP_MODULE_SYMBOL);
	struct bt_foreign *f;
	int rc;

	if (!module)
		return bt_fail(err, -ENOEXEC, "see <blktap/module.h>",
			       "%s: does not export " BLKTAP_MODULE_SYMBOL,
			       path);
	rc = bt_foreign_create(module, path, &f, err);
	if (rc < 0)
		return rc;
	if (is_taken(modules, f->cls.name)) {
		rc = bt_fail(err, -EEXIST, "give it another name",
			     "%s: there is a class '%s' already", path,
			     f->cls.name);
		bt_foreign_destroy(f);
		return rc;
	}
	f->library = library;
	f->fd = fd;
	bt_list_add_tail(&modules->list, &f->link);
	return 0;
}

/* dlerror begins with the name that dlopen was given, where it is the file's fault. */
static int fail_to_load(const char *path, const char *name, size_t length,
			struct blktap_error **err)
{
	const char *cause = dlerror();

	if (!strncmp(cause, name, length) && !strncmp(cause + length, ": ", 2))
		cause += length + 2;
	return bt_fail(err, -ENOEXEC, "build it against this library", "%s: %s",
		       path, cause);
}

/* The file that was looked at is the file that is loaded, whatever becomes of its
 * name meanwhile. fd stays open as long as the library does: dlopen would take the
 * same name, of another file, for what is loaded already. */
static int load_fd(struct blktap_modules *modules, int fd, const char *path,
		   struct blktap_error **err)
{
	char name[64];
	void *library;
	int length, rc = check_owner(fd, false, path, err);

	if (rc < 0)
		return rc;
	length = snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return fail_to_load(path, name, (size_t)length, err);
	rc = take_symbol(modules, library, fd, path, err);
	if (rc < 0)
		dlclose(library);
	return rc;
}

/* By the directory's descriptor, which was checked: its name may be another
 * directory's by now. O_NONBLOCK: a pipe is told of, not waited for. */
static int load_file(struct blktap_modules *modules, int dir,
		     const char *directory, const char *file,
		     struct blktap_error **err)
{
	char text[BT_STRERROR_MAX], path[4096];
	int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	if (fd < 0)
		return bt_fail(err, -errno, NULL, "%s: %s", path,
			       bt_strerror(-errno, text));
	rc = load_fd(modules, fd, path, err);
	if (rc < 0)
		close(fd);
	return rc;
}

/* ---- the directory ---------------------------------------------------------- */

/* Hidden files are left out, as editors and packagers leave some. */
static int is_module(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 3 && entry->d_name[0] != '.' &&
	       !strcmp(entry->d_name + len - 3, ".so");
}

/* In the order of their names, so that every run gives the same. All of them or
 * none: what this call loaded goes again. */
static int load_all(struct blktap_modules *modules, int dir,
		    const char *directory, struct blktap_error **err)
{
	struct bt_list *last = modules->list.prev;
	struct dirent **files;
	char text[BT_STRERROR_MAX];
	int i, rc = 0,
	       count = scandirat(dir, ".", &files, is_module, alphasort);

	if (count < 0)
		return bt_fail(err, -errno, NULL, "%s: %s", directory,
			       bt_strerror(-errno, text));
	for (i = 0; i < count; i++) {
		if (!rc)
			rc = load_file(modules, dir, directory,
				       files[i]->d_name, err);
		free(files[i]);
	}
	free(files);
	while (rc < 0 && modules->list.prev != last)
		unload(bt_list_entry(modules->list.prev, struct bt_foreign,
				     link));
	return rc;
}

/* The directory first: whoever can write to it could put any file there. */
int blktap_modules_load(struct blktap_modules *modules, const char *directory,
			struct blktap_error **err)
{
	const char *name = directory ? directory : BLKTAP_MODULEDIR;
	int dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;
	char text[BT_STRERROR_MAX];

	if (dir < 0)
		return bt_fail(err, -errno, NULL, "%s: %s", name,
			       bt_strerror(-errno, text));
	rc = check_owner(dir, true, name, err);
	if (!rc)
		rc = load_all(modules, dir, name, err);
	close(dir);
	return rc;
}
