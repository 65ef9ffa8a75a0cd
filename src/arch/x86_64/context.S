/* SPDX-License-Identifier: Apache-2.0 */
/* Where a goroutine's stack begins. There is no caller: `.cfi_undefined rip` tells it to the exception
   unwinder, gdb and perf, rbp = 0 to frame-pointer walkers. */

    .text

/* tuco_context_entry: reached by the jump at the end of a switch. The word at rsp is the function to
   call; above it is the 16-byte aligned top of the stack. */
    .globl  tuco_context_entry
    .hidden tuco_context_entry
    .type   tuco_context_entry, @function
    .align  16
tuco_context_entry:
    .cfi_startproc
    .cfi_undefined rip
    .cfi_undefined rbp
    endbr64
    popq    %rax                /* the entry function, left there by make_context */
    .cfi_adjust_cfa_offset -8
    xorl    %ebp, %ebp
    callq   *%rax
    ud2                         /* keeps the return address inside this function */
    .cfi_endproc
    .size   tuco_context_entry, . - tuco_context_entry

/* tuco_restart_stack(top, entry): the same beginning on a stack that is already running. */
    .globl  tuco_restart_stack
    .hidden tuco_restart_stack
    .type   tuco_restart_stack, @function
    .align  16
tuco_restart_stack:
    .cfi_startproc
    .cfi_undefined rip
    .cfi_undefined rbp
    endbr64
    xorl    %ebp, %ebp
    movq    %rdi, %rsp
    callq   *%rsi
    ud2
    .cfi_endproc
    .size   tuco_restart_stack, . - tuco_restart_stack

/* The word that finds a thread's record. Read by thread_slot.hpp with inline assembly: a C++
   thread_local's address may be cached by the compiler across a switch, on the wrong thread. */
    .section .tbss, "awT", @nobits
    .globl  tuco_thread_slot
    .hidden tuco_thread_slot
    .type   tuco_thread_slot, @object
    .align  8
tuco_thread_slot:
    .zero   8
    .size   tuco_thread_slot, 8

    .section .note.gnu.property, "a"
    .align 8
    .long 4
    .long 16
    .long 5
    .asciz "GNU"
    .long 0xc0000002            /* GNU_PROPERTY_X86_FEATURE_1_AND: IBT, and not SHSTK: a switch by */
    .long 4                     /* jump is not what a shadow stack expects, so glibc keeps it off  */
    .long 1
    .long 0
    .section .note.GNU-stack, "", @progbits
