// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

const selects = 50_000

func channels(n, capacity int) []chan int64 {
	all := make([]chan int64, n)
	for i := range all {
		all[i] = make(chan int64, capacity)
	}
	return all
}

func receiveFromAny2(c []chan int64) (int, int64) {
	select {
	case v := <-c[0]:
		return 0, v
	case v := <-c[1]:
		return 1, v
	}
}

func receiveFromAny8(c []chan int64) (int, int64) {
	select {
	case v := <-c[0]:
		return 0, v
	case v := <-c[1]:
		return 1, v
	case v := <-c[2]:
		return 2, v
	case v := <-c[3]:
		return 3, v
	case v := <-c[4]:
		return 4, v
	case v := <-c[5]:
		return 5, v
	case v := <-c[6]:
		return 6, v
	case v := <-c[7]:
		return 7, v
	}
}

type receiver func([]chan int64) (int, int64)

func selectReady(n int, receive receiver) timed {
	return timed{selects, func(b *testing.B) {
		all := channels(n, 1)
		taken := make([]int64, n)
		for _, ch := range all {
			ch <- 0
		}
		for round := 0; round < b.N; round++ {
			for i := 0; i < selects; i++ {
				at, v := receive(all)
				if v != taken[at] {
					fail("wrong value")
				}
				taken[at]++
				all[at] <- taken[at]
			}
		}
		sum := int64(0)
		for _, n := range taken {
			sum += n
		}
		if sum != int64(b.N)*selects {
			fail("values are missing")
		}
	}}
}

func selectBlocking(n int, receive receiver) timed {
	return timed{selects, func(b *testing.B) {
		for round := 0; round < b.N; round++ {
			all := channels(n, 0)
			go func() {
				for i := int64(0); i < selects; i++ {
					all[i%int64(n)] <- i
				}
			}()
			for next := int64(0); next < selects; next++ {
				if at, v := receive(all); v != next || int(v)%n != at {
					fail("wrong value")
				}
			}
		}
	}}
}

func selectDefault(b *testing.B) {
	empty := make(chan int64, 1)
	passed := 0
	for round := 0; round < b.N; round++ {
		for i := 0; i < selects; i++ {
			select {
			case <-empty:
			default:
				passed++
			}
		}
	}
	if passed != b.N*selects {
		fail("wrong number")
	}
}

func selectTimeout(b *testing.B) {
	for round := 0; round < b.N; round++ {
		ch := make(chan int64)
		go func() {
			for i := int64(0); i < selects; i++ {
				ch <- i
			}
		}()
		for next := int64(0); next < selects; next++ {
			select {
			case v := <-ch:
				if v != next {
					fail("wrong value")
				}
			case <-time.After(time.Hour):
				fail("an hour has passed")
			}
		}
	}
}

func init() {
	benchmarks["select/ready_2"] = selectReady(2, receiveFromAny2)
	benchmarks["select/ready_8"] = selectReady(8, receiveFromAny8)
	benchmarks["select/blocking_2"] = selectBlocking(2, receiveFromAny2)
	benchmarks["select/blocking_8"] = selectBlocking(8, receiveFromAny8)
	benchmarks["select/default"] = timed{selects, selectDefault}
	benchmarks["select/timeout"] = timed{selects, selectTimeout}
}
