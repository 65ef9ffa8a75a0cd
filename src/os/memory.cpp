// SPDX-License-Identifier: Apache-2.0
#include "os/memory.hpp"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "os/env.hpp"
#include "os/proc.hpp"

// Younger than the headers of the oldest system that we build on.
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

namespace tuco::inline v1::os {
namespace {

mapping map(std::size_t size) noexcept {
  void* address = nullptr;
  const std::intptr_t result = system_call(call::mmap, [&] {
    address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return address == MAP_FAILED ? std::intptr_t{-1} : std::intptr_t{0};
  });
  if (result < 0) return {nullptr, static_cast<int>(result)};
  return {address, 0};
}

int advise(void* address, std::size_t size, int advice) noexcept {
  return system_call(call::madvise, [&] { return ::madvise(address, size, advice); });
}

int protect(void* address, std::size_t size, int protection) noexcept {
  return system_call(call::mprotect, [&] { return ::mprotect(address, size, protection); });
}

}  // namespace

namespace detail {
std::size_t ask_page_size() noexcept {
  const std::size_t size = ::getauxval(AT_PAGESZ);
  known_page_size.store(size, std::memory_order_relaxed);
  return size;
}
}  // namespace detail

mapping reserve(std::size_t size, std::size_t alignment) noexcept {
  mapping region = map(size);
  if (!region) return region;
  auto address = reinterpret_cast<std::uintptr_t>(region.address);
  if ((address & (alignment - 1)) == 0) return region;
  // Kernels hand out neighbouring addresses, so this is the rare way, not the usual one: once one
  // region is aligned, the next of the same size is too.
  release(region.address, size);
  region = map(size + alignment);
  if (!region) return region;
  address = reinterpret_cast<std::uintptr_t>(region.address);
  const std::uintptr_t aligned = (address + alignment - 1) & ~(alignment - 1);
  if (aligned != address) release(region.address, aligned - address);
  const std::uintptr_t end = address + size + alignment;
  if (aligned + size != end) {
    release(reinterpret_cast<void*>(aligned + size), end - (aligned + size));
  }
  return {reinterpret_cast<void*>(aligned), 0};
}

int release(void* address, std::size_t size) noexcept {
  return system_call(call::munmap, [&] { return ::munmap(address, size); });
}

int discard(void* address, std::size_t size) noexcept {
  return advise(address, size, MADV_DONTNEED);
}

int reset(void* address, std::size_t size) noexcept {
  return static_cast<int>(system_call(call::mmap, [&] {
    void* const result = ::mmap(address, size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return result == MAP_FAILED ? std::intptr_t{-1} : std::intptr_t{0};
  }));
}

void refuse_huge_pages(void* address, std::size_t size) noexcept {
  advise(address, size, MADV_NOHUGEPAGE);
}

int guard_install(void* address, std::size_t size) noexcept {
  return advise(address, size, MADV_GUARD_INSTALL);
}
int guard_remove(void* address, std::size_t size) noexcept {
  return advise(address, size, MADV_GUARD_REMOVE);
}

bool guard_install_works() noexcept {
  static const bool works = [] {
    if (debug_option("noguardinstall")) return false;
    const std::size_t size = page_size();
    const mapping probe = map(size);
    if (!probe) return false;
    const bool known = guard_install(probe.address, size) == 0;
    release(probe.address, size);
    return known;
  }();
  return works;
}

int protect_none(void* address, std::size_t size) noexcept {
  return protect(address, size, PROT_NONE);
}
int protect_read_write(void* address, std::size_t size) noexcept {
  return protect(address, size, PROT_READ | PROT_WRITE);
}

void name_region(const void* address, std::size_t size, const char* name) noexcept {
  system_call(call::prctl, [&] {
    return ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, size, name);
  });
}

int residency(const void* address, std::size_t size, unsigned char* pages) noexcept {
  return system_call(call::mincore,
                     [&] { return ::mincore(const_cast<void*>(address), size, pages); });
}

std::size_t max_mappings() noexcept {
  constexpr std::size_t usual = 65530;
  char text[32];
  const ssize_t n = read_file("/proc/sys/vm/max_map_count", text, sizeof text);
  if (n <= 1) return usual;
  const auto value = parse_number({text, static_cast<std::size_t>(n) - 1});
  return value && *value > 0 ? static_cast<std::size_t>(*value) : usual;
}

}  // namespace tuco::inline v1::os
