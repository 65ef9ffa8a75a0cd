// SPDX-License-Identifier: Apache-2.0
#include "e2e/go_dump.hpp"

#include <algorithm>
#include <regex>

namespace tuco::test {
namespace {

// gStatusStrings and waitReasonStrings, as far as a goroutine of ours can have them; the second line
// is ours. A system call is named in parentheses, as Go does with "chan receive (nil chan)".
constexpr const char* states =
    "runnable|running|IO wait|semacquire|sleep|chan receive \\(nil chan\\)|chan send \\(nil chan\\)|"
    "select \\(no cases\\)|select|chan receive|chan send|sync\\.Cond\\.Wait|sync\\.Mutex\\.Lock|"
    "sync\\.RWMutex\\.RLock|sync\\.RWMutex\\.Lock|sync\\.WaitGroup\\.Wait|stopping the world|preempted|"
    "sync\\.Once\\.Do|join|timer stop|name resolution|semaphore acquire|latch wait|"
    "barrier wait|syscall(?: \\([a-z0-9_]+\\))?";

const std::regex& header_line() {
  static const std::regex r("goroutine ([1-9][0-9]*)( gp=0x[0-9a-f]+ m=(?:nil|[0-9]+ mp=0x[0-9a-f]+))? \\[(" +
                            std::string(states) +
                            ")(?:, ([1-9][0-9]*) minutes)?(, locked to thread)?\\]:");
  return r;
}
const std::regex& place_line() {
  static const std::regex r("\\t(.+):([0-9]+)(?: \\+0x[0-9a-f]+)?"
                            "(?: fp=0x([0-9a-f]+) sp=0x([0-9a-f]+) pc=0x([0-9a-f]+))?");
  return r;
}
const std::regex& creator_line() {
  static const std::regex r("created by (.+?)(?: in goroutine ([1-9][0-9]*))?");
  return r;
}
const std::regex& register_line() {
  static const std::regex r("([a-z][a-z0-9]*) +0x([0-9a-f]+)");
  return r;
}
const std::regex& elided_line() {
  static const std::regex r("\\.\\.\\.([0-9]+|additional) frames elided\\.\\.\\.");
  return r;
}

class line_reader {
 public:
  explicit line_reader(std::string_view text) : text_(text) {}
  bool next(std::string& line) {
    if (at_ >= text_.size()) return false;
    const auto end = std::min(text_.find('\n', at_), text_.size());
    line = text_.substr(at_, end - at_);
    at_ = end + 1;
    ++number_;
    return true;
  }
  [[nodiscard]] int number() const { return number_; }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  int number_ = 0;
};

// A function's line ends in the parameters: from the ')' at its end back to its '('.
bool split_function(const std::string& line, std::string& name) {
  if (line.empty() || line[0] == '\t' || line[0] == ' ' || !line.ends_with(')')) return false;
  int open = 0;
  for (std::size_t i = line.size(); i-- > 0;) {
    if (line[i] == ')') ++open;
    if (line[i] == '(' && --open == 0) {
      name = line.substr(0, i);
      return !name.empty();
    }
  }
  return false;
}

bool read_place(const std::string& line, dumped_frame& out) {
  std::smatch m;
  if (!std::regex_match(line, m, place_line())) return false;
  out.file = m[1];
  out.line = std::stoi(m[2]);
  if (m[3].matched) {
    out.fp = std::stoul(m[3], nullptr, 16);
    out.sp = std::stoul(m[4], nullptr, 16);
    out.pc = std::stoul(m[5], nullptr, 16);
  }
  return true;
}

}  // namespace

bool dumped_goroutine::has_frame(std::string_view prefix) const {
  return std::any_of(frames.begin(), frames.end(),
                     [&](const auto& f) { return f.function.starts_with(prefix); });
}

const dumped_goroutine* parsed_dump::find(long id) const {
  for (const auto& g : goroutines) {
    if (g.id == id) return &g;
  }
  return nullptr;
}

parsed_dump parse_go_dump(std::string_view text, const std::vector<std::string>& ends) {
  parsed_dump out;
  const auto start = text.starts_with("goroutine ") ? 0 : text.find("\ngoroutine ");
  if (start == std::string_view::npos) {
    out.error = "no goroutine";
    return out;
  }
  line_reader lines(text.substr(start == 0 ? 0 : start + 1));
  std::string line;
  const auto fail = [&](const std::string& wanted) {
    out.error = "line " + std::to_string(lines.number()) + ": not " + wanted + ": " + line;
    return out;
  };
  bool more = lines.next(line);
  while (more) {
    std::smatch m;
    if (std::find(ends.begin(), ends.end(), line) != ends.end()) return out;
    if (!out.goroutines.empty() && std::regex_match(line, m, register_line())) {
      do {
        if (!std::regex_match(line, m, register_line())) return fail("a register");
        out.registers[m[1]] = std::stoul(m[2], nullptr, 16);
      } while (lines.next(line) && !line.empty());
      return out;
    }
    if (!std::regex_match(line, m, header_line())) return fail("a header");
    dumped_goroutine g;
    g.id = std::stol(m[1]);
    g.has_record = m[2].matched;
    g.state = m[3];
    g.minutes = m[4].matched ? std::stoi(m[4]) : 0;
    g.locked = m[5].matched;
    while ((more = lines.next(line)) && !line.empty()) {
      if (line == "\tgoroutine running on other thread; stack unavailable" && g.frames.empty()) {
        g.unavailable = true;
      } else if (std::smatch e; std::regex_match(line, e, elided_line())) {
        g.elided = e[1] == "additional" ? -1 : std::stoi(e[1]);
      } else if (line.starts_with("created by ")) {
        std::smatch c;
        if (!std::regex_match(line, c, creator_line())) return fail("a creator");
        g.creator = c[1];
        g.parent = c[2].matched ? std::stol(c[2]) : 0;
        if (!lines.next(line) || !read_place(line, g.created_at)) return fail("a creator's place");
        if ((more = lines.next(line)) && !line.empty()) return fail("the end of a goroutine");
        break;
      } else {
        dumped_frame f;
        if (!split_function(line, f.function)) return fail("a function");
        if (!lines.next(line) || !read_place(line, f)) return fail("a place");
        g.frames.push_back(std::move(f));
      }
    }
    out.goroutines.push_back(std::move(g));
    // One blank line between two; one more may end the dump.
    if (more) more = lines.next(line);
    if (more && line.empty()) more = lines.next(line);
  }
  return out;
}

}  // namespace tuco::test
