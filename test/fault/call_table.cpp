// SPDX-License-Identifier: Apache-2.0
#include "fault/call_table.hpp"

#include <netdb.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "os/fault.hpp"

namespace tuco::test {
namespace {

using os::call;

template <int... Errors>
constexpr std::array<int, sizeof...(Errors)> list{Errors...};

constexpr auto lasting = how_long::lasting;
constexpr auto passing = how_long::passing;

constexpr std::string_view no_thread = "fatal error: newosproc";
constexpr std::string_view no_stack = "fatal error: out of memory for goroutine stacks";
constexpr std::string_view poller_lost = "somebody closed the runtime's descriptor";

constexpr call_use uses[] = {
    {call::mmap, "memory", "stacks, records, tables"},
    {call::munmap, "memory", "giving them back"},
    {call::mprotect, "memory", "guards without MADV_GUARD_INSTALL; guards of signal stacks"},
    {call::madvise, "memory", "guards, returning idle pages, no huge pages"},
    {call::mincore, "memory", "how deep a stack went"},
    {call::prctl, "threads", "names of regions and threads, timer slack"},
    {call::futex, "threads", "threads that wait"},
    {call::membarrier, "threads", "the fence of the monitor"},
    {call::thread_create, "threads", "workers, the monitor, the reporter of dumps (pthread_create)"},
    {call::sigaltstack, "threads", "the stack on which an overflow is reported"},
    {call::tgkill, "threads", "stacks of running goroutines, for dumps"},
    {call::affinity, "threads", "the number of processors (sched_getaffinity)"},
    {call::clock_gettime, "threads", "CPU time of a worker, for the monitor"},
    {call::nanosleep, "threads", "pauses of the runtime's own"},
    {call::open, "files", "/proc, cgroups, symbols"},
    {call::close, "files", "every descriptor"},
    {call::read, "files", "/proc, cgroups, symbols, eventfds, files that sendfile cannot send"},
    {call::write, "files", "messages, eventfds"},
    {call::stat, "files", "the number of threads"},
    {call::fcntl, "files", "descriptors that were adopted"},
    {call::epoll_create, "poller", "the poller, once"},
    {call::epoll_ctl, "poller", "each descriptor, once"},
    {call::epoll_wait, "poller", "sleeping until a descriptor is ready; poll(2) on other threads"},
    {call::eventfd, "poller", "waking who sleeps there"},
    {call::socket, "sockets", "dial, listen, pair"},
    {call::bind, "sockets", "listen"},
    {call::listen, "sockets", "listen"},
    {call::accept, "sockets", "accept"},
    {call::connect, "sockets", "dial"},
    {call::shutdown, "sockets", "half-close"},
    {call::sockopt, "sockets", "options, errors of a connect, adopted descriptors"},
    {call::sockname, "sockets", "addresses of both ends"},
    {call::resolve, "sockets", "names (getaddrinfo)"},
    {call::send, "transfers", "writing"},
    {call::recv, "transfers", "reading"},
    {call::sendfile, "transfers", "send_file"},
};

constexpr errors_of_call table[] = {
    {call::mmap, lasting, list<ENOMEM, EAGAIN, EACCES, EPERM, EINVAL, ENFILE>, absorbed | reported | ended,
     "`run` or `go` throws; a goroutine that was started waits until a stack can be had, and the program ends "
     "if nobody could get on for 10 s; idle memory is kept; dumps show fewer frames", no_stack},
    {call::munmap, lasting, list<EINVAL, ENOMEM>, absorbed, "the pages go back, the address space is lost"},
    {call::mprotect, lasting, list<ENOMEM, EACCES, EINVAL, EPERM>, absorbed | reported | ended,
     "as mmap; a worker without a signal stack reports no overflow", no_stack},
    {call::madvise, lasting, list<EINVAL, EAGAIN, EBADF, EIO, EPERM, EACCES, ENOSYS>, absorbed,
     "guards by mprotect; idle memory is kept"},
    {call::madvise, lasting, list<ENOMEM>, absorbed | reported | ended, "as mmap", no_stack},
    {call::mincore, lasting, list<EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM>, absorbed,
     "a deep stack keeps its pages while it is idle; high-water marks read 0"},
    {call::prctl, lasting, list<EINVAL, EACCES, EBADF, EFAULT, ENOMEM, EPERM, ENOSYS>, absorbed,
     "no names; timers up to 50 µs late"},
    {call::futex, passing, list<EINTR>, absorbed, "the waiter looks again"},
    {call::membarrier, lasting, list<EPERM, ENOSYS, EINVAL>, absorbed,
     "full fences at each entry of the runtime, from then on"},
    {call::thread_create, lasting, list<EAGAIN, ENOMEM, EPERM, EINVAL>, absorbed | reported | ended,
     "`run` throws if it has no worker at all; else fewer workers, and the program ends if work has found none "
     "for 10 s; no reporter: dumps are written by whoever dies", no_thread},
    {call::sigaltstack, lasting, list<ENOMEM, EINVAL, EPERM, EFAULT>, absorbed,
     "overflows on this worker end in a bare SIGSEGV"},
    {call::tgkill, lasting, list<ESRCH, EAGAIN, EPERM, EINVAL>, absorbed,
     "`goroutine running on other thread; stack unavailable`"},
    {call::affinity, lasting, list<EINVAL, EFAULT, ESRCH, EPERM, ENOSYS>, absorbed,
     "as many processors as are online"},
    {call::clock_gettime, lasting, list<EINVAL, EPERM, EFAULT, ENOSYS>, absorbed,
     "what the thread does is asked of /proc"},
    {call::nanosleep, passing, list<EINTR>, absorbed, "repeated until the time has passed"},
    {call::open, passing, list<EINTR>, absorbed, "repeated"},
    {call::open, lasting,
     list<EACCES, ENOENT, EMFILE, ENFILE, ENOMEM, ENOTDIR, ELOOP, EPERM, EIO, ENODEV, ENXIO, EOVERFLOW, EBUSY>,
     absorbed, "no quota is known, no activity of threads, no file and line in dumps"},
    {call::close, lasting, list<EINTR, EIO, ENOSPC, EDQUOT, EBADF>, absorbed,
     "the descriptor is gone all the same; never repeated"},
    {call::read, passing, list<EINTR>, absorbed, "repeated"},
    {call::read, lasting, list<EAGAIN, ESRCH, EISDIR, EACCES>, absorbed | reported | ended,
     "as open; an eventfd that cannot be read, other than by EAGAIN, ends the program", poller_lost},
    {call::read, lasting, list<EIO, EINVAL, EBADF, EFAULT>, absorbed | reported | ended,
     "the same; `send_file` of a file that must be copied fails", poller_lost},
    {call::write, passing, list<EINTR>, absorbed, "repeated"},
    {call::write, lasting, list<EBADF, EIO, ENOSPC, EPIPE, EPERM, EDQUOT, EFBIG, EINVAL, EFAULT, EDESTADDRREQ>,
     absorbed | ended, "a message is lost; an eventfd that cannot be written ends the program", poller_lost},
    {call::stat, lasting, list<EACCES, ENOENT, ENOMEM, ENOTDIR, ELOOP, EOVERFLOW, EBADF, EFAULT, EPERM>, absorbed,
     "threads are counted one by one; if that fails too, a deadlock is not noticed"},
    {call::fcntl, passing, list<EINTR>, reported, "`adopt` fails"},
    {call::fcntl, lasting, list<EACCES, EAGAIN, EBADF, EINVAL, EPERM, EMFILE, ENOLCK>, reported, "`adopt` fails"},
    {call::epoll_create, lasting, list<EMFILE, ENFILE, ENOMEM, EINVAL, EPERM>, reported,
     "the first dial, listen, pair or adopt fails; the next one tries again"},
    {call::epoll_ctl, lasting, list<ENOSPC, ENOMEM, EPERM, EEXIST, ENOENT, EBADF, EINVAL, ELOOP>,
     absorbed | reported, "dial, listen, accept, pair or adopt fails and closes what it opened; "
                          "closing goes on"},
    {call::epoll_wait, passing, list<EINTR>, absorbed, "the sleeper looks again"},
    {call::epoll_wait, lasting, list<EBADF, EINVAL, EFAULT, ENOMEM>, absorbed | reported | ended,
     "in the runtime's own threads it ends the program; on other threads the read or write fails", poller_lost},
    {call::epoll_wait, lasting, list<ENOSYS, EPERM>, absorbed | reported | ended,
     "the older call, with milliseconds, from then on; if that fails, too, as above", poller_lost},
    {call::eventfd, lasting, list<EMFILE, ENFILE, ENOMEM, ENODEV, EINVAL, EPERM>, absorbed | reported,
     "as epoll_create; other threads look at `close` and deadlines every 10 ms instead"},
    {call::socket, lasting,
     list<EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EPERM, EAFNOSUPPORT, EPROTONOSUPPORT, EINVAL>, reported,
     "the operation fails"},
    {call::bind, lasting,
     list<EADDRINUSE, EADDRNOTAVAIL, EACCES, EINVAL, EBADF, ENOTSOCK, EFAULT, ELOOP, ENAMETOOLONG, ENOENT,
          ENOMEM, ENOTDIR, EROFS, EPERM>,
     reported, "listen fails"},
    {call::listen, lasting, list<EADDRINUSE, EBADF, ENOTSOCK, EOPNOTSUPP, EPERM>, reported,
     "listen fails; a unix path that it made is removed"},
    {call::accept, passing,
     list<EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH>,
     absorbed, "the next connection is taken"},
    {call::accept, passing, list<EMFILE, ENFILE, ENOBUFS, ENOMEM>, absorbed,
     "accept waits, 5 ms to 1 s, and tries again, until it is closed or its deadline passes"},
    {call::accept, lasting, list<EPERM, EBADF, EFAULT, EINVAL, ENOTSOCK, EOPNOTSUPP, ENOSYS>, reported,
     "accept fails"},
    {call::connect, passing, list<EAGAIN>, absorbed | reported,
     "unix: dial tries again while the queue is full; TCP: dial fails"},
    {call::connect, lasting, list<EADDRNOTAVAIL>, absorbed | reported,
     "TCP: dial tries twice more; unix: it fails"},
    {call::connect, passing, list<EINTR, EINPROGRESS>, absorbed, "dial waits for the answer", {}, "tcp"},
    {call::connect, lasting,
     list<ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, EACCES, EPERM, EADDRINUSE,
          EAFNOSUPPORT, EALREADY, EBADF, EFAULT, EISCONN, ENOTSOCK, EPROTOTYPE, ENOENT, ENOBUFS, ENOMEM>,
     reported, "dial fails, or goes on to the name's next address"},
    {call::shutdown, lasting, list<ENOTCONN, EBADF, EINVAL, ENOTSOCK>, reported, "the operation fails"},
    {call::sockopt, lasting, list<ENOPROTOOPT, EBADF, EFAULT, EINVAL, ENOTSOCK, EPERM, ENOMEM, EDOM>,
     absorbed | reported, "a connection without TCP_NODELAY or keep-alive; set_…, dial, listen, adopt fail"},
    {call::sockname, lasting, list<ENOBUFS, EBADF, EFAULT, EINVAL, ENOTSOCK>, absorbed | reported,
     "an empty endpoint; dial fails; a unix listener's path stays"},
    {call::resolve, lasting,
     list<EAI_AGAIN, EAI_BADFLAGS, EAI_FAIL, EAI_FAMILY, EAI_MEMORY, EAI_NODATA, EAI_NONAME, EAI_SERVICE,
          EAI_SOCKTYPE, EMFILE, EIO>,
     reported, "the operation fails, with an error of `net_errc` or of the system"},
    {call::send, passing, list<EINTR>, absorbed, "repeated"},
    {call::send, lasting,
     list<ECONNRESET, EPIPE, ENOBUFS, ENOMEM, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN, EACCES, EBADF,
          EDESTADDRREQ, EFAULT, EINVAL, EISCONN, EMSGSIZE, ENOTCONN, ENOTSOCK, EOPNOTSUPP, EPERM, EALREADY>,
     reported, "the write fails"},
    {call::recv, passing, list<EINTR>, absorbed, "repeated"},
    {call::recv, lasting,
     list<ECONNRESET, ETIMEDOUT, ENOMEM, ENOBUFS, EHOSTUNREACH, ECONNREFUSED, EBADF, EFAULT, EINVAL, ENOTCONN,
          ENOTSOCK, EIO>,
     reported, "the read fails"},
    {call::sendfile, passing, list<EINTR>, absorbed, "repeated"},
    {call::sendfile, lasting, list<EINVAL, ENOSYS>, absorbed, "the file is copied instead"},
    {call::sendfile, lasting,
     list<EIO, ENOMEM, EPIPE, ECONNRESET, EBADF, EFAULT, EOVERFLOW, ESPIPE, EPERM>, reported,
     "`send_file` fails"},
};

constexpr left_out omitted[] = {
    {call::getdents, list<EBADF, EFAULT, EINVAL, ENOENT, ENOTDIR>,
     "asked only where stat of /proc fails already: `src/os/proc_test.cpp`"},
    {call::futex, list<ETIMEDOUT, EAGAIN>,
     "ordinary results, given only when the time has passed or the word has changed"},
    {call::futex, list<EINVAL, EFAULT, EACCES, ENOSYS, EPERM>,
     "answers to wrong arguments, or to a process that could not have locked a mutex either"},
    {call::nanosleep, list<EINVAL, EFAULT, ENOTSUP>, "answers to wrong arguments"},
    {call::write, list<EAGAIN>,
     "of an eventfd it says that it is readable already; of a pipe: `src/os/text_test.cpp`"},
    {call::recv, list<EAGAIN>, "the ordinary result; given while data is there it would lose an edge"},
    {call::send, list<EAGAIN>, "the same"},
    {call::sendfile, list<EAGAIN>, "the same"},
    {call::accept, list<EAGAIN>, "the same"},
    {call::sockname, list<ENOTCONN>, "the ordinary result of getpeername while a connect is under way"},
};

std::string names_of(call kind, std::span<const int> errors) {
  std::string names;
  for (const int error : errors) names += (names.empty() ? "" : " ") + error_name(kind, error);
  return names;
}

}  // namespace

std::span<const call_use> call_uses() { return uses; }
std::span<const errors_of_call> call_table() { return table; }
std::span<const left_out> left_out_table() { return omitted; }

std::string error_name(call kind, int error) {
  if (kind == call::resolve && error < 0) {
    switch (error) {
      case EAI_AGAIN: return "EAI_AGAIN";
      case EAI_BADFLAGS: return "EAI_BADFLAGS";
      case EAI_FAIL: return "EAI_FAIL";
      case EAI_FAMILY: return "EAI_FAMILY";
      case EAI_MEMORY: return "EAI_MEMORY";
      case EAI_NODATA: return "EAI_NODATA";
      case EAI_NONAME: return "EAI_NONAME";
      case EAI_SERVICE: return "EAI_SERVICE";
      case EAI_SOCKTYPE: return "EAI_SOCKTYPE";
      default: return ::gai_strerror(error);
    }
  }
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : std::to_string(error);
}

std::string call_table_text() {
  std::string text = "| call | for | errors | what becomes of it |\n|---|---|---|---|\n";
  for (const call_use& use : uses) {
    bool first = true;
    for (const errors_of_call& row : table) {
      if (row.kind != use.kind) continue;
      text += "| " + std::string(first ? os::to_string(use.kind) : "") + " | " +
              std::string(first ? use.use : "") + " | " + names_of(row.kind, row.errors) + " | " +
              std::string(row.becomes) + " |\n";
      first = false;
    }
  }
  text += "\nNot injected:\n\n| call | errors | why not |\n|---|---|---|\n";
  for (const left_out& row : omitted) {
    text += "| " + std::string(os::to_string(row.kind)) + " | " + names_of(row.kind, row.errors) + " | " +
            std::string(row.reason) + " |\n";
  }
  return text;
}

}  // namespace tuco::test
