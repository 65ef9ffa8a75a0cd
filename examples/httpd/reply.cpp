// SPDX-License-Identifier: Apache-2.0
#include "reply.hpp"

#include <charconv>
#include <chrono>

namespace httpd {
namespace {

std::string_view name_of(int status) noexcept {
  switch (status) {
    case 200: return "OK";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
  }
}

void append_number(std::string& out, std::uint64_t value) {
  char digits[20];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_two(std::string& out, unsigned value) {
  out.push_back(static_cast<char>('0' + value / 10));
  out.push_back(static_cast<char>('0' + value % 10));
}

}  // namespace

// Not gmtime_r: it takes a lock that all threads of the process share.
void append_date(std::string& out, std::time_t t) {
  using namespace std::chrono;
  constexpr std::string_view week = "SunMonTueWedThuFriSat";
  constexpr std::string_view year = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const sys_seconds moment{seconds(t)};
  const sys_days day = floor<days>(moment);
  const year_month_day date(day);
  const hh_mm_ss time(moment - day);
  out.append(week.substr(3 * weekday(day).c_encoding(), 3)).append(", ");
  append_two(out, unsigned(date.day()));
  out.append(" ").append(year.substr(3 * (unsigned(date.month()) - 1), 3)).append(" ");
  append_number(out, static_cast<std::uint64_t>(int(date.year())));
  out.append(" ");
  append_two(out, static_cast<unsigned>(time.hours().count()));
  out.append(":");
  append_two(out, static_cast<unsigned>(time.minutes().count()));
  out.append(":");
  append_two(out, static_cast<unsigned>(time.seconds().count()));
  out.append(" GMT");
}

void reply::head(int status, std::string_view type, std::uint64_t length, std::string_view fields) {
  std::string& out = out_.text();
  out.append("HTTP/1.1 ");
  append_number(out, static_cast<std::uint64_t>(status));
  out.append(" ").append(name_of(status)).append("\r\nServer: tuco\r\nDate: ");
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  append_date(out, now.tv_sec);
  if (status != 304) {
    out.append("\r\nContent-Length: ");
    append_number(out, length);
  }
  if (!type.empty()) out.append("\r\nContent-Type: ").append(type);
  if (!options_.keep_alive) out.append("\r\nConnection: close");
  else if (options_.http_1_0) out.append("\r\nConnection: keep-alive");
  out.append("\r\n").append(fields).append("\r\n");
}

void reply::send(int status, std::string_view type, std::string_view body, std::string_view fields) {
  head(status, type, body.size(), fields);
  if (!options_.without_body) out_.text().append(body);
  out_.settle();
}

void reply::send(int status, std::string_view fields) {
  std::string body;
  if (status != 304) {
    append_number(body, static_cast<std::uint64_t>(status));
    body.append(" ").append(name_of(status)).append("\n");
  }
  send(status, status == 304 ? "" : "text/plain; charset=utf-8", body, fields);
}

void reply::send_file(int status, std::string_view type, int file, std::uint64_t offset, std::uint64_t count,
                      std::string_view fields) {
  // One copy of so little is cheaper than a second system call and a second packet.
  constexpr std::uint64_t little = 32 << 10;
  head(status, type, count, fields);
  if (options_.without_body) return out_.settle();
  if (count > little) return out_.send_file(file, offset, count);
  out_.copy_file(file, offset, static_cast<std::size_t>(count));
  out_.settle();
}

}  // namespace httpd
