// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "files.hpp"

namespace httpd {
namespace {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace

std::string list_folder(file folder, std::string_view path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(folder.descriptor()), &::closedir);
  if (entries != nullptr) {
    (void)folder.release();  // closedir() closes it
    while (const dirent* entry = ::readdir(entries.get())) {
      std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      struct stat status {};  // follows links: where they lead out of the root, the click says so
      if (::fstatat(::dirfd(entries.get()), entry->d_name, &status, 0) == 0 && S_ISDIR(status.st_mode)) name += '/';
      names.push_back(std::move(name));
    }
  }
  std::sort(names.begin(), names.end());

  const std::string title = escape(path);
  std::string page = "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>" + title +
                     "</title></head>\n<body><h1>" + title + "</h1>\n<ul>\n";
  if (path != "/") page += "<li><a href=\"../\">../</a></li>\n";
  for (const std::string& name : names) {
    page += "<li><a href=\"./" + encode(name) + "\">" + escape(name) + "</a></li>\n";
  }
  return page + "</ul></body></html>\n";
}

}  // namespace httpd
