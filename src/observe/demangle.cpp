// SPDX-License-Identifier: Apache-2.0
#include "observe/demangle.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

namespace tuco::inline v1::observe {
namespace {

using std::string;
using std::string_view;

constexpr bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '~' || c == ':' || c == '$';
}

constexpr bool is_operator_symbol(char c) {
  return string_view("+-*/%^&|~!=<>,").find(c) != string_view::npos;
}

/// Index just behind the bracket that closes the one at `open`, or the size when none does.
std::size_t match(string_view text, std::size_t open) {
  const char opening = text[open];
  const char closing = opening == '<' ? '>' : opening == '(' ? ')' : opening == '{' ? '}' : ']';
  for (std::size_t i = open + 1; i < text.size();) {
    const char c = text[i];
    if (c == closing && !(c == '>' && text[i - 1] == '-')) return i + 1;
    // Inside parentheses, < and > may be operators, and types there are balanced anyway.
    const bool opens = c == '(' || c == '{' || c == '[' || (c == '<' && opening == '<');
    i = opens ? match(text, i) : i + 1;
  }
  return text.size();
}

std::vector<string_view> split_arguments(string_view text) {
  std::vector<string_view> out;
  std::size_t from = 0;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == ',') {
      out.push_back(text.substr(from, i - from));
      from = ++i;
    } else {
      i = c == '<' || c == '(' || c == '{' || c == '[' ? match(text, i) : i + 1;
    }
  }
  out.push_back(text.substr(from));
  for (string_view& s : out) {
    while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
    while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  }
  return out;
}

void replace_all(string& text, string_view from, string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

string without_inline_namespaces(string_view name) {
  string out(name);
  replace_all(out, "std::__cxx11::", "std::");
  replace_all(out, "std::__1::", "std::");
  replace_all(out, "std::chrono::_V2::", "std::chrono::");
  replace_all(out, "tuco::v1::", "tuco::");
  return out;
}

bool is_default_argument(string_view of, const std::vector<string>& arguments) {
  const string& last = arguments.back();
  const string& first = arguments.front();
  const auto begins = [&](string_view s) { return last.starts_with(s) && last.ends_with('>'); };
  if (begins("std::allocator<") || begins("std::char_traits<") || begins("std::regex_traits<")) {
    return true;
  }
  for (const string_view with_first :
       {"std::less", "std::hash", "std::equal_to", "std::default_delete"}) {
    if (last == string(with_first) + '<' + first + '>') return true;
  }
  if (of == "std::queue" || of == "std::stack") return last == "std::deque<" + first + '>';
  if (of == "std::priority_queue") return last == "std::vector<" + first + '>';
  if (of == "std::chrono::time_point") return last == "std::chrono::nanoseconds";
  return false;
}

string typedef_name(const string& name, const std::vector<string>& arguments) {
  constexpr string_view basic = "std::basic_";
  if (name.starts_with(basic) && arguments.size() == 1) {
    const string rest = name.substr(basic.size());
    if (arguments[0] == "char") return "std::" + rest;
    if (arguments[0] == "wchar_t") return "std::w" + rest;
    for (const string_view width : {"8", "16", "32"}) {
      if (arguments[0] == "char" + string(width) + "_t") return "std::u" + string(width) + rest;
    }
  }
  if (name == "std::chrono::duration" && arguments[0] == "long") {
    constexpr std::array<std::pair<string_view, string_view>, 6> units{{
        {"std::ratio<1l, 1000000000l>", "nanoseconds"},
        {"std::ratio<1l, 1000000l>", "microseconds"},
        {"std::ratio<1l, 1000l>", "milliseconds"},
        {"std::ratio<1l, 1l>", "seconds"},
        {"std::ratio<60l, 1l>", "minutes"},
        {"std::ratio<3600l, 1l>", "hours"},
    }};
    if (arguments.size() == 1) return "std::chrono::seconds";
    for (const auto& [ratio, unit] : units) {
      if (arguments[1] == ratio) return "std::chrono::" + string(unit);
    }
  }
  if (name == "tuco::basic_chan" && arguments.size() == 2) {
    constexpr string_view both = "(tuco::chan_direction)3";
    const string end = arguments[1] == both ? "" : arguments[1].ends_with('1') ? "send_" : "recv_";
    return "tuco::" + end + "chan<" + arguments[0] + ">";
  }
  if (name == "__gnu_cxx::__normal_iterator" && arguments.size() == 2) {
    const bool is_const = arguments[0].ends_with(" const*");
    return arguments[1] + (is_const ? "::const_iterator" : "::iterator");
  }
  return {};
}

string shorten_types(string_view text);

string shorten_template(string_view name, string_view inside) {
  string readable = without_inline_namespaces(name);
  std::vector<string> arguments;
  for (const string_view argument : split_arguments(inside)) {
    arguments.push_back(shorten_types(argument));
  }
  const bool standard = readable.starts_with("std::") || readable.starts_with("__gnu_cxx::");
  while (standard && arguments.size() > 1 && is_default_argument(readable, arguments)) {
    arguments.pop_back();
  }
  if (string known = typedef_name(readable, arguments); !known.empty()) return known;
  readable += '<';
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (i != 0) readable += ", ";
    readable += arguments[i];
  }
  return readable + '>';
}

