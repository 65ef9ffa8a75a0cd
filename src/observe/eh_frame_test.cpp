// SPDX-License-Identifier: Apache-2.0
// eh_frame_test.cpp - the rows mean what the section says: checked against small sections written
// here, against libdw on every library of this process, and against nonsense.
#include "observe/eh_frame.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "observe/cfi_rule.hpp"

#if __has_include(<elfutils/libdw.h>)
#include <dwarf.h>
#include <elfutils/libdw.h>

#include "os/file.hpp"
#include "os/socket.hpp"
#endif

namespace tuco::inline v1::observe {
namespace {

constexpr std::uintptr_t code = 0x400000;
constexpr auto ra_index = static_cast<std::size_t>(tracked_index(dwarf_ra));
constexpr auto fp_index = static_cast<std::size_t>(tracked_index(dwarf_fp));

/// Writes an .eh_frame section with absolute pointers.
class section_writer {
 public:
  using bytes = std::vector<std::uint8_t>;

  section_writer() {
    // version 1, "zR", code alignment 1, data alignment -8, return column, absolute pointers;
    // initially CFA = sp + 8, return address at CFA - 8.
    bytes body{0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, dwarf_ra, 1, 0x00};
    append(body, {0x0c, dwarf_sp, 8, 0x80 | dwarf_ra, 1});
    add_record(body);
  }

  section_writer& function(std::uintptr_t begin, std::uintptr_t size, const bytes& program) {
    const auto here = static_cast<std::uint32_t>(out_.size() + 4);
    bytes body;
    append_word(body, here, 4);  // the CIE is at offset 0
    append_word(body, begin, 8);
    append_word(body, size, 8);
    body.push_back(0);
    body.insert(body.end(), program.begin(), program.end());
    add_record(body);
    return *this;
  }

  [[nodiscard]] std::vector<cfi_row> rows(cfi_rule_pool& pool) const {
    eh_frame_image image;
    image.bytes = std::as_bytes(std::span(out_));
    image.address = 0x1000;
    image.terminated = true;
    return build_rows(image, code, code + 0x10000, pool);
  }

 private:
  static void append(bytes& to, std::initializer_list<unsigned> what) {
    for (const unsigned b : what) to.push_back(static_cast<std::uint8_t>(b));
  }
  static void append_word(bytes& to, std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  }
  void add_record(bytes body) {
    while (body.size() % 4 != 0) body.push_back(0);
    append_word(out_, body.size(), 4);
    out_.insert(out_.end(), body.begin(), body.end());
  }

