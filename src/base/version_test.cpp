// SPDX-License-Identifier: Apache-2.0
// The library says the version of the headers it was built from.
#include <gtest/gtest.h>

#include <cstdio>
#include <tuco/config.hpp>

TEST(Version, IsThatOfTheHeaders) {
  int major = -1;
  int minor = -1;
  int patch = -1;
  char rest = 0;
  ASSERT_EQ(std::sscanf(tuco::version(), "%d.%d.%d%c", &major, &minor, &patch, &rest), 3);
  EXPECT_EQ(major, TUCO_VERSION_MAJOR);
  EXPECT_EQ(minor, TUCO_VERSION_MINOR);
  EXPECT_EQ(patch, TUCO_VERSION_PATCH);
}
