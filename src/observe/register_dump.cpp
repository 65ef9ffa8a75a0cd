// SPDX-License-Identifier: Apache-2.0
#include "observe/register_dump.hpp"

#include <ucontext.h>

#include <string_view>

namespace tuco::inline v1::observe {
namespace {

#if defined(__x86_64__)
constexpr std::array<std::string_view, printed_registers> names{
    "rax", "rbx", "rcx", "rdx", "rdi", "rsi", "rbp", "rsp",    "r8", "r9", "r10",
    "r11", "r12", "r13", "r14", "r15", "rip", "rflags", "cs", "fs", "gs"};
constexpr std::size_t column = 7;
#else
constexpr std::array<std::string_view, printed_registers> names{
    "r0",  "r1",  "r2",  "r3",  "r4",  "r5",  "r6",  "r7",  "r8",  "r9",  "r10", "r11",
    "r12", "r13", "r14", "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23",
    "r24", "r25", "r26", "r27", "r28", "r29", "lr",  "sp",  "pc",  "fault"};
constexpr std::size_t column = 8;
#endif

}  // namespace

register_values registers_of(const void* ucontext) noexcept {
  const auto& machine = static_cast<const ucontext_t*>(ucontext)->uc_mcontext;
  register_values out;
#if defined(__x86_64__)
  constexpr int order[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RDI, REG_RSI,
                           REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                           REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP, REG_EFL};
  std::size_t n = 0;
  for (const int r : order) out[n++] = static_cast<std::uint64_t>(machine.gregs[r]);
  // The segments share a word: cs, gs, fs, 16 bits each.
  const auto segments = static_cast<std::uint64_t>(machine.gregs[REG_CSGSFS]);
  out[n++] = segments & 0xffff;
  out[n++] = segments >> 32 & 0xffff;
  out[n++] = segments >> 16 & 0xffff;
#else
  for (std::size_t i = 0; i < 31; ++i) out[i] = machine.regs[i];
  out[31] = machine.sp;
  out[32] = machine.pc;
  out[33] = machine.fault_address;
#endif
  return out;
}

void write_registers(os::fd_writer& out, const register_values& values) noexcept {
  for (std::size_t i = 0; i < values.size(); ++i) {
    constexpr std::string_view blanks = "        ";
    out.text(names[i]).text(blanks.substr(0, column - names[i].size())).hex(values[i]).text("\n");
  }
}

}  // namespace tuco::inline v1::observe