  bytes out_;
};

const cfi_rule* rule_at(const std::vector<cfi_row>& rows, std::uintptr_t pc,
                        const cfi_rule_pool& pool) {
  const auto offset = static_cast<std::uint32_t>(pc - code);
  const auto after = std::upper_bound(rows.begin(), rows.end(), offset,
                                      [](auto o, const cfi_row& r) { return o < r.offset; });
  return after == rows.begin() ? nullptr : pool.rule(std::prev(after)->rule);
}

TEST(EhFrame, RowsFollowThePrologue) {
  cfi_rule_pool pool;
  // push fp at +1 (CFA = sp + 16, fp at CFA - 16); mov at +4 (CFA = fp + 16); pop at +20.
  const auto rows = section_writer()
                        .function(code + 16, 32,
                                  {0x41, 0x0e, 16, 0x80 | dwarf_fp, 2, 0x43, 0x0d, dwarf_fp, 0x50,
                                   0x0c, dwarf_sp, 8, 0xc0 | dwarf_fp})
                        .rows(pool);
  EXPECT_EQ(rule_at(rows, code + 15, pool), nullptr);
  const cfi_rule* at = rule_at(rows, code + 16, pool);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(at->cfa_register, dwarf_sp);
  EXPECT_EQ(at->cfa_offset, 8);
  EXPECT_EQ(at->how_of(ra_index), recover::at_cfa);
  EXPECT_EQ(at->where[ra_index], -1);
  EXPECT_EQ(at->how_of(fp_index), recover::same);
  at = rule_at(rows, code + 17, pool);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(at->cfa_offset, 16);
  EXPECT_EQ(at->how_of(fp_index), recover::at_cfa);
  EXPECT_EQ(at->where[fp_index], -2);
  at = rule_at(rows, code + 20, pool);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(at->cfa_register, dwarf_fp);
  at = rule_at(rows, code + 47, pool);
  ASSERT_NE(at, nullptr);
  EXPECT_EQ(at->cfa_register, dwarf_sp);
  EXPECT_EQ(at->how_of(fp_index), recover::same);
  EXPECT_EQ(rule_at(rows, code + 48, pool), nullptr);
}

TEST(EhFrame, RememberedStatesComeBackWithTheirCfa) {
  cfi_rule_pool pool;
  const auto rows = section_writer()
                        .function(code, 32, {0x41, 0x0e, 32, 0x41, 0x0a, 0x0e, 8, 0x41, 0x0b})
                        .rows(pool);
  EXPECT_EQ(rule_at(rows, code + 1, pool)->cfa_offset, 32);
  EXPECT_EQ(rule_at(rows, code + 2, pool)->cfa_offset, 8);
  EXPECT_EQ(rule_at(rows, code + 3, pool)->cfa_offset, 32);
}

TEST(EhFrame, UndefinedReturnAddressIsOutermost) {
  cfi_rule_pool pool;
  const auto rows = section_writer().function(code, 8, {0x07, dwarf_ra}).rows(pool);
  ASSERT_NE(rule_at(rows, code, pool), nullptr);
  EXPECT_TRUE(rule_at(rows, code, pool)->is_outermost());
}

TEST(EhFrame, AdjacentFunctionsLeaveNoGapAndUnorderedOnesAreSorted) {
  cfi_rule_pool pool;
  const auto rows = section_writer()
                        .function(code + 16, 16, {0x0e, 16})
                        .function(code, 16, {0x0e, 32})
                        .function(code + 40, 8, {})
                        .rows(pool);
  EXPECT_EQ(rule_at(rows, code + 15, pool)->cfa_offset, 32);
  EXPECT_EQ(rule_at(rows, code + 16, pool)->cfa_offset, 16);
  EXPECT_EQ(rule_at(rows, code + 32, pool), nullptr);
  EXPECT_EQ(rule_at(rows, code + 40, pool)->cfa_offset, 8);
}

TEST(EhFrame, WhatCannotBeSaidIsNoRule) {
  cfi_rule_pool pool;
  const auto rows = section_writer()
                        .function(code, 16, {0x44, 0x3e, 0x44})  // unknown operation at +4
                        .function(code + 32, 16,
                                  {0x12, dwarf_sp, 0x01, 0x11, dwarf_fp, 0x01, 0x44,
                                   0x0b})                         // restore without remember at +4
                        .function(code + 64, 16, {0x0c, 127, 8})  // unknown CFA register
                        .rows(pool);
  EXPECT_NE(rule_at(rows, code + 3, pool), nullptr);
  EXPECT_EQ(rule_at(rows, code + 4, pool), nullptr);
  EXPECT_NE(rule_at(rows, code + 33, pool), nullptr);
  EXPECT_EQ(rule_at(rows, code + 36, pool), nullptr);
  EXPECT_EQ(rule_at(rows, code + 64, pool), nullptr);
}

TEST(EhFrame, EqualRulesAreStoredOnce) {
  cfi_rule_pool pool;
  section_writer section;
  for (unsigned i = 0; i < 100; ++i) section.function(code + i * 32, 16, {0x41, 0x0e, 16});
  const auto rows = section.rows(pool);
  EXPECT_EQ(pool.rules(), 2U);
  EXPECT_EQ(rows.size(), 300U + (rows.front().rule == 0 ? 1 : 0));
}

// --- expressions -------------------------------------------------------------------------------

class ExpressionTest : public ::testing::Test {
 protected:
  bool run(std::initializer_list<unsigned> ops, const std::uintptr_t* initial = nullptr) {
    std::vector<std::uint8_t> bytes;
    for (const unsigned b : ops) bytes.push_back(static_cast<std::uint8_t>(b));
    const auto low = reinterpret_cast<std::uintptr_t>(words_.data());
    registers_[dwarf_sp] = low;
    const frame_view view{registers_.data(), std::uint64_t{1} << dwarf_sp, pc_, low,
                          low + sizeof(words_)};
    return evaluate(std::as_bytes(std::span(bytes)), view, initial, result_);
  }

