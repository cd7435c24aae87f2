// Package harness gives each conformance test a node of its own: a daemon with its directories, a registry, a kubelet,
// and a list of what they left behind. Nothing in it is shared between tests, so they run side by side.
package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// Environment says where the programs and guests under test are.
type Environment struct {
	// Daemon is the program under test.
	Daemon string
	// Tools holds what tests/tools has built: crictl, kubelet, docker-registry, and cni/ with the plugins.
	Tools string
	// Guests holds what examples/build has built: a .wasm file a guest.
	Guests string
}

// Need returns the environment. A test that lacks a part is skipped by name, or fails where CRI_WASM_REQUIRE_ALL is set.
func Need(t *testing.T, tools []string, guests []string) Environment {
	t.Helper()
	cache := os.Getenv("CRI_WASM_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatalf("neither CRI_WASM_CACHE nor a home directory: %v", err)
		}
		cache = filepath.Join(home, ".cache", "cri-wasm")
	}
	environment := Environment{
		Daemon: os.Getenv("CRI_WASM_BIN"),
		Tools:  filepath.Join(cache, "bin"),
		Guests: os.Getenv("CRI_WASM_GUESTS"),
	}
	if environment.Guests == "" {
		environment.Guests = filepath.Join(cache, "guests")
	}
	if os.Geteuid() != 0 {
		missing(t, "root: namespaces, cgroups and mounts need it")
	}
	if environment.Daemon == "" {
		missing(t, "CRI_WASM_BIN, the path of cri-wasm")
	}
	needFile(t, environment.Daemon, "cargo build --release")
	for _, tool := range tools {
		needFile(t, environment.Tool(tool), "tests/tools")
	}
	for _, guest := range guests {
		needFile(t, environment.Guest(guest), "examples/build")
	}
	return environment
}

// Tool is the path of a program that tests/tools has built.
func (e Environment) Tool(name string) string { return filepath.Join(e.Tools, name) }

// Guest is the path of a guest that examples/build has built.
func (e Environment) Guest(name string) string { return filepath.Join(e.Guests, name+".wasm") }

func needFile(t *testing.T, path, remedy string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		missing(t, path+" (made by "+remedy+")")
	}
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CRI_WASM_REQUIRE_ALL") == "1" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("skipped, missing: %s", what)
}
