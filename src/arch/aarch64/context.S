/* SPDX-License-Identifier: Apache-2.0 */
/* Where a goroutine's stack begins. There is no caller: `.cfi_undefined x30` tells it to the exception
   unwinder, gdb and perf, x29 = 0 to frame-pointer walkers. */

    .text

/* tuco_context_entry: reached by the jump at the end of a switch. The word at sp is the function to
   call; sp is 16-byte aligned, and is the top of the stack once the word was taken. */
    .globl  tuco_context_entry
    .hidden tuco_context_entry
    .type   tuco_context_entry, %function
    .align  4
tuco_context_entry:
    .cfi_startproc
    .cfi_undefined x30
    .cfi_undefined x29
    hint    #38                 /* bti jc */
    ldr     x1, [sp], #16
    mov     x29, xzr
    mov     x30, xzr
    blr     x1
    brk     #1                  /* keeps the return address inside this function */
    .cfi_endproc
    .size   tuco_context_entry, . - tuco_context_entry

/* tuco_restart_stack(top, entry): the same beginning on a stack that is already running. */
    .globl  tuco_restart_stack
    .hidden tuco_restart_stack
    .type   tuco_restart_stack, %function
    .align  4
tuco_restart_stack:
    .cfi_startproc
    .cfi_undefined x30
    .cfi_undefined x29
    hint    #34                 /* bti c */
    mov     x29, xzr
    mov     x30, xzr
    mov     sp, x0
    blr     x1
    brk     #1
    .cfi_endproc
    .size   tuco_restart_stack, . - tuco_restart_stack

/* The word that finds a thread's record (thread_slot.hpp). */
    .section .tbss, "awT", %nobits
    .globl  tuco_thread_slot
    .hidden tuco_thread_slot
    .type   tuco_thread_slot, %object
    .align  3
tuco_thread_slot:
    .zero   8
    .size   tuco_thread_slot, 8

    .section .note.gnu.property, "a"
    .align 3
    .long 4
    .long 16
    .long 5
    .asciz "GNU"
    .long 0xc0000000            /* GNU_PROPERTY_AARCH64_FEATURE_1_AND: BTI and PAC, and not GCS (the  */
    .long 4                     /* shadow stack): a switch by jump is not what that expects           */
    .long 3
    .long 0
    .section .note.GNU-stack, "", %progbits
