// SPDX-License-Identifier: Apache-2.0
// memory_test.cpp - the promises of os/memory.hpp.
#include "os/memory.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "os/fault.hpp"
#include "os/proc.hpp"

namespace tuco::inline v1::os {
namespace {

struct region {
  explicit region(std::size_t bytes, std::size_t alignment = page_size()) : size(bytes) {
    const mapping m = reserve(bytes, alignment);
    EXPECT_TRUE(m) << m.error;
    base = static_cast<volatile char*>(m.address);
  }
  ~region() { release(const_cast<char*>(base), size); }
  region(const region&) = delete;
  region& operator=(const region&) = delete;
  void* at(std::size_t offset) const { return const_cast<char*>(base + offset); }
  volatile char* base;
  std::size_t size;
};

TEST(MemoryTest, ReservedMemoryIsZeroWritableAndAligned) {
  for (const std::size_t alignment : {std::size_t{4096}, std::size_t{1} << 21, std::size_t{1} << 26}) {
    const region r(std::size_t{1} << 21, alignment < page_size() ? page_size() : alignment);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(r.base) % alignment, 0u);
    EXPECT_EQ(r.base[12345], 0);
    r.base[0] = 1;
    r.base[r.size - 1] = 1;
  }
}

TEST(MemoryTest, ReservingTakesNoMemory) {
  const std::uint64_t before = resident_bytes();
  const region r(std::size_t{1} << 30);
  EXPECT_LT(resident_bytes(), before + (std::size_t{1} << 20));
}

TEST(MemoryTest, ReservingTooMuchIsAnError) {
  const mapping m = reserve(std::size_t{1} << 60, page_size());
  EXPECT_FALSE(m);
  EXPECT_EQ(m.error, -ENOMEM);
}

TEST(MemoryTest, DiscardedPagesReadAsZeroAndAreGone) {
  const region r(64 * page_size());
  std::memset(r.at(0), 1, r.size);
  unsigned char pages[64];
  ASSERT_EQ(residency(r.at(0), r.size, pages), 0);
  EXPECT_EQ(pages[40] & 1, 1);
  ASSERT_EQ(discard(r.at(0), r.size), 0);
  ASSERT_EQ(residency(r.at(0), r.size, pages), 0);
  EXPECT_EQ(pages[40] & 1, 0);
  EXPECT_EQ(r.base[40 * page_size()], 0);
}

TEST(MemoryTest, AResetTakesPageTablesToo) {
  constexpr std::size_t huge = std::size_t{2} << 20;
  const region r(256 * huge, huge);
  refuse_huge_pages(r.at(0), r.size);
  const std::uint64_t before = page_table_bytes();
  for (std::size_t i = 0; i < 256; ++i) r.base[i * huge] = 1;
  const std::uint64_t peak = page_table_bytes();
  ASSERT_GE(peak - before, 250u * 4096);
  ASSERT_EQ(discard(r.at(0), r.size), 0);
  ASSERT_EQ(reset(r.at(0), r.size), 0);
  // A tenth is AddressSanitizer's, whose shadow of the region has tables too.
  EXPECT_LT(page_table_bytes() - before, (peak - before) / 5);
  EXPECT_EQ(r.base[7 * huge], 0);
  r.base[7 * huge] = 1;
}

TEST(MemoryTest, LightGuardsKillSurviveADiscardAndTakeNoMapping) {
  if (!guard_install_works()) GTEST_SKIP() << "Linux before 6.13";
  const std::size_t page = page_size();
  const region r(1000 * page);
  r.base[0] = 1;
  const std::size_t mappings = mapping_count();
  for (std::size_t i = 1; i < 1000; i += 2) ASSERT_EQ(guard_install(r.at(i * page), page), 0);
  EXPECT_LE(mapping_count(), mappings + 2);
  ASSERT_EQ(discard(r.at(0), r.size), 0);
  EXPECT_DEATH(r.base[501 * page] = 1, "");
  r.base[502 * page] = 1;
  ASSERT_EQ(guard_remove(r.at(501 * page), page), 0);
  r.base[501 * page] = 1;
}

TEST(MemoryTest, ProtectedPagesKillUntilReleased) {
  const std::size_t page = page_size();
  const region r(3 * page);
  ASSERT_EQ(protect_none(r.at(page), page), 0);
  EXPECT_DEATH(r.base[page] = 1, "");
  ASSERT_EQ(protect_read_write(r.at(page), page), 0);
  r.base[page] = 1;
}

TEST(MemoryTest, MaxMappingsIsWhatTheKernelSays) { EXPECT_GE(max_mappings(), 1000u); }

TEST(MemoryTest, UnreadableLimitsHaveADefault) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  for (const call kind : {call::open, call::read}) {
    const scoped_fault fault(kind, EACCES);
    EXPECT_EQ(max_mappings(), 65530u);
    EXPECT_EQ(fault.hits(), 1u);
  }
}

}  // namespace
}  // namespace tuco::inline v1::os
