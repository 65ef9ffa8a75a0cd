// SPDX-License-Identifier: Apache-2.0
// race_test.cpp - ThreadSanitizer sees a race between two goroutines, also when they share a worker, and
// names both sides; it sees none where the library promises an order.
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "e2e/process.hpp"

namespace tuco::test {
namespace {

constexpr int status_of_reports = 66;

std::vector<std::string> ways(const std::string& list) {
  process program({built("test/programs/races"), list, "0"});
  if (program.wait() != 0) return {};
  std::istringstream lines(program.text(output::out));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) names.push_back(line);
  return names;
}

using way = std::tuple<std::string, int>;  // its name, and with how many processors

std::string name_of(const ::testing::TestParamInfo<way>& info) {
  std::string name = std::get<0>(info.param) + "_" + std::to_string(std::get<1>(info.param));
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
}

struct end {
  int status = 0;
  std::string text;
};

end play(const std::string& kind, const way& w) {
  process program({built("test/programs/races"), kind + std::get<0>(w), std::to_string(std::get<1>(w))});
  end e;
  e.status = program.wait();
  e.text = program.text(output::err);
  return e;
}

class RaceTest : public ::testing::TestWithParam<way> {};
INSTANTIATE_TEST_SUITE_P(Procs, RaceTest,
                         ::testing::Combine(::testing::ValuesIn(ways("--list-racing")), ::testing::Values(1, 4)),
                         name_of);

TEST_P(RaceTest, IsSeenWithBothSides) {
  const end e = play("racing:", GetParam());
  EXPECT_EQ(e.status, status_of_reports) << e.text;
  EXPECT_NE(e.text.find("WARNING: ThreadSanitizer: data race"), e.text.npos) << e.text;
  EXPECT_NE(e.text.find("app::here(int&)"), e.text.npos) << e.text;
  EXPECT_NE(e.text.find("app::there(int&)"), e.text.npos) << e.text;
}

class OrderTest : public ::testing::TestWithParam<way> {};
INSTANTIATE_TEST_SUITE_P(Procs, OrderTest,
                         ::testing::Combine(::testing::ValuesIn(ways("--list-ordered")), ::testing::Values(1, 4)),
                         name_of);

TEST_P(OrderTest, IsKnown) {
  const end e = play("ordered:", GetParam());
  EXPECT_EQ(e.status, 0);
  EXPECT_EQ(e.text, "");
}

}  // namespace
}  // namespace tuco::test
