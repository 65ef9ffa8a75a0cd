// SPDX-License-Identifier: Apache-2.0
// cgroup_test.cpp - the promises of os/cgroup.hpp, on trees of files as kernels show them.
#include "os/cgroup.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "os/fault.hpp"
#include "os/thread.hpp"

namespace tuco::inline v1::os {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "tuco-cgroup-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root); }
  void file(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root + path).substr(0, (root + path).rfind('/')));
    std::ofstream(root + path) << text;
  }
  std::optional<double> quota() const { return cpu_quota_reader(root).quota(); }

  std::string root;
};

constexpr const char* v2_mount =
    "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n"
    "31 25 0:27 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* v1_mount =
    "33 25 0:29 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"
    "34 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n";

TEST_F(CgroupTest, Version2LimitOfTheProcessesOwnGroup) {
  file("/proc/self/cgroup", "0::/user.slice/app.scope\n");
  file("/proc/self/mountinfo", v2_mount);
  file("/sys/fs/cgroup/user.slice/app.scope/cpu.max", "250000 100000\n");
  EXPECT_EQ(quota(), 2.5);
}

TEST_F(CgroupTest, Version2WithoutLimit) {
  file("/proc/self/cgroup", "0::/\n");
  file("/proc/self/mountinfo", v2_mount);
  file("/sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(CgroupTest, Version2RootHasNoFile) {
  file("/proc/self/cgroup", "0::/\n");
  file("/proc/self/mountinfo", v2_mount);
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(CgroupTest, Version1Limit) {
  file("/proc/self/cgroup", "12:memory:/app\n3:cpu,cpuacct:/app\n1:name=systemd:/\n");
  file("/proc/self/mountinfo", v1_mount);
  file("/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "50000\n");
  file("/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 0.5);
}

TEST_F(CgroupTest, Version1WithoutLimit) {
  file("/proc/self/cgroup", "3:cpu,cpuacct:/\n");
  file("/proc/self/mountinfo", v1_mount);
  file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

// systemd's "hybrid": version 2 is mounted too, the controllers are with version 1.
TEST_F(CgroupTest, OnMixedSystemsTheControllerDecides) {
  file("/proc/self/cgroup", "3:cpu,cpuacct:/app\n0::/elsewhere\n");
  file("/proc/self/mountinfo", std::string(v2_mount) + v1_mount);
  file("/sys/fs/cgroup/elsewhere/cpu.max", "100000 100000\n");
  file("/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "300000\n");
  file("/sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 3.0);
}

// "cpuset" and "cpuacct" are not "cpu".
TEST_F(CgroupTest, ControllersAreComparedAsWholeWords) {
  file("/proc/self/cgroup", "4:cpuset:/a\n5:cpuacct:/b\n");
  file("/proc/self/mountinfo",
       "35 25 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
  file("/sys/fs/cgroup/cpuset/a/cpu.cfs_quota_us", "100000\n");
  file("/sys/fs/cgroup/cpuset/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

// A container without cgroup namespace: the path is the host's, only its own part is mounted.
TEST_F(CgroupTest, TheMountsRootIsTheHeadOfThePath) {
  file("/proc/self/cgroup", "3:cpu,cpuacct:/docker/0123abc\n");
  file("/proc/self/mountinfo",
       "34 25 0:30 /docker/0123 /wrong rw - cgroup cgroup rw,cpu,cpuacct\n"
       "34 25 0:30 /docker/0123abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
  file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
  file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 1.5);
}

TEST_F(CgroupTest, EscapedMountPointsAreRead) {
  file("/proc/self/cgroup", "0::/a\n");
  file("/proc/self/mountinfo", "31 25 0:27 / /sys/fs/c\\040group rw - cgroup2 none rw\n");
  file("/sys/fs/c group/a/cpu.max", "700000 100000\n");
  EXPECT_EQ(quota(), 7.0);
}

TEST_F(CgroupTest, LongLinesAndManyMountsAreNoObstacle) {
  std::string mounts;
  for (int i = 0; i < 300; ++i) {
    mounts += "90 25 0:99 / /mnt/" + std::string(100, 'x') + std::to_string(i) + " rw - ext4 /dev/x rw\n";
  }
  mounts += "91 25 0:99 / /overlay rw - overlay overlay rw,lowerdir=" + std::string(20'000, 'y') + "\n";
  file("/proc/self/cgroup", "0::/\n");
  file("/proc/self/mountinfo", mounts + v2_mount);
  file("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), 4.0);
}

TEST_F(CgroupTest, NonsenseIsNoLimit) {
  EXPECT_EQ(quota(), std::nullopt);  // no files at all
  file("/proc/self/cgroup", "garbage\n::::\n0:\n");
  EXPECT_EQ(quota(), std::nullopt);
  file("/proc/self/cgroup", "0::/\n");
  file("/proc/self/mountinfo", "\n \n - \nx - cgroup2\n31 25 0:27 / - cgroup2 a b\n");
  EXPECT_EQ(quota(), std::nullopt);
  file("/proc/self/mountinfo", v2_mount);
  for (const char* text : {"", "abc", "100000", "100000 ", "100000 0", "0 100000", "-5 100000",
                           "99999999999999999999999 100000", "100000 abc"}) {
    file("/sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(quota(), std::nullopt) << text;
  }
}

// A path that does not fit must not turn into that of a group further up.
TEST_F(CgroupTest, APathThatIsTooLongIsNoLimit) {
  file("/proc/self/cgroup", "0::/" + std::string(4080, 'x') + "\n");
  file("/proc/self/mountinfo", v2_mount);
  file("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(CgroupTest, AFileThatBreaksOffTellsNothing) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  // More than one read: the second one fails, in the middle of a line and after a group of version 2.
  std::string text = "0::/a\n";
  while (text.size() < 5000) text += "9:name=" + std::string(90, 'y') + ":/\n";
  file("/proc/self/cgroup", text);
  file("/proc/self/mountinfo", v2_mount);
  file("/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
  ASSERT_EQ(quota(), 4.0);
  const scoped_fault fault(call::read, EIO, 2);
  EXPECT_EQ(quota(), std::nullopt);
  EXPECT_EQ(fault.hits(), 1u);
}

TEST_F(CgroupTest, AChangeIsSeenWithoutLookingForTheGroupAgain) {
  file("/proc/self/cgroup", "0::/\n");
  file("/proc/self/mountinfo", v2_mount);
  file("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  cpu_quota_reader reader(root);
  EXPECT_EQ(reader.quota(), 4.0);
  std::filesystem::remove(root + "/proc/self/cgroup");
  file("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(reader.quota(), 2.0);
}

TEST_F(CgroupTest, AGroupThatWentAwayIsLookedForAnew) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  file("/proc/self/cgroup", "0::/a\n");
  file("/proc/self/mountinfo", v2_mount);
  file("/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
  file("/sys/fs/cgroup/b/cpu.max", "300000 100000\n");
  cpu_quota_reader reader(root);
  file("/proc/self/cgroup", "0::/b\n");
  const scoped_fault fault(call::read, ENODEV, 1);
  EXPECT_EQ(reader.quota(), 3.0);
}

TEST_F(CgroupTest, EveryFailedReadIsNoLimitAndNoHarm) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  file("/proc/self/cgroup", "3:cpu:/\n");
  file("/proc/self/mountinfo", "34 25 0:30 / /c rw - cgroup cgroup rw,cpu\n");
  file("/c/cpu.cfs_quota_us", "100000\n");
  file("/c/cpu.cfs_period_us", "100000\n");
  ASSERT_EQ(quota(), 1.0);
  for (const call kind : {call::open, call::read}) {
    std::uint64_t calls = 0;
    {
      const scoped_fault count(kind, 0);
      ASSERT_EQ(quota(), 1.0);
      calls = count.calls();
    }
    for (std::uint64_t n = 1; n <= calls; ++n) {
      const scoped_fault fault(kind, EACCES, n);
      const auto got = quota();
      EXPECT_TRUE(got == std::nullopt || got == 1.0);
      EXPECT_EQ(fault.hits(), 1u);
    }
  }
}

TEST_F(CgroupTest, TheSystemItselfCanBeAsked) {
  cpu_quota_reader reader;
  const auto limit = reader.quota();
  EXPECT_TRUE(!limit || *limit > 0);
  EXPECT_GE(default_processors(reader), 1);
  EXPECT_LE(default_processors(reader), affinity_count());
}

TEST(DefaultProcessorsTest, IsTheAffinityButForTheQuotaWhichCountsAsTwoAtLeast) {
  EXPECT_EQ(default_processors(8, std::nullopt), 8);
  EXPECT_EQ(default_processors(8, 2.5), 3);
  EXPECT_EQ(default_processors(8, 3.0), 3);
  EXPECT_EQ(default_processors(8, 0.1), 2);
  EXPECT_EQ(default_processors(8, 100.0), 8);
  EXPECT_EQ(default_processors(8, 1e300), 8);
  EXPECT_EQ(default_processors(1, 0.5), 1);
  EXPECT_EQ(default_processors(1, std::nullopt), 1);
  EXPECT_EQ(default_processors(0, std::nullopt), 1);
}

}  // namespace
}  // namespace tuco::inline v1::os
