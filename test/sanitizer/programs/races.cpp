// SPDX-License-Identifier: Apache-2.0
// races WAY PROCS: accesses one variable from two goroutines, with an order between them or without.
//
// In the ways of `racing`, here() and there() are the two sides, and nothing orders them, however close
// some come to it. In those of `ordered`, something that the library promises to order does.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <tuco/tuco.hpp>

namespace app {

using namespace std::chrono_literals;
using tuco::chan;
using tuco::go;

int shared = 0;

[[gnu::noinline]] void here(int& x) { x = x + 1; }
[[gnu::noinline]] void there(int& x) { x = x + 1; }

/// Runs both beside each other and waits for both.
void both(const std::function<void()>& one, const std::function<void()>& other) {
  tuco::wait_group all;
  all.add(2);
  go([&] { one(); all.done(); });
  go([&] { other(); all.done(); });
  all.wait();
}

/// Waits for something without being ordered behind it.
void until(const std::atomic<bool>& flag) {
  while (!flag.load(std::memory_order_relaxed)) tuco::yield();
}
void set(std::atomic<bool>& flag) { flag.store(true, std::memory_order_relaxed); }

struct failure {
  int code;
};

const std::map<std::string_view, void (*)()> racing = {
    {"siblings", [] { both([] { here(shared); }, [] { there(shared); }); }},
    {"siblings-that-yield",
     [] {
       both([] { here(shared); tuco::yield(); here(shared); }, [] { there(shared); tuco::yield(); there(shared); });
     }},
    {"parent-after-go",
     [] {
       std::atomic<bool> done{false};
       go([&] { here(shared); set(done); });
       there(shared);
       until(done);
     }},
    {"end-of-a-goroutine",
     [] {
       std::atomic<bool> done{false};
       go([&] { here(shared); set(done); });
       until(done);
       // Some of these have the record and the stack of the one that ended, if anybody has.
       for (int i = 0; i < 8; ++i) go([] {});
       tuco::yield();
       there(shared);
     }},
    {"one-after-the-other",
     [] {
       std::atomic<bool> done{false};
       go([&] { here(shared); set(done); });
       until(done);
       std::atomic<bool> done_too{false};
       go([&] { there(shared); set(done_too); });
       until(done_too);
     }},
    {"grandchild",
     [] {
       std::atomic<bool> done{false};
       go([&] { go([&] { here(shared); set(done); }); there(shared); });
       until(done);
     }},
    {"local-of-the-parent",
     [] {
       int local = 0;
       std::atomic<bool> done{false};
       go([&] { here(local); set(done); });
       there(local);
       until(done);
     }},
    {"on-the-heap",
     [] {
       const auto owned = std::make_shared<int>(0);
       both([owned] { here(*owned); }, [owned] { there(*owned); });
     }},
    {"after-the-send",
     [] {
       const chan<int> c(0);
       both([&] { c.send(1); here(shared); }, [&] { (void)c.recv(); there(shared); });
     }},
    {"two-channels",
     [] {
       const chan<int> c(1);
       const chan<int> d(1);
       both([&] { here(shared); c.send(1); }, [&] { d.send(1); (void)d.recv(); there(shared); });
     }},
    {"refused-receive",
     [] {
       const chan<int> c(1);
       both([&] { int n = 0; (void)c.try_recv(n); here(shared); }, [&] { int n = 0; (void)c.try_recv(n); there(shared); });
     }},
    {"select-of-another-case",
     [] {
       const chan<int> c(1);
       const chan<int> d(1);
       both([&] { here(shared); c.send(1); },
            [&] {
              d.send(1);
              tuco::select(tuco::on_recv(d), tuco::on_recv(chan<int>()));
              there(shared);
            });
     }},
    {"select-that-timed-out",
     [] {
       const chan<int> c(0);
       both([&] { tuco::select(tuco::on_recv(c), tuco::on_timeout(1ms)); here(shared); },
            [&] { tuco::select(tuco::on_recv(c), tuco::on_timeout(1ms)); there(shared); });
     }},
    {"after-the-sending-select",
     [] {
       const chan<int> c(0);
       both([&] { tuco::select(tuco::on_send(c, 1), tuco::on_timeout(1h)); here(shared); },
            [&] { tuco::select(tuco::on_recv(c), tuco::on_timeout(1h)); there(shared); });
     }},
    {"two-mutexes",
     [] {
       tuco::mutex a;
       tuco::mutex b;
       both([&] { const std::scoped_lock held(a); here(shared); },
            [&] { const std::scoped_lock held(b); there(shared); });
     }},
    {"after-the-unlock",
     [] {
       tuco::mutex m;
       both([&] { m.lock(); m.unlock(); here(shared); }, [&] { m.lock(); m.unlock(); there(shared); });
     }},
    {"refused-try-lock",
     [] {
       tuco::mutex m;
       std::atomic<bool> locked{false};
       std::atomic<bool> tried{false};
       both([&] { m.lock(); here(shared); set(locked); until(tried); m.unlock(); },
            [&] { until(locked); if (!m.try_lock()) there(shared); set(tried); });
     }},
    {"after-done",
     [] {
       tuco::wait_group one;
       std::atomic<bool> written{false};
       one.add(1);
       go([&] { one.done(); here(shared); set(written); });
       one.wait();
       there(shared);
       until(written);
     }},
    {"waited-too-shortly",
     [] {
       tuco::wait_group one;
       std::atomic<bool> read{false};
       one.add(1);
       go([&] { here(shared); until(read); one.done(); });
       (void)one.wait_for(1ms);
       there(shared);
       set(read);
       one.wait();
     }},
    {"another-once",
     [] {
       tuco::once a;
       tuco::once b;
       both([&] { a.call([] { here(shared); }); }, [&] { b.call([] {}); there(shared); });
     }},
    {"sleep",
     [] { both([] { here(shared); }, [] { tuco::sleep_for(20ms); there(shared); }); }},
    {"timer-set-by-nobody",
     [] { both([] { here(shared); }, [] { (void)tuco::after(20ms).recv(); there(shared); }); }},
    {"two-sleepers",
     [] { both([] { tuco::sleep_for(5ms); here(shared); }, [] { tuco::sleep_for(10ms); there(shared); }); }},
    {"relaxed-flag",
     [] {
       std::atomic<bool> flag{false};
       both([&] { here(shared); set(flag); }, [&] { until(flag); there(shared); });
     }},
    {"plain-thread",
     [] {
       std::thread outside([] { there(shared); });
       here(shared);
       outside.join();
     }},
    {"started-by-a-thread",
     [] {
       std::atomic<bool> done{false};
       std::thread outside([&] { go([&] { here(shared); set(done); }); there(shared); });
       until(done);
       outside.join();
     }},
    {"locked-to-a-thread",
     [] {
       both([] { tuco::lock_thread(); here(shared); tuco::unlock_thread(); }, [] { there(shared); });
     }},
    {"goexit",
     [] {
       std::atomic<bool> done{false};
       go([&] {
         struct at_end {
           std::atomic<bool>& done;
           ~at_end() { here(shared); set(done); }
         } const end{done};
         tuco::goexit();
       });
       until(done);
       there(shared);
     }},
    {"handler",
     [] {
       both([] { try { throw failure{1}; } catch (const failure&) { here(shared); } },
            [] { try { throw failure{2}; } catch (const failure&) { there(shared); } });
     }},
    {"after-the-write",
     [] {
       auto ends = tuco::unix_conn::pair();
       char byte = 0;
       both([&] { ends.first.write("x"); here(shared); },
            [&] { (void)ends.second.read_full({&byte, 1}); there(shared); });
     }},
    {"two-runs-of-a-goroutine",
     [] {
       const chan<int> c(0);
       std::atomic<bool> done{false};
       go([&] { (void)c.recv(); here(shared); set(done); });
       c.send(1);
       there(shared);
       until(done);
     }},
};

/// A value handed on a hundred times over a ring of goroutines.
void ring() {
  std::vector<chan<int>> links;
  for (int i = 0; i < 8; ++i) links.emplace_back(i % 3);
  for (int i = 0; i < 8; ++i) {
    go([in = links[i], out = links[(i + 1) % 8]] {
      while (const auto n = in.recv()) {
        here(shared);
        if (*n == 0) {
          out.close();
          return;
        }
        out.send(*n - 1);
      }
      out.close();
    });
  }
  links[0].send(100);
  while (const auto n = links[0].recv()) {
    there(shared);
    links[1].send(*n - 1);
  }
}

const std::map<std::string_view, void (*)()> ordered = {
    {"go",
     [] {
       const chan<int> end(0);
       here(shared);
       go([&] { there(shared); end.send(1); });
       (void)end.recv();
     }},
    {"send-before-receive",
     [] {
       const chan<int> c(0);
       both([&] { here(shared); c.send(1); }, [&] { (void)c.recv(); there(shared); });
     }},
    {"receive-before-the-send-returns",
     [] {
       const chan<int> c(0);
       both([&] { here(shared); (void)c.recv(); }, [&] { c.send(1); there(shared); });
     }},
    {"buffered-send",
     [] {
       const chan<int> c(4);
       both([&] { for (int i = 0; i < 50; ++i) { here(shared); c.send(i); (void)c; } c.close(); },
            [&] { int n = 0; for ([[maybe_unused]] const int i : c) ++n; there(shared); });
     }},
    {"kth-receive-before-send-k-plus-capacity",
     [] {
       const chan<int> c(1);  // a semaphore of one
       both([&] { for (int i = 0; i < 50; ++i) { c.send(1); here(shared); (void)c.recv(); } },
            [&] { for (int i = 0; i < 50; ++i) { c.send(1); there(shared); (void)c.recv(); } });
     }},
    {"close",
     [] {
       const chan<int> c(0);
       both([&] { here(shared); c.close(); }, [&] { (void)c.recv(); there(shared); });
     }},
    {"close-of-many",
     [] {
       const chan<int> c(0);
       tuco::wait_group all;
       all.add(20);
       for (int i = 0; i < 20; ++i) go([&] { (void)c.recv(); (void)(shared == 1); all.done(); });
       tuco::yield();
       here(shared);
       c.close();
       all.wait();
       there(shared);
     }},
    {"try-operations",
     [] {
       const chan<int> c(1);
       both([&] { here(shared); while (c.try_send(1) != tuco::chan_status::ok) tuco::yield(); },
            [&] { int n = 0; while (c.try_recv(n) != tuco::chan_status::ok) tuco::yield(); there(shared); });
     }},
    {"timed-operations",
     [] {
       const chan<int> c(0);
       both([&] { here(shared); (void)c.send_for(1, 1h); }, [&] { int n = 0; (void)c.recv_for(n, 1h); there(shared); });
     }},
    {"select-receives",
     [] {
       const chan<int> c(0);
       const chan<int> d(0);
       both([&] { here(shared); d.send(1); },
            [&] { tuco::select(tuco::on_recv(c), tuco::on_recv(d), tuco::on_timeout(1h)); there(shared); });
     }},
    {"select-sends",
     [] {
       const chan<int> c(0);
       const chan<int> d(0);
       both([&] { here(shared); tuco::select(tuco::on_send(c, 1), tuco::on_send(d, 1)); },
            [&] { (void)d.recv(); there(shared); });
     }},
    {"select-meets-select",
     [] {
       const chan<int> c(0);
       const chan<int> d(0);
       both([&] { for (int i = 0; i < 20; ++i) { here(shared); tuco::select(tuco::on_send(c, 1), tuco::on_timeout(1h)); (void)d.recv(); } },
            [&] { for (int i = 0; i < 20; ++i) { tuco::select(tuco::on_recv(c), tuco::on_recv(chan<int>())); there(shared); d.send(1); } });
     }},
    {"select-of-many-cases",
     [] {
       std::vector<chan<int>> channels;
       for (int i = 0; i < 12; ++i) channels.emplace_back(0);
       both([&] { here(shared); channels[7].send(1); },
            [&] {
              std::optional<int> out;
              std::vector<tuco::select_case> cases;
              for (const auto& c : channels) cases.push_back(tuco::select_case::recv(c, out));
              (void)tuco::select_cases(cases);
              there(shared);
            });
     }},
    {"mutex",
     [] {
       tuco::mutex m;
       both([&] { for (int i = 0; i < 100; ++i) { const std::scoped_lock held(m); here(shared); tuco::yield(); } },
            [&] { for (int i = 0; i < 100; ++i) { const std::scoped_lock held(m); there(shared); tuco::yield(); } });
     }},
    {"try-lock",
     [] {
       tuco::mutex m;
       both([&] { while (!m.try_lock()) tuco::yield(); here(shared); m.unlock(); },
            [&] { while (!m.try_lock_for(1ms)) {} there(shared); m.unlock(); });
     }},
    {"condition-variable",
     [] {
       tuco::mutex m;
       tuco::condition_variable changed;
       bool ready = false;
       both([&] { const std::scoped_lock held(m); here(shared); ready = true; changed.notify_one(); },
            [&] { std::unique_lock held(m); changed.wait(held, [&] { return ready; }); there(shared); });
     }},
    {"wait-group",
     [] {
       tuco::wait_group one;
       one.add(1);
       go([&] { here(shared); one.done(); });
       one.wait();
       there(shared);
     }},
    {"wait-group-of-many",
     [] {
       int each[50] = {};
       tuco::wait_group all;
       all.add(50);
       for (int& x : each) go([&] { here(x); tuco::yield(); here(x); all.done(); });
       all.wait();
       for (int& x : each) there(x);
     }},
    {"once",
     [] {
       tuco::once first;
       both([&] { first.call([] { here(shared); }); (void)(shared == 1); },
            [&] { first.call([] { here(shared); }); (void)(shared == 1); });
     }},
    {"timer",
     [] {
       here(shared);
       const tuco::timer t(1ms);
       both([&] { (void)t.channel().recv(); there(shared); }, [] {});
     }},
    {"timer-reset",
     [] {
       tuco::timer t(1h);
       both([&] { here(shared); t.reset(1ms); }, [&] { (void)t.channel().recv(); there(shared); });
     }},
    {"sleepers-of-their-own",
     [] {
       both([] { int x = 0; here(x); tuco::sleep_for(1ms); here(x); }, [] { int x = 0; there(x); tuco::sleep_for(2ms); there(x); });
     }},
    {"ring", ring},
    {"ownership-travels",
     [] {
       const chan<std::unique_ptr<int>> c(2);
       both([&] { for (int i = 0; i < 50; ++i) { auto p = std::make_unique<int>(0); here(*p); c.send(std::move(p)); } c.close(); },
            [&] { while (auto p = c.recv()) there(**p); });
     }},
    {"large-values",
     [] {
       const chan<std::vector<int>> c(1);
       both([&] { for (int i = 0; i < 20; ++i) c.send(std::vector<int>(1000, i)); c.close(); },
            [&] { for (auto v : c) there(v[500]); });
     }},
    {"thread-sends",
     [] {
       const chan<int> c(0);
       std::thread outside([&] { here(shared); c.send(1); });
       (void)c.recv();
       there(shared);
       outside.join();
     }},
    {"thread-receives",
     [] {
       const chan<int> c(0);
       std::thread outside([&] { (void)c.recv(); there(shared); });
       here(shared);
       c.send(1);
       outside.join();
     }},
    {"thread-starts",
     [] {
       const chan<int> c(0);
       std::thread outside([&] { here(shared); go([&] { there(shared); c.send(1); }); });
       (void)c.recv();
       outside.join();
       there(shared);
     }},
    {"mutex-of-the-standard",
     [] {
       std::mutex m;
       both([&] { for (int i = 0; i < 50; ++i) { { const std::scoped_lock held(m); here(shared); } tuco::yield(); } },
            [&] { for (int i = 0; i < 50; ++i) { { const std::scoped_lock held(m); there(shared); } tuco::yield(); } });
     }},
    {"atomic-flag",
     [] {
       std::atomic<bool> flag{false};
       both([&] { here(shared); flag.store(true, std::memory_order_release); },
            [&] { while (!flag.load(std::memory_order_acquire)) tuco::yield(); there(shared); });
     }},
    {"socket",
     [] {
       auto ends = tuco::unix_conn::pair();
       char byte = 0;
       both([&] { here(shared); ends.first.write("x"); },
            [&] { (void)ends.second.read_full({&byte, 1}); there(shared); });
     }},
    {"stacks-are-reused",
     [] {
       for (int i = 0; i < 300; ++i) {
         tuco::wait_group few;
         few.add(3);
         for (int k = 0; k < 3; ++k) {
           go([&few, text = std::string(static_cast<std::size_t>(i % 60), 'x')] {
             char local[2000];
             for (char& c : local) c = text.empty() ? 'y' : text[0];
             asm volatile("" : : "r"(local) : "memory");
             few.done();
           });
         }
         few.wait();
       }
     }},
    {"large-closures",
     [] {
       struct large {
         int values[100];
       } l{};
       both([l]() mutable { here(l.values[9]); }, [l]() mutable { there(l.values[9]); });
     }},
    {"exceptions",
     [] {
       const auto thrower = [] {
         for (int i = 0; i < 20; ++i) {
           try {
             throw failure{i};
           } catch (failure& f) {
             tuco::yield();
             here(f.code);
           }
         }
       };
       both(thrower, thrower);
     }},
    {"goexit",
     [] {
       tuco::wait_group one;
       one.add(1);
       go([&] {
         struct at_end {
           tuco::wait_group& one;
           ~at_end() { here(shared); one.done(); }
         } const end{one};
         tuco::goexit();
       });
       one.wait();
       there(shared);
     }},
    {"locked-to-a-thread",
     [] {
       const chan<int> c(0);
       both([&] { tuco::lock_thread(); here(shared); c.send(1); tuco::unlock_thread(); },
            [&] { (void)c.recv(); there(shared); });
     }},
    {"snapshots",
     [] {
       std::atomic<bool> stop{false};
       both([&] { while (!stop.load()) (void)tuco::goroutines(); },
            [&] {
              for (int i = 0; i < 50; ++i) {
                go({.name = "short"}, [] { tuco::sleep_for(100us); });
                tuco::yield();
              }
              stop.store(true);
            });
     }},
    {"processors-change",
     [] {
       tuco::mutex m;
       both([&] { for (int i = 1; i <= 20; ++i) { tuco::set_procs(1 + i % 5); const std::scoped_lock held(m); here(shared); } },
            [&] { for (int i = 0; i < 50; ++i) { { const std::scoped_lock held(m); there(shared); } tuco::sleep_for(100us); } });
     }},
};

/// The end of run() is ordered behind what its goroutines have done.
int behind_run(int procs) {
  for (int i = 0; i < 3; ++i) {
    tuco::run([] { here(shared); tuco::wait_group one; one.add(1); go([&] { here(shared); one.done(); }); one.wait(); },
              {.procs = procs});
    there(shared);
  }
  return 0;
}

}  // namespace app

int main(int argc, char** argv) {
  const std::string_view how = argc == 3 ? argv[1] : "";
  if (how == "--list-racing" || how == "--list-ordered") {
    for (const auto& [name, way] : how == "--list-racing" ? app::racing : app::ordered) std::printf("%s\n", name.data());
    if (how == "--list-ordered") std::puts("behind-run");
    return 0;
  }
  const int procs = argc == 3 ? std::atoi(argv[2]) : 0;
  if (how == "ordered:behind-run") return app::behind_run(procs);
  const auto colon = how.find(':');
  const auto& ways = how.substr(0, colon) == "racing" ? app::racing : app::ordered;
  const auto way = ways.find(colon == how.npos ? how : how.substr(colon + 1));
  if (way == ways.end() || procs < 1) {
    std::fprintf(stderr, "races: unknown way '%s'\n", argc > 1 ? argv[1] : "");
    return 64;
  }
  return tuco::run([&] { way->second(); }, {.procs = procs});
}
