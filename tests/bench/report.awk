# SPDX-License-Identifier: BSD-3-Clause
# Medians and ratios of what run measured: first its lines "key=value", then
# lines "DIR MODE SERVER LOAD IOPS CPU_NS". Ours comes first in each mode.
FNR == 1 { part++ }

part == 1 {
	i = index($0, "=")
	key[++keys] = substr($0, 1, i - 1)
	value[keys] = substr($0, i + 1)
	next
}

{
	group = $1 SUBSEP $2 SUBSEP $4
	if (!(group in first)) {
		order[++groups] = group
		first[group] = 1
	}
	row = group SUBSEP $3
	if (!(row in n)) {
		member[group, ++members[group]] = $3
		n[row] = 0
	}
	n[row]++
	iops[row, n[row]] = $5
	cpu[row, n[row]] = $6
}

function median(of, row,	a, i, j, t, m) {
	m = n[row]
	for (i = 1; i <= m; i++)
		a[i] = of[row, i] + 0
	for (i = 2; i <= m; i++)
		for (j = i; j > 1 && a[j - 1] > a[j]; j--) {
			t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
		}
	return m % 2 ? a[(m + 1) / 2] : (a[m / 2] + a[m / 2 + 1]) / 2
}

function ratio(x, y) { return y > 0 ? sprintf("%.2f", x / y) : "-" }

function is_ours(s) { return s ~ /^(tapdisk|libblktap)/ }

function show_group(group,	part, i, s, row, x, ours, what, line) {
	split(group, part, SUBSEP)
	what = part[1] SUBSEP part[2]
	if (what != shown) {
		if (part[2] == "start")
			printf "\n%s, start and idle memory\n%-24s %10s %10s\n",
				part[1], "", "", "ours/it"
		else
			printf "\n%s, %s\n%-14s %-16s %10s %10s %9s\n",
				part[1], part[2], "load", "server", "IOPS",
				"CPU ns/IO", "ours/it"
		shown = what
	}
	for (i = 1; i <= members[group]; i++) {
		s = member[group, i]
		row = group SUBSEP s
		x = median(iops, row)
		if (i == 1)
			ours = x
		if (part[2] == "start")
			line = sprintf("%-12s %-24s %10.1f %9s", part[3], s,
				x, i == 1 ? "" : ratio(ours, x))
		else
			line = sprintf("%-14s %-16s %10.0f %10.0f %9s",
				part[3], s, x, median(cpu, row),
				is_ours(s) ? "" : ratio(ours, x))
		sub(/ +$/, "", line)
		print line
	}
}

function show_json(	g, i, part, s, row, sep, x, ours) {
	printf "{"
	for (i = 1; i <= keys; i++)
		printf "\"%s\":\"%s\",", key[i], value[i]
	printf "\"results\":["
	for (g = 1; g <= groups; g++) {
		split(order[g], part, SUBSEP)
		for (i = 1; i <= members[order[g]]; i++) {
			s = member[order[g], i]
			row = order[g] SUBSEP s
			printf "%s\n{\"dir\":\"%s\",\"mode\":\"%s\",", \
				sep, part[1], part[2]
			printf "\"load\":\"%s\",\"server\":\"%s\",", \
				part[3], s
			x = median(iops, row)
			if (i == 1)
				ours = x
			if (part[2] == "start")
				printf "\"value\":%.2f", x
			else
				printf "\"iops\":%.0f,\"cpu_ns\":%.0f", \
					x, median(cpu, row)
			if (i > 1 && !is_ours(s))
				printf ",\"ours_to_it\":%s", ratio(ours, x)
			printf ",\"rounds\":%d}", n[row]
			sep = ","
		}
	}
	print "\n]}"
}

# Modes of a place together, loads within.
function show_all(	g, h, part, other, done) {
	for (g = 1; g <= groups; g++) {
		if (order[g] in done)
			continue
		split(order[g], part, SUBSEP)
		for (h = g; h <= groups; h++) {
			split(order[h], other, SUBSEP)
			if (other[1] == part[1] && other[2] == part[2]) {
				show_group(order[h])
				done[order[h]] = 1
			}
		}
	}
}

END {
	if (json == "true") {
		show_json()
		exit
	}
	for (i = 1; i <= keys; i++)
		printf "%s%s=%s", (i > 1 ? " " : ""), key[i], value[i]
	print ""
	show_all()
}
