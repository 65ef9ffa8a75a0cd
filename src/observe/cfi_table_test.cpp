// SPDX-License-Identifier: Apache-2.0
// cfi_table_test.cpp - the tables know what is loaded, cost nothing while nothing changes, and
// are never taken away from a reader.
#include "observe/cfi_table.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "observe/registers.hpp"
#include "os/fault.hpp"

namespace tuco::inline v1::observe {
namespace {

constexpr const char* library = "libthread_db.so.1";

std::uintptr_t address_of(const char* symbol) {
  return reinterpret_cast<std::uintptr_t>(::dlsym(RTLD_DEFAULT, symbol));
}

bool has_rule(std::uintptr_t pc) {
  int here = 0;
  const table_reader reader(reinterpret_cast<std::uintptr_t>(&here));
  return reader.find(pc).rule != nullptr;
}

TEST(CfiTable, KnowsTheProgramAndItsLibraries) {
  refresh_unwind_tables();
  EXPECT_TRUE(has_rule(current_registers().pc));
  for (const char* symbol : {"qsort", "memcpy", "nanosleep", "_Znwm", "__cxa_throw"}) {
    EXPECT_TRUE(has_rule(address_of(symbol))) << symbol;
  }
  const auto stats = unwind_stats();
  EXPECT_GE(stats.modules, 5U);  // program, libstdc++, libgcc_s, libc, ld.so
  EXPECT_GT(stats.rows, 10'000U);
  EXPECT_LT(stats.bytes, stats.rows * 8 + (1U << 20));
}

TEST(CfiTable, UnknownAddressesHaveNoRuleAndAreNotCode) {
  refresh_unwind_tables();
  int here = 0;
  const table_reader reader(reinterpret_cast<std::uintptr_t>(&here));
  for (const std::uintptr_t pc : {std::uintptr_t{0}, std::uintptr_t{4096},
                                  reinterpret_cast<std::uintptr_t>(&here), ~std::uintptr_t{0}}) {
    EXPECT_EQ(reader.find(pc).rule, nullptr);
    EXPECT_FALSE(reader.find(pc).is_code);
  }
}

// The second answer comes from the cache; it must be the first one.
TEST(CfiTable, CachedAnswersAreTheSame) {
  refresh_unwind_tables();
  const std::uintptr_t low = address_of("qsort");
  std::vector<const cfi_rule*> cold;
  int here = 0;
  const table_reader reader(reinterpret_cast<std::uintptr_t>(&here));
  for (std::uintptr_t pc = low; pc < low + 20'000; ++pc) cold.push_back(reader.find(pc).rule);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < cold.size(); ++i) {
      ASSERT_EQ(reader.find(low + i).rule, cold[i]) << i;
    }
  }
}

TEST(CfiTable, RefreshDoesNothingWhenNothingChanged) {
  refresh_unwind_tables();
  const auto before = unwind_stats();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(refresh_unwind_tables());
  EXPECT_EQ(unwind_stats().refreshes, before.refreshes);
}

TEST(CfiTable, FollowsLoadingAndUnloading) {
  ASSERT_EQ(::dlopen(library, RTLD_LAZY | RTLD_NOLOAD), nullptr);
  for (int round = 0; round < 3; ++round) {
    void* const handle = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    if (handle == nullptr) GTEST_SKIP() << library << " is not installed";
    const auto pc = reinterpret_cast<std::uintptr_t>(::dlsym(handle, "td_ta_new"));
    EXPECT_FALSE(has_rule(pc));
    EXPECT_TRUE(refresh_unwind_tables());
    EXPECT_TRUE(has_rule(pc));
    ::dlclose(handle);
    EXPECT_TRUE(refresh_unwind_tables());
    EXPECT_FALSE(has_rule(pc));
  }
}

TEST(CfiTable, WithoutMemoryTheTablesInForceStay) {
  if (!os::fault_injection) GTEST_SKIP() << "needs TUCO_FAULT_INJECTION";
  refresh_unwind_tables();
  void* const handle = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) GTEST_SKIP() << library << " is not installed";
  const auto pc = reinterpret_cast<std::uintptr_t>(::dlsym(handle, "td_ta_new"));
  std::uint64_t calls = 0;
  for (std::uint64_t nth = 1; !has_rule(pc); ++nth) {
    ASSERT_LT(nth, 20u);
    const os::scoped_fault fault(os::call::mmap, ENOMEM, nth);
    const bool published = refresh_unwind_tables();
    EXPECT_EQ(published, fault.hits() == 0);
    EXPECT_TRUE(has_rule(address_of("qsort")));
    calls += fault.hits();
  }
  EXPECT_GE(calls, 2u) << "the copy of the module's table, the rows";
  ::dlclose(handle);
  refresh_unwind_tables();
}

TEST(CfiTable, APinnedSetIsKeptUntilItsReaderLeaves) {
  refresh_unwind_tables();
  void* const handle = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) GTEST_SKIP() << library << " is not installed";
  refresh_unwind_tables();
  const auto pc = reinterpret_cast<std::uintptr_t>(::dlsym(handle, "td_ta_new"));
  {
    int here = 0;
    const table_reader reader(reinterpret_cast<std::uintptr_t>(&here));
    ::dlclose(handle);
    refresh_unwind_tables();
    EXPECT_GE(unwind_stats().retired_sets, 1U);
    EXPECT_NE(reader.find(pc).rule, nullptr);  // still the set of before
  }
  EXPECT_EQ(unwind_stats().retired_sets, 0U);
}

// Fails (by a fault) when a set is unmapped without waiting for its readers.
TEST(CfiTable, ReadersOutliveModules) {
  void* const probe = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL);
  if (probe == nullptr) GTEST_SKIP() << library << " is not installed";
  const auto inside = reinterpret_cast<std::uintptr_t>(::dlsym(probe, "td_ta_new"));
  refresh_unwind_tables();
  ::dlclose(probe);
  refresh_unwind_tables();
  const auto before = unwind_stats();

  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> found{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&, t] {
      std::minstd_rand random(static_cast<unsigned>(t + 1));
      const std::uintptr_t other = address_of("qsort");
      int here = 0;
      std::uint64_t mine = 0;
      while (!stop.load(std::memory_order_relaxed)) {
        const table_reader reader(reinterpret_cast<std::uintptr_t>(&here));
        for (int i = 0; i < 64; ++i) {
          mine += reader.find(inside + random() % 4096).rule != nullptr;
          mine += reader.find(other + random() % 65536).rule != nullptr;
        }
      }
      found += mine;
    });
  }
  for (int i = 0; i < 300; ++i) {
    void* const handle = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    refresh_unwind_tables();
    ::dlclose(handle);
    refresh_unwind_tables();
  }
  stop = true;
  for (auto& t : readers) t.join();

  EXPECT_GT(found, 0U);
  const auto after = unwind_stats();
  EXPECT_EQ(after.retired_sets, 0U);
  // What stays for ever does not grow with the number of loads.
  EXPECT_EQ(after.rules, before.rules);
  EXPECT_EQ(after.expressions, before.expressions);
  EXPECT_EQ(after.bytes, before.bytes);
}

}  // namespace
}  // namespace tuco::inline v1::observe
