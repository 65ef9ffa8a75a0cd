// SPDX-License-Identifier: Apache-2.0
#pragma once
/// examples/httpd with a folder of its own, and the client's side of HTTP.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "e2e/go_dump.hpp"
#include "e2e/process.hpp"
#include "e2e/tcp_client.hpp"

namespace tuco::test {

struct http_answer {
  int status = 0;  ///< 0: none came
  std::map<std::string, std::string> fields;  ///< names in lower case
  std::string body;

  [[nodiscard]] std::string field(const std::string& name) const {
    const auto at = fields.find(name);
    return at == fields.end() ? "" : at->second;
  }
};

/// Reads one answer. Fails the test when it is not one.
inline http_answer read_answer(tcp_client& from, bool to_head = false) {
  http_answer answer;
  const std::string head = from.read_until("\r\n\r\n");
  if (head.empty()) return answer;
  EXPECT_TRUE(head.ends_with("\r\n\r\n") && head.starts_with("HTTP/1.1 ")) << head;
  if (head.size() < 16) return answer;
  answer.status = std::atoi(head.c_str() + 9);
  for (std::size_t begin = head.find("\r\n") + 2, end; (end = head.find("\r\n", begin)) > begin; begin = end + 2) {
    const std::string line = head.substr(begin, end - begin);
    const std::size_t colon = line.find(": ");
    std::string name = line.substr(0, colon);
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    EXPECT_TRUE(colon != line.npos && answer.fields.emplace(name, line.substr(colon + 2)).second) << head;
  }
  EXPECT_EQ(answer.field("date").size(), 29u) << head;
  if (answer.status == 304) return answer;
  EXPECT_TRUE(answer.fields.contains("content-length")) << head;
  if (!to_head) answer.body = from.read(std::strtoull(answer.field("content-length").c_str(), nullptr, 10));
  return answer;
}

class httpd_test : public ::testing::Test {
 protected:
  httpd_test() {
    char name[] = "/tmp/tuco-httpd-test-XXXXXX";
    folder_ = ::mkdtemp(name);
    root_ = folder_ / "root";
    std::filesystem::create_directory(root_);
    write("root/hello.txt", "Hello from a goroutine.\n");
  }
  ~httpd_test() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void write(const std::string& path, std::string_view text) {
    std::filesystem::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path, std::ios::binary) << text;
  }

  void start(std::vector<std::string> arguments = {}, const process_options& options = {}) {
    arguments.insert(arguments.begin(), {built("examples/httpd"), "--listen", "127.0.0.1:0", "--root", root_.string()});
    server_ = std::make_unique<process>(std::move(arguments), options);
    address_ = server_->await_line(output::out, "listening on ");
  }

  [[nodiscard]] tcp_client connect() const { return tcp_client(address_); }

  /// One request on a connection of its own.
  [[nodiscard]] http_answer get(const std::string& target, const std::string& fields = "",
                                const std::string& method = "GET") const {
    tcp_client client = connect();
    EXPECT_TRUE(client.send(method + " " + target + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" + fields + "\r\n"));
    http_answer answer = read_answer(client, method == "HEAD");
    EXPECT_TRUE(client.at_end()) << target;
    return answer;
  }

  void expect_alive() const {
    const http_answer answer = get("/hello.txt");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "Hello from a goroutine.\n");
  }

  /// SIGQUIT, again and again, until `good` accepts what the dump holds: the server may not have read yet
  /// what was sent.
  template <class Good>
  parsed_dump dump_until(Good good) {
    constexpr std::string_view title = "SIGQUIT: quit\n";
    const auto give_up = std::chrono::steady_clock::now() + hang_limit;
    // A dump has no last line of its own: it is whole when the next one begins.
    for (std::size_t from = server_->text(output::err).size(), begin = 0;;) {
      server_->signal(SIGQUIT);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));  // so as not to ask for more than it can say
      const std::string text = server_->text(output::err);
      if (begin == 0) {
        const std::size_t first = text.find(title, from);
        if (first != text.npos) begin = first + title.size();
      }
      const std::size_t next = begin == 0 ? text.npos : text.find(title, begin);
      if (next != text.npos) {
        parsed_dump dump = parse_go_dump(std::string_view(text).substr(begin, next - begin));
        if (good(dump)) return dump;
        begin = next + title.size();
      }
      if (std::chrono::steady_clock::now() > give_up) {
        throw waited_in_vain("waited in vain for a dump; the last one:\n" + text.substr(begin));
      }
    }
  }

  /// How many requests are in the handlers of routes.
  static std::ptrdiff_t in_routes(const parsed_dump& dump) {
    return std::count_if(dump.goroutines.begin(), dump.goroutines.end(),
                         [](const dumped_goroutine& g) { return g.has_frame("httpd::serve_route"); });
  }
  void await_routes(std::ptrdiff_t n) {
    dump_until([n](const parsed_dump& d) { return in_routes(d) == n; });
  }

  /// SIGTERM, and what it promises.
  void expect_clean_end() {
    server_->signal(SIGTERM);
    EXPECT_EQ(server_->wait(), 0);
    EXPECT_EQ(server_->text(output::err), "");
  }

  std::filesystem::path folder_, root_;
  std::unique_ptr<process> server_;
  std::string address_;
};

inline std::string request(const std::string& target) {
  return "GET " + target + " HTTP/1.1\r\nHost: test\r\n\r\n";
}
inline const std::string plain_request = request("/hello.txt");

}  // namespace tuco::test
