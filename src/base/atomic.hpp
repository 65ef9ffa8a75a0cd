// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The seam between lock-free code and what executes it.
///
/// A lock-free structure is written once, as `template <class Atomics = base::real_atomics>`, and
/// names its atomics only through that policy. The library runs it on `std::atomic`; the programs
/// in test/model/ run the same text on the model checker's atomics (test/model/model.hpp), which
/// try the interleavings and the stale reads that the memory model allows.
///
/// Write orders as `std::memory_order::acquire`, not `std::memory_order_acquire`: the model
/// checker's headers make macros of the latter.
///
/// **Order between a store and a later load** is the one thing that release and acquire never give,
/// and the heart of every "nobody sleeps on work" argument. Two ways to buy it:
///
///     both sides pay     full_fence()                    between store and load on either side
///     one side pays      light_fence() / heavy_fence()   hot side: nothing but the compiler's
///                                                        barrier; cold side: membarrier(2)
///
/// The asymmetric pair needs the kernel, so its real form is os/membarrier.hpp. Code that is to be
/// modelled takes it as a second policy that satisfies `asymmetric_fences`; `symmetric_fences` below
/// is the form for kernels that refuse membarrier.

#include <atomic>
#include <concepts>

#if defined(__SANITIZE_THREAD__)
#define TUCO_BASE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TUCO_BASE_TSAN 1
#endif
#endif

namespace tuco::inline v1::base {

template <class T>
using atomic = std::atomic<T>;

#ifdef TUCO_BASE_TSAN
namespace detail {
// ThreadSanitizer does not model fences (and g++ warns, -Wtsan). It does model read-modify-writes,
// and two of them on one word are ordered: whoever comes second has acquired what the first released.
inline std::atomic<unsigned> fence_word{0};
}  // namespace detail
#endif

/// Orders every earlier access of this thread before every later one, also a store before a load;
/// all full fences of the program lie in one total order.
inline void full_fence() noexcept {
#ifdef TUCO_BASE_TSAN
  detail::fence_word.fetch_add(1, std::memory_order::seq_cst);
#else
  std::atomic_thread_fence(std::memory_order::seq_cst);
#endif
}

/// Keeps the compiler from moving accesses across; the processor may.
inline void compiler_barrier() noexcept { std::atomic_signal_fence(std::memory_order::seq_cst); }

/// The policy that the library uses.
struct real_atomics {
  template <class T>
  using atomic = std::atomic<T>;
  static void full_fence() noexcept { base::full_fence(); }
  static void compiler_barrier() noexcept { base::compiler_barrier(); }
};

/// What an atomics policy supplies.
template <class A>
concept atomics_policy = requires {
  typename A::template atomic<int>;
  typename A::template atomic<int*>;
  { A::full_fence() } noexcept;
  { A::compiler_barrier() } noexcept;
};
static_assert(atomics_policy<real_atomics>);

/// What a policy of asymmetric fences supplies. A light fence and a heavy fence in different threads
/// act towards each other like two full fences; two light fences give nothing.
template <class F>
concept asymmetric_fences = requires {
  { F::light_fence() } noexcept;
  { F::heavy_fence() } noexcept;
};

/// Without membarrier: both sides pay (5 ns instead of 0.3 ns on the hot one).
template <atomics_policy Atomics = real_atomics>
struct symmetric_fences {
  static void light_fence() noexcept { Atomics::full_fence(); }
  static void heavy_fence() noexcept { Atomics::full_fence(); }
};
static_assert(asymmetric_fences<symmetric_fences<>>);

}  // namespace tuco::inline v1::base
