// SPDX-License-Identifier: Apache-2.0
// Two goroutines and a channel.
#include <cstdio>

#include <tuco/tuco.hpp>

int main() {
  return tuco::run([] {  // starts the runtime; this lambda is goroutine 1
    tuco::chan<const char*> words(2);
    tuco::go([words] {
      for (const char* word : {"Hello", "from", "a", "goroutine"}) words.send(word);
      words.close();
    });
    for (const char* word : words) std::printf("%s\n", word);
  });
}
