package conformance

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"conformance/harness"
)

// critest, the conformance suite of the CRI itself, with images of our own in place of its images of Linux programs.

// list says what every spec is expected to come to.
//
//go:embed critest.txt
var list string

// ownNetwork is set in the process that has a network of its own.
const ownNetwork = "CRI_WASM_CONFORMANCE_OWN_NETWORK"

// The least that must pass, whatever critest.txt says: of the 50 specs that critest 1.36.0 calls [Conformance], and of all 117.
const (
	leastConformance = 49
	leastAll         = 99
)

// The ports that critest uses are constants, and some are of the node. So it gets a network namespace of its own, with all
// that it talks to: the test runs itself once more in one.
func TestCritest(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		t.Parallel()
		inOwnNetwork(t)
		return
	}
	if output, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("the loopback interface: %v: %s", err, output)
	}
	expected := readList(t)
	critest, daemon, network := startCritest(t)
	some := os.Getenv("CRI_WASM_CRITEST")
	t.Run("every spec", func(t *testing.T) {
		arguments := []string{"-runtime-handler", "wasm-compat"}
		if some != "" {
			arguments = append(arguments, "-ginkgo.focus", some)
		}
		judge(t, expected, critest.Run(t, nil, arguments...), some == "")
	})
	if some != "" {
		return
	}
	// What is looked at without /proc goes by the handler that pods get which ask for none.
	t.Run("streams by WebSocket, in the default handler", func(t *testing.T) {
		streaming := map[string]expectation{}
		for name, expectation := range expected {
			if strings.Contains(name, "[k8s.io] Streaming ") {
				streaming[name] = expectation
			}
		}
		results := critest.Run(t, slices.Collect(maps.Keys(streaming)), "-websocket-exec", "-websocket-attach", "-websocket-portforward")
		judge(t, streaming, results, true)
	})
	harness.Step(t, "nothing is left", func(t *testing.T) {
		harness.Until(t, 10*time.Second, "leftovers go", func() error { return harness.NothingLeft(daemon.Leftovers(), network.Leftovers()) })
	})
}

// judge compares what came out with what was expected. Only a run of everything has to have everything.
func judge(t *testing.T, expected map[string]expectation, results []harness.Spec, whole bool) {
	t.Helper()
	passed, conformance, counted := 0, 0, 0
	missing := maps.Clone(expected)
	for _, spec := range results {
		expectation, known := expected[spec.Name]
		delete(missing, spec.Name)
		name := strings.TrimPrefix(spec.Name, "[k8s.io] ")
		counted++
		if spec.State == "passed" {
			passed++
			if strings.Contains(name, "[Conformance]") {
				conformance++
			}
		}
		t.Run(name, func(t *testing.T) {
			switch {
			case !known:
				t.Errorf("critest.txt does not have this spec; it %s: %s", spec.State, spec.Message)
			case spec.State == expectation.state:
				if expectation.reason != "" {
					t.Logf("%s, as expected: %s", spec.State, expectation.reason)
				}
			default:
				t.Errorf("%s, where critest.txt says %s (%s): %s", spec.State, expectation.state, expectation.reason, spec.Message)
			}
		})
	}
	if !whole {
		return
	}
	for name := range missing {
		t.Errorf("critest has no such spec any more: %s", name)
	}
	if len(expected) == len(readList(t)) {
		t.Logf("%d of %d specs pass, %d of them [Conformance]", passed, counted, conformance)
		if conformance < leastConformance || passed < leastAll {
			t.Errorf("at least %d of [Conformance] and %d of all must", leastConformance, leastAll)
		}
	}
}

// compat is the handler of critest's pods: a third of the specs read /proc, and some look for the absence of a seccomp filter.
const compat = "[handlers.\"\"]\n[handlers.\"wasm-compat\"]\nprocfs = true\nseccomp = \"as-asked\"\n"

// startCritest starts a node whose registry has an image of our own under each name that critest knows.
func startCritest(t *testing.T) (harness.Critest, *harness.Daemon, harness.Network) {
	t.Helper()
	environment := harness.Need(t, []string{"critest", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"first-line", "sockets.p2", "toolbox"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network, registry.Mirrors(t, place, mirrored...), compat)
	images := pushCritestImages(t, environment, place, registry)
	return harness.NewCritest(t, environment, place, daemon.Socket, images.standard, images.web), daemon, network
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
		// What failed stands among a hundred lines of what did not, so it is said once more.
		t.Errorf("failed there:\n%s", failures(string(output)))
	} else if errors.Is(err, syscall.EPERM) {
		t.Skip("skipped, missing: root, for a network namespace")
	} else if err != nil {
		t.Fatal(err)
	}
}

// failures are the names of the tests that failed, of an output of go test -v.
func failures(output string) string {
	var failed strings.Builder
	for line := range strings.Lines(output) {
		if strings.HasPrefix(strings.TrimSpace(line), "--- FAIL: ") {
			failed.WriteString(line)
		}
	}
	return failed.String()
}

// expectation is what a spec is expected to come to.
type expectation struct {
	// state is Ginkgo's: passed, failed, skipped.
	state string
	// reason is why it does not pass, or what its pass does not say; empty for a plain pass.
	reason string
}

// readList reads critest.txt: headings [STATE] or [STATE: REASON], and the specs below each.
func readList(t *testing.T) map[string]expectation {
	t.Helper()
	specs := map[string]expectation{}
	var current expectation
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		switch heading, isHeading := strings.CutSuffix(line, "]"); {
		case line == "" || strings.HasPrefix(line, "#"):
		case isHeading && strings.HasPrefix(heading, "[") && !strings.HasPrefix(heading, "[k8s.io]"):
			state, reason, _ := strings.Cut(strings.TrimPrefix(heading, "["), ":")
			current = expectation{state, strings.TrimSpace(reason)}
			if !slices.Contains([]string{"passed", "failed", "skipped"}, state) || state != "passed" && current.reason == "" {
				t.Fatalf("critest.txt: a heading without a state or its reason: %s", line)
			}
		default:
			if _, twice := specs[line]; twice || current.state == "" {
				t.Fatalf("critest.txt: twice, or under no heading: %s", line)
			}
			specs[line] = current
		}
	}
	return specs
}
