// SPDX-License-Identifier: Apache-2.0
// without_membarrier COMMAND...: runs the command in a process to which the kernel refuses membarrier(2), as
// the seccomp filters of some sandboxes do.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <iterator>

int main(int argc, char** argv) {
  if (argc < 2) return 64;
  sock_filter refuse[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(refuse), refuse};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    std::perror("without_membarrier: seccomp");
    return 125;
  }
  if (::syscall(SYS_membarrier, 0, 0, 0) != -1 || errno != EPERM) {
    std::fputs("without_membarrier: the kernel does not refuse it\n", stderr);
    return 125;
  }
  ::execv(argv[1], argv + 1);
  std::perror(argv[1]);
  return 126;
}
