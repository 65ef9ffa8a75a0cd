// SPDX-License-Identifier: Apache-2.0
// VARIANTS: O0 O2 O3 PIC LTO
// H4: the exceptions of a goroutine that parks while it handles or unwinds one.
//
// Danger      The C++ runtime keeps the stack of caught exceptions and the number of uncaught ones per
//             thread. Of two goroutines that park in a handler, `throw;` rethrows the other's exception;
//             uncaught_exceptions() counts somebody else's; a handler that ends on another thread than
//             it began on ends in std::terminate.
// Mitigation  take_exceptions() and put_exceptions() in sched/switch.cpp: both words go with the
//             goroutine, and are touched only when one of them is not zero.
#include <exception>
#include <stdexcept>
#include <string>

#include <tuco/chan.hpp>

#include "hazard/away.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class ExceptionState : public runtime_test {};
TUCO_PROCESSORS(ExceptionState);

struct failure : std::runtime_error {
  using runtime_error::runtime_error;
};

std::string message_of(const std::exception_ptr& e) {
  try {
    if (e) std::rethrow_exception(e);
  } catch (const std::exception& caught) {
    return caught.what();
  }
  return "none";
}

// What `throw;` finds here and now.
std::string rethrown() {
  try {
    throw;
  } catch (const failure& f) {
    return f.what();
  }
}

TUCO_TEST(ExceptionState, RethrowsItsOwnAndNotTheOnesOfOthers) {
  auto handle = [](const char* name, chan<int> mine, chan<int> other) -> std::string {
    try {
      throw failure(name);
    } catch (...) {
      // Each is in its handler while the other is in its own, and they leave them crosswise.
      other.send(1);
      (void)mine.recv();
      return rethrown();
    }
  };
  for (int i = 0; i < 50; ++i) {
    chan<int> ready(2), go_on(0);
    auto a = spawn([&] { return handle("a", go_on, ready); });
    auto b = spawn([&] { return handle("b", go_on, ready); });
    (void)ready.recv();
    (void)ready.recv();
    EXPECT_EQ(std::uncaught_exceptions(), 0);
    EXPECT_EQ(std::current_exception(), nullptr) << "that of a goroutine which is parked";
    go_on.send(1);
    go_on.send(1);
    EXPECT_EQ(a.join(), "a");
    EXPECT_EQ(b.join(), "b");
  }
}

TUCO_TEST(ExceptionState, AHandlerGoesOnOnAnotherThread) {
  for (int i = 0; i < 5; ++i) {
    std::string inner = "nothing", outer = "nothing", of_visitor = "not asked";
    try {
      try {
        throw failure("own");
      } catch (...) {
        const away trip([&] { of_visitor = message_of(std::current_exception()); });
        EXPECT_EQ(message_of(std::current_exception()), "own");
        inner = rethrown();
        throw;
      }
    } catch (const failure& f) {
      outer = f.what();
    }
    EXPECT_EQ(inner, "own");
    EXPECT_EQ(outer, "own");
    EXPECT_EQ(of_visitor, "none") << "the handler of the goroutine that left the thread";
    EXPECT_EQ(std::current_exception(), nullptr);
  }
}

// Parks while the stack is being unwound.
struct parks_in_destructor {
  std::function<void()> park;
  int* before;
  int* after;
  ~parks_in_destructor() {
    *before = std::uncaught_exceptions();
    park();
    *after = std::uncaught_exceptions();
  }
};

TUCO_TEST(ExceptionState, UnwindingGoesOnAfterADestructorThatParks) {
  for (int i = 0; i < 50; ++i) {
    chan<int> ready(2), go_on(0);
    auto unwind = [&](const char* name) -> std::string {
      int before = -1, after = -1;
      try {
        const parks_in_destructor object{[&] { ready.send(1); (void)go_on.recv(); }, &before, &after};
        throw failure(name);
      } catch (const failure& f) {
        return f.what() + std::to_string(before) + std::to_string(after) +
               std::to_string(std::uncaught_exceptions());
      }
    };
    auto a = spawn([&] { return unwind("a"); });
    auto b = spawn([&] { return unwind("b"); });
    (void)ready.recv();
    (void)ready.recv();
    EXPECT_EQ(std::uncaught_exceptions(), 0) << "those of goroutines that are parked";
    go_on.send(1);
    go_on.send(1);
    EXPECT_EQ(a.join(), "a110");
    EXPECT_EQ(b.join(), "b110");
  }
}

