// SPDX-License-Identifier: Apache-2.0
// A chat room over TCP: who connects gives a name, and from then on each line goes to everybody.
//
//   chat [HOST:PORT]     (127.0.0.1:7000; port 0: any)      then: nc 127.0.0.1 7000
//
// Two goroutines for each member: one reads, one writes what the room has put into the member's queue.
// A queue is bounded: who reads too slowly is dropped, and holds up nobody. SIGTERM closes the room.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <tuco/tuco.hpp>

namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::size_t longest_name = 20;
constexpr std::size_t longest_line = 1000;

class line_reader {
 public:
  explicit line_reader(tuco::tcp_conn& from) : from_(from) {}
  /// The next line without its end; nullopt: there is none, or one that is too long.
  std::optional<std::string> next() {
    std::error_code ec;
    for (;;) {
      if (const std::size_t end = text_.find('\n'); end != text_.npos) {
        std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        if (line.ends_with('\r')) line.pop_back();
        return line;
      }
      char more[512];
      if (text_.size() > longest_line) return std::nullopt;
      const std::size_t n = from_.read_some(more, ec);
      if (n == 0) return std::nullopt;
      text_.append(more, n);
    }
  }

 private:
  tuco::tcp_conn& from_;
  std::string text_;
};

struct member {
  std::string name;  // empty at first; changes under the room's lock
  tuco::tcp_conn& conn;
  tuco::chan<std::string> queue{64};
  bool slow = false;
};

class room {
 public:
  void arrive(member& m) {
    const std::scoped_lock held(lock_);
    here_.insert(&m);
    if (closed_) m.conn.set_read_deadline(steady_clock::now());
  }
  /// @return False: somebody has that name.
  bool enter(member& m, const std::string& name) {
    const std::scoped_lock held(lock_);
    const auto named = [&](const member* other) { return other->name == name; };
    if (std::any_of(here_.begin(), here_.end(), named)) return false;
    m.name = name;
    const auto members = std::count_if(here_.begin(), here_.end(), is_member);
    say("* " + name + " joins, " + std::to_string(members) + " are here");
    return true;
  }
  void leave(member& m) {
    const std::scoped_lock held(lock_);
    here_.erase(&m);
    if (is_member(&m)) say("* " + m.name + (m.slow ? " is dropped: too slow a reader" : " leaves"));
  }
  void hear(const member& from, std::string_view line) {
    const std::scoped_lock held(lock_);
    say(from.name + ": " + std::string(line));
  }
  void close() {
    const std::scoped_lock held(lock_);
    say("* the room is closed");
    closed_ = true;
    for (member* m : here_) m->conn.set_read_deadline(steady_clock::now());
  }

 private:
  static bool is_member(const member* m) { return !m->name.empty(); }
  void say(const std::string& line) {
    for (member* m : here_) {
      if (!is_member(m) || m->slow || m->queue.try_send(line + "\n") == tuco::chan_status::ok) continue;
      m->slow = true;
      m->conn.set_deadline(steady_clock::now());  // ends what both of its goroutines wait for
    }
  }

  tuco::mutex lock_;
  std::set<member*> here_;  // also those who have not said their name yet
  bool closed_ = false;
};

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= longest_name &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 127 && c != '*' && c != ':'; });
}

void attend(room& here, tuco::tcp_conn conn) {
  line_reader lines(conn);
  member self{{}, conn};
  tuco::wait_group writer;
  writer.add();
  tuco::go({.name = "writer"}, [&] {
    std::error_code ec;
    for (const std::string& line : self.queue) {
      if (!ec) conn.write(line, ec);
      if (ec) conn.set_read_deadline(steady_clock::now());  // and the reader says goodbye
    }
    writer.done();
  });

  here.arrive(self);
  bool entered = false;
  while (!entered) {
    self.queue.send("your name, please (up to 20 letters, not taken):\n");
    const auto name = lines.next();
    if (!name) break;
    entered = is_name(*name) && here.enter(self, *name);
  }
  if (entered) {
    while (const auto line = lines.next()) here.hear(self, *line);
  }
  here.leave(self);

  self.queue.close();
  if (!self.slow) conn.set_write_deadline(steady_clock::now() + 1s);  // for what is still in the queue
  writer.wait();
}

}  // namespace

int main(int argc, char** argv) {
  sigset_t leave;
  sigemptyset(&leave);
  sigaddset(&leave, SIGTERM);
  sigaddset(&leave, SIGINT);
  pthread_sigmask(SIG_BLOCK, &leave, nullptr);  // all threads inherit it; sigwait() below takes them

  return tuco::run([&] {
    tuco::tcp_listener listener;
    try {
      listener = tuco::tcp_listener::listen(argc > 1 ? argv[1] : "127.0.0.1:7000");
    } catch (const tuco::net_error& e) {
      std::fprintf(stderr, "chat: %s\nusage: chat [HOST:PORT]\n", e.what());
      return 2;
    }
    std::printf("listening on %s\n", listener.local_endpoint().to_string().c_str());
    std::fflush(stdout);
    tuco::go({.name = "signals"}, [&] {
      int signal = 0;
      sigwait(&leave, &signal);  // blocks its thread, and nobody else
      listener.close();
    });

    static room here;
    static tuco::wait_group members;
    for (std::error_code ec;;) {
      tuco::tcp_conn conn = listener.accept(ec);
      if (ec) break;
      members.add();
      tuco::go({.name = "member"}, [conn = std::move(conn)]() mutable {
        attend(here, std::move(conn));
        members.done();
      });
    }
    here.close();
    (void)members.wait_for(2s);
    return 0;
  });
}
