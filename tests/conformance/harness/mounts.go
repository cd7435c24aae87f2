package harness

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountsBelow lists the mounts below a directory.
func mountsBelow(directory string) []string {
	var found []string
	content, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(content), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], directory+"/") {
			found = append(found, fields[4])
		}
	}
	return found
}

// unmountBelow unmounts what a program that was stopped with pods has left: their volumes, namespaces and files.
func unmountBelow(t *testing.T, directory string) {
	t.Helper()
	mounts := mountsBelow(directory)
	slices.Reverse(mounts)
	for _, mount := range mounts {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", mount, err)
		}
	}
}
