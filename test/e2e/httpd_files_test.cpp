// SPDX-License-Identifier: Apache-2.0
// httpd_files_test.cpp - what examples/httpd says of files: contents, types, ranges, conditions, folders,
// and that nothing outside of the root is ever seen.
#include <fcntl.h>
#include <sys/stat.h>
#include <utime.h>

#include "e2e/httpd_fixture.hpp"

namespace tuco::test {
namespace {

namespace fs = std::filesystem;

class HttpdFiles : public httpd_test {};

std::string numbered(std::size_t size) {
  std::string text(size, 0);
  std::uint32_t x = 12345;
  for (char& c : text) c = static_cast<char>((x = x * 1664525u + 1013904223u) >> 24);
  return text;
}

TEST_F(HttpdFiles, GetAndHead) {
  start();
  const http_answer got = get("/hello.txt");
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.body, "Hello from a goroutine.\n");
  EXPECT_EQ(got.field("content-type"), "text/plain; charset=utf-8");
  EXPECT_EQ(got.field("accept-ranges"), "bytes");
  EXPECT_EQ(got.field("connection"), "close");
  const http_answer head = get("/hello.txt", "", "HEAD");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.field("content-length"), "24");
  EXPECT_EQ(head.field("etag"), got.field("etag"));
  EXPECT_EQ(get("/nothing", "", "HEAD").status, 404);
  expect_clean_end();
}

TEST_F(HttpdFiles, SizesAroundEveryThreshold) {
  start();
  for (const std::size_t size : {0, 1, 32'767, 32'768, 32'769, 65'536, 524'288, 524'289, 3'000'000}) {
    const std::string text = numbered(size);
    write("root/file", text);
    const http_answer got = get("/file");
    EXPECT_EQ(got.status, 200);
    EXPECT_TRUE(got.body == text) << size;
  }
}

TEST_F(HttpdFiles, Types) {
  const std::pair<const char*, const char*> table[] = {
      {"a.html", "text/html; charset=utf-8"}, {"a.HTML", "text/html; charset=utf-8"},
      {"a.css", "text/css; charset=utf-8"},   {"a.js", "text/javascript; charset=utf-8"},
      {"a.json", "application/json"},         {"a.png", "image/png"},
      {"a.tar.gz", "application/gzip"},       {"a.unknown", "application/octet-stream"},
      {"txt", "application/octet-stream"},    {"a.", "application/octet-stream"},
      {".txt", "text/plain; charset=utf-8"},  {"a.txt/b", "application/octet-stream"}};
  for (const auto& [name, type] : table) {
    if (!std::string_view(name).starts_with("a.txt/")) write(std::string("root/") + name, "x");
  }
  write("root/a.txt/b", "x");
  start();
  for (const auto& [name, type] : table) {
    EXPECT_EQ(get(std::string("/") + name).field("content-type"), type) << name;
  }
}

