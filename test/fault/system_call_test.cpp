// SPDX-License-Identifier: Apache-2.0
// Every system call that the runtime makes fails, with every errno that it may give, once and from then on.
//
// For each kind of call (call_table.cpp) and the scenarios that make it (scenarios.hpp), each errno is
// given to one call, or, where it may last, to all calls from one on. Each such cell is a child process,
// which then plays the scenario again without faults. What comes of it must be what the table allows:
//
//     absorbed    nobody noticed
//     reported    the operation that needed the call failed with its errno
//     ended       the process said why and ended with status 2
//
// Never a hang, a crash, a goroutine that does not end, a descriptor left open, a thread left running.
//
// A share of the cells is played unless TUCO_STRESS=full: each errno at the first call of one scenario, and
// at some call of four others. TUCO_FAULT=CALL:ERRNO:FIRST:COUNT:SCENARIO, with the numbers that a failure
// prints, plays that one cell.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "fault/call_table.hpp"
#include "fault/child.hpp"
#include "fault/injector.hpp"
#include "fault/scenarios.hpp"
#include "os/fault.hpp"
#include "sched/scheduler.hpp"

namespace tuco::test {
namespace {

enum class verdict : int { absorbed = 0, reported = 10, not_reached = 11, wrong = 12, ended = 2 };

bool at_full_size() {
  const char* size = std::getenv("TUCO_STRESS");
  return size != nullptr && std::string_view(size) == "full";
}

/// Threads that were outside of the runtime when a run() ended: they sleep for ever at their next entry.
int threads_left_behind() {
  int count = 0;
  for (const sched::worker* x = sched::the_scheduler.all_workers.load(); x != nullptr; x = x->all_next) {
    count += x->attention_word.load() == sched::attention::abandoned;
  }
  return count;
}

/// In the child: the scenario with the fault, then without.
verdict play_cell(injector& in, const scenario& play, const fault& f) {
  const std::string before = open_descriptors();
  const std::size_t descriptors = count_descriptors();
  sched::the_scheduler.shortage_limit_ns = 300'000'000;
  witness faulted(&in, &f);
  in.arm(f);
  play.play(faulted);
  in.disarm();
  const bool reached = in.hits() != 0;
  witness after(nullptr, nullptr);
  play.play(after);
  bool wrong = faulted.broken() || after.broken() || after.errors() != 0;
  if (after.errors() != 0) std::fprintf(stderr, "the fault is over, and the scenario still fails\n");
  if (!await_threads(1 + threads_left_behind())) {
    std::fprintf(stderr, "threads are left\n");
    wrong = true;
  }
  if (count_descriptors() != descriptors) {
    std::fprintf(stderr, "descriptors before:\n%safter:\n%s", before.c_str(), open_descriptors().c_str());
    wrong = true;
  }
  if (wrong) return verdict::wrong;
  if (!reached) return verdict::not_reached;
  return faulted.errors() != 0 ? verdict::reported : verdict::absorbed;
}

using call_counts = std::vector<std::uint64_t>;  // by kind

/// How often a scenario makes each kind of call when nothing fails.
call_counts count_calls(injector& in, const scenario& play) {
  const child_end end = run_child([&] {
    witness w(nullptr, nullptr);
    in.count_only();
    play.play(w);
    in.disarm();
    return w.broken() || w.errors() != 0 ? 1 : 0;
  });
  EXPECT_EQ(end.status, play.end.empty() ? 0 : 2) << play.name << " without a fault: "
                                                  << (end.hung ? "hangs\n" : "fails\n") << end.text;
  call_counts calls(call_count);
  for (std::size_t i = 0; i < call_count; ++i) calls[i] = in.calls(static_cast<os::call>(i));
  return calls;
}

/// The calls of a scenario that are made to fail: the first ones, where most sites appear, and some later.
std::vector<std::uint64_t> chosen_calls(std::uint64_t all) {
  const std::uint64_t first_ones = at_full_size() ? 8 : 4;
  const std::uint64_t later_ones = at_full_size() ? 4 : 3;
  std::set<std::uint64_t> chosen;
  for (std::uint64_t n = 1; n <= std::min(all, first_ones); ++n) chosen.insert(n);
  for (std::uint64_t i = 1; i <= later_ones; ++i) {
    if (all > first_ones) chosen.insert(first_ones + (all - first_ones) * i / later_ones);
  }
  return {chosen.begin(), chosen.end()};
}

/// Of one errno in one scenario. The first of them: the first call, once.
std::vector<fault> faults_for(const errors_of_call& row, int error, std::uint64_t calls) {
  std::vector<fault> faults;
  for (const std::uint64_t n : chosen_calls(calls)) faults.push_back({row.kind, error, n, 1});
  if (row.persistence == how_long::lasting) {
    faults.push_back({row.kind, error, 1, endless});
    if (calls > 1) faults.push_back({row.kind, error, calls / 2 + 1, endless});
  } else {
    faults.push_back({row.kind, error, 1, 5});
  }
  return faults;
}

struct tally {
  int errors = 0, cells = 0, hits = 0, absorbed = 0, reported = 0, ended = 0;
};

/// @return What came of it, as a bit of the table; 0: the call was not reached, or the cell failed.
unsigned run_cell(injector& in, const scenario& play, const fault& f, const errors_of_call& row, tally& t) {
  const child_end end = run_child([&] { return static_cast<int>(play_cell(in, play, f)); });
  ++t.cells;
  unsigned result = 0;
  if (!end.hung && end.signal == 0) {
    const auto contains = [&](std::string_view words) {
      return !words.empty() && end.text.find(words) != std::string::npos;
    };
    switch (static_cast<verdict>(end.status)) {
      case verdict::not_reached: return 0;
      case verdict::absorbed: result = absorbed; break;
      case verdict::reported: result = reported; break;
      case verdict::ended:
        if (contains(play.end)) {  // as it must
          if (in.hits() == 0) return 0;
          result = absorbed;
        } else if (contains(row.end)) {
          result = ended;
        }
        break;
      case verdict::wrong: break;
    }
  }
  if ((result & row.outcomes) != 0) {
    ++t.hits;
    ++(result == absorbed ? t.absorbed : result == reported ? t.reported : t.ended);
    return result;
  }
  ADD_FAILURE() << play.name << ", " << f.text() << ": "
                << (end.hung            ? "hangs"
                    : end.signal != 0   ? "crashes"
                    : result == 0       ? "goes wrong"
                    : result == ended   ? "ends the program"
                    : result == reported ? "is reported"
                                         : "is not noticed")
                << " (status " << end.status << ", signal " << end.signal
                << ")\nTUCO_FAULT=" << os::to_string(f.kind) << ":" << f.error << ":" << f.first << ":"
                << static_cast<std::int64_t>(f.count) << ":" << play.name << "\n"
                << end.text;
  return 0;
}

/// The cell that TUCO_FAULT names.
struct wanted_cell {
  std::string call, scenario;
  fault f;
  bool given = false;
};
wanted_cell wanted() {
  wanted_cell cell;
  const char* text = std::getenv("TUCO_FAULT");
  if (text == nullptr) return cell;
  std::istringstream in(text);
  std::string number;
  std::getline(in, cell.call, ':');
  std::getline(in, number, ':');
  cell.f.error = std::stoi(number);
  std::getline(in, number, ':');
  cell.f.first = std::stoull(number);
  std::getline(in, number, ':');
  cell.f.count = static_cast<std::uint64_t>(std::stoll(number));
  std::getline(in, cell.scenario);
  cell.given = true;
  return cell;
}

/// The test of an area: which parameter it has is its name.
class SystemCall : public ::testing::TestWithParam<std::string_view> {
 protected:
  struct stage {
    const scenario* play;
    std::uint64_t calls;
  };

