// SPDX-License-Identifier: Apache-2.0
// demangle_test.cpp - names come out as a person would write them.
#include "observe/demangle.hpp"

#include <cxxabi.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <typeinfo>
#include <unordered_map>
#include <vector>

namespace tuco::inline v1::observe {
namespace {

template <class T>
std::string name_of() {
  int status = 0;
  char* const text = abi::__cxa_demangle(typeid(T).name(), nullptr, nullptr, &status);
  const std::string out = shorten_name("void f<" + std::string(text) + " >()");
  std::free(text);
  return out.substr(2, out.size() - 5);
}

TEST(Demangle, StandardTypesGetTheirEverydayNames) {
  EXPECT_EQ(name_of<std::string>(), "std::string");
  EXPECT_EQ(name_of<std::wstring>(), "std::wstring");
  EXPECT_EQ(name_of<std::string_view>(), "std::string_view");
  EXPECT_EQ(name_of<std::ostream>(), "std::ostream");
  EXPECT_EQ(name_of<std::vector<int>>(), "std::vector<int>");
  EXPECT_EQ(name_of<std::vector<std::vector<std::string>>>(),
            "std::vector<std::vector<std::string>>");
  EXPECT_EQ((name_of<std::map<std::string, std::vector<int>>>()),
            "std::map<std::string, std::vector<int>>");
  EXPECT_EQ((name_of<std::unordered_map<int, char>>()), "std::unordered_map<int, char>");
  EXPECT_EQ(name_of<std::unique_ptr<int>>(), "std::unique_ptr<int>");
  EXPECT_EQ(name_of<std::queue<long>>(), "std::queue<long>");
  EXPECT_EQ(name_of<std::priority_queue<long>>(), "std::priority_queue<long>");
  EXPECT_EQ(name_of<std::chrono::milliseconds>(), "std::chrono::milliseconds");
  EXPECT_EQ(name_of<std::chrono::steady_clock::time_point>(),
            "std::chrono::time_point<std::chrono::steady_clock>");
  EXPECT_EQ(name_of<std::vector<int>::iterator>(), "std::vector<int>::iterator");
}

TEST(Demangle, ArgumentsThatAreNotDefaultsStay) {
  EXPECT_EQ((name_of<std::map<int, int, std::greater<int>>>()),
            "std::map<int, int, std::greater<int>>");
  EXPECT_EQ((name_of<std::pair<int, std::allocator<int>*>>()),
            "std::pair<int, std::allocator<int>*>");
}

TEST(Demangle, ReturnTypesGoAndParametersStay) {
  EXPECT_EQ(shorten_name("void app::f<int>(int)"), "app::f<int>(int)");
  EXPECT_EQ(shorten_name("unsigned long app::f<int>(char const*, int)"),
            "app::f<int>(char const*, int)");
  EXPECT_EQ(shorten_name("std::vector<int, std::allocator<int> > app::g<int>()"), "app::g<int>()");
  EXPECT_EQ(shorten_name("decltype ((x)+(1)) app::h<int>(int)"), "app::h<int>(int)");
  EXPECT_EQ(shorten_name("app::worker(app::queue&)"), "app::worker(app::queue&)");
  EXPECT_EQ(shorten_name("non-virtual thunk to app::base::run()"), "app::base::run()");
}

TEST(Demangle, OperatorsAndLambdasKeepTheirShape) {
  EXPECT_EQ(shorten_name("operator new(unsigned long)"), "operator new(unsigned long)");
  EXPECT_EQ(shorten_name("app::box::operator bool() const"), "app::box::operator bool() const");
  EXPECT_EQ(shorten_name("bool app::operator< <int>(app::box<int> const&, app::box<int> const&)"),
            "app::operator< <int>(app::box<int> const&, app::box<int> const&)");
  EXPECT_EQ(shorten_name("std::basic_ostream<char, std::char_traits<char> >& std::operator<< "
                         "<std::char_traits<char> >(std::basic_ostream<char, "
                         "std::char_traits<char> >&, char const*)"),
            "std::operator<< <std::char_traits<char>>(std::ostream&, char const*)");
  EXPECT_EQ(shorten_name("app::box<int>::operator->() const"), "app::box<int>::operator->() const");
  EXPECT_EQ(shorten_name("main::{lambda(int)#1}::operator()(int) const"),
            "main::{lambda(int)#1}::operator()(int) const");
  EXPECT_EQ(shorten_name("app::run(int)::{lambda()#2}::operator()() const"),
            "app::run(int)::{lambda()#2}::operator()() const");
  EXPECT_EQ(shorten_name("void app::run<main::{lambda(int)#1}>(main::{lambda(int)#1}&&)"),
            "app::run<main::{lambda(int)#1}>(main::{lambda(int)#1}&&)");
}

TEST(Demangle, InlineNamespacesAndAbiTagsAreHidden) {
  EXPECT_EQ(shorten_name("tuco::v1::chan<int>::send(int)"), "tuco::chan<int>::send(int)");
  EXPECT_EQ(shorten_name("app::name[abi:cxx11](int)"), "app::name(int)");
  EXPECT_EQ(shorten_name("(anonymous namespace)::f(int)"), "(anonymous namespace)::f(int)");
  EXPECT_EQ(shorten_name("void (anonymous namespace)::f<int>(int)"),
            "(anonymous namespace)::f<int>(int)");
}

TEST(Demangle, ChannelsAreCalledWhatUsersCallThem) {
  EXPECT_EQ(shorten_name("tuco::v1::basic_chan<int, (tuco::v1::chan_direction)3>::recv() const"),
            "tuco::chan<int>::recv() const");
  EXPECT_EQ(shorten_name("app::f(tuco::v1::basic_chan<std::__cxx11::basic_string<char, "
                         "std::char_traits<char>, std::allocator<char> >, "
                         "(tuco::v1::chan_direction)1>)"),
            "app::f(tuco::send_chan<std::string>)");
  EXPECT_EQ(shorten_name("tuco::v1::basic_chan<int, (tuco::v1::chan_direction)2>::recv() const"),
            "tuco::recv_chan<int>::recv() const");
}

TEST(Demangle, CloneSuffixesAndVersionsGo) {
  EXPECT_EQ(readable_name("_ZN3app1fEi.isra.0"), "app::f(int)");
  EXPECT_EQ(readable_name("_ZN3app1fEi.constprop.0.cold"), "app::f(int)");
  EXPECT_EQ(readable_name("_ZN3app1fEi.part.3.lto_priv.0"), "app::f(int)");
  EXPECT_EQ(readable_name("nanosleep@@GLIBC_2.2.5"), "nanosleep");
  EXPECT_EQ(readable_name("main"), "main");
}

TEST(Demangle, BrokenNamesDoNotBreakIt) {
  for (const char* text : {"", "<", ">", "f<", "f<a", "f<a,", "f(", "{", "operator", "operator<",
                           "f<->", "std::vector<", "std::basic_string<>", "[abi:", "decltype",
                           "decltype(", "std::chrono::duration<long>", "((((", "a b c"}) {
    EXPECT_LT(shorten_name(text).size(), 64U) << text;
  }
  EXPECT_EQ(readable_name("_Znonsense"), "_Znonsense");
}

}  // namespace
}  // namespace tuco::inline v1::observe
