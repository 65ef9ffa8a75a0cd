// SPDX-License-Identifier: Apache-2.0
#include "routes.hpp"

#include <tuco/tuco.hpp>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <string>
#include <system_error>

namespace httpd {
namespace {

std::string fan_out(int n) {
  tuco::chan<int> answers(64);
  int started = 0;
  std::error_code failure;
  try {
    for (; started < n; ++started) {
      tuco::go({.name = "fanout"}, [answers, started] { answers.send(started); });
    }
  } catch (const std::system_error& e) {
    failure = e.code();
  }
  long sum = 0;
  for (int i = 0; i < started; ++i) sum += *answers.recv();
  if (failure) throw std::system_error(failure);
  return std::to_string(n) + " goroutines answered, the sum is " + std::to_string(sum) + "\n";
}

void burn(std::chrono::milliseconds duration) {
  const auto end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) {
  }
}

// Not inlined, because it reads errno: see open_beneath() in files.cpp.
[[gnu::noinline]] void block(std::chrono::milliseconds duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  timespec left{seconds.count(), std::chrono::nanoseconds(duration - seconds).count()};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

}  // namespace

bool serve_route(const target& what, reply& answer) {
  constexpr std::string_view text = "text/plain; charset=utf-8";
  const auto bad = [&](std::string_view usage) {
    answer.send(400, text, std::string("400 Bad Request: ").append(usage).append("\n"));
    return true;
  };

  if (what.path == "/fanout") {
    const auto n = number_in(what.query, "n", 1, most_goroutines);
    if (!n) return bad("/fanout?n=1 to 100000");
    answer.pause();
    answer.send(200, text, fan_out(*n));
    return true;
  }

  void (*spend)(std::chrono::milliseconds) = nullptr;
  if (what.path == "/sleep") spend = [](std::chrono::milliseconds duration) { tuco::sleep_for(duration); };
  if (what.path == "/burn") spend = burn;
  if (what.path == "/block") spend = block;
  if (spend == nullptr) return false;
  const auto ms = number_in(what.query, "ms", 0, longest_ms);
  if (!ms) return bad(what.path + "?ms=0 to 60000");
  answer.pause();
  spend(std::chrono::milliseconds(*ms));
  answer.send(200, text, "spent " + std::to_string(*ms) + " ms\n");
  return true;
}

}  // namespace httpd
