// SPDX-License-Identifier: Apache-2.0
#include "sync/misuse.hpp"

#include <tuco/error.hpp>

#include "sched/park.hpp"

namespace tuco::inline v1 {

misuse_error::misuse_error(const char* text, std::uint64_t goroutine, const std::string& who)
    : std::logic_error(std::string(text) + " (" + who + ")"), text_(text), goroutine_(goroutine) {}
misuse_error::~misuse_error() = default;
closed_error::~closed_error() = default;

}  // namespace tuco::inline v1

namespace tuco::inline v1::sync {
namespace {

struct culprit {
  std::uint64_t id = 0;
  std::string text = "plain thread";
};

culprit caller() {
  const task::goroutine* g = nullptr;
  {
    sched::runtime_section section;
    g = section.self();
  }
  // The record is the caller's own: what is read here does not change while it runs.
  culprit who;
  if (g == nullptr || (g->flags & task::flag_plain_thread) != 0) return who;
  who.id = g->id.load(std::memory_order_relaxed);
  who.text = "goroutine " + std::to_string(who.id);
  if (g->name[0] != 0) who.text.append(" \"").append(g->name).append("\"");
  if (g->created.file != nullptr) {
    who.text.append(", created at ").append(g->created.file);
    who.text.append(":").append(std::to_string(g->created.line));
  }
  return who;
}

}  // namespace

void throw_misuse(const char* text) {
  const culprit who = caller();
  throw misuse_error(text, who.id, who.text);
}

void throw_closed(const char* text) {
  const culprit who = caller();
  throw closed_error(text, who.id, who.text);
}

}  // namespace tuco::inline v1::sync
