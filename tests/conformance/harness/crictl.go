package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Crictl is the program crictl, talking to one daemon.
type Crictl struct {
	program, configuration string
}

// NewCrictl writes a configuration of its own, so that /etc/crictl.yaml of this machine has no say.
func NewCrictl(t *testing.T, environment Environment, place Place, daemon *Daemon) Crictl {
	t.Helper()
	configuration := place.Write(t, "crictl.yaml", fmt.Sprintf(
		"runtime-endpoint: unix://%s\nimage-endpoint: unix://%s\ntimeout: 30\n", daemon.Socket, daemon.Socket))
	return Crictl{program: environment.Tool("crictl"), configuration: configuration}
}

// Command is a command that has not been started; it is killed when the context ends.
func (c Crictl) Command(context context.Context, arguments ...string) *exec.Cmd {
	return exec.CommandContext(context, c.program, append([]string{"--config", c.configuration}, arguments...)...)
}

// Try runs a command and returns what it printed to both of its outputs.
func (c Crictl) Try(arguments ...string) (stdout, stderr string, err error) {
	command := c.Command(context.Background(), arguments...)
	var out, problems strings.Builder
	command.Stdout, command.Stderr = &out, &problems
	err = command.Run()
	return strings.TrimSpace(out.String()), strings.TrimSpace(problems.String()), err
}

// Run runs a command that must succeed and returns what it printed to its output.
func (c Crictl) Run(t *testing.T, arguments ...string) string {
	t.Helper()
	stdout, stderr, err := c.Try(arguments...)
	if err != nil {
		t.Fatalf("crictl %s: %v\n%s\n%s", strings.Join(arguments, " "), err, stdout, stderr)
	}
	return stdout
}

// JSON runs a command with -o json and reads its output into a value.
func (c Crictl) JSON(t *testing.T, into any, command string, arguments ...string) {
	t.Helper()
	output := c.Run(t, append([]string{command, "-o", "json"}, arguments...)...)
	if err := json.Unmarshal([]byte(output), into); err != nil {
		t.Fatalf("crictl %s: not the JSON that is expected: %v\n%s", command, err, output)
	}
}

// Pod is a pod as a file for crictl. Fields that are not here keep their defaults.
type Pod struct {
	Name string
	// HostNetwork uses the node's network and no CNI.
	HostNetwork bool
	Labels      map[string]string
}

// Write writes the pod's file; its logs go to a directory of its own.
func (p Pod) Write(t *testing.T, place Place) (file, logs string) {
	t.Helper()
	logs = filepath.Join(place.Disk, "logs", p.Name)
	network, hostname := 0, p.Name
	if p.HostNetwork {
		// With the node's network goes the node's name, as the kubelet has it.
		network, hostname = 2, ""
	}
	content := map[string]any{
		"metadata":      map[string]any{"name": p.Name, "uid": p.Name + "-uid", "namespace": "walk", "attempt": 1},
		"hostname":      hostname,
		"log_directory": logs,
		"labels":        p.Labels,
		"annotations":   map[string]string{"conformance/pod": p.Name},
		"linux":         map[string]any{"security_context": map[string]any{"namespace_options": map[string]any{"network": network}}},
	}
	return place.Write(t, "files/"+p.Name+".pod.json", string(marshal(t, content))), logs
}

// Container is a container as a file for crictl.
type Container struct {
	Name, Image string
	// Command takes the place of the image's entrypoint.
	Command, Args []string
	Env           map[string]string
	Labels        map[string]string
	// Stdin keeps the input open for those who attach; with StdinOnce it ends with the first of them.
	Stdin, StdinOnce bool
	TTY              bool
}

// Write writes the container's file.
func (c Container) Write(t *testing.T, place Place) string {
	t.Helper()
	variables := []map[string]string{}
	for key, value := range c.Env {
		variables = append(variables, map[string]string{"key": key, "value": value})
	}
	content := map[string]any{
		"metadata":    map[string]any{"name": c.Name, "attempt": 2},
		"image":       map[string]any{"image": c.Image},
		"command":     c.Command,
		"args":        c.Args,
		"stdin":       c.Stdin,
		"stdin_once":  c.StdinOnce,
		"tty":         c.TTY,
		"envs":        variables,
		"labels":      c.Labels,
		"annotations": map[string]string{"conformance/container": c.Name},
		"log_path":    c.Name + ".log",
		"linux":       map[string]any{},
	}
	return place.Write(t, "files/"+c.Name+".container.json", string(marshal(t, content)))
}
