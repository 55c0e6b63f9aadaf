# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2207 # words without blanks
# Completion for tap-ctl. Verbs and options are asked of the program itself.

_tap_ctl_words()
{
	COMPREPLY=($(compgen -W "$1" -- "$2"))
}

_tap_ctl()
{
	local cmd=$1 cur=$2 prev=$3

	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		_tap_ctl_words "--help --version $("$cmd" --help |
			sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')" "$cur"
		return
	fi
	case $COMP_CWORD:${COMP_WORDS[1]} in
	2:mason | 2:job)
		_tap_ctl_words "$("$cmd" "${COMP_WORDS[1]}" --help |
			sed -n 's/^  \([a-z]*\) .*/\1/p')" "$cur"
		return
		;;
	esac
	case $prev in
	-p | --pid)
		_tap_ctl_words "$("$cmd" list 2>/dev/null |
			sed -n 's/^pid=\([0-9]*\).*/\1/p')" "$cur"
		return
		;;
	-m | --minor | -e | --parent)
		_tap_ctl_words "$("$cmd" list 2>/dev/null |
			sed -n 's/.*minor=\([0-9]*\).*/\1/p')" "$cur"
		return
		;;
	-f | --file | -C | -c | --cbt-log | --rundir | :)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	esac
	case ${COMP_WORDS[1]}:$cur in
	mason:-* | job:-*)
		_tap_ctl_words "$("$cmd" "${COMP_WORDS[1]}" "${COMP_WORDS[2]}" \
			--help 2>/dev/null |
			sed -n 's/^  .*\(--[a-z-]*\).*/\1/p')" "$cur"
		return
		;;
	*:-*) ;;
	job:*)
		[ "${COMP_WORDS[2]}:$COMP_CWORD" != start:3 ] ||
			_tap_ctl_words "stream commit coalesce" "$cur"
		return
		;;
	mason:* | map:*)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	unmap:*)
		_tap_ctl_words "$("$cmd" map --list 2>/dev/null |
			sed -n 's/^name=\([^ ]*\) .*/\1/p')" "$cur"
		return
		;;
	esac
	case $prev:$cur in
	*:-*)
		_tap_ctl_words "$("$cmd" "${COMP_WORDS[1]}" --help 2>/dev/null |
			sed -n 's/^  .*\(--[a-z-]*\).*/\1/p')" "$cur"
		;;
	-a:* | --args:* | -2:* | --secondary:*)
		compopt -o nospace 2>/dev/null
		_tap_ctl_words "$("$cmd" doctor 2>/dev/null |
			sed -n 's/^ok *types *//p' | sed 's/\([^ ]*\)/\1:/g')" \
			"$cur"
		;;
	-t:* | --type:*)
		_tap_ctl_words "$("$cmd" doctor 2>/dev/null |
			sed -n 's/^ok *types *//p')" "$cur"
		;;
	esac
}

complete -F _tap_ctl tap-ctl
