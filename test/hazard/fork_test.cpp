// SPDX-License-Identifier: Apache-2.0
// H19: fork and exec in a process that has a runtime.
//
// Danger      The child has one thread and the locks of many. Descriptors leak into programs that are
//             started. A descriptor that the child still holds keeps the parent's epoll reporting it
//             after the parent has closed it.
// Mitigation  A pthread_atfork hook marks the child: its first call into the runtime prints a message and
//             ends it (sched/plain_thread.cpp). All descriptors are O_CLOEXEC. close() takes the
//             descriptor out of epoll first (poll/poller.cpp).
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include <tuco/chan.hpp>
#include <tuco/mutex.hpp>
#include <tuco/time.hpp>
#include <tuco/unix.hpp>
#include <tuco/tcp.hpp>
#include <tuco/wait_group.hpp>

#include "fixture/runtime_test.hpp"

extern char** environ;

namespace tuco {
namespace {

using namespace tuco::test;

class Fork : public runtime_test {};
TUCO_PROCESSORS(Fork);

struct ended {
  int status = 0;
  std::string text;
};

/// Waits for the end of a child and of what it prints. Blocks the thread, as such code does.
ended wait_for(pid_t child, int from) {
  ended result;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(from, buffer, sizeof buffer)) > 0;) {
    result.text.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(from);
  while (::waitpid(child, &result.status, 0) < 0 && errno == EINTR) {
  }
  return result;
}

/// Forks; the child does `what` with its stderr in a pipe, and says when it comes back from that.
ended in_child(const std::function<void()>& what) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], 2);
    ::alarm(60);  // a child that hangs must not outlive the test
    what();
    static_cast<void>(!::write(2, "came back\n", 10));
    ::_exit(0);
  }
  ::close(ends[1]);
  return wait_for(child, ends[0]);
}

void expect_refusal(const ended& child, const char* what) {
  EXPECT_TRUE(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 2)
      << what << ": status " << child.status << ", " << child.text;
  EXPECT_TRUE(child.text.starts_with("fatal error: goroutine call in the child of a fork"))
      << what << ": " << child.text;
}

void noise(const std::atomic<bool>& stop) {
  chan<int> c(4);
  while (!stop.load(std::memory_order_relaxed)) {
    tuco::wait_group some;
    for (int i = 0; i < 20; ++i) {
      some.add(1);
      tuco::go([&, i] {
        if (i % 2 == 0) c.send(i);
        else (void)c.recv();
        some.done();
      });
    }
    some.wait();
  }
}

TUCO_TEST(Fork, TheChildSaysThatItHasNoGoroutines) {
  std::atomic<bool> stop{false};
  auto storm = spawn([&] { noise(stop); });
  tuco::mutex m;
  chan<int> c(1), full(0);
  const std::pair<const char*, std::function<void()>> calls[] = {
      {"go", [] { tuco::go([] {}); }},
      {"yield", [] { tuco::yield(); }},
      {"sleep", [] { tuco::sleep_for(std::chrono::milliseconds(1)); }},
      {"send", [&] { c.send(1); }},
      {"receive that parks", [&] { (void)full.recv(); }},
      {"lock", [&] { m.lock(); m.unlock(); m.lock(); full.close(); }},
      {"after", [] { (void)tuco::after(std::chrono::seconds(1)).recv(); }},
      {"net", [] { (void)tuco::unix_conn::pair(); tuco::yield(); }},
  };
  for (int round = 0; round < 5; ++round) {
    for (const auto& [name, call] : calls) expect_refusal(in_child(call), name);
  }
  stop.store(true);
  storm.join();
}

// Forked by a thread that is no worker, in the midst of it all.
TUCO_TEST(Fork, AThreadMayForkAndItsChildSaysTheSame) {
  std::atomic<bool> stop{false};
  auto storm = spawn([&] { noise(stop); });
  std::vector<ended> children(10);
  std::atomic<bool> done{false};
  std::thread forker([&] {
    for (ended& child : children) child = in_child([] { tuco::chan<int>(1).send(1); });
    done.store(true);
  });
  await([&] { return done.load(); }, "the children");
  forker.join();
  for (const ended& child : children) expect_refusal(child, "send on a plain thread");
  stop.store(true);
  storm.join();
}

