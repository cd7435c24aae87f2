package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// toolboxImage makes and pushes the image of the toolbox, as people get it.
const toolboxImage = "../../examples/toolbox/image"

// PushToolbox pushes the image of the toolbox: a shell and the everyday tools.
func (r Registry) PushToolbox(t *testing.T, environment Environment, place Place, name string) Pushed {
	t.Helper()
	needFile(t, environment.Guest("toolbox"), "examples/build")
	needFile(t, toolboxImage, "a checkout of the whole repository")
	// It looks for the module where examples/build puts it; here the guests may lie elsewhere.
	cache := filepath.Join(place.Disk, "toolbox")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(environment.Guests, filepath.Join(cache, "guests")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	command := exec.Command(toolboxImage, "--push", r.Host, name)
	command.Env = append(os.Environ(), "CRI_WASM_CACHE="+cache)
	output, err := command.Output()
	// Its last line is the reference and the digest.
	words := strings.Fields(string(output))
	if err != nil || len(words) < 2 {
		t.Fatalf("%s: %v: %s", toolboxImage, err, output)
	}
	return Pushed{Reference: words[len(words)-2], Digest: words[len(words)-1]}
}
