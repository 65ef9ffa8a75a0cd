// SPDX-License-Identifier: Apache-2.0
// syscall_test.cpp - the result convention of os/syscall.hpp and the seam for faults.
#include "os/syscall.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/fault.hpp"
#include "os/memory.hpp"
#include "os/proc.hpp"
#include "os/write.hpp"

namespace tuco::inline v1::os {
namespace {

TEST(SystemCallTest, SuccessIsTheValueOfTheCall) {
  EXPECT_EQ(system_call(call::read, [] { return 17; }), 17);
  EXPECT_EQ(system_call(call::read, [] { return ssize_t{0}; }), 0);
}

TEST(SystemCallTest, FailureIsTheNegativeErrorAndErrnoStays) {
  errno = EDOM;
  const int result = system_call(call::close, [] { return ::close(-1); });
  EXPECT_EQ(result, -EBADF);
  EXPECT_EQ(errno, EDOM);
}

TEST(SystemCallTest, RetryEintrRepeatsOnlyThat) {
  int calls = 0;
  EXPECT_EQ(retry_eintr([&] { return ++calls < 4 ? -EINTR : -EAGAIN; }), -EAGAIN);
  EXPECT_EQ(calls, 4);
}

class FaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  }
};

TEST_F(FaultTest, TheChosenCallFailsAndIsNotMade) {
  int made = 0;
  const auto ask = [&] { return system_call(call::mincore, [&] { return ++made; }); };
  scoped_fault fault(call::mincore, EIO, 2);
  EXPECT_EQ(ask(), 1);
  EXPECT_EQ(ask(), -EIO);
  EXPECT_EQ(ask(), 2);
  EXPECT_EQ(fault.calls(), 3u);
  EXPECT_EQ(fault.hits(), 1u);
}

TEST_F(FaultTest, OtherKindsGoOn) {
  const scoped_fault fault(call::mmap, ENOMEM);
  EXPECT_EQ(system_call(call::munmap, [] { return 3; }), 3);
  EXPECT_EQ(reserve(4096, 4096).error, -ENOMEM);
  EXPECT_EQ(fault.hits(), 1u);
}

TEST_F(FaultTest, ErrorZeroOnlyCounts) {
  const scoped_fault count(call::mmap, 0);
  const mapping m = reserve(4096, 4096);
  EXPECT_TRUE(m);
  release(m.address, 4096);
  EXPECT_EQ(count.calls(), 1u);
  EXPECT_EQ(count.hits(), 0u);
}

TEST_F(FaultTest, TheSeamClosesBehindIt) {
  { const scoped_fault fault(call::mmap, ENOMEM); }
  const mapping m = reserve(4096, 4096);
  EXPECT_TRUE(m);
  release(m.address, 4096);
}

TEST(CallNameTest, EveryKindHasItsName) {
  EXPECT_EQ(to_string(call::mmap), "mmap");
  EXPECT_EQ(to_string(call::clock_gettime), "clock_gettime");
  EXPECT_EQ(to_string(call::epoll_ctl), "epoll_ctl");
  EXPECT_EQ(to_string(call::sendfile), "sendfile");
  EXPECT_EQ(to_string(call::count_), "unknown call");
}

}  // namespace
}  // namespace tuco::inline v1::os
