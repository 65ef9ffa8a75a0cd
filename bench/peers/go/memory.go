// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
)

// Bytes that the kernel holds for this process.
func memoryInUse() float64 {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		fail(err.Error())
	}
	defer file.Close()
	kib := 0.0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			value := 0.0
			fmt.Sscanf(strings.Fields(line)[1], "%f", &value)
			kib += value
		}
	}
	return kib * 1024
}

func parked() {
	const count = 100_000
	runtime.GC()
	before := memoryInUse()
	never := make(chan int)
	var waiting, ended sync.WaitGroup
	waiting.Add(count)
	ended.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			waiting.Done()
			if _, ok := <-never; !ok {
				ended.Done()
			}
		}()
	}
	waiting.Wait()
	runtime.Gosched()
	bytes := (memoryInUse() - before) / count
	close(never)
	ended.Wait()
	fmt.Printf("bytes %.0f\n", bytes)
}

func init() { special["memory/parked"] = parked }
