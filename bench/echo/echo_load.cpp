// SPDX-License-Identifier: Apache-2.0
// Load for an echo server: N connections, on each one request at a time, the next as soon as the answer is
// there. Raw epoll and one thread, the same for every server that is measured.
//
//   echo_load PORT [--connections N] [--seconds S] [--warm-up S] [--bytes N] [--server PID]
//
// Every answer is compared with its request, which carries a number of its own. Prints lines
// `name value`:
//
//   requests_per_second
//   p50_us, p99_us            from the sending of a request to the receipt of its whole answer
//   generator_busy            this program's CPU time / wall time; near 1 the generator is the limit
//   server_busy               the same of the process --server, all of its threads
//
// Status 1, with a word, when an answer is wrong, a connection breaks or nothing was answered.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "echo_load: %s\n", what);
  std::exit(1);
}

double seconds_of(clockid_t clock) {
  timespec t{};
  if (::clock_gettime(clock, &t) != 0) return 0;
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::int64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

struct options {
  std::uint16_t port = 0;
  int connections = 64;
  double seconds = 2;
  double warm_up = 0.3;
  std::size_t bytes = 64;
  int server = 0;
};

/// Half-microsecond steps up to 50 ms; what is later counts as that.
class histogram {
 public:
  void add(std::int64_t ns) noexcept {
    const auto at = static_cast<std::size_t>(std::max<std::int64_t>(ns, 0)) / step;
    ++counts_[std::min(at, counts_.size() - 1)];
    ++total_;
  }
  void clear() noexcept { std::fill(counts_.begin(), counts_.end(), 0), total_ = 0; }
  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
  [[nodiscard]] double quantile_us(double q) const noexcept {
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (static_cast<double>(seen) >= q * static_cast<double>(total_)) {
        return static_cast<double>(i + 1) * step / 1000.0;
      }
    }
    return 0;
  }

 private:
  static constexpr std::size_t step = 500;
  std::vector<std::uint32_t> counts_ = std::vector<std::uint32_t>(100'000);
  std::uint64_t total_ = 0;
};

struct connection {
  int fd = -1;
  std::uint64_t number = 0;  ///< of the request under way, its first bytes
  std::size_t received = 0;
  std::int64_t sent_at = 0;
  std::vector<char> request, answer;
};

int dial(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    fail("cannot connect");
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

void send_next(connection& c, std::int64_t now) {
  ++c.number;
  std::memcpy(c.request.data(), &c.number, sizeof c.number);
  c.received = 0;
  c.sent_at = now;
  const ssize_t n = ::send(c.fd, c.request.data(), c.request.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n != static_cast<ssize_t>(c.request.size())) fail("a request was not taken whole");
}

/// @return Whether the answer is complete.
bool receive(connection& c) {
  const ssize_t n = ::recv(c.fd, c.answer.data() + c.received, c.answer.size() - c.received, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return false;
  if (n <= 0) fail("the server closed a connection");
  c.received += static_cast<std::size_t>(n);
  if (c.received != c.answer.size()) return false;
  if (c.answer != c.request) fail("wrong answer");
  return true;
}

options parse(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name.substr(0, 2) != "--") {
      o.port = static_cast<std::uint16_t>(std::atoi(argv[i]));
      continue;
    }
    if (++i == argc) fail("an option wants a value");
    if (name == "--connections") o.connections = std::atoi(argv[i]);
    else if (name == "--seconds") o.seconds = std::atof(argv[i]);
    else if (name == "--warm-up") o.warm_up = std::atof(argv[i]);
    else if (name == "--bytes") o.bytes = static_cast<std::size_t>(std::atoi(argv[i]));
    else if (name == "--server") o.server = std::atoi(argv[i]);
    else fail("unknown option");
  }
  if (o.port == 0 || o.connections < 1 || o.bytes < sizeof(std::uint64_t)) {
    fail("usage: echo_load PORT [--connections N] [--seconds S] [--warm-up S] [--bytes N] [--server PID]");
  }
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const options o = parse(argc, argv);
  clockid_t server_clock = CLOCK_REALTIME;
  if (o.server != 0 && ::clock_getcpuclockid(o.server, &server_clock) != 0) fail("no such server process");

  const int poller = ::epoll_create1(EPOLL_CLOEXEC);
  std::vector<connection> connections(static_cast<std::size_t>(o.connections));
  for (std::size_t i = 0; i < connections.size(); ++i) {
    connection& c = connections[i];
    c.fd = dial(o.port);
    c.number = i << 40;
    c.request.assign(o.bytes, static_cast<char>('a' + i % 26));
    c.answer.assign(o.bytes, 0);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.ptr = &c;
    if (::epoll_ctl(poller, EPOLL_CTL_ADD, c.fd, &event) != 0) fail("epoll_ctl");
  }

  histogram latency;
  std::int64_t now = now_ns();
  for (connection& c : connections) send_next(c, now);

  const auto as_ns = [](double s) { return static_cast<std::int64_t>(s * 1e9); };
  bool warm = false;
  std::int64_t begin = now;
  std::int64_t end = now + as_ns(o.warm_up);
  double own_cpu = 0, server_cpu = 0;
  std::array<epoll_event, 256> events;
  for (;;) {
    const int count = ::epoll_wait(poller, events.data(), events.size(), 1000);
    now = now_ns();
    if (count == 0) fail("no answer for a second");
    if (now >= end) {
      if (warm) break;
      warm = true;
      latency.clear();
      begin = now;
      end = now + as_ns(o.seconds);
      own_cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
      if (o.server != 0) server_cpu = seconds_of(server_clock);
    }
    for (int i = 0; i < count; ++i) {
      auto& c = *static_cast<connection*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (!receive(c)) continue;
      now = now_ns();
      latency.add(now - c.sent_at);
      send_next(c, now);
    }
  }
  const double wall = static_cast<double>(now - begin) * 1e-9;
  std::printf("requests_per_second %.0f\n", static_cast<double>(latency.total()) / wall);
  std::printf("p50_us %.1f\np99_us %.1f\n", latency.quantile_us(0.5), latency.quantile_us(0.99));
  std::printf("generator_busy %.3f\n", (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - own_cpu) / wall);
  if (o.server != 0) {
    std::printf("server_busy %.3f\n", (seconds_of(server_clock) - server_cpu) / wall);
  }
  return latency.total() != 0 ? 0 : 1;
}
