// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/net.hpp
/// Everything for the network.
#include <tuco/io.hpp>
#include <tuco/resolve.hpp>
#include <tuco/tcp.hpp>
#include <tuco/unix.hpp>
