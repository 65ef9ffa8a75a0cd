// SPDX-License-Identifier: Apache-2.0
// H29: shadow stacks.
//
// Danger      On a processor with a shadow stack a switch that leaves by a jump ends the program at the next
//             return: the two stacks say different things.
// Mitigation  The C library gives a program one only if every object in it says that it can live with that.
//             Ours say that they have landing pads for indirect jumps, and nothing of a shadow stack:
//             -fcf-protection=branch (cmake/flags.cmake) and the note in arch/x86_64/context.S.
#if defined(__x86_64__)
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace tuco {
namespace {

std::string notes_of(const std::filesystem::path& library) {
  std::string text;
  FILE* readelf = ::popen(("LC_ALL=C readelf -n '" + library.string() + "'").c_str(), "r");
  if (readelf == nullptr) return text;
  char buffer[4096];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, readelf)) > 0;) text.append(buffer, n);
  return ::pclose(readelf) == 0 ? text : "";
}

TEST(ShadowStack, NoObjectOfTheLibrarySaysThatItCanLiveWithOne) {
  int libraries = 0;
  for (const auto& file : std::filesystem::directory_iterator(TUCO_TEST_BINARY_DIR)) {
    const std::string name = file.path().filename().string();
    if (!name.starts_with("libtuco") || !name.ends_with(".a") || name.find("fixture") != std::string::npos) continue;
    ++libraries;
    const std::string notes = notes_of(file.path());
    const auto assembly = notes.find("context.S.o)");
    ASSERT_NE(assembly, std::string::npos) << name << ":\n" << notes;
    EXPECT_EQ(notes.find("x86 feature: IBT\n", assembly), notes.find("x86 feature: ", assembly)) << name;
    EXPECT_NE(notes.find("x86 feature: IBT\n", assembly), std::string::npos) << name;
    EXPECT_EQ(notes.find("SHSTK"), std::string::npos) << name;
  }
  EXPECT_GT(libraries, 0);
}

}  // namespace
}  // namespace tuco
#endif
