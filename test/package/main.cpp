// SPDX-License-Identifier: Apache-2.0
// Uses the installed tree: the umbrella header and something from the library.
#include <cstdio>
#include <tuco/tuco.hpp>

int main() {
  std::printf("tuco %s\n", tuco::version());
  return 0;
}
