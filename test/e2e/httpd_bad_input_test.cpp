// SPDX-License-Identifier: Apache-2.0
// httpd_bad_input_test.cpp - malformed, hostile and slow clients get an error or a close, and the server
// answers the next one.
#include "e2e/httpd_fixture.hpp"

namespace tuco::test {
namespace {

class HttpdBadInput : public httpd_test {};

struct row {
  std::string bytes;
  std::vector<int> statuses;  ///< any of them; 0: a close without an answer
  bool understood = false;  ///< what follows is clear, so the connection stays
};

const std::string host = "Host: test\r\n";

std::string filled(std::size_t size, const std::string& before, const std::string& behind) {
  return before + std::string(size - before.size() - behind.size(), 'x') + behind;
}

std::vector<row> malformed() {
  const std::string get = "GET /hello.txt HTTP/1.1\r\n";
  const std::string zero(1, '\0');
  return {
      // the request line
      {"\r\n\r\n\r\n\r\n", {400}},
      {" \r\n\r\n", {400}},
      {"GET\r\n\r\n", {400}},
      {"GET /hello.txt\r\n\r\n", {400}},
      {"GET  HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET  /hello.txt HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt  HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/1.1 \r\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/1.1 x\r\n" + host + "\r\n", {400}},
      {" GET /hello.txt HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET\t/hello.txt\tHTTP/1.1\r\n" + host + "\r\n", {400}},
      {"G@T /hello.txt HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"G\xc3\xa4T /hello.txt HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET hello.txt HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET * HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET test:80 HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET ftp://test/hello.txt HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET /hello" + zero + ".txt HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET /hello\x01.txt HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET /hello\x7f.txt HTTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/1.1\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/1.1\r" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/1.1\n\n", {400}},
      // percent-encoding
      {"GET /% HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET /%4 HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET /%zz HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET /%-1 HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      {"GET /hello.txt%00.png HTTP/1.1\r\n" + host + "\r\n", {400}, true},
      // versions
      {"GET /hello.txt HTTP/2.0\r\n" + host + "\r\n", {505}},
      {"GET /hello.txt HTTP/0.9\r\n" + host + "\r\n", {505}},
      {"GET /hello.txt HTTP/1.2\r\n" + host + "\r\n", {505}},
      {"GET /hello.txt HTTP/9.9\r\n" + host + "\r\n", {505}},
      {"GET /hello.txt HTTP/1.10\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/11\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/1\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTTP/a.b\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt http/1.1\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt HTP/1.1\r\n" + host + "\r\n", {400}},
      {"GET /hello.txt FTP/1.1\r\n" + host + "\r\n", {400}},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {505}},
      // methods
      {"POST /hello.txt HTTP/1.1\r\n" + host + "Content-Length: 3\r\nConnection: close\r\n\r\nabc", {405}},
      {"PUT /hello.txt HTTP/1.1\r\n" + host + "Content-Length: 0\r\nConnection: close\r\n\r\n", {405}},
      {"DELETE /hello.txt HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", {405}},
      {"CONNECT test:80 HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", {405}},
      {"OPTIONS * HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", {405}},
      {"TRACE / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", {405}},
      {"get /hello.txt HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", {405}},
      {"BREW /hello.txt HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", {405}},
      // Host
      {get + "\r\n", {400}},
      {get + host + host + "\r\n", {400}},
      {get + "Host: a b\r\n\r\n", {400}},
      {get + "Host: a/b\r\n\r\n", {400}},
      {get + "Host: <script>\r\n\r\n", {400}},
      // fields
      {get + host + "NoColon\r\n\r\n", {400}},
      {get + host + ": no name\r\n\r\n", {400}},
      {get + host + "Space Inside: x\r\n\r\n", {400}},
      {get + host + "Space-Before : x\r\n\r\n", {400}},
      {get + " Folded: at once\r\n" + host + "\r\n", {400}},
      {get + host + "Zero: a" + zero + "b\r\n\r\n", {400}},
      {get + host + "Control: a\x01" "b\r\n\r\n", {400}},
      {get + host + "Bare: a\nb\r\n\r\n", {400}},
      {get + host + "Bare: a\rb\r\n\r\n", {400}},
      {get + host + "\xff\xfe: x\r\n\r\n", {400}},
      {get + host + "Connection: \"\r\n\r\n", {400}},
      {get + host + "Expect: the unexpected\r\n\r\n", {417}},
      // lengths: what two readers may understand differently
      {get + host + "Content-Length: x\r\n\r\n", {400}},
      {get + host + "Content-Length: -1\r\n\r\n", {400}},
      {get + host + "Content-Length: +3\r\n\r\nabc", {400}},
      {get + host + "Content-Length: 0x3\r\n\r\nabc", {400}},
      {get + host + "Content-Length: 3 3\r\n\r\nabc", {400}},
      {get + host + "Content-Length: \r\n\r\n", {400}},
      {get + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", {400}},
      {get + host + "Content-Length: 99999999999999999999999\r\n\r\n", {400}},
      {get + host + "Content-Length: 18446744073709551615\r\n\r\n", {413}},
      {get + host + "Content-Length: 1048577\r\n\r\n", {413}},
      {get + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}},
      {get + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", {400}},
      {get + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}},
      {get + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {501}},
      {get + host + "Transfer-Encoding: identity\r\n\r\n", {501}},
      {get + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {501}},
      {get + host + "Transfer-Encoding: \x0b" "chunked\r\n\r\n0\r\n\r\n", {400}},
      {"GET /hello.txt HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}},
      // chunks
      {get + host + "Transfer-Encoding: chunked\r\n\r\nx\r\n\r\n", {400}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", {400}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", {400}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n\r\n", {400}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", {400, 413}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n", {413}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\n100001\r\n", {413}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n", {400}},
      // sizes
      {filled(16 * 1024 + 1, get + host + "Long: ", "\r\n\r\n"), {431}},
      {filled(16 * 1024 + 1, "GET /", " HTTP/1.1\r\n" + host + "\r\n"), {431}},
      {filled(200'000, get + host + "Long: ", "\r\n\r\n"), {431}},
      {std::string(200'000, 'x'), {431}},
      {get + host + std::string(20'000, '\n'), {400}},
      // other protocols
      {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + std::string(32, 'r') + "\r\n", {400}},
      {"SSH-2.0-OpenSSH_9.2\r\n", {400}},
      {std::string(64, '\0'), {400}},
      {"\xef\xbb\xbf" + get + host + "\r\n", {400}},
      // that end too early
      {"", {0}},
      {"G", {0}},
      {get, {0}},
      {get + host, {0}},
      {get + host + "Content-Length: 10\r\n\r\nabc", {0}},
      {get + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nab", {0}},
  };
}

TEST_F(HttpdBadInput, MalformedRequestsGetAnErrorAndTheServerGoesOn) {
  start();
  const std::vector<row> rows = malformed();
  EXPECT_GE(rows.size(), 60u);
  for (const row& r : rows) {
    const std::string shown = ::testing::PrintToString(r.bytes.substr(0, 200));
    tcp_client client = connect();
    client.send(r.bytes);  // the server may have refused and closed before the end
    client.finish();
    const http_answer got = read_answer(client);
    EXPECT_TRUE(std::find(r.statuses.begin(), r.statuses.end(), got.status) != r.statuses.end())
        << shown << ": " << got.status;
    EXPECT_TRUE(client.at_end()) << shown;
    if (got.status != 0) {
      EXPECT_EQ(got.field("connection"), r.understood ? "" : "close") << shown;
    }
    if (got.status == 405) {
      EXPECT_EQ(got.field("allow"), "GET, HEAD") << shown;
    }
    expect_alive();
  }
  expect_clean_end();
}

// The same table, a byte at a time: no answer may depend on how the bytes are cut. But a head that does
// not end may as well be waited for as refused.
TEST_F(HttpdBadInput, MalformedRequestsInPieces) {
  start();
  for (const row& r : malformed()) {
    if (r.bytes.size() > 1000) continue;
    const std::string shown = ::testing::PrintToString(r.bytes);
    tcp_client client = connect();
    client.set_no_delay();
    for (const char c : r.bytes) {
      if (!client.send(std::string_view(&c, 1))) break;
    }
    client.finish();
    const http_answer got = read_answer(client);
    if (got.status == 0 && r.bytes.find("\r\n\r\n") == r.bytes.npos) continue;
    EXPECT_TRUE(std::find(r.statuses.begin(), r.statuses.end(), got.status) != r.statuses.end())
        << shown << ": " << got.status;
  }
  expect_alive();
  expect_clean_end();
}

TEST_F(HttpdBadInput, HeadOfJust16KiBIsServed) {
  start();
  tcp_client client = connect();
  for (int i = 0; i < 3; ++i) {
    client.send(filled(16 * 1024, "GET /hello.txt HTTP/1.1\r\n" + host + "Long: ", "\r\n\r\n"));
    EXPECT_EQ(read_answer(client).status, 200);
    std::string many = "GET /hello.txt HTTP/1.1\r\n" + host;
    while (many.size() < 16'000) many += "Field: value\r\n";
    client.send(many + "\r\n");
    EXPECT_EQ(read_answer(client).status, 200);
  }
  std::string many = "GET /hello.txt HTTP/1.1\r\n" + host;
  while (many.size() <= 16 * 1024) many += "Field: value\r\n";
  client.send(many + "\r\n");
  EXPECT_EQ(read_answer(client).status, 431) << "many short fields are as much as one long one";
}

TEST_F(HttpdBadInput, SlowHeadIsEndedAndHoldsUpNobody) {
  start({"--header-timeout", "0.2"});
  tcp_client silent_after_a_byte = connect();
  silent_after_a_byte.send("G");
  tcp_client drip = connect();
  drip.send("GET /hello.txt HTTP/1.1\r\n");
  expect_alive();
  while (drip.send("X: y\r\n")) {  // one field after the other, never the last
    struct timespec pause {0, 10'000'000};
    ::nanosleep(&pause, nullptr);
  }
  EXPECT_EQ(read_answer(silent_after_a_byte).status, 408);
  EXPECT_TRUE(silent_after_a_byte.at_end());
  expect_alive();
  expect_clean_end();
}

TEST_F(HttpdBadInput, SlowBodyIsEnded) {
  start({"--body-timeout", "0.2"});
  tcp_client drip = connect();
  drip.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
  while (drip.send("x")) {
    struct timespec pause {0, 10'000'000};
    ::nanosleep(&pause, nullptr);
  }
  expect_alive();
  expect_clean_end();
}

TEST_F(HttpdBadInput, SlowReaderIsEndedAndHoldsUpNobody) {
  write("root/large", "");
  constexpr std::size_t size = 1 << 30;  // fits into no socket
  std::filesystem::resize_file(root_ / "large", size);
  start({"--write-timeout", "0.2"});
  tcp_client reads_nothing = connect();
  reads_nothing.send(request("/large"));
  expect_alive();
  // Nothing is read until the server has given up: what it could send before is all there is.
  dump_until([](const parsed_dump& d) {
    return std::none_of(d.goroutines.begin(), d.goroutines.end(),
                        [](const dumped_goroutine& g) { return g.has_frame("httpd::connection"); });
  });
  EXPECT_LT(reads_nothing.read_all().size(), size);
  expect_alive();
}

TEST_F(HttpdBadInput, IdleConnectionsAreClosedWithoutAWord) {
  start({"--idle-timeout", "0.2"});
  tcp_client never_spoke = connect();
  EXPECT_TRUE(never_spoke.at_end());
  for (int status = 0; status != 200;) {  // again if this thread stood still for so long that it was too late
    tcp_client spoke_once = connect();
    spoke_once.send(plain_request);
    status = read_answer(spoke_once).status;
    EXPECT_TRUE(spoke_once.at_end());
  }
  expect_clean_end();
}

TEST_F(HttpdBadInput, ClientsThatVanishHurtNobody) {
  write("root/large", std::string(8 << 20, 'x'));
  start();
  for (int i = 0; i < 50; ++i) {
    tcp_client client = connect();
    client.send(i % 2 == 0 ? "GET /large HTTP/1.1\r\nHost: test\r\n\r\n" : "GET /sleep?ms=20 HTTP/1.1\r\nHost: test\r\n\r\n");
    if (i % 4 < 2) client.reset();
  }
  expect_alive();
  expect_clean_end();
}

}  // namespace
}  // namespace tuco::test
