// SPDX-License-Identifier: Apache-2.0
// H6: signal mask, locale and the rest of what the kernel and the C library keep per thread.
//
// Danger      A switch that saved the signal mask would cost a system call; one that does not lets the
//             mask (the locale, the namespace, the affinity) that one goroutine sets leak to the next
//             that runs on the thread.
// Mitigation  lock_thread(): a goroutine that changes its thread has it for itself. If it ends without
//             unlock_thread(), the thread ends with it and is never used again (end_goroutine() and
//             worker_loop() in src/sched).
#include <locale.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <clocale>

#include <tuco/chan.hpp>
#include <tuco/time.hpp>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class ThreadState : public runtime_test {};
TUCO_PROCESSORS(ThreadState);

bool is_blocked(int signal) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  return sigismember(&mask, signal) == 1;
}

void block(int signal, int how) {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, signal);
  pthread_sigmask(how, &mask, nullptr);
}

class private_locale {
 public:
  private_locale() : locale_(::newlocale(LC_ALL_MASK, "C.UTF-8", nullptr)) {}
  ~private_locale() {
    if (locale_ != nullptr) ::freelocale(locale_);
  }
  private_locale(const private_locale&) = delete;
  private_locale& operator=(const private_locale&) = delete;
  [[nodiscard]] locale_t get() const { return locale_; }
  [[nodiscard]] bool in_use() const { return ::uselocale(nullptr) == locale_; }

 private:
  locale_t locale_;
};

bool thread_exists(pid_t thread) { return ::syscall(SYS_tgkill, ::getpid(), thread, 0) == 0; }

// Goroutines on every worker there is, several times over.
void look_everywhere(const std::function<bool()>& clean, const char* what) {
  std::vector<spawned<bool>> all;
  for (int i = 0; i < 200; ++i) {
    all.push_back(spawn([&clean] {
      bool good = clean();
      for (int y = 0; y < 5; ++y) {
        tuco::yield();
        good = good && clean();
      }
      return good;
    }));
  }
  for (auto& g : all) EXPECT_TRUE(g.join()) << what;
}

TUCO_TEST(ThreadState, ALockedThreadIsNobodyElses) {
  private_locale locale;
  ASSERT_NE(locale.get(), nullptr);
  chan<int> started(0), go_on(0);
  auto owner = spawn([&] {
    tuco::lock_thread();
    const pid_t thread = ::gettid();
    block(SIGUSR2, SIG_BLOCK);
    const locale_t before = ::uselocale(locale.get());
    started.send(1);
    int good = 0;
    for (int i = 0; i < 100; ++i) {
      if (i == 50) (void)go_on.recv();
      tuco::yield();
      good += ::gettid() == thread && is_blocked(SIGUSR2) && locale.in_use();
    }
    ::uselocale(before);
    block(SIGUSR2, SIG_UNBLOCK);
    tuco::unlock_thread();
    return good;
  });
  (void)started.recv();
  look_everywhere([&] { return !is_blocked(SIGUSR2) && !locale.in_use(); },
                  "saw what a locked goroutine did to its thread");
  go_on.send(1);
  EXPECT_EQ(owner.join(), 100) << "moved, or its thread was changed under it";
  look_everywhere([&] { return !is_blocked(SIGUSR2) && !locale.in_use(); }, "it was not put back");
}

TUCO_TEST(ThreadState, AGoroutineThatEndsLockedTakesItsThreadAlong) {
  private_locale locale;
  ASSERT_NE(locale.get(), nullptr);
  std::vector<pid_t> gone;
  for (int i = 0; i < 10; ++i) {
    auto polluter = spawn([&] {
      tuco::lock_thread();
      block(SIGUSR2, SIG_BLOCK);
      ::uselocale(locale.get());
      if (i % 2 == 0) tuco::yield();
      return ::gettid();
    });
    gone.push_back(polluter.join());
  }
  look_everywhere([&] { return !is_blocked(SIGUSR2) && !locale.in_use(); },
                  "runs on a thread that should have ended");
  for (const pid_t thread : gone) {
    await([thread] { return !thread_exists(thread); }, "the thread of a locked goroutine to end");
  }
}

// By goexit() as well.
TUCO_TEST(ThreadState, GoexitTakesALockedThreadAlong) {
  std::atomic<pid_t> thread{0};
  tuco::go([&] {
    tuco::lock_thread();
    block(SIGUSR2, SIG_BLOCK);
    thread.store(::gettid());
    tuco::goexit();
  });
  await([&] { return thread.load() != 0 && !thread_exists(thread.load()); }, "the thread to end");
  look_everywhere([] { return !is_blocked(SIGUSR2); }, "runs on a thread that should have ended");
}

// Locked twice is unlocked by two; unlocked, the goroutine may move again and the thread stays.
TUCO_TEST(ThreadState, LocksNest) {
  auto g = spawn([] {
    tuco::lock_thread();
    tuco::lock_thread();
    tuco::unlock_thread();
    const pid_t thread = ::gettid();
    bool stayed = true;
    for (int i = 0; i < 100; ++i) {
      tuco::yield();
      stayed = stayed && ::gettid() == thread;
    }
    tuco::unlock_thread();
    tuco::unlock_thread();  // one too many does nothing
    return stayed ? thread : 0;
  });
  const pid_t thread = g.join();
  EXPECT_NE(thread, 0) << "moved although it was still locked once";
  EXPECT_TRUE(thread_exists(thread));
}

}  // namespace
}  // namespace tuco
