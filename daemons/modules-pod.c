/* SPDX-License-Identifier: BSD-3-Clause */
/* Prints blktap-modules(7), at build time, from the tables of classes. */
#include <blktap/blktap.h>
#include <stdio.h>
#include <stdlib.h>

static int put_all(bool drivers)
{
	const struct blktap_class *cls = NULL;
	char *text;

	while ((cls = blktap_class_next(cls))) {
		if (blktap_class_is_driver(cls) != drivers)
			continue;
		if (blktap_class_get_pod(cls, &text) < 0)
			return 1;
		fputs(text, stdout);
		free(text);
	}
	return 0;
}

int main(void)
{
	puts("=head1 NAME\n\nblktap-modules - the classes of Block Mason's "
	     "nodes\n\n"
	     "=head1 DESCRIPTION\n\n"
	     "What a file of L<blktap-mason(5)> is made of: drivers, which "
	     "hold data, and modules, which stand on other nodes. Arguments "
	     "are given by name, or by place in the order in which they stand "
	     "here. A I<live> argument changes while requests are under way, "
	     "without anything being held. The fronts B<disk> and B<export> "
	     "are described in L<blktap-mason(5)>, and so is what the values "
	     "mean.\n\n"
	     "A port that keeps data of the node's own leads to a B<store>: a "
	     "raw file, say, that nobody else writes to. A new one has zeroes "
	     "in its first 8 KiB (truncate -s 1G FILE); where it is too small, "
	     "the error says how large it has to be.\n\n"
	     "=head1 DRIVERS\n");
	if (put_all(true))
		return 1;
	puts("=head1 MODULES\n");
	if (put_all(false))
		return 1;
	puts("=head1 SEE ALSO\n\nL<blktap-mason(5)>, L<blktap(7)>");
	return fflush(stdout) ? 1 : 0;
}
