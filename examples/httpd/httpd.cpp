// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 server for files, with routes that make load: one goroutine for each connection, and
// code that blocks wherever it likes.
#include <sys/resource.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>

#include <tuco/tuco.hpp>

#include "server.hpp"

namespace {

constexpr char help[] =
    R"(httpd: an HTTP/1.1 server for the files below a folder, and an example of tuco

  httpd [--listen HOST:PORT] [--root DIR] [OPTION...]

  --listen HOST:PORT    where to listen (127.0.0.1:8080). Port 0: the system chooses one.
                        "listening on HOST:PORT" is printed once it does.
  --root DIR            what to serve (the present folder). Nothing outside is, also not through
                        "..", %2e%2e or symbolic links.
  --idle-timeout S      seconds that a connection may wait for its next request (60)
  --header-timeout S    seconds that the head of a request may take to arrive (10)
  --body-timeout S      seconds from there that its body may take (30)
  --write-timeout S     seconds that a client may take to read half a MiB (30)
  --drain-timeout S     seconds that SIGTERM leaves for answers (5)
  --help                this

Files: GET and HEAD, ranges, If-None-Match, If-Modified-Since, index.html or a listing for folders.
Load:  /fanout?n=N     N goroutines (1 to 100000) answer over a channel
       /sleep?ms=MS    the goroutine sleeps (0 to 60000)
       /burn?ms=MS     spins on the CPU without a call of the runtime
       /block?ms=MS    blocks its thread in the kernel

SIGTERM or SIGINT: answers what has arrived, for at most 5 seconds, and ends with status 0; a second one
ends it at once.
SIGQUIT: what every goroutine does, on stderr; goes on.

  httpd --root /usr/share/doc &  curl -i http://127.0.0.1:8080/
)";

struct settings {
  std::string listen = "127.0.0.1:8080";
  std::string root = ".";
  httpd::server::limits time;
  std::chrono::milliseconds drain{5'000};
};

/// @return Whether the program goes on; else `status` is its end.
bool read_arguments(int argc, char** argv, settings& out, int& status) {
  status = 2;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    if (option == "--help" || option == "-h") {
      std::fputs(help, stdout);
      status = 0;
      return false;
    }
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    const auto seconds = [&](std::chrono::milliseconds& into) {
      double s = 0;
      if (value == nullptr) return false;
      const char* const end = value + std::strlen(value);
      if (std::from_chars(value, end, s).ptr != end || !(s > 0 && s <= 86'400)) return false;
      into = std::chrono::milliseconds(static_cast<long>(s * 1000));
      return true;
    };
    bool good = value != nullptr;
    if (option == "--listen" && good) out.listen = value;
    else if (option == "--root" && good) out.root = value;
    else if (option == "--idle-timeout") good = seconds(out.time.idle);
    else if (option == "--header-timeout") good = seconds(out.time.head);
    else if (option == "--body-timeout") good = seconds(out.time.body);
    else if (option == "--write-timeout") good = seconds(out.time.write);
    else if (option == "--drain-timeout") good = seconds(out.drain);
    else if (option != "--listen" && option != "--root") {
      std::fprintf(stderr, "httpd: unknown option '%s' (--help)\n", argv[i]);
      return false;
    }
    if (!good) {
      std::fprintf(stderr, "httpd: %s wants a value: see --help\n", argv[i]);
      return false;
    }
  }
  return true;
}

void use_all_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  settings chosen;
  if (int status; !read_arguments(argc, argv, chosen, status)) return status;
  use_all_descriptors();

  // All threads inherit the mask: the goroutine that asks for these signals is the one to get them.
  sigset_t leave;
  sigemptyset(&leave);
  sigaddset(&leave, SIGTERM);
  sigaddset(&leave, SIGINT);
  pthread_sigmask(SIG_BLOCK, &leave, nullptr);

  return tuco::run([&] {
    try {
      auto listener = tuco::tcp_listener::listen(chosen.listen);
      const std::string address = listener.local_endpoint().to_string();
      // Never destroyed: a request that has no answer after the drain still uses it.
      static httpd::server& server =
          *new httpd::server(std::move(listener), chosen.root, chosen.time);
      std::printf("listening on %s\n", address.c_str());
      std::fflush(stdout);

      tuco::go({.name = "signals"}, [leave] {
        int signal = 0;
        sigwait(&leave, &signal);  // blocks its thread, and nobody else
        server.stop();
        sigwait(&leave, &signal);
        std::_Exit(128 + signal);
      });
      server.accept_all();
      if (!server.drain(chosen.drain)) {
        std::fputs("httpd: some requests had no answer in time\n", stderr);
      }
      return 0;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "httpd: %s\n", e.what());
      return 1;
    }
  });
}
