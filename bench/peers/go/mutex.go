// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"testing"
)

const sections = 400_000

func contend(goroutines int) timed {
	return timed{sections, func(b *testing.B) {
		var lock sync.Mutex
		counter := 0
		for n := 0; n < b.N; n++ {
			var all sync.WaitGroup
			all.Add(goroutines)
			for g := 0; g < goroutines; g++ {
				go func() {
					for i := 0; i < sections/goroutines; i++ {
						lock.Lock()
						counter++
						lock.Unlock()
					}
					all.Done()
				}()
			}
			all.Wait()
		}
		if counter != b.N*sections {
			fail("wrong count")
		}
	}}
}

func init() {
	benchmarks["mutex/1"] = contend(1)
	benchmarks["mutex/8"] = contend(8)
}
