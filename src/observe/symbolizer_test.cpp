// SPDX-License-Identifier: Apache-2.0
// symbolizer_test.cpp - exact names, files and lines for code with debug information, inlined
// functions included; exact names without it; never a wrong or a missing answer.
#include "observe/symbolizer.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "observe/dwarf_module.hpp"
#include "observe/elf_symbols.hpp"
#include "observe/modules.hpp"

namespace symbolizer_subject {

// Not std::source_location, which clang 14 cannot compile with libstdc++.
struct location {
  const char* file_name = "";
  unsigned line = 0;

  static constexpr location current(const char* file = __builtin_FILE(),
                                    unsigned line = __builtin_LINE()) {
    return {file, line};
  }
  static constexpr location next_line(const char* file = __builtin_FILE(),
                                      unsigned line = __builtin_LINE()) {
    return {file, line + 1};
  }
};

struct place {
  void* return_address = nullptr;
  location at;
};

[[gnu::noinline]] place here(location at = location::current()) {
  return {__builtin_return_address(0), at};
}

[[gnu::noinline]] place ordinary(int, const std::string&) {
  const place p = here();
  asm volatile("" ::: "memory");
  return p;
}

template <class T>
struct box {
  [[gnu::noinline]] place member(T) const {
    const place p = here();
    asm volatile("" ::: "memory");
    return p;
  }
};

struct chain {
  place innermost;
  location middle_call;
  location outer_call;
};

[[gnu::always_inline]] inline void innermost(chain& c) {
  c.innermost = here();
}

[[gnu::always_inline]] inline void middle(chain& c) {
  c.middle_call = location::next_line();
  innermost(c);
  asm volatile("" ::: "memory");
}

[[gnu::noinline]] void outer(chain& c) {
  c.outer_call = location::next_line();
  middle(c);
  asm volatile("" ::: "memory");
}

template <class F>
[[gnu::always_inline]] inline place call(F f) {
  return f();
}

[[gnu::noinline]] place by_lambda(int) {
  const place p = call([]() __attribute__((always_inline)) {
    const place inner = here();
    asm volatile("" ::: "memory");
    return inner;
  });
  asm volatile("" ::: "memory");
  return p;
}

namespace {
[[gnu::noinline]] place hidden() {
  const place p = here();
  asm volatile("" ::: "memory");
  return p;
}
}  // namespace

}  // namespace symbolizer_subject

