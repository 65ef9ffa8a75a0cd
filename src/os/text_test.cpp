// SPDX-License-Identifier: Apache-2.0
// text_test.cpp - the promises of os/env.hpp and os/write.hpp.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <thread>

#include "os/env.hpp"
#include "os/fault.hpp"
#include "os/write.hpp"

namespace tuco::inline v1::os {
namespace {

TEST(EnvTest, UnsetAndEmptyDiffer) {
  ::unsetenv("TUCO_TEST_VARIABLE");
  EXPECT_EQ(get_env("TUCO_TEST_VARIABLE"), std::nullopt);
  ::setenv("TUCO_TEST_VARIABLE", "", 1);
  EXPECT_EQ(get_env("TUCO_TEST_VARIABLE"), "");
  ::unsetenv("TUCO_TEST_VARIABLE");
}

TEST(EnvTest, NumbersAreTakenWholeOrNotAtAll) {
  EXPECT_EQ(parse_number("17"), 17);
  EXPECT_EQ(parse_number("-3"), -3);
  EXPECT_EQ(parse_number("+4"), 4);
  EXPECT_EQ(parse_number("9223372036854775807"), INT64_MAX);
  for (const char* bad : {"", " 1", "1 ", "abc", "1x", "0x10", "--1", "+-1", "-", "9223372036854775808"}) {
    EXPECT_EQ(parse_number(bad), std::nullopt) << bad;
  }
}

TEST(EnvTest, BytesTakeUnits) {
  EXPECT_EQ(parse_bytes("65536"), 65536u);
  EXPECT_EQ(parse_bytes("256K"), 256u << 10);
  EXPECT_EQ(parse_bytes("256KiB"), 256u << 10);
  EXPECT_EQ(parse_bytes("1m"), 1u << 20);
  EXPECT_EQ(parse_bytes("2GB"), std::uint64_t{2} << 30);
  EXPECT_EQ(parse_bytes("12b"), 12u);
  for (const char* bad : {"", "K", "-1", "1T", "1KK", "1 K", "1Kx", "1bi", "99999999999G",
                          "18446744073709551616"}) {
    EXPECT_EQ(parse_bytes(bad), std::nullopt) << bad;
  }
}

TEST(EnvTest, OptionsOfAListAreFoundByTheirWholeName) {
  const std::string_view list = "schedtrace=1000,scheddetail=1,flag,,empty=,schedtrace=7";
  EXPECT_EQ(list_option(list, "scheddetail"), "1");
  EXPECT_EQ(list_option(list, "schedtrace"), "7") << "the last one counts";
  EXPECT_EQ(list_option(list, "flag"), "");
  EXPECT_EQ(list_option(list, "empty"), "");
  EXPECT_EQ(list_option(list, "sched"), std::nullopt);
  EXPECT_EQ(list_option("", "x"), std::nullopt);
}

TEST(EnvTest, ItemsOfAListAreTakenOneByOne) {
  std::string_view list = ",a=1,,b,c=d=e,";
  std::string taken;
  while (const auto item = take_item(list)) {
    taken.append(item->key).append(":").append(item->value).append(" ");
  }
  EXPECT_EQ(taken, "a:1 b: c:d=e ");
}

TEST(EnvTest, DebugOptionsAreOnUnlessZero) {
  ::setenv("TUCO_DEBUG", "a=1,b=0,c", 1);
  EXPECT_TRUE(debug_option("a"));
  EXPECT_FALSE(debug_option("b"));
  EXPECT_TRUE(debug_option("c"));
  EXPECT_FALSE(debug_option("d"));
  ::unsetenv("TUCO_DEBUG");
  EXPECT_FALSE(debug_option("a"));
}

class WriterTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0); }
  void TearDown() override {
    ::close(ends[0]);
    if (ends[1] >= 0) ::close(ends[1]);
  }
  std::string all() {
    ::close(ends[1]);
    ends[1] = -1;
    std::string text;
    char buffer[4096];
    ssize_t n = 0;
    while ((n = ::read(ends[0], buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<std::size_t>(n));
    return text;
  }
  int ends[2] = {-1, -1};
};

TEST_F(WriterTest, FormatsNumbersAndText) {
  {
    fd_writer out(ends[1]);
    out.text("goroutine ").dec(18).text(" ").dec(INT64_MIN).text(" ").udec(UINT64_MAX).text(" ");
    out.hex(0).text(" ").hex(0xdeadbeef).text(" ").hex(0x1f, 4).text(" ").hex(UINT64_MAX, 99);
    out.text(" ").text(static_cast<const char*>(nullptr)).text(" ").pointer(nullptr);
  }
  EXPECT_EQ(all(),
            "goroutine 18 -9223372036854775808 18446744073709551615 "
            "0x0 0xdeadbeef 0x001f 0xffffffffffffffff (null) 0x0");
}

TEST_F(WriterTest, NothingLeavesBeforeFlushUnlessFull) {
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  fd_writer out(ends[1]);
  out.text("held back");
  char c;
  EXPECT_EQ(::read(ends[0], &c, 1), -1);
  out.flush();
  EXPECT_EQ(::read(ends[0], &c, 1), 1);
}

TEST_F(WriterTest, LongTextLeavesWhole) {
  const std::string text(10'000, 'x');
  {
    fd_writer out(ends[1]);
    out.text("<").text(text).text(">");
  }
  EXPECT_EQ(all(), "<" + text + ">");
}

TEST_F(WriterTest, ShortWritesAndInterruptionsAreContinued) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  const scoped_fault fault(call::write, EINTR, 1);
  EXPECT_EQ(write_all(ends[1], "hello"), 0);
  EXPECT_EQ(all(), "hello");
}

TEST_F(WriterTest, AFullNonBlockingPipeIsWaitedFor) {
  ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
  const std::string text(300'000, 'y');  // more than a pipe holds
  std::string got;
  std::thread reader([&] {
    char buffer[65536];
    while (got.size() < text.size()) {
      const ssize_t n = ::read(ends[0], buffer, sizeof buffer);
      if (n <= 0) break;
      got.append(buffer, static_cast<std::size_t>(n));
    }
  });
  EXPECT_EQ(write_all(ends[1], text), 0);
  reader.join();
  EXPECT_EQ(got, text);
}

TEST_F(WriterTest, ABadDescriptorIsAnErrorAndErrnoStays) {
  errno = EDOM;
  EXPECT_EQ(write_all(-1, "x"), -EBADF);
  EXPECT_EQ(errno, EDOM);
}

}  // namespace
}  // namespace tuco::inline v1::os