  void SetUp() override {
    if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
    for (const scenario& play : scenarios()) counts_.push_back(count_calls(in_, play));
    // The report of an end costs more than all else, and only its first line is looked at.
    if (!wanted().given) ::setenv("TUCO_TRACEBACK", "none", 1);
  }
  void TearDown() override { ::unsetenv("TUCO_TRACEBACK"); }

  /// The scenarios that make such calls.
  std::vector<stage> stages_of(const errors_of_call& row) const {
    std::vector<stage> stages;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const scenario& play = scenarios()[i];
      const std::uint64_t calls = counts_[i][static_cast<std::size_t>(row.kind)];
      if (calls != 0 && (row.scenario.empty() || row.scenario == play.name)) stages.push_back({&play, calls});
    }
    return stages;
  }

  void play_all(const errors_of_call& row, tally& t) {
    for (const stage& s : stages_of(row)) {
      for (const int error : row.errors) {
        for (const fault& f : faults_for(row, error, s.calls)) run_cell(in_, *s.play, f, row, t);
      }
    }
  }

  void play_share(const errors_of_call& row, tally& t) {
    const std::vector<stage> stages = stages_of(row);
    ASSERT_FALSE(stages.empty()) << "no scenario makes the runtime call " << os::to_string(row.kind);
    for (std::size_t i = 0; i < row.errors.size(); ++i) {
      const int error = row.errors[i];
      // Neighbours in the table get other scenarios and other calls.
      const auto stage_at = [&](std::size_t j) -> const stage& { return stages[(i + j) % stages.size()]; };
      unsigned seen = run_cell(in_, *stage_at(0).play, {row.kind, error, 1, 1}, row, t);
      for (std::size_t j = 1; j < std::min<std::size_t>(5, stages.size()); ++j) {
        const stage& s = stage_at(j * (stages.size() + 4) / 5);
        const std::vector<fault> faults = faults_for(row, error, s.calls);
        seen |= run_cell(in_, *s.play, faults[(i * 4 + j) % faults.size()], row, t);
      }
      // Calls that are only made when threads meet in a certain way may not have come about.
      for (std::size_t j = 0; seen == 0 && !HasFailure() && j < 20 * stages.size(); ++j) {
        seen = run_cell(in_, *stage_at(j).play, {row.kind, error, 1, 1}, row, t);
      }
      EXPECT_TRUE(seen != 0 || HasFailure()) << os::to_string(row.kind) << " never failed with "
                                             << error_name(row.kind, error);
    }
  }

