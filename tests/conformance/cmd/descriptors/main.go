// Command descriptors compares the CRI that cri-wasm was built from with the one that Kubernetes publishes.
//
//	descriptors FILE    FILE is a serialized FileDescriptorSet, as `cri-wasm descriptors` prints it; - is the input
//
// It prints each difference on a line of its own, and ends with 1 where there is one.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"conformance/internal/descriptors"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: descriptors FILE")
		os.Exit(2)
	}
	differences, err := compare(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "descriptors: %s: %v\n", os.Args[1], err)
		os.Exit(2)
	}
	if differences > 0 {
		fmt.Fprintf(os.Stderr, "descriptors: %d differences from k8s.io/cri-api %s\n", differences, version())
		os.Exit(1)
	}
}

// compare prints the differences, or what was found the same, and returns the number of differences.
func compare(path string) (int, error) {
	serialized, err := read(path)
	if err != nil {
		return 0, err
	}
	ours, err := descriptors.Parse(serialized)
	if err != nil {
		return 0, err
	}
	differences, counts := descriptors.Compare(descriptors.Published(), ours)
	for _, difference := range differences {
		fmt.Println(difference)
	}
	if len(differences) == 0 {
		fmt.Printf("same as k8s.io/cri-api %s: %d services, %d methods, %d messages, %d fields, %d enums, %d values\n",
			version(), counts.Services, counts.Methods, counts.Messages, counts.Fields, counts.Enums, counts.Values)
	}
	return len(differences), nil
}

func read(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path)
}

// version is the version of k8s.io/cri-api that this program was linked with, replaced or not.
func version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "of unknown version"
	}
	for _, module := range build.Deps {
		if module.Path != "k8s.io/cri-api" {
			continue
		}
		if module.Replace != nil {
			return module.Replace.Version
		}
		return module.Version
	}
	return "of unknown version"
}