  static constexpr unsigned breg_sp = 0x70 + dwarf_sp;
  std::array<std::uintptr_t, 4> words_{11, 22, 33, 44};
  std::array<std::uintptr_t, dwarf_registers> registers_{};
  std::uintptr_t pc_ = 0;
  std::uintptr_t result_ = 0;
};

#if defined(__x86_64__)
// What GNU ld writes for a PLT entry: behind its push, at offset 11 of 16, the CFA is 8 higher.
TEST_F(ExpressionTest, PltEntriesDependOnThePc) {
  const auto cfa = [&](std::uintptr_t pc) {
    pc_ = pc;
    EXPECT_TRUE(run({0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}));
    return result_ - registers_[dwarf_sp];
  };
  EXPECT_EQ(cfa(0x401020), 8U);
  EXPECT_EQ(cfa(0x40102a), 8U);
  EXPECT_EQ(cfa(0x40102b), 16U);
}
#endif

TEST_F(ExpressionTest, LoadsStayInsideTheStack) {
  EXPECT_TRUE(run({breg_sp, 8, 0x06}));
  EXPECT_EQ(result_, 22U);
  EXPECT_TRUE(run({breg_sp, 24, 0x06}));
  EXPECT_EQ(result_, 44U);
  EXPECT_FALSE(run({breg_sp, 32, 0x06}));
  EXPECT_FALSE(run({breg_sp, 0x78, 0x06}));  // sp - 8
  EXPECT_FALSE(run({breg_sp, 1, 0x06}));     // misaligned
  EXPECT_FALSE(run({0x30, 0x06}));           // null
}

TEST_F(ExpressionTest, ArithmeticIsThatOfDwarf) {
  const std::uintptr_t initial = 100;
  EXPECT_TRUE(run({0x23, 5}, &initial));
  EXPECT_EQ(result_, 105U);
  EXPECT_TRUE(run({0x0b, 0xfe, 0xff, 0x37, 0x1b}));  // -2 / 7
  EXPECT_EQ(result_, 0U);
  EXPECT_TRUE(run({0x37, 0x32, 0x1c}));  // 7 - 2
  EXPECT_EQ(result_, 5U);
  EXPECT_TRUE(run({0x31, 0x32, 0x33, 0x17, 0x1c, 0x1c}));  // 1 2 3 rot -> 3 1 2; 3 - (1 - 2)
  EXPECT_EQ(result_, 4U);
  EXPECT_TRUE(run({0x31, 0x28, 1, 0, 0x96, 0x35}));  // a taken branch
  EXPECT_EQ(result_, 5U);
}

TEST_F(ExpressionTest, NonsenseIsRefusedAndEnds) {
  EXPECT_FALSE(run({}));
  EXPECT_FALSE(run({0x22}));                               // nothing to add
  EXPECT_FALSE(run({0x31, 0x30, 0x1b}));                   // 1 / 0
  EXPECT_FALSE(run({0x31, 0x30, 0x1d}));                   // 1 % 0
  EXPECT_FALSE(run({0x2f, 0xfd, 0xff}));                   // jumps to itself for ever
  EXPECT_FALSE(run({0x2f, 0, 0x80}));                      // jumps out
  EXPECT_FALSE(run({0x70 + (dwarf_sp == 3 ? 4 : 3), 0}));  // a register nobody knows
  EXPECT_FALSE(run({0x92, 0xff, 0x01, 0}));
  EXPECT_FALSE(run({0x0e, 1, 2}));  // cut short
  EXPECT_FALSE(run({0xe0}));        // unknown operation
  EXPECT_FALSE(run({0x31, 0x12, 0x12, 0x12, 0x12, 0x12, 0x12, 0x12, 0x12, 0x12, 0x12, 0x12, 0x12,
                    0x12, 0x12, 0x12, 0x12, 0x12}));  // too deep
}

// --- real sections -----------------------------------------------------------------------------

struct real_module {
  std::string path;
  std::uintptr_t bias = 0;
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;
  eh_frame_image image;
};

std::vector<real_module> real_modules() {
  std::vector<real_module> out;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* list) {
        real_module m;
        m.path = info->dlpi_name[0] != 0 ? info->dlpi_name : "/proc/self/exe";
        m.bias = info->dlpi_addr;
        m.low = ~std::uintptr_t{0};
        std::uintptr_t segment_end = 0;
        std::uintptr_t hdr = 0;
        for (const auto& h : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
          if (h.p_type == PT_GNU_EH_FRAME) hdr = m.bias + h.p_vaddr;
          if (h.p_type != PT_LOAD || (h.p_flags & PF_X) == 0) continue;
          m.low = std::min(m.low, m.bias + h.p_vaddr);
          m.high = std::max(m.high, m.bias + h.p_vaddr + h.p_memsz);
        }
        if (hdr == 0 || m.path[0] != '/') return 0;
        std::int32_t distance = 0;
        std::memcpy(&distance, reinterpret_cast<const void*>(hdr + 4), 4);
        m.image.address = hdr + 4 + static_cast<std::uintptr_t>(std::intptr_t{distance});
        m.image.hdr_address = hdr;
        m.image.terminated = true;
        for (const auto& h : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
          const std::uintptr_t at = m.bias + h.p_vaddr;
          if (h.p_type == PT_LOAD && m.image.address >= at && m.image.address < at + h.p_filesz) {
            segment_end = at + h.p_filesz;
          }
        }
        if (segment_end == 0) return 0;
        m.image.bytes = {reinterpret_cast<const std::byte*>(m.image.address),
                         segment_end - m.image.address};
        static_cast<std::vector<real_module>*>(list)->push_back(m);
        return 0;
      },
      &out);
  return out;
}

