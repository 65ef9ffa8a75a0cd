// SPDX-License-Identifier: Apache-2.0
// examples/httpd against requests that were damaged at random: each gets an answer or a close, and the
// server answers the next one.
#include <random>

#include "e2e/httpd_fixture.hpp"
#include "fixture/runtime_test.hpp"

namespace tuco::test {
namespace {

class HttpdFuzz : public httpd_test {};

const std::vector<std::string> good_requests = {
    plain_request,
    "HEAD /hello.txt HTTP/1.1\r\nHost: test\r\nConnection: keep-alive\r\n\r\n",
    "GET /sub/%68ello.txt?x=1&y=2 HTTP/1.1\r\nHost: test:80\r\nRange: bytes=0-4,6-7\r\nIf-Range: \"x\"\r\n\r\n",
    "GET http://test/../sub/./ HTTP/1.0\r\nIf-None-Match: *\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [::1]:80\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n" + plain_request,
    "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello" + plain_request,
    "PUT /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nT: x\r\n\r\n" + plain_request,
    "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    "GET /fanout?n=3 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
};

const std::vector<std::string> dangerous = {
    "\r\n", "\n", "\r", std::string(1, '\0'), " ", "\t", ":", "%", "%00", "%2e%2e/", "../", "//", "?", "#", "\x80\xff",
    "HTTP/1.1", "HTTP/2.0", "Host: test\r\n", "Content-Length: 7\r\n", "Content-Length: 18446744073709551616\r\n",
    "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n", "Connection: close\r\n", "Range: bytes=-\r\n", "0\r\n\r\n",
    "ffffffffffffffff\r\n", std::string(5000, 'A'), std::string(17'000, 'B'),
};

class damage {
 public:
  explicit damage(std::uint64_t seed) : random_(seed) {}

  std::string next() {
    std::string text = any(good_requests);
    for (std::size_t n = 1 + below(4); n > 0; --n) apply(text);
    return text;
  }

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }
  const std::string& any(const std::vector<std::string>& of) { return of[below(of.size())]; }

  void apply(std::string& text) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = below(std::min<std::size_t>(text.size() - at, 20) + 1);
    switch (below(8)) {
      case 0: text.insert(at, any(dangerous)); break;
      case 1: text.replace(at, length, any(dangerous)); break;
      case 2: text.erase(at, length); break;
      case 3: text.insert(at, text.substr(at, length)); break;
      case 4: text.resize(at); break;
      case 5: text = text.substr(0, at) + any(good_requests).substr(below(20)); break;
      case 6:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      default:
        for (std::size_t i = at; i < at + length; ++i) text[i] = static_cast<char>(below(256));
    }
  }

  std::mt19937_64 random_;
};

TEST_F(HttpdFuzz, DamagedRequestsNeverStopTheServer) {
  write("root/sub/hello.txt", "Hello from a folder.\n");
  start();
  damage next(seed());
  tcp_client witness = connect();
  for (int i = 0; i < 3000; ++i) {
    const std::string bytes = next.next();
    const std::string shown = ::testing::PrintToString(bytes.substr(0, 1000));
    tcp_client client = connect();
    client.send(bytes);  // the server may have refused and closed before the end
    client.finish();
    const std::string answers = client.read_all();  // and it ends
    if (!answers.empty()) {
      ASSERT_TRUE(answers.starts_with("HTTP/1.1 ") && answers.size() > 12 && answers[9] >= '2' && answers[9] <= '5')
          << shown << "\n" << answers;
    }
    ASSERT_TRUE(witness.send(plain_request)) << shown;
    ASSERT_EQ(read_answer(witness).body, "Hello from a goroutine.\n") << shown;
  }
  expect_clean_end();
}

}  // namespace
}  // namespace tuco::test
