// SPDX-License-Identifier: Apache-2.0
// Uses the installed tree: the umbrella header and something from the library.
#include <cerrno>
#include <cstdio>
#include <thread>

#include <tuco/tuco.hpp>

// Goroutines change threads: the headers that make errno and the thread's id survive that come along.
#if !defined TUCO_COMPAT_ERRNO_LOCATION || !defined TUCO_COMPAT_PTHREAD_SELF
#error "tuco's <errno.h> and <pthread.h> are not on the include path"
#endif

int main() {
  std::printf("tuco %s\n", tuco::version());
  return 0;
}
