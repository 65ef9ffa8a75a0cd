// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"testing"
)

const cycles = 100_000

func waitGroupCycle(b *testing.B) {
	var group sync.WaitGroup
	for n := 0; n < b.N; n++ {
		for i := 0; i < cycles; i++ {
			group.Add(1)
			group.Done()
			group.Wait()
		}
	}
}

func init() { benchmarks["wait_group/cycle"] = timed{cycles, waitGroupCycle} }
