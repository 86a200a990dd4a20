// A small AI for nodes without a base image: says that it runs, crashes where MODE says so, and ends
// at once when it is told to.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	fmt.Println("version", os.Getenv("VERSION"), "on", os.Getenv("HAECHI_DEVICE_ID"))
	if os.Getenv("MODE") == "crash" {
		fmt.Fprintln(os.Stderr, "the model file is damaged")
		os.Exit(3)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	tick := time.NewTicker(200 * time.Millisecond)
	for n := 0; ; n++ {
		select {
		case <-told:
			fmt.Println("told to end")
			return
		case <-tick.C:
			fmt.Println("tick", n)
		}
	}
}
