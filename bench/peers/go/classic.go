// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"testing"
)

func whole(items int, once func() bool) timed {
	return timed{items, func(b *testing.B) {
		for n := 0; n < b.N; n++ {
			if !once() {
				fail("wrong result")
			}
		}
	}}
}

func sieve() bool {
	const primes, last = 2_000, 17_389
	in := make(chan int32)
	go func(out chan<- int32) {
		for n := int32(2); n <= last; n++ {
			out <- n
		}
		close(out)
	}(in)
	prime := int32(0)
	for i := 0; i < primes; i++ {
		prime = <-in
		out := make(chan int32)
		go func(in <-chan int32, out chan<- int32, prime int32) {
			for n := range in {
				if n%prime != 0 {
					out <- n
				}
			}
			close(out)
		}(in, out, prime)
		in = out
	}
	_, more := <-in
	return prime == last && !more
}

func chain() bool {
	const length = 100_000
	leftmost := make(chan int32)
	left := leftmost
	for i := 0; i < length; i++ {
		right := make(chan int32)
		go func(left, right chan int32) { left <- 1 + <-right }(left, right)
		left = right
	}
	go func() { left <- 0 }()
	return <-leftmost == length
}

const passes = 500_000

func ring() bool {
	const members = 503
	result := make(chan int64)
	first := make(chan int64)
	in := first
	for i := int64(0); i < members; i++ {
		out := first
		if i+1 != members {
			out = make(chan int64)
		}
		go func(in, out chan int64, i int64) {
			for {
				left := <-in
				if left == 1-members {
					result <- i
				} else {
					out <- left - 1
				}
				if left <= 0 {
					return
				}
			}
		}(in, out, i)
		in = out
	}
	first <- passes
	return <-result == (passes+members-1)%members
}

func skynetNode(parent chan<- int64, number, size int64) {
	if size == 1 {
		parent <- number
		return
	}
	children := make(chan int64)
	for i := int64(0); i < 10; i++ {
		go skynetNode(children, number+i*(size/10), size/10)
	}
	sum := int64(0)
	for i := 0; i < 10; i++ {
		sum += <-children
	}
	parent <- sum
}

func skynet() bool {
	root := make(chan int64)
	go skynetNode(root, 0, 1_000_000)
	return <-root == 499_999_500_000
}

func fib(n int) int64 {
	if n < 2 {
		return int64(n)
	}
	var other int64
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		other = fib(n - 1)
		done.Done()
	}()
	mine := fib(n - 2)
	done.Wait()
	return mine + other
}

func init() {
	benchmarks["classic/sieve"] = whole(1, sieve)
	benchmarks["classic/chain"] = whole(1, chain)
	benchmarks["classic/ring"] = whole(passes, ring)
	benchmarks["classic/skynet"] = whole(1, skynet)
	benchmarks["classic/fib"] = whole(121_392, func() bool { return fib(25) == 75_025 })
}
