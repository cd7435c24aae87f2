package harness

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// Registry is a real registry on a loopback port: Debian's docker-registry, with its storage in the test's place.
type Registry struct {
	// Host is its address as it stands in references.
	Host string
}

// StartRegistry starts one and waits until it answers.
func StartRegistry(t *testing.T, environment Environment, place Place) Registry {
	t.Helper()
	host := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	configuration := place.Write(t, "registry.yml", fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %s}
  delete: {enabled: true}
http: {addr: %s}
`, filepath.Join(place.Disk, "registry"), host))
	// Its log is all about blobs that are asked for before they are pushed: of no use after a failure.
	process := start(t, filepath.Join(place.Disk, "registry.log"), []string{"OTEL_TRACES_EXPORTER=none"},
		environment.Tool("docker-registry"), "serve", configuration)
	t.Cleanup(func() { process.Stop(t) })
	Until(t, 20*time.Second, "the registry answers", func() error {
		if err := process.Alive(); err != nil {
			t.Fatal(err)
		}
		response, err := http.Get("http://" + host + "/v2/")
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", response.Status)
		}
		return nil
	})
	return Registry{Host: host}
}
