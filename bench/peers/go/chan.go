// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"testing"
)

const values = 100_000

func pingPong(b *testing.B) {
	for n := 0; n < b.N; n++ {
		there, back := make(chan int64), make(chan int64)
		go func() {
			for v := range there {
				back <- v + 1
			}
			close(back)
		}()
		for i := int64(0); i < values; i++ {
			there <- i
			if <-back != i+1 {
				fail("wrong answer")
			}
		}
		close(there)
		if _, ok := <-back; ok {
			fail("a value too many")
		}
	}
}

func stream(capacity, pairs int) timed {
	return timed{values, func(b *testing.B) {
		for n := 0; n < b.N; n++ {
			ch := make(chan int64, capacity)
			sums := make(chan int64, pairs)
			var senders sync.WaitGroup
			senders.Add(pairs)
			for p := 0; p < pairs; p++ {
				first := int64(p)
				go func() {
					sum := int64(0)
					for v := range ch {
						sum += v
					}
					sums <- sum
				}()
				go func() {
					for i := first; i < values; i += int64(pairs) {
						ch <- i
					}
					senders.Done()
				}()
			}
			senders.Wait()
			close(ch)
			sum := int64(0)
			for p := 0; p < pairs; p++ {
				sum += <-sums
			}
			if sum != values*(values-1)/2 {
				fail("wrong sum")
			}
		}
	}}
}

func init() {
	benchmarks["chan/ping_pong"] = timed{values, pingPong}
	benchmarks["chan/unbuffered"] = stream(0, 1)
	benchmarks["chan/buffered"] = stream(128, 1)
	benchmarks["chan/buffered_4x4"] = stream(128, 4)
}
