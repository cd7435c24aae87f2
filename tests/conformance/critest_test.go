package conformance

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"conformance/harness"
)

// critest, the conformance suite of the CRI itself, with images of our own in place of its images of Linux programs.

// passes are the specs that are expected to pass.
//
//go:embed critest.txt
var passes string

// ownNetwork is set in the process that has a network of its own.
const ownNetwork = "CRI_WASM_CONFORMANCE_OWN_NETWORK"

// The ports that critest uses are constants, and some are of the node. So it gets a network namespace of its own, with all
// that it talks to: the test runs itself once more in one.
func TestCritestPasses(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		t.Parallel()
		inOwnNetwork(t)
		return
	}
	if output, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("the loopback interface: %v: %s", err, output)
	}
	critest := startCritest(t)
	expected := expectedPasses()
	// CRI_WASM_CRITEST=all runs every spec and shows what came out, for whoever wants to make the list longer.
	if os.Getenv("CRI_WASM_CRITEST") == "all" {
		for _, spec := range critest.Run(t, nil) {
			t.Logf("%-8s %s\n%s", spec.State, spec.Name, spec.Message)
		}
		return
	}
	for _, streams := range []struct{ name, switches string }{
		{"SPDY", ""},
		{"WebSocket", "-websocket-exec -websocket-attach -websocket-portforward"},
	} {
		names := expected
		if streams.switches != "" {
			// Only these use them.
			names = nil
			for _, name := range expected {
				if strings.Contains(name, "[k8s.io] Streaming ") {
					names = append(names, name)
				}
			}
		}
		t.Run(streams.name, func(t *testing.T) {
			results := map[string]harness.Spec{}
			for _, spec := range critest.Run(t, names, strings.Fields(streams.switches)...) {
				results[spec.Name] = spec
			}
			for _, name := range names {
				t.Run(name, func(t *testing.T) {
					spec, ran := results[name]
					if !ran {
						t.Fatal("critest has no such spec")
					}
					if spec.State != "passed" {
						t.Errorf("%s: %s", spec.State, spec.Message)
					}
				})
				delete(results, name)
			}
			for name, spec := range results {
				t.Errorf("%s ran, which is not in the list: %s", name, spec.State)
			}
		})
	}
	harness.Step(t, "nothing is left", func(t *testing.T) { critest.NothingIsLeft(t) })
}

// startCritest starts a node whose registry has an image of our own under each name that critest knows.
func startCritest(t *testing.T) harness.Critest {
	t.Helper()
	environment := harness.Need(t, []string{"critest", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"first-line", "sockets.p2", "toolbox"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network, registry.Mirrors(t, place, "registry.k8s.io", "k8s.gcr.io", "gcr.io"))
	standard := registry.PushToolbox(t, environment, place, "critest/toolbox:v1")
	server := func(base *harness.Pushed, port int) harness.Layered {
		return harness.Layered{
			Base:   base,
			Files:  map[string]string{"bin/sockets": environment.Guest("sockets.p2")},
			Config: v1.Config{Entrypoint: []string{"/bin/sockets", "serve", fmt.Sprint(port)}},
		}
	}
	web := server(nil, 80).Push(t, registry, "critest/web", "v1")
	// Names that are constants in critest; they come through the mirror rules.
	server(nil, 12003).Push(t, registry, "k8s-staging-cri-tools/hostnet-nginx-amd64", "latest")
	server(&standard, 80).Push(t, registry, "e2e-test-images/httpd", "2.4.39-4")
	for reference, user := range map[string]string{
		"test-image-tag:test": "", "test-image-tag:all": "", "test-image-latest:latest": "",
		"test-image-1:latest": "", "test-image-2:latest": "", "test-image-3:latest": "",
		"test-image-user-uid:latest": "1002", "test-image-user-uid-group:latest": "1003:1004",
		"test-image-user-username:latest": "www-data", "test-image-user-username-group:latest": "www-data:1004",
	} {
		repository, tag, _ := strings.Cut(reference, ":")
		plain(environment, reference, user).Push(t, registry, "k8s-staging-cri-tools/"+repository, tag)
	}
	// The same image by several names.
	for _, tag := range []string{"1", "2", "3"} {
		plain(environment, "tags", "").Push(t, registry, "k8s-staging-cri-tools/test-image-tags", tag)
	}
	plain(environment, "pause", "").Push(t, registry, "pause", "3.9")
	return harness.NewCritest(t, environment, place, daemon, network, standard, web)
}

// plain is an image that nothing is run of, unlike every other by its name.
func plain(environment harness.Environment, name, user string) harness.Layered {
	return harness.Layered{
		Files:  map[string]string{"main.wasm": environment.Guest("first-line")},
		Texts:  map[string]string{"name": name},
		Config: v1.Config{Entrypoint: []string{"/main.wasm"}, User: user},
	}
}

func inOwnNetwork(t *testing.T) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v="+fmt.Sprint(testing.Verbose()))
	command.Env = append(os.Environ(), ownNetwork+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	output, err := command.CombinedOutput()
	// Its results are lines as those of this process.
	fmt.Print(string(output))
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		t.Error("see above")
	} else if errors.Is(err, syscall.EPERM) {
		t.Skip("skipped, missing: root, for a network namespace")
	} else if err != nil {
		t.Fatal(err)
	}
}

func expectedPasses() []string {
	var names []string
	for line := range strings.Lines(passes) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names
}
