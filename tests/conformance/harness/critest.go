package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Critest is the program critest with a daemon to try.
type Critest struct {
	environment Environment
	place       Place
	// socket is where the runtime answers.
	socket string
	images string
}

// Spec is the result of one of its specs.
type Spec struct {
	Name string
	// State is passed, failed, skipped or what else Ginkgo has.
	State string
	// Message is why it is not passed.
	Message string
	// Durations are what it has measured, if it measures, by name.
	Durations map[string][]time.Duration
}

// NewCritest gives it a runtime's socket and its two images that are no constants: for most containers, and a web server on
// port 80.
func NewCritest(t *testing.T, environment Environment, place Place, socket string, standard, web Pushed) Critest {
	t.Helper()
	// There may be several in one place.
	images := place.Write(t, fmt.Sprintf("critest-images-%s.yaml", filepath.Base(socket)),
		fmt.Sprintf("defaultTestContainerImage: %s\nwebServerTestImage: %s\n", standard.Reference, web.Reference))
	return Critest{environment, place, socket, images}
}

// Run runs specs by their names, or all of them, and returns the results of those that it ran.
func (c Critest) Run(t *testing.T, names []string, switches ...string) []Spec {
	t.Helper()
	// One for each run, for whoever looks at them after a failure.
	report := filepath.Join(c.place.Disk, fmt.Sprintf("critest-%d.json", FreePort(t)))
	arguments := []string{
		"-runtime-endpoint", "unix://" + c.socket, "-image-endpoint", "unix://" + c.socket,
		"-config", c.place.Write(t, "critest.yaml", ""),
		"-test-images-file", c.images, "-ginkgo.json-report", report, "-ginkgo.no-color", "-ginkgo.timeout", "15m",
	}
	for _, name := range names {
		// Other specs' names may begin with it, but none ends with it.
		arguments = append(arguments, "-ginkgo.focus", regexp.QuoteMeta(name)+"$")
	}
	log := filepath.Join(c.place.Disk, "critest.log")
	process := start(t, log, nil, c.environment.Tool("critest"), append(arguments, switches...)...)
	t.Cleanup(func() { process.Kill() })
	select {
	case <-process.ended:
	case <-time.After(16 * time.Minute):
		t.Fatalf("critest does not end:\n%s", tail(log, 20))
	}
	specs, err := readReport(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(log, 20))
	}
	return specs
}

// readReport reads what Ginkgo has to say, as far as it is looked at.
func readReport(path string) ([]Spec, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts           []string
			LeafNodeType, LeafNodeText, State string
			CapturedGinkgoWriterOutput        string
			Failure                           struct{ Message string }
			ReportEntries                     []struct{ Value struct{ AsJSON string } }
		}
	}
	if err := json.Unmarshal(content, &suites); err != nil {
		return nil, fmt.Errorf("critest's report: %w", err)
	}
	var specs []Spec
	for _, suite := range suites {
		for _, spec := range suite.SpecReports {
			// Those that were not asked for are in the report, too.
			if spec.LeafNodeType != "It" || spec.State == "skipped" && spec.Failure.Message == "" {
				continue
			}
			message := spec.Failure.Message
			if spec.State != "passed" && spec.State != "skipped" {
				message += "\n" + spec.CapturedGinkgoWriterOutput
			}
			durations := map[string][]time.Duration{}
			for _, entry := range spec.ReportEntries {
				var experiment struct {
					Measurements []struct {
						Name      string
						Durations []time.Duration
					}
				}
				if json.Unmarshal([]byte(entry.Value.AsJSON), &experiment) == nil {
					for _, measured := range experiment.Measurements {
						durations[measured.Name] = append(durations[measured.Name], measured.Durations...)
					}
				}
			}
			specs = append(specs, Spec{strings.Join(append(spec.ContainerHierarchyTexts, spec.LeafNodeText), " "), spec.State, message, durations})
		}
	}
	return specs, nil
}

// Mirrors makes the registry the mirror of others, and returns the table of the daemon's configuration that says where
// this is written down.
func (r Registry) Mirrors(t *testing.T, place Place, registries ...string) string {
	t.Helper()
	for _, registry := range registries {
		place.Write(t, filepath.Join("certs.d", registry, "hosts.toml"),
			fmt.Sprintf("server = \"http://%[1]s\"\n[host.\"http://%[1]s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", r.Host))
	}
	return fmt.Sprintf("[images]\ncerts_dirs = [%q]\n", filepath.Join(place.Disk, "certs.d"))
}