  injector in_;
  std::vector<call_counts> counts_;  // by scenario
};

TEST_P(SystemCall, FailsInEveryWayItMay) {
  const wanted_cell only = wanted();
  tally sum;
  for (const call_use& use : call_uses()) {
    if (use.area != GetParam()) continue;
    tally t;
    for (const errors_of_call& row : call_table()) {
      if (row.kind != use.kind) continue;
      if (only.given) {
        if (only.call != os::to_string(use.kind) || std::ranges::count(row.errors, only.f.error) == 0) continue;
        fault f = only.f;
        f.kind = use.kind;
        for (const scenario& play : scenarios()) {
          if (only.scenario == play.name) run_cell(in_, play, f, row, t);
        }
        continue;
      }
      t.errors += static_cast<int>(row.errors.size());
      if (at_full_size()) play_all(row, t);
      else play_share(row, t);
    }
    if (t.cells == 0) continue;
    std::printf("%-14s %3d errors, %4d cells, %4d reached: %4d absorbed, %4d reported, %3d ended\n",
                std::string(os::to_string(use.kind)).c_str(), t.errors, t.cells, t.hits, t.absorbed, t.reported,
                t.ended);
    EXPECT_TRUE(t.hits != 0 || HasFailure()) << os::to_string(use.kind);
  }
}

INSTANTIATE_TEST_SUITE_P(Area, SystemCall,
                         ::testing::Values("memory", "threads", "files", "poller", "sockets", "transfers"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SystemCallTable, SpeaksOfEveryCall) {
  std::set<os::call> used, known;
  for (const call_use& use : call_uses()) used.insert(use.kind);
  for (const errors_of_call& row : call_table()) {
    known.insert(row.kind);
    EXPECT_TRUE(used.contains(row.kind)) << os::to_string(row.kind);
  }
  for (const left_out& row : left_out_table()) known.insert(row.kind);
  for (std::size_t i = 0; i < call_count; ++i) {
    const auto kind = static_cast<os::call>(i);
    EXPECT_TRUE(known.contains(kind)) << os::to_string(kind);
  }
}

TEST(SystemCallTable, IsThatOfThePage) {
  std::ifstream page(TUCO_TEST_SOURCE_DIR "/docs/design/faults.md");
  const std::string text{std::istreambuf_iterator<char>(page), {}};
  EXPECT_NE(text.find(call_table_text()), std::string::npos)
      << "docs/design/faults.md is to hold these tables:\n\n" << call_table_text();
}

}  // namespace
}  // namespace tuco::test
