// SPDX-License-Identifier: Apache-2.0
// examples/httpd's routes that make load, and its command line.
#include <algorithm>

#include "e2e/httpd_fixture.hpp"

namespace tuco::test {
namespace {

class HttpdLoad : public httpd_test {};

TEST_F(HttpdLoad, FanoutAnswersWhenAllHave) {
  start();
  EXPECT_EQ(get("/fanout?n=1").body, "1 goroutines answered, the sum is 0\n");
  EXPECT_EQ(get("/fanout?n=1000").body, "1000 goroutines answered, the sum is 499500\n");
  EXPECT_EQ(get("/fanout?n=100000").body, "100000 goroutines answered, the sum is 4999950000\n");
  expect_clean_end();
}

TEST_F(HttpdLoad, SleepBurnAndBlockLastAtLeastAsLongAsAsked) {
  start();
  for (const std::string route : {"/sleep", "/burn", "/block"}) {
    const auto before = std::chrono::steady_clock::now();
    const http_answer got = get(route + "?ms=50");
    EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(50)) << route;
    EXPECT_EQ(got.status, 200);
    EXPECT_EQ(got.body, "spent 50 ms\n");
    EXPECT_EQ(get(route + "?ms=0").status, 200);
    EXPECT_EQ(get(route + "?x=1&ms=1&y").status, 200);
  }
}

TEST_F(HttpdLoad, NumbersOutOfBoundsAre400) {
  start();
  for (const char* target :
       {"/fanout", "/fanout?", "/fanout?n", "/fanout?n=", "/fanout?n=0", "/fanout?n=-1", "/fanout?n=100001", "/fanout?n=x",
        "/fanout?n=1x", "/fanout?n=+1", "/fanout?n=99999999999999999999", "/fanout?m=1", "/sleep", "/sleep?ms=-1",
        "/sleep?ms=60001", "/sleep?ms=1.5", "/burn?ms=", "/burn?ms=60001", "/burn?ms=%31", "/block?ms=abc", "/block?ms=60001",
        "/block?n=1"}) {
    EXPECT_EQ(get(target).status, 400) << target;
  }
  expect_alive();
  expect_clean_end();
}

// The requests that block and burn last longer than any wait of this test: so a plain request that is
// answered was answered before them.
class HttpdBesides : public HttpdLoad, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Processors, HttpdBesides, ::testing::Values("1", "2", "8"));

TEST_P(HttpdBesides, BlockingCallsAndHogsHoldUpNobody) {
  start({}, {.environment = {std::string("TUCO_PROCS=") + GetParam()}});
  constexpr int blocking = 200;
  constexpr int burning = 2;
  std::vector<tcp_client> held;
  for (int i = 0; i < blocking + burning; ++i) {
    held.push_back(connect());
    held.back().send(request(i < blocking ? "/block?ms=60000" : "/burn?ms=60000"));
  }
  await_routes(blocking + burning);
  tcp_client kept = connect();
  for (int i = 0; i < 20; ++i) {
    expect_alive();
    kept.send(plain_request + request("/sleep?ms=1") + request("/fanout?n=10"));
    for (int answer = 0; answer < 3; ++answer) ASSERT_EQ(read_answer(kept).status, 200);
  }
  for (const tcp_client& c : held) EXPECT_FALSE(c.has_something()) << "it was to last";
}

TEST_F(HttpdLoad, HelpTeaches) {
  process help({built("examples/httpd"), "--help"});
  EXPECT_EQ(help.wait(), 0);
  for (const char* word : {"--listen HOST:PORT", "--root DIR", "/fanout?n=N", "SIGTERM", "SIGQUIT", "curl"}) {
    EXPECT_NE(help.text(output::out).find(word), std::string::npos) << word;
  }
}

TEST_F(HttpdLoad, WrongCommandLinesAreExplained) {
  struct row {
    std::vector<std::string> arguments;
    int status;
    const char* message;
  };
  const std::string root = root_.string();
  for (const row& r : {
           row{{"--nonsense"}, 2, "unknown option '--nonsense'"},
           row{{"--drain-timeout", "-1"}, 2, "--drain-timeout wants a value"},
           row{{"--body-timeout", "1x"}, 2, "--body-timeout wants a value"},
           row{{"--write-timeout"}, 2, "--write-timeout wants a value"},
           row{{"--listen"}, 2, "--listen wants a value"},
           row{{"--root"}, 2, "--root wants a value"},
           row{{"--header-timeout", "soon"}, 2, "--header-timeout wants a value"},
           row{{"--idle-timeout", "0"}, 2, "--idle-timeout wants a value"},
           row{{"--listen", "127.0.0.1:0", "--root", root + "/nothing"}, 1, "No such file or directory"},
           row{{"--listen", "127.0.0.1:0", "--root", root + "/hello.txt"}, 1, "Not a directory"},
           row{{"--listen", "127.0.0.1", "--root", root}, 1, "127.0.0.1"},
           row{{"--listen", "127.0.0.1:99999", "--root", root}, 1, "99999"},
       }) {
    std::vector<std::string> command = r.arguments;
    command.insert(command.begin(), built("examples/httpd"));
    process p(command);
    EXPECT_EQ(p.wait(), r.status) << r.message;
    EXPECT_NE(p.text(output::err).find(r.message), std::string::npos) << p.text(output::err);
  }
  start();
  process second({built("examples/httpd"), "--listen", address_, "--root", root});
  EXPECT_EQ(second.wait(), 1);
  EXPECT_NE(second.text(output::err).find("address already in use"), std::string::npos) << second.text(output::err);
}

}  // namespace
}  // namespace tuco::test
