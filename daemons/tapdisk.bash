# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2207 # words without blanks
# Completion for tapdisk. Options are asked of the program itself.

_tapdisk()
{
	local cmd=$1 cur=$2 prev=$3 words=

	case $prev in
	--engine) words='io_uring libaio sync' ;;
	--tls) words='off on require' ;;
	--log) words='error warning info debug' ;;
	--tls-certificates)
		COMPREPLY=($(compgen -d -- "$cur"))
		return
		;;
	--unix | --tls-psk | --rundir | :)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	--confine)
		COMPREPLY=($(compgen -W none -d -- "$cur"))
		return
		;;
	--run | --tcp | --export | --poll) return ;;
	*) words="--version $("$cmd" --help |
		sed -n 's/^  .*\(--[a-z-]*\).*/\1/p')" ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}

complete -F _tapdisk tapdisk