const cfi_rule* rule_in(const real_module& m, const std::vector<cfi_row>& rows, std::uintptr_t pc,
                        const cfi_rule_pool& pool) {
  const auto offset = static_cast<std::uint32_t>(pc - m.low);
  const auto after = std::upper_bound(rows.begin(), rows.end(), offset,
                                      [](auto o, const cfi_row& r) { return o < r.offset; });
  return after == rows.begin() ? nullptr : pool.rule(std::prev(after)->rule);
}

#if __has_include(<elfutils/libdw.h>)
struct libdw_cfi {
  void* handle = ::dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
  void* elf = ::dlopen("libelf.so.1", RTLD_NOW | RTLD_LOCAL);
  template <class F>
  static F* find(void* library, const char* name, F*) {
    return reinterpret_cast<F*>(::dlsym(library, name));
  }
#define TUCO_FIND(lib, name) decltype(&::name) name = find(lib, #name, decltype(&::name){})
  TUCO_FIND(elf, elf_version);
  TUCO_FIND(elf, elf_begin);
  TUCO_FIND(elf, elf_end);
  TUCO_FIND(handle, dwarf_getcfi_elf);
  TUCO_FIND(handle, dwarf_cfi_end);
  TUCO_FIND(handle, dwarf_cfi_addrframe);
  TUCO_FIND(handle, dwarf_frame_cfa);
  TUCO_FIND(handle, dwarf_frame_register);
#undef TUCO_FIND
};

/// One register's rule as libdw puts it, compared with ours.
void expect_same(const libdw_cfi& dw, Dwarf_Frame* frame, const cfi_rule& ours, std::size_t i,
                 std::uintptr_t pc) {
  Dwarf_Op memory[3];
  Dwarf_Op* ops = nullptr;
  std::size_t count = 0;
  ASSERT_EQ(dw.dwarf_frame_register(frame, tracked_registers[i], memory, &ops, &count), 0);
  SCOPED_TRACE("pc " + std::to_string(pc) + " register " + std::to_string(tracked_registers[i]));
  const bool by_expression = count != 0 && ops != nullptr && ops[0].atom != DW_OP_call_frame_cfa;
  switch (ours.how_of(i)) {
    case recover::same:
      EXPECT_TRUE(count == 0);
      break;
    case recover::undefined:
      EXPECT_TRUE(count == 0 && ops == memory);
      break;
    case recover::at_cfa: {
      ASSERT_GE(count, 1U);
      ASSERT_EQ(ops[0].atom, DW_OP_call_frame_cfa);
      const auto offset = count > 1 && ops[1].atom == DW_OP_plus_uconst ? ops[1].number : 0;
      EXPECT_EQ(static_cast<std::int64_t>(offset), std::int64_t{ours.where[i]} * 8);
      break;
    }
    case recover::is_cfa:
      EXPECT_GE(count, 2U);
      break;
    case recover::in_register:
      ASSERT_EQ(count, 1U + (ops[0].atom != DW_OP_regx && count == 2));
      EXPECT_TRUE(by_expression);
      break;
    case recover::at_expression:
    case recover::is_expression:
      EXPECT_GE(count, 1U);
      break;
  }
}

