// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"testing"
)

func spawnAndJoin(count int) timed {
	return timed{count, func(b *testing.B) {
		slots := make([]uint32, count)
		round := uint32(0)
		for n := 0; n < b.N; n++ {
			round++
			this := round
			var all sync.WaitGroup
			all.Add(count)
			for i := 0; i < count; i++ {
				slot := &slots[i]
				go func() {
					*slot = this
					all.Done()
				}()
			}
			all.Wait()
			for _, slot := range slots {
				if slot != round {
					fail("a goroutine is missing")
				}
			}
		}
	}}
}

func init() {
	benchmarks["spawn/batch"] = spawnAndJoin(1_000)
	benchmarks["spawn/at_once"] = spawnAndJoin(100_000)
	benchmarks["spawn/one"] = spawnAndJoin(1)
}
