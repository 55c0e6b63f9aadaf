#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The library keeps no state outside its contexts and does nothing that belongs
# to the program: it neither prints, ends the process, reads the environment,
# installs signal handlers, starts threads nor sleeps.
. "${srcdir:-.}/tests/lint/lint.sh"
requires_plain_objects

# Sections that can be written once the program runs (.data.rel.ro cannot).
lib_objects | while read -r o; do
	objdump -t "$o" | awk -v o="${o#"$builddir/"}" -F '\t' '
		{ n = split($1, a, " "); section = a[n] }
		section ~ /^\.(t?data|t?bss)/ && section !~ /^\.data\.rel\.ro/ ||
		section == "*COM*" {
			# size, then perhaps .hidden, then the name
			n = split($2, b, " ")
			if (b[1] !~ /^0+$/)
				print o ": " b[n] " is mutable, in " section
		}'
done >bad
verdict bad

lib_objects | while read -r o; do
	nm -u "$o" | awk -v o="${o#"$builddir/"}" '
		{ name = $2; sub(/@.*/, "", name) }
		# starting a tapdisk is what the driving side of control/ is for
		o ~ /\/control\// && name == "posix_spawn" { next }
		# the one place that starts a process: a tapdisk, when asked to;
		# and ends it, where it does not start
		o ~ /control\/.*client-spawn\.o$/ &&
			name ~ /^(posix_spawn|kill)$/ { next }
		name ~ /^(_?exit|_Exit|quick_exit|abort|__assert_fail|__assert)$/ ||
		name ~ /^(__)?v?f?printf(_chk)?$|^(put|perr|psig)[a-z]*$/ ||
		name ~ /^(stdin|stdout|stderr|v?syslog|openlog|v?warnx?|v?errx?)$/ ||
		name ~ /^(secure_)?getenv$|^(set|unset|put)env$|^environ$/ ||
		name ~ /^(signal|sigaction|sigprocmask|raise|kill|alarm)$/ ||
		name ~ /^(pthread_(create|atfork)|thrd_create|atexit|fork|vfork)$/ ||
		name ~ /^(system|popen|exec[vl][pe]*|posix_spawnp?|daemon)$/ ||
		name ~ /^(sleep|usleep|nanosleep|clock_nanosleep|pause)$/ ||
		name ~ /^(chdir|fchdir|umask|setlocale|srand|rand|strtok)$/ ||
		name ~ /^(strerror|gmtime|localtime|ctime|asctime|inet_ntoa)$/ {
			print o ": uses " name }'
done >bad
verdict bad
