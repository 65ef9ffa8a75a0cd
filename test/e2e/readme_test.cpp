// SPDX-License-Identifier: Apache-2.0
// What README.md and examples/README.md show is what there is. A comment that a reader does not see says
// what the fenced block behind it holds:
//
//     <!-- file: PATH -->      the whole source file, without the comment lines it begins with
//     <!-- stdout: PATH -->    what that program of the build prints
//     <!-- stderr: PATH -->    the same of its standard error
//
// Every other block is commands of a shell, of which those of ours must exist.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "e2e/process.hpp"

namespace tuco::test {
namespace {

namespace fs = std::filesystem;
const fs::path tree = TUCO_TEST_SOURCE_DIR;

std::string content(const fs::path& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

struct block {
  int line = 0;          ///< where it begins
  std::string language;  ///< behind the fence
  std::string kind;      ///< file, stdout, stderr; empty: none was said
  std::string path;
  std::string text;
};

std::vector<block> blocks_of(const fs::path& page) {
  std::vector<block> blocks;
  std::istringstream in(content(page));
  const std::regex marker("<!-- (file|stdout|stderr): (\\S+) -->");
  bool inside = false;
  block next;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    std::smatch said;
    if (line.starts_with("```")) {
      if (inside) blocks.push_back(std::exchange(next, {}));
      else next.line = number, next.language = line.substr(3);
      inside = !inside;
    } else if (inside) {
      next.text += line + "\n";
    } else if (std::regex_match(line, said, marker)) {
      next.kind = said[1];
      next.path = said[2];
    }
  }
  EXPECT_FALSE(inside) << page << ": a fence is open at the end";
  EXPECT_EQ(next.kind, "") << page << ": nothing stands behind the mark of " << next.path;
  return blocks;
}

std::string without_leading_comments(std::string text) {
  while (text.starts_with("//")) text.erase(0, text.find('\n') + 1);
  return text;
}

/// Offsets of instructions and lines of the runtime's own files change with every edit of those.
std::string settled(std::string text) {
  const auto replace = [&](const std::string& what, const std::string& with) {
    for (std::size_t at; (at = text.find(what)) != text.npos;) text.replace(at, what.size(), with);
  };
  replace(tree.string() + "/test/e2e/programs/", "/src/app/");
  replace(tree.string() + "/", "/src/tuco/");
  text = std::regex_replace(text, std::regex(" \\+0x[0-9a-f]+"), " +0x0");
  return std::regex_replace(text, std::regex("(/src/tuco/\\S+):[0-9]+"), "$1:0");
}

class Readme : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Pages, Readme, ::testing::Values("README.md", "examples/README.md"),
                         [](const auto& page) { return page.index == 0 ? "First" : "Examples"; });

TEST_P(Readme, ShowsWhatThereIs) {
  int shown = 0;
  for (const block& b : blocks_of(tree / GetParam())) {
    const std::string where = std::string(GetParam()) + ":" + std::to_string(b.line);
    if (b.kind == "file") {
      EXPECT_EQ(b.text, without_leading_comments(content(tree / b.path))) << where;
      ++shown;
    } else if (!b.kind.empty()) {
      process program({built(b.path)});
      program.wait();
      if (b.kind == "stdout") {
        EXPECT_EQ(b.text, program.text(output::out)) << where;
      } else {
        // The frames are those of gcc with optimization.
        if (!std::string_view(TUCO_TEST_BINARY_DIR).ends_with("/release")) continue;
        EXPECT_EQ(settled(b.text), settled(program.text(output::err))) << where;
      }
      ++shown;
    } else if (b.language != "cmake") {
      EXPECT_NE(b.language, "cpp") << where << ": which file is that?";
      std::istringstream lines(b.text);
      for (std::string line; std::getline(lines, line);) {
        const std::string command = line.substr(0, line.find(' '));
        if (!command.starts_with("scripts/") && !command.starts_with("bench/")) continue;
        EXPECT_EQ(::access((tree / command).c_str(), X_OK), 0) << where << ": " << command;
        ++shown;
      }
    }
  }
  EXPECT_GE(shown, 2);
}

TEST(ReadmeOfExamples, NamesEachOfThem) {
  const std::string page = content(tree / "examples/README.md");
  for (const auto& entry : fs::directory_iterator(tree / "examples")) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename();
    EXPECT_NE(page.find("\n## " + name + "\n"), page.npos) << name;
  }
}

}  // namespace
}  // namespace tuco::test
