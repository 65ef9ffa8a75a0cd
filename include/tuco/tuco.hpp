// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/tuco.hpp
/// All of tuco's public headers. For users; the library itself includes what it needs.

#include <tuco/barrier.hpp>
#include <tuco/chan.hpp>
#include <tuco/condition_variable.hpp>
#include <tuco/config.hpp>
#include <tuco/error.hpp>
#include <tuco/go.hpp>
#include <tuco/goroutines.hpp>
#include <tuco/latch.hpp>
#include <tuco/mutex.hpp>
#include <tuco/net.hpp>
#include <tuco/once.hpp>
#include <tuco/once_value.hpp>
#include <tuco/run.hpp>
#include <tuco/select.hpp>
#include <tuco/semaphore.hpp>
#include <tuco/shared_mutex.hpp>
#include <tuco/single_flight.hpp>
#include <tuco/time.hpp>
#include <tuco/wait_group.hpp>
#include <tuco/wait_reason.hpp>
