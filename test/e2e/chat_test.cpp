// SPDX-License-Identifier: Apache-2.0
// examples/chat: everybody hears everybody, slow readers are dropped, SIGTERM ends it.
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "e2e/process.hpp"
#include "e2e/tcp_client.hpp"

namespace tuco::test {
namespace {

constexpr char question[] = "your name, please (up to 20 letters, not taken):\n";

class Chat : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<process>(std::vector<std::string>{built("examples/chat"), "127.0.0.1:0"});
    address_ = server_->await_line(output::out, "listening on ");
  }
  tcp_client join(const std::string& name, int here) {
    tcp_client client(address_);
    EXPECT_EQ(client.read_until("\n"), question);
    client.send(name + "\n");
    EXPECT_EQ(client.read_until("\n"), "* " + name + " joins, " + std::to_string(here) + " are here\n");
    return client;
  }
  std::unique_ptr<process> server_;
  std::string address_;
};

TEST_F(Chat, EverybodyHearsEverybody) {
  tcp_client ann = join("ann", 1);
  tcp_client bob = join("bob", 2);
  EXPECT_EQ(ann.read_until("\n"), "* bob joins, 2 are here\n");
  tcp_client cleo = join("cleo", 3);
  for (tcp_client* c : {&ann, &bob}) EXPECT_EQ(c->read_until("\n"), "* cleo joins, 3 are here\n");

  ann.send("hello\r\nworld\n");
  for (tcp_client* c : {&ann, &bob, &cleo}) {
    EXPECT_EQ(c->read_until("\n"), "ann: hello\n");
    EXPECT_EQ(c->read_until("\n"), "ann: world\n");
  }
  bob.close();
  for (tcp_client* c : {&ann, &cleo}) EXPECT_EQ(c->read_until("\n"), "* bob leaves\n");
  cleo.reset();
  EXPECT_EQ(ann.read_until("\n"), "* cleo leaves\n");
}

TEST_F(Chat, NamesAreCheckedAndUnique) {
  tcp_client ann = join("ann", 1);
  tcp_client other(address_);
  EXPECT_EQ(other.read_until("\n"), question);
  for (const char* bad : {"ann", "", "two words", "*", "a:b", "a\tb", "123456789012345678901", "\x01"}) {
    other.send(std::string(bad) + "\n");
    EXPECT_EQ(other.read_until("\n"), question) << bad;
  }
  other.send("12345678901234567890\n");
  EXPECT_EQ(other.read_until("\n"), "* 12345678901234567890 joins, 2 are here\n");
  ann.close();
  EXPECT_EQ(other.read_until("\n"), "* ann leaves\n");
  join("ann", 2);  // the name is free again
}

TEST_F(Chat, EndlessLineEndsTheConnection) {
  tcp_client ann = join("ann", 1);
  tcp_client bob = join("bob", 2);
  ann.read_until("\n");
  bob.send(std::string(100'000, 'x'));
  EXPECT_EQ(ann.read_until("\n"), "* bob leaves\n");
  bob.read_all();
}

TEST_F(Chat, SlowReaderIsDroppedAndHoldsUpNobody) {
  tcp_client slow = join("slow", 1);  // reads no more
  tcp_client ann = join("ann", 2);
  const std::string line(900, 'x');
  // What ann says comes back to her, so she is never ahead of the room by more than one line.
  bool dropped = false;
  for (int i = 0; !dropped; ++i) {
    ASSERT_LT(i, 200'000) << "nobody was dropped after 180 MB";
    ann.send(line + "\n");
    std::string heard = ann.read_until("\n");
    if (heard == "* slow is dropped: too slow a reader\n") {
      dropped = true;
      heard = ann.read_until("\n");
    }
    ASSERT_EQ(heard, "ann: " + line + "\n");
  }
  ann.send("still here\n");
  EXPECT_EQ(ann.read_until("\n"), "ann: still here\n");
  slow.read_all();  // and it ends
}

TEST_F(Chat, ManyAtOnce) {
  constexpr int many = 50;
  std::vector<tcp_client> clients;
  for (int i = 0; i < many; ++i) clients.push_back(join("n" + std::to_string(i), i + 1));
  for (int i = 0; i < many; ++i) {
    clients[static_cast<std::size_t>(i)].send("from " + std::to_string(i) + "\n");
  }
  for (int i = 0; i < many; ++i) {
    std::set<std::string> heard;
    while (heard.size() < many) {
      const std::string line = clients[static_cast<std::size_t>(i)].read_until("\n");
      ASSERT_FALSE(line.empty());
      if (line.find(": from ") != line.npos) {
        EXPECT_TRUE(heard.insert(line).second) << line;
      }
    }
  }
}

TEST_F(Chat, TerminateClosesTheRoom) {
  tcp_client ann = join("ann", 1);
  tcp_client nameless(address_);
  EXPECT_EQ(nameless.read_until("\n"), question);
  server_->signal(SIGTERM);
  EXPECT_EQ(ann.read_until("\n"), "* the room is closed\n");
  ann.read_all();
  EXPECT_EQ(server_->wait(), 0);
  EXPECT_EQ(server_->text(output::err), "");
}

TEST_F(Chat, AddressInUseIsExplained) {
  process second({built("examples/chat"), address_});
  EXPECT_EQ(second.wait(), 2);
  EXPECT_NE(second.text(output::err).find("address already in use"), std::string::npos);
  EXPECT_NE(second.text(output::err).find("usage: chat"), std::string::npos);
}

}  // namespace
}  // namespace tuco::test
