// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/single_flight.hpp
/// `single_flight`: of many goroutines that ask for the same at the same time, one does the work.
///
///     tuco::single_flight<std::string, page> loads;
///     page p = loads.call(url, [&] { return fetch(url); }).value;    // a thousand callers, one fetch
///
///                                    nobody works on `key`        somebody does
///     call(key, f)                   runs f on the caller         parks, takes its result
///     call_for(timeout, key, f)      runs f on a new goroutine,   parks until then, takes its result
///                                    parks until then
///     forget(key)                    nothing                      the next call begins anew
///
/// A result is not kept: a call() that begins when the work is done does it again.
///
/// **Blocking.** As in the table; on plain threads the waiting forms block. call_for() needs a running runtime.
/// **Thread safety.** Any member, from any goroutine or thread. It may be destroyed when no call() is under way;
/// the goroutine of a call_for() that gave up keeps what it needs.
/// **Ordering.** What f did happens before the return of every call that takes its result.
/// **Failure.** If f throws, all who wait for it get that exception. If f ends its goroutine (goexit), one of
/// those who wait runs its own f. f that calls for the same key waits for ever.
/// **Cost.** Two locked lookups in a hash map, one allocation, two copies of the key for each piece of work; a
/// copy of T for each call.
/// **Source.** Go, golang.org/x/sync/singleflight (Do, DoChan, Forget).

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include <tuco/detail/deadline.hpp>
#include <tuco/go.hpp>
#include <tuco/latch.hpp>
#include <tuco/mutex.hpp>

namespace tuco::inline v1 {

template <class Key, class T, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
class single_flight {
  static_assert(std::is_copy_constructible_v<T>, "each caller gets a copy");

 public:
  struct result {
    T value;
    bool shared;  ///< somebody else did the work, or got the same result
  };

  /// @throws what the `f` that was run throws
  template <class F>
    requires std::is_invocable_r_v<T, F&>
  result call(const Key& key, F&& f) {
    for (;;) {
      const auto [work, mine] = table_->join(key);
      if (mine) return lead(*table_, key, work, f);
      work->over.wait();
      if (auto found = work->take()) return *std::move(found);
    }
  }

  /// Gives up after `timeout`; the work goes on, for those who wait longer. `f` is copied.
  /// @return nullopt: not done by then.  @throws what the `f` that was run throws; what go() throws
  template <class Rep, class Period, class F>
    requires std::is_invocable_r_v<T, std::decay_t<F>&>
  std::optional<result> call_for(std::chrono::duration<Rep, Period> timeout, const Key& key, F&& f) {
    using moment = std::chrono::steady_clock::time_point;
    return call_until(moment(std::chrono::nanoseconds(detail::deadline_after(timeout))), key, std::forward<F>(f));
  }
  template <class Duration, class F>
    requires std::is_invocable_r_v<T, std::decay_t<F>&>
  std::optional<result> call_until(std::chrono::time_point<std::chrono::steady_clock, Duration> deadline,
                                   const Key& key, F&& f) {
    for (;;) {
      const auto joined = table_->join(key);
      const piece_pointer& work = joined.first;
      if (joined.second) {
        try {
          go([table = table_, work, key, f = std::decay_t<F>(f)]() mutable {
            try {
              lead(*table, key, work, f);
            } catch (...) {
              if (detail::caught_goexit()) throw;
              // Those who wait have it.
            }
          });
        } catch (...) {
          table_->leave(key, work);
          throw;
        }
      }
      if (!work->over.wait_until(deadline)) return std::nullopt;
      if (auto found = work->take()) return found;
    }
  }

  /// Whoever asks for `key` from now on does not get the result of the work that is under way.
  void forget(const Key& key) {
    std::scoped_lock lock(table_->mutex);
    table_->under_way.erase(key);
  }

 private:
  struct piece {
    latch over{1};
    std::optional<T> value;  // this one and `error` are written before `over`, read after it
    std::exception_ptr error;
    bool shared = false;  // written with the table locked, while the work can be found there

    /// @return nullopt: whoever did the work has ended in the middle of it.
    std::optional<result> take() const {
      if (error) std::rethrow_exception(error);
      if (!value) return std::nullopt;
      return result{*value, shared};
    }
  };
  using piece_pointer = std::shared_ptr<piece>;

  struct table {
    tuco::mutex mutex;
    std::unordered_map<Key, piece_pointer, Hash, Equal> under_way;

    std::pair<piece_pointer, bool> join(const Key& key) {
      std::scoped_lock lock(mutex);
      auto [place, mine] = under_way.try_emplace(key);
      if (mine) {
        try {
          place->second = std::make_shared<piece>();
        } catch (...) {
          under_way.erase(place);
          throw;
        }
      } else {
        place->second->shared = true;
      }
      return {place->second, mine};
    }
    /// @return Whether others got the same result.
    bool leave(const Key& key, const piece_pointer& work) {
      bool shared;
      {
        std::scoped_lock lock(mutex);
        // After a forget() somebody else may work on it.
        if (const auto place = under_way.find(key); place != under_way.end() && place->second == work) {
          under_way.erase(place);
        }
        shared = work->shared;
      }
      work->over.count_down();
      return shared;
    }
  };

  template <class F>
  static result lead(table& all, const Key& key, const piece_pointer& work, F& f) {
    try {
      work->value.emplace(std::invoke(f));
    } catch (...) {
      if (!detail::caught_goexit()) work->error = std::current_exception();
      all.leave(key, work);
      throw;
    }
    const bool shared = all.leave(key, work);
    return {*work->value, shared};
  }

  std::shared_ptr<table> table_ = std::make_shared<table>();
};

}  // namespace tuco::inline v1
