// SPDX-License-Identifier: Apache-2.0
// The arithmetic of tuco/detail/deadline.hpp: rounds up, saturates, never wraps.
#include <tuco/detail/deadline.hpp>

#include <limits>

#include <gtest/gtest.h>

namespace tuco::detail {
namespace {

using namespace std::chrono;

static_assert(saturated_ns(nanoseconds(5)) == 5);
static_assert(saturated_ns(microseconds(-5)) == -5'000);
static_assert(saturated_ns(hours::max()) == INT64_MAX);
static_assert(saturated_ns(hours::min()) == INT64_MIN);
static_assert(saturated_ns(duration<unsigned long long>(~0ull)) == INT64_MAX);
static_assert(saturated_ns(duration<signed char, std::milli>(-1)) == -1'000'000);

TEST(Deadline, RoundsUp) {
  using picoseconds = duration<std::int64_t, std::pico>;
  EXPECT_EQ(saturated_ns(picoseconds(1)), 1);
  EXPECT_EQ(saturated_ns(picoseconds(1'000)), 1);
  EXPECT_EQ(saturated_ns(picoseconds(1'001)), 2);
  EXPECT_EQ(saturated_ns(picoseconds(-1)), 0);
  EXPECT_EQ(saturated_ns(duration<double, std::nano>(0.25)), 1);
  EXPECT_EQ(saturated_ns(duration<std::int64_t, std::ratio<1, 3>>(1)), 333'333'334);
}

TEST(Deadline, SaturatesFloats) {
  EXPECT_EQ(saturated_ns(duration<double>(1e300)), INT64_MAX);
  EXPECT_EQ(saturated_ns(duration<double>(-1e300)), INT64_MIN);
  EXPECT_EQ(saturated_ns(duration<double>(std::numeric_limits<double>::infinity())), INT64_MAX);
  EXPECT_EQ(saturated_ns(duration<double>(std::numeric_limits<double>::quiet_NaN())), 0);
}

TEST(Deadline, AfterIsNeverEarlyAndNeverWraps) {
  EXPECT_EQ(deadline_after(nanoseconds(0)), past_deadline);
  EXPECT_EQ(deadline_after(seconds(-1)), past_deadline);
  EXPECT_EQ(deadline_after(nanoseconds::max()), no_deadline);
  EXPECT_EQ(deadline_after(hours::max()), no_deadline);
  const auto now = saturated_ns(steady_clock::now().time_since_epoch());
  EXPECT_GE(deadline_after(milliseconds(1)), now + 1'000'000);
  EXPECT_EQ(deadline_at(steady_clock::time_point::max()), no_deadline);
  EXPECT_EQ(deadline_at(steady_clock::time_point::min()), INT64_MIN);
}

}  // namespace
}  // namespace tuco::detail