TEST_F(HttpdFiles, Ranges) {
  const std::string text = numbered(100'000);
  write("root/small", text.substr(0, 100));
  write("root/large", text);
  start();
  struct row {
    const char* range;
    std::size_t size;  // of the file
    int status;
    std::size_t first, count;
  };
  for (const row& r : {
           row{"bytes=0-0", 100, 206, 0, 1},
           row{"bytes=10-19", 100, 206, 10, 10},
           row{"bytes=99-", 100, 206, 99, 1},
           row{"bytes=0-99", 100, 206, 0, 100},
           row{"bytes=50-1000", 100, 206, 50, 50},
           row{"bytes=-1", 100, 206, 99, 1},
           row{"bytes=-1000", 100, 206, 0, 100},
           row{"bytes=1-99999999999999999999999999", 100, 206, 1, 99},
           row{"bytes=1000-90000", 100'000, 206, 1000, 89'001},
           row{"bytes=-70000", 100'000, 206, 30'000, 70'000},
           row{"bytes=100-", 100, 416, 0, 0},
           row{"bytes=100-200", 100, 416, 0, 0},
           row{"bytes=99999999999999999999999999-", 100, 416, 0, 0},
           row{"bytes=-0", 100, 416, 0, 0},
           // no valid range, or several: the whole, as RFC 9110 allows
           row{"bytes=2-1", 100, 200, 0, 100},
           row{"bytes=", 100, 200, 0, 100},
           row{"bytes=-", 100, 200, 0, 100},
           row{"bytes=a-b", 100, 200, 0, 100},
           row{"bytes=1-2x", 100, 200, 0, 100},
           row{"bytes=--1", 100, 200, 0, 100},
           row{"bytes 0-1", 100, 200, 0, 100},
           row{"lines=0-1", 100, 200, 0, 100},
           row{"bytes=0-0,5-6", 100, 200, 0, 100},
       }) {
    const http_answer got = get(r.size == 100 ? "/small" : "/large", std::string("Range: ") + r.range + "\r\n");
    EXPECT_EQ(got.status, r.status) << r.range;
    if (r.status == 416) {
      EXPECT_EQ(got.field("content-range"), "bytes */" + std::to_string(r.size)) << r.range;
      continue;
    }
    EXPECT_TRUE(got.body == text.substr(r.first, r.count)) << r.range;
    EXPECT_EQ(got.field("content-range"),
              r.status == 200 ? "" : "bytes " + std::to_string(r.first) + "-" + std::to_string(r.first + r.count - 1) +
                                         "/" + std::to_string(r.size))
        << r.range;
  }
  EXPECT_EQ(get("/small", "Range: bytes=0-0\r\n", "HEAD").status, 200) << "ranges are for GET";
  write("root/empty", "");
  EXPECT_EQ(get("/empty", "Range: bytes=0-0\r\n").status, 416);
}

TEST_F(HttpdFiles, Conditions) {
  start();
  const http_answer first = get("/hello.txt");
  const std::string tag = first.field("etag");
  const std::string modified = first.field("last-modified");
  const auto status = [&](const std::string& fields) { return get("/hello.txt", fields).status; };
  EXPECT_EQ(status("If-None-Match: " + tag + "\r\n"), 304);
  EXPECT_EQ(status("If-None-Match: \"other\", W/" + tag + "\r\n"), 304);
  EXPECT_EQ(status("If-None-Match: *\r\n"), 304);
  EXPECT_EQ(status("If-None-Match: \"other\"\r\n"), 200);
  EXPECT_EQ(status("If-Modified-Since: " + modified + "\r\n"), 304);
  EXPECT_EQ(status("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), 200);
  EXPECT_EQ(status("If-None-Match: \"other\"\r\nIf-Modified-Since: " + modified + "\r\n"), 200) << "the tag decides";
  const std::string part = "Range: bytes=0-4\r\nIf-Range: ";
  EXPECT_EQ(status(part + tag + "\r\n"), 206);
  EXPECT_EQ(status(part + modified + "\r\n"), 206);
  EXPECT_EQ(status(part + "\"other\"\r\n"), 200);
}

// Files that have not changed for some seconds are kept in memory.
TEST_F(HttpdFiles, ChangesAreSeenAtOnce) {
  start();
  const auto look = [&] { return get("/hello.txt").body; };
  // ctime cannot be set back: wait until the file counts as settled, which shows in nothing but time.
  struct stat s {};
  ASSERT_EQ(::stat((root_ / "hello.txt").c_str(), &s), 0);
  while (::time(nullptr) - s.st_ctim.tv_sec <= 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(look(), "Hello from a goroutine.\n");

  write("root/hello.txt", "HELLO FROM A GOROUTINE!\n");  // of the same size
  EXPECT_EQ(look(), "HELLO FROM A GOROUTINE!\n");
  write("other", "another file, moved\n");
  fs::rename(folder_ / "other", root_ / "hello.txt");
  EXPECT_EQ(look(), "another file, moved\n");
  fs::remove(root_ / "hello.txt");
  EXPECT_EQ(get("/hello.txt").status, 404);
  write("secret", "outside\n");
  fs::create_symlink("../secret", root_ / "hello.txt");
  EXPECT_EQ(get("/hello.txt").status, 403);
}

TEST_F(HttpdFiles, FoldersAreListed) {
  write("root/sub/a & <b> \"c\".txt", "x");
  write("root/sub/deeper/y", "y");
  write("root/sub/100%", "z");
  start();
  const http_answer list = get("/sub/");
  EXPECT_EQ(list.status, 200);
  EXPECT_EQ(list.field("content-type"), "text/html; charset=utf-8");
  EXPECT_NE(list.body.find("<a href=\"./a%20%26%20%3Cb%3E%20%22c%22.txt\">a &amp; &lt;b&gt; &quot;c&quot;.txt</a>"),
            std::string::npos)
      << list.body;
  EXPECT_NE(list.body.find("<a href=\"./deeper/\">deeper/</a>"), std::string::npos) << list.body;
  EXPECT_EQ(list.body.find("<b>"), std::string::npos) << "names are text, not markup";
  EXPECT_EQ(get("/sub/a%20%26%20%3Cb%3E%20%22c%22.txt").body, "x");
  EXPECT_EQ(get("/sub/100%25").body, "z");

  const http_answer moved = get("/sub?x=1");
  EXPECT_EQ(moved.status, 301);
  EXPECT_EQ(moved.field("location"), "/sub/?x=1");
  EXPECT_EQ(get("//sub").field("location"), "/sub/") << "not to another host";

  write("root/sub/index.html", "<p>index</p>");
  EXPECT_EQ(get("/sub/").body, "<p>index</p>");
  EXPECT_EQ(get("/sub/deeper/y/").status, 404) << "a file is no folder";
}

TEST_F(HttpdFiles, NothingOutsideOfTheRoot) {
  write("secret", "outside");
  write("root/sub/inside", "inside");
  fs::create_symlink("../secret", root_ / "link");
  fs::create_symlink("/etc", root_ / "absolute");
  fs::create_symlink("..", root_ / "up");
  fs::create_symlink("sub/inside", root_ / "good");
  fs::create_symlink("loop", root_ / "loop");
  start();
  for (const char* target :
       {"/../secret", "/..", "/../", "/sub/../../secret", "/%2e%2e/secret", "/%2E%2E/secret", "/.%2e/secret",
        "/%2e%2e%2fsecret", "/..%2fsecret", "/sub/..%2f..%2fsecret", "/./../secret", "//../secret", "/sub//../../secret",
        "/link", "/up/secret", "/up", "/absolute/passwd", "/absolute", "/absolute/", "/loop", "/%2e%2e",
        "http://host/../secret", "/link/", "/..%5csecret", "/..\\secret", "/%252e%252e/secret", "/%c0%ae%c0%ae/secret",
        "/proc/self/root/etc/passwd", "/.../secret"}) {
    const http_answer got = get(target);
    EXPECT_TRUE(got.status == 403 || got.status == 404) << target << " " << got.status;
    EXPECT_EQ(got.body.find("outside"), std::string::npos) << target;
  }
  EXPECT_EQ(get("/sub/../hello.txt").status, 200);
  EXPECT_EQ(get("/%68ello.txt").status, 200);
  EXPECT_EQ(get("/sub/%2e%2e/hello%2Etxt").status, 200);
  EXPECT_EQ(get("/./sub/./inside").body, "inside");
  EXPECT_EQ(get("/good").body, "inside") << "a link that stays inside";
  EXPECT_EQ(get("http://whoever/sub/inside?x").body, "inside");
  expect_clean_end();
}

TEST_F(HttpdFiles, WhatIsNoFileIsRefusedAndBlocksNobody) {
  ASSERT_EQ(::mkfifo((root_ / "fifo").c_str(), 0644), 0);
  write("root/" + std::string(255, 'n'), "long");
  start();
  EXPECT_EQ(get("/fifo").status, 403);
  EXPECT_EQ(get("/" + std::string(255, 'n')).status, 200);
  EXPECT_EQ(get("/" + std::string(256, 'n')).status, 404);
  EXPECT_EQ(get("/" + std::string(5000, 'n')).status, 404);
  expect_clean_end();
}

TEST_F(HttpdFiles, FileThatShrinksWhileItIsSentEndsTheConnection) {
  constexpr std::size_t size = 1 << 30;
  write("root/large", "");
  fs::resize_file(root_ / "large", size);
  start();
  tcp_client client = connect();
  client.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n");
  client.read_until("\r\n\r\n");
  fs::resize_file(root_ / "large", 1 << 20);  // the server waits: so much does not fit into any socket
  EXPECT_LT(client.read_all().size(), size);
  expect_alive();
}

}  // namespace
}  // namespace tuco::test
