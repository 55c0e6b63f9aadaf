/* SPDX-License-Identifier: BSD-3-Clause */
/* How long a server takes until its socket answers, and what memory it has then:
 *
 *   bench-start SOCKET COMMAND [ARGUMENT...]
 *
 * Prints one line: milliseconds from fork to the first connection, and the KiB
 * resident a fifth of a second later. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 5000.0

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void doze(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

static int answers(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ok = fd >= 0 && !connect(fd, (const struct sockaddr *)address,
				     sizeof(*address));

	if (fd >= 0)
		close(fd);
	return ok;
}

static long resident_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmRSS:", 6))
			kib = strtol(line + 6, NULL, 10);
	if (f)
		fclose(f);
	return kib;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	double start = now_ms(), end = 0;
	pid_t pid;

	if (argc < 3 || strlen(argv[1]) >= sizeof(address.sun_path)) {
		fprintf(stderr, "usage: bench-start SOCKET COMMAND "
				"[ARGUMENT...]\n");
		return 2;
	}
	strcpy(address.sun_path, argv[1]);
	pid = fork();
	if (!pid) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	while (pid > 0 && !end && now_ms() - start < PATIENCE_MS) {
		if (answers(&address))
			end = now_ms();
		else
			doze(50 * 1000);
	}
	doze(200 * 1000 * 1000);
	if (end)
		printf("start_ms=%.2f rss_kib=%ld\n", end - start,
		       resident_kib(pid));
	kill(pid, SIGTERM);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return !end;
}
