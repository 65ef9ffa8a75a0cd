// SPDX-License-Identifier: Apache-2.0
// examples/httpd over the life of a connection and of the server: keep-alive,
// pipelining, bodies, descriptors running out, dumps, and the end.
#include <sys/resource.h>

#include <csignal>

#include "e2e/go_dump.hpp"
#include "e2e/httpd_fixture.hpp"

namespace tuco::test {
namespace {

class HttpdConnection : public httpd_test {};

TEST_F(HttpdConnection, StaysForAsManyRequestsAsAreSent) {
  start();
  tcp_client client = connect();
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(client.send(plain_request));
    ASSERT_EQ(read_answer(client).status, 200) << i;
  }
  client.send("GET /hello.txt HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" + plain_request);
  EXPECT_EQ(read_answer(client).status, 200);
  EXPECT_TRUE(client.at_end()) << "what follows Connection: close is not answered";
}

TEST_F(HttpdConnection, OldClients) {
  start();
  tcp_client once = connect();
  once.send("GET /hello.txt HTTP/1.0\r\n\r\n");
  const http_answer got = read_answer(once);
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.field("connection"), "close");
  EXPECT_TRUE(once.at_end());

  tcp_client kept = connect();
  for (int i = 0; i < 3; ++i) {
    kept.send("GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(read_answer(kept).field("connection"), "keep-alive");
  }
}

TEST_F(HttpdConnection, PipelinedRequestsAreAnsweredInOrder) {
  write("root/large", std::string(300'000, 'L'));
  start();
  tcp_client client = connect();
  std::string requests;
  for (int i = 0; i < 200; ++i) {
    requests += "GET /fanout?n=" + std::to_string(i + 1) + " HTTP/1.1\r\nHost: test\r\n\r\n";
    requests += "HEAD /hello.txt HTTP/1.1\r\nHost: test\r\n\r\n\r\n";  // an empty line more, as some clients do
    requests += "GET /nothing HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";
    if (i % 50 == 0) requests += "GET /large HTTP/1.1\r\nHost: test\r\n\r\n";
  }
  client.send(requests);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(read_answer(client).body.starts_with(std::to_string(i + 1) + " goroutines"));
    ASSERT_EQ(read_answer(client, true).field("content-length"), "24");
    ASSERT_EQ(read_answer(client).status, 404);
    if (i % 50 == 0) {
      ASSERT_EQ(read_answer(client).body.size(), 300'000u);
    }
  }
}

TEST_F(HttpdConnection, ErrorsThatAreUnderstoodKeepTheConnection) {
  start();
  tcp_client client = connect();
  for (const auto& [target, status] : std::vector<std::pair<std::string, int>>{
           {"/nothing", 404}, {"/%zz", 400}, {"/../x", 403}, {"/fanout?n=0", 400}, {"/hello.txt", 200}}) {
    client.send("GET " + target + " HTTP/1.1\r\nHost: test\r\n\r\n");
    EXPECT_EQ(read_answer(client).status, status) << target;
  }
}

TEST_F(HttpdConnection, BodiesAreReadPast) {
  start();
  tcp_client client = connect();
  const std::string head = "POST /hello.txt HTTP/1.1\r\nHost: test\r\n";
  const std::string large(1 << 20, 'b');
  client.send(head + "Content-Length: 1048576\r\n\r\n" + large + plain_request);
  EXPECT_EQ(read_answer(client).status, 405);
  EXPECT_EQ(read_answer(client).status, 200);
  client.send(head + "Transfer-Encoding: chunked\r\n\r\n5;extension=1\r\nhello\r\n80000\r\n" + large.substr(0, 0x80000) +
              "\r\n0\r\nTrailer: x\r\nHost: another\r\n\r\n" + plain_request);
  EXPECT_EQ(read_answer(client).status, 405);
  EXPECT_EQ(read_answer(client).status, 200);
  client.send("GET /hello.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nGET / HTTP/" + plain_request);
  EXPECT_EQ(read_answer(client).status, 200);
  EXPECT_EQ(read_answer(client).status, 200);
}

TEST_F(HttpdConnection, WhoAsksBeforeSendingABodyIsAnswered) {
  start();
  tcp_client client = connect();
  client.send("POST /hello.txt HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n");
  const http_answer got = read_answer(client);
  EXPECT_EQ(got.status, 405);
  EXPECT_EQ(got.field("connection"), "close") << "the body may come or not";
  client.send("0123456789");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpdConnection, DescriptorsRunOutAndComeBack) {
  start({}, {.limits = {{RLIMIT_NOFILE, 40}}});
  std::vector<tcp_client> clients;
  for (int i = 0; i < 60; ++i) clients.push_back(connect());  // more than it can accept
  // All that were accepted are served; a file cannot be opened then, which is said and survived.
  clients[0].send("GET /sleep?ms=0 HTTP/1.1\r\nHost: test\r\n\r\n");
  EXPECT_EQ(read_answer(clients[0]).status, 200);
  clients[0].send(plain_request);
  const int status = read_answer(clients[0]).status;
  EXPECT_TRUE(status == 200 || status == 503) << status;
  // Those in the kernel's queue are served when others have left.
  for (tcp_client& c : clients) {
    c.send("GET /sleep?ms=0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(read_answer(c).status, 200);
    c.close();
  }
  expect_alive();
  expect_clean_end();
}

TEST_F(HttpdConnection, QuitShowsEveryIdleConnectionAndTheServerGoesOn) {
  constexpr std::size_t idle = 300;
  start();
  std::vector<tcp_client> clients;
  for (std::size_t i = 0; i < idle; ++i) {
    clients.push_back(connect());
    if (i % 2 == 0) {  // half of them have been served before
      clients.back().send(plain_request);
      ASSERT_EQ(read_answer(clients.back()).status, 200);
    }
  }
  const auto is_connection = [](const dumped_goroutine& g) {
    return g.creator.find("httpd::server::accept_all") != std::string::npos && g.state == "IO wait";
  };
  const parsed_dump dump = dump_until([&](const parsed_dump& d) {
    return static_cast<std::size_t>(std::count_if(d.goroutines.begin(), d.goroutines.end(), is_connection)) >= idle;
  });
  EXPECT_EQ(dump.error, "");
  std::size_t seen = 0;
  for (const dumped_goroutine& g : dump.goroutines) {
    if (!is_connection(g)) continue;
    ++seen;
    EXPECT_TRUE(g.created_at.file.ends_with("examples/httpd/server.cpp")) << g.created_at.file;
    EXPECT_GT(g.created_at.line, 0);
    EXPECT_EQ(g.parent, 1);
    EXPECT_TRUE(g.has_frame("httpd::connection::receive")) << g.id;
    EXPECT_TRUE(g.has_frame("httpd::connection::serve")) << g.id;
    EXPECT_FALSE(g.unavailable) << g.id;
    EXPECT_EQ(g.elided, 0) << g.id;
    ASSERT_FALSE(g.frames.empty());
    // The whole stack, down to the function that `go` was given.
    EXPECT_NE(g.frames.back().function.find("httpd::server::accept_all"), std::string::npos) << g.frames.back().function;
    EXPECT_TRUE(g.frames.back().file.ends_with("examples/httpd/server.cpp")) << g.frames.back().file;
  }
  EXPECT_EQ(seen, idle);
  EXPECT_TRUE(server_->text(output::err).starts_with("SIGQUIT: quit\n"));

  for (tcp_client& c : clients) {
    ASSERT_TRUE(c.send(plain_request));
    ASSERT_EQ(read_answer(c).status, 200) << "the dump has changed nothing";
  }
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0);
}

TEST_F(HttpdConnection, TerminateAnswersWhatHasArrived) {
  start({"--drain-timeout", "3600"});
  tcp_client idle = connect();
  tcp_client half = connect();
  half.send("GET /hello.txt HT");
  std::vector<tcp_client> busy;
  for (const char* route : {"/sleep?ms=1000", "/block?ms=1000", "/burn?ms=1000"}) {
    busy.push_back(connect());
    busy.back().send(std::string("GET ") + route + " HTTP/1.1\r\nHost: test\r\n\r\n");
  }
  // Until all of them are at it, or, on a machine that is too slow to see that, have ended.
  dump_until([&](const parsed_dump& d) {
    return in_routes(d) + std::count_if(busy.begin(), busy.end(), [](const tcp_client& c) { return c.has_something(); }) >=
           3;
  });
  server_->signal(SIGTERM);
  EXPECT_TRUE(idle.at_end());
  EXPECT_TRUE(half.at_end());
  for (tcp_client& client : busy) {
    const http_answer got = read_answer(client);
    EXPECT_EQ(got.status, 200);
    EXPECT_EQ(got.body, "spent 1000 ms\n");
    EXPECT_TRUE(client.at_end());
  }
  EXPECT_EQ(server_->wait(), 0);
  EXPECT_THROW((void)connect(), std::system_error);
}

TEST_F(HttpdConnection, TerminateDoesNotWaitForEver) {
  start({"--drain-timeout", "0.1"});
  std::vector<tcp_client> busy;
  for (const char* route : {"/sleep?ms=60000", "/block?ms=60000", "/burn?ms=60000"}) {
    busy.push_back(connect());
    busy.back().send(request(route));
  }
  await_routes(3);
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0);
  EXPECT_NE(server_->text(output::err).find("httpd: some requests had no answer in time\n"), std::string::npos);
}

TEST_F(HttpdConnection, SecondTerminateEndsItAtOnce) {
  start({"--drain-timeout", "3600"});
  tcp_client busy = connect();
  busy.send(request("/block?ms=60000"));
  await_routes(1);
  server_->signal(SIGTERM);
  // The first one is under way when nobody can connect any more.
  for (;;) {
    try {
      (void)connect();
    } catch (const std::system_error&) {
      break;
    }
  }
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 128 + SIGTERM);
}

TEST_F(HttpdConnection, HalfClosedClientsAreAnswered) {
  start();
  tcp_client client = connect();
  client.send(request("/sleep?ms=20") + plain_request);
  client.finish();
  EXPECT_EQ(read_answer(client).status, 200);
  EXPECT_EQ(read_answer(client).status, 200);
  EXPECT_TRUE(client.at_end());
  expect_clean_end();
}

TEST_F(HttpdConnection, AThousandAtOnce) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_GT(limit.rlim_cur, 1100u);
  start();
  std::vector<tcp_client> clients;
  for (int i = 0; i < 1000; ++i) clients.push_back(connect());
  for (int round = 0; round < 3; ++round) {
    for (tcp_client& c : clients) ASSERT_TRUE(c.send(request("/fanout?n=3")));
    for (tcp_client& c : clients) ASSERT_EQ(read_answer(c).body, "3 goroutines answered, the sum is 3\n");
  }
  server_->signal(SIGTERM);
  for (tcp_client& c : clients) EXPECT_TRUE(c.at_end());
  EXPECT_EQ(server_->wait(), 0);
}

TEST_F(HttpdConnection, InterruptEndsItAsWell) {
  start();
  server_->signal(SIGINT);
  EXPECT_EQ(server_->wait(), 0);
}

}  // namespace
}  // namespace tuco::test
