// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func startStop(b *testing.B) {
	for n := 0; n < b.N; n++ {
		for i := 0; i < 20_000; i++ {
			if !time.NewTimer(time.Hour).Stop() {
				fail("a timer has expired")
			}
		}
	}
}

// One of the two halves is on the clock.
func bulk(timedStart bool) timed {
	const timers = 100_000
	return timed{timers, func(b *testing.B) {
		b.StopTimer()
		random := rand.New(rand.NewSource(42))
		spans := make([]time.Duration, timers)
		for i := range spans {
			spans[i] = time.Duration(3_600+random.Intn(36_000)) * time.Second
		}
		order := random.Perm(timers)
		for n := 0; n < b.N; n++ {
			all := make([]*time.Timer, 0, timers)
			if timedStart {
				b.StartTimer()
			}
			for _, span := range spans {
				all = append(all, time.NewTimer(span))
			}
			if timedStart {
				b.StopTimer()
			} else {
				b.StartTimer()
			}
			for _, i := range order {
				if !all[i].Stop() {
					fail("a timer has expired")
				}
			}
			b.StopTimer()
		}
	}}
}

func processCPU() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err.Error())
	}
	return float64(usage.Utime.Nano() + usage.Stime.Nano())
}

func tellLateness(lateness []time.Duration) {
	sort.Slice(lateness, func(i, j int) bool { return lateness[i] < lateness[j] })
	if lateness[0] < 0 {
		fail("a sleep ended early")
	}
	at := func(q float64) float64 {
		return float64(lateness[int(q*float64(len(lateness)-1))].Nanoseconds()) / 1000
	}
	fmt.Printf("p50_us %.1f\np99_us %.1f\n", at(0.5), at(0.99))
}

func sleepOnce(span time.Duration) time.Duration {
	due := time.Now().Add(span)
	time.Sleep(span)
	return time.Since(due)
}

func sleepers() {
	const count, sleeps = 1_000, 100
	lateness := make([]time.Duration, count*sleeps)
	cpu := processCPU()
	var all sync.WaitGroup
	all.Add(count)
	for g := 0; g < count; g++ {
		late := lateness[g*sleeps : (g+1)*sleeps]
		seed := uint64(g + 1)
		go func() {
			for i := range late {
				seed = seed * 48271 % 2147483647
				late[i] = sleepOnce(time.Millisecond + time.Duration(seed%9_000)*time.Microsecond)
			}
			all.Done()
		}()
	}
	all.Wait()
	fmt.Printf("cpu_ns %.0f\n", (processCPU()-cpu)/(count*sleeps))
	tellLateness(lateness)
}

func ticker() {
	var over atomic.Bool
	var others sync.WaitGroup
	others.Add(101)
	for i := 0; i < 100; i++ {
		go func() {
			oneMs := syscall.Timespec{Nsec: 1_000_000}
			for !over.Load() {
				syscall.Nanosleep(&oneMs, nil)
			}
			others.Done()
		}()
	}
	go func() {
		for !over.Load() {
		}
		others.Done()
	}()
	lateness := make([]time.Duration, 500)
	for i := range lateness {
		lateness[i] = sleepOnce(time.Millisecond)
	}
	over.Store(true)
	others.Wait()
	tellLateness(lateness)
}

func init() {
	benchmarks["timer/start_stop"] = timed{20_000, startStop}
	benchmarks["timer/bulk_start"] = bulk(true)
	benchmarks["timer/bulk_stop"] = bulk(false)
	special["timer/sleepers"] = sleepers
	special["timer/ticker"] = ticker
}