namespace tuco::inline v1::observe {
namespace {

namespace subject = symbolizer_subject;

constexpr symbolizer::options tables_only{false, true};
constexpr symbolizer::options nothing{false, false};

std::uintptr_t address(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p);
}

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

void expect_place(const source_frame& f, const subject::location& at) {
  EXPECT_EQ(f.line, at.line);
  EXPECT_EQ(base_name(f.file), base_name(at.file_name));
  EXPECT_EQ(f.file.front(), '/') << f.file;
  EXPECT_EQ(f.file.find("/../"), std::string::npos) << f.file;
}

TEST(Symbolizer, NamesFunctionFileAndLine) {
  if (!libdw_is_available()) GTEST_SKIP() << "libdw.so.1 is not installed";
  const auto p = subject::ordinary(1, "x");
  const auto frames = symbolize(address(p.return_address), true);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(frames[0].function, "symbolizer_subject::ordinary(int, std::string const&)");
  EXPECT_FALSE(frames[0].inlined);
  EXPECT_EQ(frames[0].offset,
            address(p.return_address) - address(reinterpret_cast<const void*>(&subject::ordinary)));
  expect_place(frames[0], p.at);
}

TEST(Symbolizer, NamesMembersOfTemplatesAndHiddenFunctions) {
  const auto m = symbolize(address(subject::box<long>().member(1).return_address), true);
  EXPECT_EQ(m.back().function, "symbolizer_subject::box<long>::member(long) const");
  const auto h = symbolize(address(subject::hidden().return_address), true);
  EXPECT_EQ(h.back().function, "symbolizer_subject::(anonymous namespace)::hidden()");
}

TEST(Symbolizer, SaysWhichFunctionAnInlinedLambdaBelongsTo) {
  if (!libdw_is_available()) GTEST_SKIP() << "libdw.so.1 is not installed";
  const auto frames = symbolize(address(subject::by_lambda(1).return_address), true);
  ASSERT_GE(frames.size(), 2U);
  const std::string& lambda = frames[0].function;
  // The name of the lambda itself is the compiler's: {lambda(int)#1} of gcc, $_0 of clang.
  EXPECT_TRUE(lambda.starts_with("symbolizer_subject::by_lambda(int)::")) << lambda;
  EXPECT_NE(lambda.find("::operator()"), std::string::npos) << lambda;
  EXPECT_EQ(frames.back().function, "symbolizer_subject::by_lambda(int)");
}

TEST(Symbolizer, ExpandsInlinedFunctionsInnermostFirst) {
  if (!libdw_is_available()) GTEST_SKIP() << "libdw.so.1 is not installed";
  subject::chain c{};
  subject::outer(c);
  const auto frames = symbolize(address(c.innermost.return_address), true);
  ASSERT_EQ(frames.size(), 3U);
  EXPECT_EQ(frames[0].function, "symbolizer_subject::innermost(symbolizer_subject::chain&)");
  EXPECT_EQ(frames[1].function, "symbolizer_subject::middle(symbolizer_subject::chain&)");
  EXPECT_EQ(frames[2].function, "symbolizer_subject::outer(symbolizer_subject::chain&)");
  EXPECT_TRUE(frames[0].inlined);
  EXPECT_TRUE(frames[1].inlined);
  EXPECT_FALSE(frames[2].inlined);
  expect_place(frames[0], c.innermost.at);
  expect_place(frames[1], c.middle_call);
  expect_place(frames[2], c.outer_call);
}

TEST(Symbolizer, WithoutDebugInformationTheSymbolTableNames) {
  symbolizer plain(tables_only);
  const auto p = subject::hidden();  // static: dladdr() could not
  const auto frames = plain.symbolize(address(p.return_address), true);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(frames[0].function, "symbolizer_subject::(anonymous namespace)::hidden()");
  EXPECT_EQ(frames[0].line, 0U);
  EXPECT_TRUE(frames[0].file.empty());
  EXPECT_EQ(frames[0].offset,
            address(p.return_address) - address(reinterpret_cast<const void*>(&subject::hidden)));
}

TEST(Symbolizer, WithNothingAtAllItGivesModuleAndOffset) {
  symbolizer blind(nothing);
  const auto pc = address(subject::hidden().return_address);
  const auto frames = blind.symbolize(pc, true);
  ASSERT_EQ(frames.size(), 1U);
  const auto module = module_of(pc);
  ASSERT_NE(module, nullptr);
  EXPECT_EQ(frames[0].offset, pc - module->bias);
  EXPECT_TRUE(frames[0].function.starts_with(base_name(module->name) + "+0x"))
      << frames[0].function;
}

TEST(Symbolizer, AddressesOutsideOfCodeAreAnsweredToo) {
  const auto frames = symbolize(0x1234, false);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(frames[0].function, "0x1234");
  EXPECT_EQ(symbolize(0, false).at(0).function, "0x0");
  EXPECT_EQ(symbolize(0, true).at(0).function, "0x0");
  EXPECT_EQ(symbolize(~std::uintptr_t{0}, true).size(), 1U);
}

TEST(Symbolizer, LibrariesAreNamed) {
  // Of libc itself: the libraries of sanitizers put functions of their own before some.
  void* const libc = ::dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  for (const bool debug : {true, false}) {
    symbolizer s({debug, true});
    const auto q = s.symbolize(address(::dlsym(libc, "qsort")) + 1, false);
    EXPECT_EQ(q.back().function, "qsort");
    EXPECT_EQ(q.back().offset, 1U);
    // Without @GLIBC_... and, of several names of one function, the plain one.
    EXPECT_EQ(s.symbolize(address(::dlsym(libc, "nanosleep")), false).back().offset, 0U);
  }
  symbolizer plain(tables_only);
  EXPECT_EQ(plain.symbolize(address(::dlsym(libc, "nanosleep")), false)[0].function,
            "nanosleep");
  EXPECT_EQ(plain.symbolize(address(::dlsym(RTLD_DEFAULT, "_Znwm")), false)[0].function,
            "operator new(unsigned long)");
}

TEST(Symbolizer, TheVdsoHasNames) {
  const auto image = ::getauxval(AT_SYSINFO_EHDR);
  if (image == 0) GTEST_SKIP() << "this machine has no vdso";
  const auto module = module_of(image);
  ASSERT_NE(module, nullptr);
  EXPECT_EQ(module->name, "[vdso]");
  std::size_t named = 0;
  for (std::uintptr_t pc = module->low; pc < module->high; pc += 16) {
    named += symbolize(pc, false)[0].function == "clock_gettime";
  }
  EXPECT_GT(named, 0U);
}

TEST(Symbolizer, FollowsLoadingAndUnloading) {
  const char* const library = "libthread_db.so.1";
  ASSERT_EQ(::dlopen(library, RTLD_NOW | RTLD_NOLOAD), nullptr);
  std::uintptr_t pc = 0;
  for (int round = 0; round < 3; ++round) {
    void* const handle = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    if (handle == nullptr) GTEST_SKIP() << library << " is not installed";
    pc = address(::dlsym(handle, "td_ta_new"));
    ASSERT_NE(pc, 0U);
    EXPECT_EQ(symbolize(pc, false).back().function, "td_ta_new");
    EXPECT_EQ(symbolize(pc, false).back().offset, 0U);
    ASSERT_NE(module_of(pc), nullptr);
    EXPECT_NE(module_of(pc)->name.find("thread_db"), std::string::npos);
    ::dlclose(handle);
    EXPECT_EQ(module_of(pc), nullptr);
    EXPECT_TRUE(symbolize(pc, false)[0].function.starts_with("0x"));
  }
}

TEST(Symbolizer, ThreadsMayAskAtTheSameTime) {
  const auto p = subject::ordinary(1, "x");
  const auto expected = symbolize(address(p.return_address), true)[0].function;
  symbolizer fresh;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        if (t == 0) {
          void* const handle = ::dlopen("libthread_db.so.1", RTLD_LAZY | RTLD_LOCAL);
          if (handle != nullptr) ::dlclose(handle);
        }
        wrong += fresh.symbolize(address(p.return_address), true)[0].function != expected;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ElfSymbols, AnotherBuildOfAFileIsNotUsed) {
  const auto module = module_of(address(::dlsym(RTLD_DEFAULT, "qsort")));
  ASSERT_NE(module, nullptr);
  ASSERT_FALSE(module->build_id.empty());
  EXPECT_EQ(build_id_of_file(module->path), module->build_id);
  EXPECT_FALSE(elf_symbols::from_file(module->path, module->build_id).empty());
  auto other = module->build_id;
  other[0] ^= std::byte{1};
  EXPECT_TRUE(elf_symbols::from_file(module->path, other).empty());
  EXPECT_TRUE(elf_symbols::from_file("/nonexistent", {}).empty());
  EXPECT_TRUE(elf_symbols::from_file("/proc/self/status", {}).empty());
}

TEST(ElfSymbols, MalformedFilesDoNoHarm) {
  const auto module = module_of(address(::dlsym(RTLD_DEFAULT, "__cxa_throw")));
  ASSERT_NE(module, nullptr);
  // A small image: the vdso when there is one, else the head of a library.
  std::vector<std::byte> image;
  if (const auto vdso = ::getauxval(AT_SYSINFO_EHDR); vdso != 0) {
    const auto m = module_of(vdso);
    const auto* const at = reinterpret_cast<const std::byte*>(m->low);
    image.assign(at, at + (m->high - m->low + 4095) / 4096 * 4096);
    EXPECT_FALSE(elf_symbols::from_memory(image).empty());
  } else {
    std::ifstream file(module->path, std::ios::binary);
    std::transform(std::istreambuf_iterator<char>(file), {}, std::back_inserter(image),
                   [](char c) { return static_cast<std::byte>(c); });
  }
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 3000; ++round) {
    auto broken = image;
    // The header and the section table are where it hurts.
    for (int n = 0; n < 4; ++n) {
      const std::size_t half = random() % 2 != 0 ? 64 : broken.size();
      broken[random() % half] = static_cast<std::byte>(random());
    }
    if (random() % 4 == 0) broken.resize(random() % broken.size());
    const auto symbols = elf_symbols::from_memory(broken);
    for (int n = 0; n < 8; ++n) {
      if (const auto s = symbols.find(random() % (2 * image.size()))) {
        ASSERT_LE(s->name.size(), image.size());
      }
    }
  }
}

}  // namespace
}  // namespace tuco::inline v1::observe