// Every 7th byte of code of every library: several hundred thousand rules.
TEST(EhFrame, AgreesWithLibdwOnEveryLibraryOfThisProcess) {
  const libdw_cfi dw;
  if (dw.handle == nullptr || dw.elf == nullptr) GTEST_SKIP() << "libdw.so.1 is not installed";
  dw.elf_version(EV_CURRENT);
  std::size_t compared = 0;
  for (const real_module& m : real_modules()) {
    const int file = os::open_for_reading(m.path.c_str());
    if (file < 0) continue;
    Elf* const elf = dw.elf_begin(file, ELF_C_READ_MMAP, nullptr);
    Dwarf_CFI* const cfi = elf == nullptr ? nullptr : dw.dwarf_getcfi_elf(elf);
    if (cfi != nullptr) {
      cfi_rule_pool pool;
      const auto rows = build_rows(m.image, m.low, m.high, pool);
      for (std::uintptr_t pc = m.low; pc < m.high && !::testing::Test::HasFailure(); pc += 7) {
        const cfi_rule* const ours = rule_in(m, rows, pc, pool);
        Dwarf_Frame* frame = nullptr;
        const bool theirs = dw.dwarf_cfi_addrframe(cfi, pc - m.bias, &frame) == 0;
        ASSERT_EQ(ours != nullptr, theirs) << m.path << " " << pc - m.bias;
        if (!theirs) continue;
        ++compared;
        Dwarf_Op* ops = nullptr;
        std::size_t count = 0;
        ASSERT_EQ(dw.dwarf_frame_cfa(frame, &ops, &count), 0);
        if ((ours->flags & cfi_rule::cfa_is_expression) == 0 && !ours->is_outermost()) {
          ASSERT_EQ(count, 1U);
          EXPECT_EQ(ops[0].number, ours->cfa_register) << m.path << " " << pc - m.bias;
          EXPECT_EQ(static_cast<std::int64_t>(ops[0].number2), ours->cfa_offset);
        }
        for (std::size_t i = 0; i < tracked_registers.size(); ++i) {
          if (tracked_registers[i] != dwarf_sp) expect_same(dw, frame, *ours, i, pc - m.bias);
        }
        std::free(frame);
      }
      dw.dwarf_cfi_end(cfi);
    }
    if (elf != nullptr) dw.elf_end(elf);
    os::close_descriptor(file);
  }
  EXPECT_GT(compared, 100'000U);
}
#endif

TEST(EhFrame, MalformedSectionsDoNoHarm) {
  const auto modules = real_modules();
  ASSERT_FALSE(modules.empty());
  const auto smallest = std::min_element(
      modules.begin(), modules.end(),
      [](const auto& a, const auto& b) { return a.image.bytes.size() < b.image.bytes.size(); });
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const std::size_t size = std::min<std::size_t>(smallest->image.bytes.size(), 16384);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::byte> bytes(smallest->image.bytes.begin(),
                                 smallest->image.bytes.begin() + static_cast<long>(size));
    for (int n = 0; n < 50; ++n) bytes[random() % size] = static_cast<std::byte>(random());
    if (random() % 4 == 0) bytes.resize(random() % size);
    bytes.shrink_to_fit();  // so that AddressSanitizer sees the end
    eh_frame_image image = smallest->image;
    image.bytes = bytes;
    image.terminated = random() % 2 == 0;
    cfi_rule_pool pool;
    const auto rows = build_rows(image, smallest->low, smallest->high, pool);
    ASSERT_FALSE(rows.empty());
    ASSERT_EQ(rows.front().offset, 0U);
    ASSERT_TRUE(std::is_sorted(rows.begin(), rows.end(),
                               [](const auto& a, const auto& b) { return a.offset < b.offset; }));
  }
}

}  // namespace
}  // namespace tuco::inline v1::observe
