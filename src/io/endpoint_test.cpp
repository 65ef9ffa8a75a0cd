// SPDX-License-Identifier: Apache-2.0
// The table of tuco/resolve.hpp, and resolve() itself.
#include <tuco/resolve.hpp>

#include <gtest/gtest.h>
#include <net/if.h>

#include <algorithm>

#include "os/fault.hpp"
#include "os/resolve.hpp"

namespace tuco::inline v1 {
namespace {

TEST(Endpoint, TextFormsGoThereAndBack) {
  for (const char* text : {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80",
                           "[2001:db8::1]:443", "[::]:0"}) {
    EXPECT_EQ(endpoint::parse(text).to_string(), text);
  }
  EXPECT_EQ(endpoint::parse(":80").to_string(), "[::]:80");
  EXPECT_EQ(endpoint::parse("[2001:DB8:0::1]:1").to_string(), "[2001:db8::1]:1");
  EXPECT_EQ(endpoint::parse("[::ffff:1.2.3.4]:5").to_string(), "1.2.3.4:5");
}

TEST(Endpoint, ZoneOfAnInterface) {
  char name[IF_NAMESIZE];
  if (::if_indextoname(1, name) == nullptr) GTEST_SKIP() << "no interface 1";
  const std::string text = std::string("[fe80::1%") + name + "]:80";
  EXPECT_EQ(endpoint::parse(text).to_string(), text);
  EXPECT_EQ(endpoint::parse("[fe80::1%1]:80").to_string(), text);
  std::error_code ec;
  endpoint::parse("[fe80::1%no-such-interface]:80", ec);
  EXPECT_EQ(ec, net_errc::bad_address);
}

TEST(Endpoint, WhatIsNoAddressIsRefused) {
  for (const char* text :
       {"", ":", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1: 80", "127.0.0.1:80 ", "127.1:80", "256.0.0.1:80", "1.2.3.4.5:80", "::1:80", "[::1]",
        "[::1]80", "[::1:80", "::1]:80", "[]:80", "[127.0.0.1]:80", "[[::1]]:80", "[::g]:80",
        "localhost:80", "127.0.0.1:+80", "[::1%]:80"}) {
    std::error_code ec;
    EXPECT_EQ(endpoint::parse(text, ec), endpoint()) << text;
    EXPECT_EQ(ec, net_errc::bad_address) << text;
  }
  try {
    endpoint::parse("nonsense");
    ADD_FAILURE();
  } catch (const net_error& e) {
    EXPECT_STREQ(e.what(), "address nonsense: invalid address");
  }
}

TEST(Endpoint, Parts) {
  endpoint e = endpoint::ip("10.1.2.3", 80);
  EXPECT_EQ(e.kind(), endpoint::family::ipv4);
  EXPECT_EQ(e.port(), 80);
  e.set_port(8080);
  EXPECT_EQ(e.to_string(), "10.1.2.3:8080");
  EXPECT_EQ(e, endpoint::parse("10.1.2.3:8080"));
  EXPECT_NE(e, endpoint::parse("10.1.2.3:8081"));
  EXPECT_EQ(endpoint::ip("::1", 1).kind(), endpoint::family::ipv6);
  endpoint none;
  none.set_port(80);
  EXPECT_EQ(none, endpoint());
  EXPECT_EQ(none.to_string(), "");
  EXPECT_EQ(none.kind(), endpoint::family::none);
}

TEST(Endpoint, UnixPaths) {
  const endpoint path = endpoint::unix_path("/run/app.sock");
  EXPECT_EQ(path.kind(), endpoint::family::unix_path);
  EXPECT_EQ(path.to_string(), "/run/app.sock");
  EXPECT_EQ(path.port(), 0);
  EXPECT_EQ(endpoint::unix_path("@name").to_string(), "@name");
  EXPECT_NE(endpoint::unix_path("@name"), endpoint::unix_path("name"));
  const std::string longest(107, 'x');
  EXPECT_EQ(endpoint::unix_path(longest).to_string(), longest);
  for (const std::string& bad : {std::string(), std::string(108, 'x'), std::string("a\0b", 3)}) {
    std::error_code ec;
    EXPECT_EQ(endpoint::unix_path(bad, ec), endpoint());
    EXPECT_EQ(ec, net_errc::bad_address);
  }
}

TEST(Endpoint, LongerAddressesAreCutOffAndNotOverrun) {
  unsigned char bytes[200];
  std::fill(std::begin(bytes), std::end(bytes), static_cast<unsigned char>('x'));
  const sa_family_t family = AF_UNIX;
  std::copy_n(reinterpret_cast<const unsigned char*>(&family), sizeof family, bytes);
  const endpoint e(bytes, sizeof bytes);
  EXPECT_EQ(e.size(), 110u);
  EXPECT_EQ(e.to_string().size(), 108u);
}

TEST(Resolve, NumbersAreNotLookedUp) {
  os::scoped_fault unused(os::call::resolve, EIO);
  EXPECT_EQ(resolve("127.0.0.1", "80"), std::vector{endpoint::parse("127.0.0.1:80")});
  EXPECT_EQ(resolve("::1", "80"), std::vector{endpoint::parse("[::1]:80")});
  EXPECT_EQ(resolve("", "80").size(), 2u);
  EXPECT_EQ(unused.calls(), 0u);
}

TEST(Resolve, LocalhostIsThisMachine) {
  const auto found = resolve("localhost", "80");
  ASSERT_FALSE(found.empty());
  for (const endpoint& e : found) {
    EXPECT_EQ(e.port(), 80);
    EXPECT_TRUE(e == endpoint::parse("127.0.0.1:80") || e == endpoint::parse("[::1]:80"))
        << e.to_string();
  }
  auto sorted = found;
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.to_string() < b.to_string(); });
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end()) << "each once";
}

TEST(Resolve, FailuresSayWhichName) {
  auto what = [](std::string_view host, std::string_view service) -> std::string {
    try {
      resolve(host, service);
    } catch (const net_error& e) {
      return e.what();
    }
    return "(nothing thrown)";
  };
  EXPECT_EQ(what("localhost", "no-such-service"), "lookup no-such-service: invalid address");
  EXPECT_EQ(what("localhost", ""), "lookup: invalid address");
  std::error_code ec;
  EXPECT_TRUE(resolve(std::string_view("local\0host", 10), "80", ec).empty());
  EXPECT_EQ(ec, net_errc::bad_address);
  if (os::fault_injection) {
    os::scoped_fault fault(os::call::resolve, EMFILE, 1);
    EXPECT_TRUE(resolve("localhost", "80", ec).empty());
    EXPECT_EQ(ec, std::errc::too_many_files_open);
  }
}

// RFC 6761 reserves the name: a resolver answers "no such name", or it cannot be asked at all here.
TEST(Resolve, UnknownHost) {
  std::error_code ec;
  EXPECT_TRUE(resolve("no-such-host.invalid", "80", ec).empty());
  EXPECT_TRUE(ec == net_errc::no_such_host || ec == net_errc::lookup_failed) << ec.message();
}

}  // namespace
}  // namespace tuco::inline v1
