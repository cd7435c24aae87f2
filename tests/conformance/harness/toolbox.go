package harness

import (
	"os/exec"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Toolbox is an image of the toolbox: a shell and the everyday tools, one module with a link for each name.
func Toolbox(t *testing.T, environment Environment) Layered {
	t.Helper()
	needFile(t, environment.Guest("toolbox"), "examples/build")
	output, err := exec.Command(environment.Daemon, "run", environment.Guest("toolbox"), "--", "--list").Output()
	if err != nil {
		t.Fatalf("the toolbox does not list its tools: %v", err)
	}
	links := map[string]string{"usr/bin": "../bin"}
	for _, name := range strings.Fields(string(output)) {
		links["bin/"+name] = "toolbox"
	}
	return Layered{
		Files:       map[string]string{"bin/toolbox": environment.Guest("toolbox")},
		Texts:       map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"},
		Links:       links,
		Directories: []string{"tmp", "root", "var/lib", "home"},
		Config:      v1.Config{Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Cmd: []string{"sh"}},
	}
}

// PushToolbox pushes it.
func PushToolbox(t *testing.T, environment Environment, registry Registry, repository, tag string) Pushed {
	t.Helper()
	return Toolbox(t, environment).Push(t, registry, repository, tag)
}
