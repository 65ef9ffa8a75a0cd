// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Address space: reserving, returning, guarding, naming. Sizes and addresses are multiples of the
/// page size unless said otherwise.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

namespace detail {
inline std::atomic<std::size_t> known_page_size{0};
std::size_t ask_page_size() noexcept;
}  // namespace detail

/// 4096 or what the kernel was built with. No system call.
inline std::size_t page_size() noexcept {
  const std::size_t known = detail::known_page_size.load(std::memory_order_relaxed);
  return known != 0 ? known : detail::ask_page_size();
}

/// Reserves readable and writable memory whose pages appear when touched, as zeros. Not counted
/// against the commit limit (MAP_NORESERVE), private, anonymous.
/// @param alignment  power of two >= page size
mapping reserve(std::size_t size, std::size_t alignment) noexcept;

/// Unmaps. Page tables go too.
int release(void* address, std::size_t size) noexcept;

/// Gives the pages back; they read as zeros afterwards. Guards inside survive, page tables stay.
/// -EINVAL: the memory is locked. Who locks all memory asks for it to stay, so it is not unlocked.
int discard(void* address, std::size_t size) noexcept;

/// As if the range had been reserved anew: pages, page tables and guards are gone, and at no moment is
/// the range free for others. Fails when the kernel is out of mappings; the range may then be
/// unmapped and must not be used again.
int reset(void* address, std::size_t size) noexcept;

/// No huge pages here: with them the first touch of a stack would take 2 MiB. Best effort.
void refuse_huge_pages(void* address, std::size_t size) noexcept;

/// Makes pages fault on any access, without a mapping of their own (MADV_GUARD_INSTALL, Linux 6.13).
/// Their contents are lost. -EINVAL: not known to this kernel, or the memory is locked.
int guard_install(void* address, std::size_t size) noexcept;
/// Undoes it; the pages read as zeros.
int guard_remove(void* address, std::size_t size) noexcept;
/// Whether this kernel knows guard_install(); tried out at the first call.
/// TUCO_DEBUG=noguardinstall=1 says no.
bool guard_install_works() noexcept;

/// PROT_NONE or back to read-write: splits a mapping in up to three.
int protect_none(void* address, std::size_t size) noexcept;
int protect_read_write(void* address, std::size_t size) noexcept;

/// Shows `name` for the region in /proc/self/maps, as [anon:name]. Best effort: kernels before
/// 5.17 or without the option refuse. `name` must have static storage, no []\$` in it.
void name_region(const void* address, std::size_t size, const char* name) noexcept;

/// One byte per page, bit 0 set when it is in memory.
int residency(const void* address, std::size_t size, unsigned char* pages) noexcept;

/// vm.max_map_count; 65530 when it cannot be read.
std::size_t max_mappings() noexcept;

}  // namespace tuco::inline v1::os