TUCO_TEST(ExceptionState, UnwindingGoesOnOnAnotherThread) {
  for (int i = 0; i < 5; ++i) {
    int before = -1, after = -1, of_visitor = -1;
    std::string caught;
    try {
      const parks_in_destructor object{
          [&] { const away trip([&] { of_visitor = std::uncaught_exceptions(); }); }, &before, &after};
      throw failure("unwinding");
    } catch (const failure& f) {
      caught = f.what();
    }
    EXPECT_EQ(caught, "unwinding");
    EXPECT_EQ(before, 1);
    EXPECT_EQ(after, 1);
    EXPECT_EQ(of_visitor, 0);
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  }
}

// Three handlers inside each other, parked in at each level on the way in and on the way out.
std::string nest(const std::string& name, const std::function<void()>& park) {
  std::string seen;
  const auto look = [&] { seen += rethrown() + " "; };
  try {
    throw failure(name + "1");
  } catch (...) {
    park();
    look();
    try {
      throw failure(name + "2");
    } catch (...) {
      park();
      look();
      try {
        throw failure(name + "3");
      } catch (...) {
        park();
        look();
      }
      park();
      look();
    }
    park();
    look();
  }
  return seen + message_of(std::current_exception());
}

TUCO_TEST(ExceptionState, NestedHandlersStayInOrder) {
  std::vector<spawned<std::string>> all;
  for (int i = 0; i < 8; ++i) {
    all.push_back(spawn([i] { return nest(std::string(1, static_cast<char>('a' + i)), [] { tuco::yield(); }); }));
  }
  for (int i = 0; i < 8; ++i) {
    const std::string n(1, static_cast<char>('a' + i));
    EXPECT_EQ(all[static_cast<std::size_t>(i)].join(), n + "1 " + n + "2 " + n + "3 " + n + "2 " + n + "1 none");
  }
}

TUCO_TEST(ExceptionState, NestedHandlersMoveFromThreadToThread) {
  EXPECT_EQ(nest("x", [] { const away trip; }), "x1 x2 x3 x2 x1 none");
}

// The object dies once, whichever threads have seen it.
TUCO_TEST(ExceptionState, AnExceptionHandedToAnotherGoroutineLivesAsLongAsItIsHeld) {
  struct counted : std::exception {
    std::shared_ptr<int> token;
    explicit counted(std::shared_ptr<int> t) : token(std::move(t)) {}
  };
  auto token = std::make_shared<int>(7);
  chan<std::exception_ptr> handed(0);
  auto thrower = spawn([handed, token]() mutable {
    try {
      throw counted(std::move(token));
    } catch (...) {
      handed.send(std::current_exception());  // parks inside the handler
      tuco::yield();
    }
  });
  int seen = 0;
  {
    std::exception_ptr e = *handed.recv();
    thrower.join();
    const away trip;
    try {
      std::rethrow_exception(e);
    } catch (const counted& c) {
      tuco::yield();
      seen = *c.token;
    }
  }
  EXPECT_EQ(seen, 7);
  EXPECT_EQ(token.use_count(), 1) << "an exception object was lost";
}

// A goroutine that begins or goes on where another one parked starts with nothing.
TUCO_TEST(ExceptionState, NobodyInheritsTheHandlerOfAnother) {
  chan<int> never_yet(0);
  std::vector<spawned<void>> parked;
  for (int i = 0; i < 20; ++i) {
    parked.push_back(spawn([never_yet] {
      try {
        throw failure("parked");
      } catch (...) {
        (void)never_yet.recv();
      }
    }));
    auto fresh = spawn([] {
      return std::uncaught_exceptions() == 0 && std::current_exception() == nullptr;
    });
    EXPECT_TRUE(fresh.join());
    EXPECT_EQ(std::current_exception(), nullptr);
  }
  never_yet.close();
  for (auto& p : parked) p.join();
}

}  // namespace
}  // namespace tuco
