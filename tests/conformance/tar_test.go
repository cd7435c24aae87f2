package conformance

import (
	"bytes"
	"os/exec"
	"testing"
)

// tarOf packs what is in a directory, as this machine's own tar does.
func tarOf(t *testing.T, directory string) []byte {
	t.Helper()
	archive, err := exec.Command("tar", "-C", directory, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatalf("tar: %v", err)
	}
	return archive
}

// untar unpacks an archive with this machine's own tar, which must have nothing to complain of.
func untar(t *testing.T, archive []byte, directory string) {
	t.Helper()
	command := exec.Command("tar", "-C", directory, "-xf", "-")
	command.Stdin = bytes.NewReader(archive)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, output)
	}
}
