// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"sync"
	"testing"
)

const yieldsPerRound = 1_000_000

func takeTurns(goroutines int) timed {
	return timed{yieldsPerRound, func(b *testing.B) {
		counts := make([]int, goroutines)
		expected := 0
		for n := 0; n < b.N; n++ {
			var all sync.WaitGroup
			all.Add(goroutines)
			for g := 0; g < goroutines; g++ {
				count := &counts[g]
				go func() {
					for i := 0; i < yieldsPerRound/goroutines; i++ {
						runtime.Gosched()
						*count++
					}
					all.Done()
				}()
			}
			all.Wait()
			expected += yieldsPerRound
		}
		sum := 0
		for _, count := range counts {
			sum += count
		}
		if sum != expected {
			fail("yields are missing")
		}
	}}
}

func init() {
	benchmarks["yield/2"] = takeTurns(2)
	benchmarks["yield/1000"] = takeTurns(1_000)
}
