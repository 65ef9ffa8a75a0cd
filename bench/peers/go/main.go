// SPDX-License-Identifier: Apache-2.0

// The work of bench/*_bench.cpp in Go, the same shapes under the same names.
//
//	peer -list              the names
//	peer NAME [PROCS]       runs one; PROCS as in GOMAXPROCS, 0: all
//	peer echo               the echo server: prints `listening PORT`, serves until it is killed
//
// Prints lines `name value`, `ns` for the time of one item. A wrong result ends it with status 1.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"testing"
)

// A timed benchmark does its work b.N times; items is how many items one of those is.
type timed struct {
	items int
	run   func(b *testing.B)
}

var benchmarks = map[string]timed{}

// Those that measure something else than time, once, and print it themselves.
var special = map[string]func(){}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "peer:", why)
	os.Exit(1)
}

func main() {
	testing.Init()
	list := flag.Bool("list", false, "print the names")
	seconds := flag.Float64("seconds", 0.3, "how long to run, about")
	flag.Parse()
	if *list {
		var names []string
		for name := range benchmarks {
			names = append(names, name)
		}
		for name := range special {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			fmt.Println(name)
		}
		return
	}
	if flag.NArg() < 1 {
		fail("usage: peer NAME [PROCS]; -list names them")
	}
	name := flag.Arg(0)
	if flag.NArg() > 1 {
		procs, err := strconv.Atoi(flag.Arg(1))
		if err != nil || procs < 0 {
			fail("PROCS is a number")
		}
		if procs > 0 {
			runtime.GOMAXPROCS(procs)
		}
	}
	if run, ok := special[name]; ok {
		run()
		return
	}
	bench, ok := benchmarks[name]
	if !ok {
		fail("no benchmark " + name)
	}
	if err := flag.Set("test.benchtime", fmt.Sprintf("%gs", *seconds)); err != nil {
		fail(err.Error())
	}
	result := testing.Benchmark(bench.run)
	if result.N == 0 {
		fail("wrong result")
	}
	items := float64(result.N) * float64(bench.items)
	fmt.Printf("ns %.4f\n", float64(result.T.Nanoseconds())/items)
}
