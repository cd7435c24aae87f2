package harness

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Place is what one test has to itself. Its name is in every path, cgroup and interface that the test makes, which is how
// leftovers are found.
type Place struct {
	// Name is short, because a network interface takes 15 characters.
	Name string
	// Disk lies on a disk, as a root directory should: overlayfs does not take every filesystem below it.
	Disk string
	// Memory lies on tmpfs, as a state directory should.
	Memory string
}

// NewPlace makes the directories; they go when the test ends, unless it failed.
func NewPlace(t *testing.T) Place {
	t.Helper()
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	name := "cwc" + hex.EncodeToString(random)
	place := Place{Name: name, Disk: filepath.Join(os.TempDir(), name), Memory: filepath.Join("/dev/shm", name)}
	for _, directory := range []string{place.Disk, place.Memory} {
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kept for a look: %s and %s", place.Disk, place.Memory)
			return
		}
		for _, directory := range []string{place.Disk, place.Memory} {
			if err := os.RemoveAll(directory); err != nil {
				t.Errorf("removing %s: %v", directory, err)
			}
		}
	})
	return place
}

// Write writes a file under Disk and returns its path.
func (p Place) Write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(p.Disk, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// FreePort is a loopback port that nobody listens on at this moment. Programs that cannot be told to choose one
// themselves get it.
func FreePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// Until asks again and again until the answer is nil, and fails the test with the last one after the deadline.
func Until(t *testing.T, deadline time.Duration, what string, ask func() error) {
	t.Helper()
	if err := TryUntil(deadline, ask); err != nil {
		t.Fatalf("%s: not within %v: %v", what, deadline, err)
	}
}

// TryUntil is Until for what a test can go on without.
func TryUntil(deadline time.Duration, ask func() error) error {
	end := time.Now().Add(deadline)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := ask()
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// Step runs a part of a test under a name of its own, and ends the test if it fails: later parts build on it.
func Step(t *testing.T, name string, part func(t *testing.T)) {
	t.Helper()
	if !t.Run(name, part) {
		t.Fatalf("stopped at: %s", name)
	}
}