// A child that keeps away from the runtime is an ordinary child.
TUCO_TEST(Fork, TheChildMayUseTheCLibrary) {
  std::atomic<bool> stop{false};
  auto storm = spawn([&] { noise(stop); });
  for (int i = 0; i < 20; ++i) {
    const ended child = in_child([] {
      std::vector<std::string> memory(1000, std::string(1000, 'x'));
      if (memory.back().back() != 'x') ::_exit(3);
    });
    EXPECT_EQ(child.status, 0);
    EXPECT_EQ(child.text, "came back\n");
  }
  stop.store(true);
  storm.join();
}

/// What a program that is started finds: its descriptors and its signals.
ended start(std::vector<const char*> arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, arguments[0], &actions, nullptr,
                                  const_cast<char**>(arguments.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error != 0) ADD_FAILURE() << "posix_spawn: " << error;
  return wait_for(child, ends[0]);
}

TUCO_TEST(Fork, StartedProgramsInheritNoDescriptors) {
  std::atomic<bool> stop{false};
  auto storm = spawn([&] { noise(stop); });
  const auto listener = tcp_listener::listen("127.0.0.1:0");
  auto [a, b] = unix_conn::pair();
  for (int i = 0; i < 20; ++i) {
    auto [c, d] = unix_conn::pair();
    // One file each for ls itself and for what this test was started with; none of the runtime's.
    const ended child = start({"/bin/ls", "-l", "/proc/self/fd"});
    EXPECT_EQ(child.status, 0);
    for (const char* kind : {"socket:", "anon_inode:", "/task/"}) {
      EXPECT_EQ(child.text.find(kind), std::string::npos) << child.text;
    }
  }
  stop.store(true);
  storm.join();
}

std::string signal_line(const std::string& status, const std::string& name) {
  const auto at = status.find("\n" + name + ":");
  return at == std::string::npos ? "" : status.substr(at + 1, status.find('\n', at + 1) - at - 1);
}

// Workers have the mask of the thread that called run(), and so has what they start.
TEST_P(Fork, StartedProgramsHaveTheSignalMaskOfTheProgram) {
  sigset_t wanted, before;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGWINCH);
  pthread_sigmask(SIG_SETMASK, &wanted, &before);
  std::string status;
  tuco::run([&] { status = start({"/bin/cat", "/proc/self/status"}).text; }, {.procs = GetParam()});
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(signal_line(status, "SigBlk"), "SigBlk:\t0000000008000000");
}

// Forked and executed from many goroutines at once, under load.
TUCO_TEST(Fork, ExecWorksUnderLoad) {
  std::atomic<bool> stop{false};
  auto storm = spawn([&] { noise(stop); });
  std::vector<spawned<int>> all;
  for (int i = 0; i < 4; ++i) {
    all.push_back(spawn([] {
      int good = 0;
      for (int k = 0; k < 15; ++k) {
        if (k % 2 == 0) {
          good += start({"/bin/sh", "-c", "exit 7"}).status == 7 << 8;
          continue;
        }
        const pid_t child = ::fork();
        if (child == 0) {
          ::execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
          ::_exit(127);
        }
        int status = 0;
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        good += status == 7 << 8;
      }
      return good;
    }));
  }
  for (auto& g : all) EXPECT_EQ(g.join(), 15);
  stop.store(true);
  storm.join();
}

/// How many descriptors are registered with the epoll descriptors of this process.
std::size_t registrations() {
  std::size_t count = 0;
  for (int fd = 0; fd < 256; ++fd) {
    std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
    for (std::string line; std::getline(info, line);) count += line.starts_with("tfd:");
  }
  return count;
}

TUCO_TEST(Fork, AConnectionThatTheChildStillHoldsIsNoLongerReported) {
  { auto warm_up = unix_conn::pair(); }
  const std::size_t before = registrations();
  auto [ours, peer] = unix_conn::pair();
  EXPECT_EQ(registrations(), before + 2);
  int hold[2];
  ASSERT_EQ(::pipe2(hold, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(hold[1]);
    char c = 0;
    static_cast<void>(!::read(hold[0], &c, 1));
    ::_exit(0);
  }
  ::close(hold[0]);
  ours.close();
  EXPECT_EQ(registrations(), before + 1) << "the child's copy keeps it alive";
  // The number is used again; nothing of the old connection, whose other end now writes, arrives here.
  auto [next, next_peer] = unix_conn::pair();
  peer.write("for nobody");
  next_peer.write("n");
  char c = 0;
  EXPECT_EQ(next.read_some({&c, 1}), 1u);
  EXPECT_EQ(c, 'n');
  ::close(hold[1]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace tuco
