/* SPDX-License-Identifier: BSD-3-Clause */
/* A filter of system calls. It names what a tapdisk never does, rather than all
 * that it does: libc, GnuTLS and modules of others make calls that nobody here
 * can list, and a tapdisk that fails at one of them loses data. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#endif

#ifdef ARCH

/* The sanitizers' last look for leaks is a process that traces this one. */
#if defined(__SANITIZE_ADDRESS__)
#define MAY_TRACE 1
#else
#define MAY_TRACE 0
#endif

static const int refused[] = {
	/* programs, and other processes */
	SYS_execve,
	SYS_execveat,
#if !MAY_TRACE
	SYS_ptrace,
#endif
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_kcmp,
	SYS_perf_event_open,
#ifdef SYS_pidfd_getfd
	SYS_pidfd_getfd,
#endif
	/* the tree of files */
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_mknodat,
#ifdef SYS_mknod
	SYS_mknod,
#endif
	SYS_open_by_handle_at,
	SYS_swapon,
	SYS_swapoff,
	SYS_quotactl,
	SYS_acct,
#ifdef SYS_open_tree
	SYS_open_tree,
	SYS_move_mount,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
#endif
#ifdef SYS_mount_setattr
	SYS_mount_setattr,
#endif
	/* users and namespaces */
	SYS_unshare,
	SYS_setns,
	SYS_setuid,
	SYS_setgid,
	SYS_setreuid,
	SYS_setregid,
	SYS_setresuid,
	SYS_setresgid,
	SYS_setfsuid,
	SYS_setfsgid,
	SYS_setgroups,
	SYS_capset,
	/* the kernel */
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
#ifdef SYS_kexec_file_load
	SYS_kexec_file_load,
#endif
	SYS_bpf,
	SYS_userfaultfd,
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_reboot,
	SYS_syslog,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_clock_adjtime,
	SYS_personality,
	SYS_vhangup,
#ifdef SYS_iopl
	SYS_iopl,
	SYS_ioperm,
	SYS_modify_ldt,
#endif
};

static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };

#define REFUSED (sizeof(refused) / sizeof(*refused))
#define FAMILIES (sizeof(families) / sizeof(*families))
#define PROGRAM_MAX (2 * REFUSED + FAMILIES + 32)

#define LOAD(field)                                             \
	(struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
				      offsetof(struct seccomp_data, field))
/* The next `yes` or `no` instructions are skipped. */
#define JUMP(how, k, yes, no) \
	(struct sock_filter)  \
		BPF_JUMP(BPF_JMP | (how) | BPF_K, (uint32_t)(k), (yes), (no))
#define RETURN(what) \
	(struct sock_filter) BPF_STMT(BPF_RET | BPF_K, (uint32_t)(what))
#define REFUSE RETURN(SECCOMP_RET_ERRNO | EPERM)

/* Children: threads are none. clone3 hides its flags from us; libc knows how to
 * do without. */
static size_t put_children(struct sock_filter *p)
{
	size_t n = 0;

	if (MAY_TRACE)
		return 0;
#ifdef SYS_fork
	p[n++] = JUMP(BPF_JEQ, SYS_fork, 0, 1);
	p[n++] = REFUSE;
	p[n++] = JUMP(BPF_JEQ, SYS_vfork, 0, 1);
	p[n++] = REFUSE;
#endif
#ifdef SYS_clone3
	p[n++] = JUMP(BPF_JEQ, SYS_clone3, 0, 1);
	p[n++] = RETURN(SECCOMP_RET_ERRNO | ENOSYS);
#endif
	p[n++] = JUMP(BPF_JEQ, SYS_clone, 0, 4);
	p[n++] = LOAD(args[0]);
	p[n++] = JUMP(BPF_JSET, CLONE_THREAD, 1, 0);
	p[n++] = REFUSE;
	p[n++] = RETURN(SECCOMP_RET_ALLOW);
	return n;
}

/* For a program that has been told how long it is. */
static size_t put_program(struct sock_filter *p)
{
	size_t i, n = 0;

	/* The other calling conventions of the machine have other numbers. */
	p[n++] = LOAD(arch);
	p[n++] = JUMP(BPF_JEQ, ARCH, 1, 0);
	p[n++] = REFUSE;
	p[n++] = LOAD(nr);
#ifdef __x86_64__
	p[n++] = JUMP(BPF_JGE, 0x40000000, 0, 1);
	p[n++] = REFUSE;
#endif
	for (i = 0; i < REFUSED; i++) {
		p[n++] = JUMP(BPF_JEQ, refused[i], 0, 1);
		p[n++] = REFUSE;
	}
	n += put_children(p + n);
	p[n++] = JUMP(BPF_JEQ, SYS_socket, 0, FAMILIES + 2);
	p[n++] = LOAD(args[0]);
	for (i = 0; i < FAMILIES; i++)
		p[n++] = JUMP(BPF_JEQ, families[i], FAMILIES - i, 0);
	p[n++] = REFUSE;
	p[n++] = RETURN(SECCOMP_RET_ALLOW);
	return n;
}

void confine_calls(void)
{
	struct sock_filter code[PROGRAM_MAX];
	struct sock_fprog program = { .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return;
	program.len = (unsigned short)put_program(code);
	/* Speculation is left as it is: the filter guards against what this
	 * process is made to do, not against what it may read of itself. */
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
}

int confine_calls_probe(void)
{
	uint32_t action = SECCOMP_RET_ERRNO;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action)
		       ? -errno
		       : 0;
}

#else

void confine_calls(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int confine_calls_probe(void)
{
	return -ENOSYS;
}

#endif
