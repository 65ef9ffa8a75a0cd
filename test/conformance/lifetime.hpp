// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Whoever has a lock last may destroy it: nobody who gave it back before touches it any more.
///
/// Four goroutines hold it in turn, some of them after an attempt that may time out, so that lines form and
/// empty again; the last one destroys it. AddressSanitizer sees who comes too late.

#include <chrono>

#include "fixture/runtime_test.hpp"

namespace tuco::test {

/// @param attempt  tries for the given time, and gives back what it got
template <class Lock>
void last_holder_destroys(auto make, auto attempt, auto take, auto give_back) {
  struct counted {
    Lock lock;
    int left = 4;
  };
  for (int round = 0; round < 200; ++round) {
    auto* const c = new counted{make()};
    std::vector<spawned<void>> all;
    for (int g = 0; g < 4; ++g) {
      all.push_back(spawn([=] {
        if ((g + round) % 3 == 0) attempt(c->lock, std::chrono::microseconds(50));
        take(c->lock);
        const bool last = --c->left == 0;
        give_back(c->lock);
        if (last) delete c;
      }));
    }
    for (auto& g : all) g.join();
  }
}

}  // namespace tuco::test
