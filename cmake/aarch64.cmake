# SPDX-License-Identifier: Apache-2.0
# Toolchain: compiles for aarch64 on another machine and runs tests under qemu-user. Debian has no zlib of
# a foreign architecture without multiarch, so the preset names the layers, all of which do without.
#
# The layers whose tests are run there are those that depend on the machine and not on the kernel: the
# emulator passes system calls on, and the tests of os, task and poll ask the kernel about itself
# (/proc, limits, guards), which is the host's.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_ASM_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
