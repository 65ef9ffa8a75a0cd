// SPDX-License-Identifier: Apache-2.0
// The servers of examples/ under valgrind, which must have nothing to say of them. (The programs that end by
// themselves: cmake/examples.cmake.)
#include <unistd.h>

#include "e2e/httpd_fixture.hpp"

namespace tuco::test {
namespace {

class Valgrind : public httpd_test {
 protected:
  void SetUp() override {
    if (std::string_view(TUCO_TEST_BINARY_DIR).ends_with("san")) GTEST_SKIP() << "a sanitizer is in there already";
    if (::access(program, X_OK) != 0) GTEST_SKIP() << "no valgrind here (scripts/bootstrap tools)";
  }

  void start_under_valgrind(std::vector<std::string> command) {
    command.insert(command.begin(), {program, "--quiet", "--fair-sched=yes", "--leak-check=full", "--show-leak-kinds=definite",
                                     "--errors-for-leak-kinds=definite", "--error-exitcode=99"});
    server_ = std::make_unique<process>(std::move(command));
    address_ = server_->await_line(output::out, "listening on ");
  }

  /// Its reports begin with ==PID==; with --PID-- it complains of system calls that it does not know, which
  /// then fail.
  void expect_quiet_end() {
    server_->signal(SIGTERM);
    EXPECT_EQ(server_->wait(), 0);
    EXPECT_EQ(server_->text(output::err).find("=="), std::string::npos) << server_->text(output::err);
  }

  static constexpr const char* program = "/usr/bin/valgrind";
};

TEST_F(Valgrind, ChatIsQuiet) {
  start_under_valgrind({built("examples/chat"), "127.0.0.1:0"});
  tcp_client ann = connect();
  tcp_client bob = connect();
  for (tcp_client* c : {&ann, &bob}) {
    c->send(c == &ann ? "ann\n" : "bob\n");
    EXPECT_TRUE(c->read_until(" are here\n").ends_with(" are here\n"));
  }
  bob.send("hello\n");
  EXPECT_TRUE(ann.read_until("bob: hello\n").ends_with("bob: hello\n"));
  bob.reset();
  EXPECT_TRUE(ann.read_until("* bob leaves\n").ends_with("* bob leaves\n"));
  expect_quiet_end();
}

TEST_F(Valgrind, HttpdIsQuiet) {
  std::filesystem::create_symlink("../secret", root_ / "link");
  std::filesystem::create_symlink("..", root_ / "up");
  write("secret", "outside");
  write("root/sub/inside", "inside");
  start_under_valgrind({built("examples/httpd"), "--listen", "127.0.0.1:0", "--root", root_.string()});
  write("root/large", std::string(1 << 20, 'x'));
  for (const char* target : {"/", "/hello.txt", "/large", "/sub/", "/fanout?n=100", "/sleep?ms=1", "/block?ms=1", "/burn?ms=1"}) {
    EXPECT_EQ(get(target).status, 200) << target;
  }
  EXPECT_EQ(get("/nothing").status, 404);
  // The valgrind of Debian 12 does not know openat2(2), so files are found in another way.
  EXPECT_EQ(get("/sub/inside").body, "inside");
  EXPECT_EQ(get("/sub/inside/").status, 404);
  for (const char* target : {"/link", "/up/secret", "/up/", "/sub/../../secret", "/%2e%2e/secret"}) {
    const int status = get(target).status;
    EXPECT_TRUE(status == 403 || status == 404) << target << " " << status;
  }
  expect_quiet_end();
}

}  // namespace
}  // namespace tuco::test
