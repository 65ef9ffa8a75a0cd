/* SPDX-License-Identifier: Apache-2.0 */
/* Stands before the system's <pthread.h>, for the reason and in the way of <errno.h> beside it:
   pthread_self() is declared `const`, and std::this_thread::get_id() is made of it. */
#pragma GCC system_header

#ifndef pthread_self
#define pthread_self tuco_compat_unused_pthread_self
#include_next <pthread.h>
#undef pthread_self
#else
#include_next <pthread.h>
#endif

#if !defined pthread_self && !defined TUCO_COMPAT_PTHREAD_SELF
#define TUCO_COMPAT_PTHREAD_SELF 1
#ifdef __cplusplus
extern "C" {
#endif
#ifdef __THROW
extern pthread_t pthread_self(void) __THROW;
#else
extern pthread_t pthread_self(void);
#endif
#ifdef __cplusplus
}
#endif
#endif