// The last component is `operator`: what follows is its symbol, not a template or a call.
bool ends_in_operator(string_view name) {
  constexpr string_view word = "operator";
  if (!name.ends_with(word)) return false;
  name.remove_suffix(word.size());
  return name.empty() || !is_word(name.back()) || name.back() == ':';
}

std::size_t operator_symbol_size(string_view rest) {
  if (rest.starts_with("()") || rest.starts_with("[]")) return 2;
  std::size_t n = 0;
  while (n < rest.size() && is_operator_symbol(rest[n])) ++n;
  return n;
}

string shorten_types(string_view text) {
  string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i).starts_with("[abi:")) {
      i = match(text, i);
      continue;
    }
    if (!is_word(text[i])) {
      out += text[i++];
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && is_word(text[end])) ++end;
    const string_view name = text.substr(i, end - i);
    i = end;
    if (ends_in_operator(name)) {
      const std::size_t n = operator_symbol_size(text.substr(i));
      out += without_inline_namespaces(name);
      out += text.substr(i, n);
      i += n;
      // The demangler sets template arguments of an operator off by a space.
      if (text.substr(i).starts_with(" <")) {
        const std::size_t close = match(text, i + 1);
        out += ' ';
        out += shorten_template({}, text.substr(i + 2, close - i - 3));
        i = close;
      }
    } else if (i < text.size() && text[i] == '<') {
      const std::size_t close = match(text, i);
      out += shorten_template(name, text.substr(i + 1, close - i - 2));
      i = close;
    } else {
      out += without_inline_namespaces(name);
    }
  }
  return out;
}

/// Where the function's own name starts, behind a return type (which only instances of templates
/// show) or words such as "non-virtual thunk to".
std::size_t start_of_name(string_view text) {
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (is_word(c)) {
      std::size_t end = i;
      while (end < text.size() && is_word(text[end])) ++end;
      const string_view word = text.substr(i, end - i);
      if (ends_in_operator(word)) return start;
      i = end;
      if (word == "decltype" && i < text.size()) {
        if (text[i] == ' ') ++i;
        if (i < text.size() && text[i] == '(') i = match(text, i);
      }
      continue;
    }
    if (text.substr(i).starts_with("(anonymous namespace)")) {
      i = match(text, i);
    } else if (c == '(') {
      return start;  // the parameters, or those of the function around
    } else if (c == ' ') {
      start = ++i;
    } else {
      i = c == '<' || c == '{' || c == '[' ? match(text, i) : i + 1;
    }
  }
  return text.find('(') == string_view::npos ? 0 : start;
}

string_view without_suffixes(string_view symbol) {
  if (const auto at = symbol.find('@'); at != string_view::npos && at != 0) {
    symbol = symbol.substr(0, at);
  }
  for (const string_view mark : {".cold", ".isra.", ".part.", ".constprop.", ".lto_priv.",
                                 ".localalias", ".llvm.", ".warm", ".__uniq."}) {
    if (const auto at = symbol.find(mark); at != string_view::npos && at != 0) {
      symbol = symbol.substr(0, at);
    }
  }
  return symbol;
}

}  // namespace

std::string shorten_name(std::string_view demangled) {
  return shorten_types(demangled.substr(start_of_name(demangled)));
}

std::string readable_name(std::string_view symbol) {
  const string plain(without_suffixes(symbol));
  if (!plain.starts_with("_Z")) return plain;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(plain.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 && text != nullptr ? shorten_name(text.get()) : plain;
}

}  // namespace tuco::inline v1::observe
