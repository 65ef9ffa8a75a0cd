/* SPDX-License-Identifier: Apache-2.0 */
/* Stands before the system's <errno.h> on the include path of whoever uses tuco::tuco.

   The C library declares __errno_location() `const`: its answer never changes. But a goroutine parks
   on one thread and goes on on another, and a compiler that believes the declaration goes on with
   the errno of the first (docs/adr/0004-errno-wrapper.md). So the system's declaration goes to a name
   that nobody uses, and the function is declared again without the promise.

   No include guard around #include_next: if the path holds this file twice, both must lead on. */
#pragma GCC system_header

#ifndef __errno_location
#define __errno_location tuco_compat_unused_errno_location
#include_next <errno.h>
#undef __errno_location
#else
#include_next <errno.h>
#endif

#if !defined __ASSEMBLER__ && !defined __errno_location && !defined TUCO_COMPAT_ERRNO_LOCATION
#define TUCO_COMPAT_ERRNO_LOCATION 1
#ifdef __cplusplus
extern "C" {
#endif
#ifdef __THROW
extern int *__errno_location(void) __THROW;
#else
extern int *__errno_location(void);
#endif
#ifdef __cplusplus
}
#endif
#endif
