package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"

	"conformance/harness"
)

// The manifests beside the examples, given to a cluster as they are, and each checked by what it is for.

const examples = "../../examples"

// clusterOfExamples is what their checks look with.
type clusterOfExamples struct{ *harness.Cluster }

// exampleChecks are by the directory in examples/. One without a check fails the test.
var exampleChecks = map[string]func(t *testing.T, cluster clusterOfExamples){
	"hello": func(t *testing.T, c clusterOfExamples) {
		c.says(t, "hello", "hello", `"from", "Kubernetes"`, "Good day from WebAssembly!")
	},
	"wordcount": func(t *testing.T, c clusterOfExamples) {
		c.says(t, "wordcount", "wordcount", "/etc/hosts", "/etc/resolv.conf")
	},
	"report": func(t *testing.T, c clusterOfExamples) {
		c.says(t, "report", "report", "kitchen", "cellar", "attic")
		c.says(t, "report", "wordcount", "/out/summary.txt")
	},
	"ticker": func(t *testing.T, c clusterOfExamples) { c.says(t, "ticker", "ticker", "tick 1 at", "tick 2 at") },
	"idle":   func(t *testing.T, c clusterOfExamples) { c.ready(t, "idle") },
	"crash": func(t *testing.T, c clusterOfExamples) {
		harness.Until(t, time.Minute, "its end", func() error {
			pod, err := c.pod("crash")
			if err != nil {
				return err
			}
			for _, status := range pod.Status.ContainerStatuses {
				for _, ended := range []*core.ContainerStateTerminated{status.State.Terminated, status.LastTerminationState.Terminated} {
					if ended != nil && ended.Reason == "Trap" && ended.ExitCode == 134 {
						return nil
					}
				}
			}
			return fmt.Errorf("%+v", pod.Status.ContainerStatuses)
		})
	},
	"web-rust":   checkDeployment,
	"web-js":     func(t *testing.T, c clusterOfExamples) { checkWeb(t, c.ready(t, "web-js"), "JavaScript") },
	"web-python": func(t *testing.T, c clusterOfExamples) { checkWeb(t, c.ready(t, "web-python"), "Python") },
	"web-go":     func(t *testing.T, c clusterOfExamples) { checkWeb(t, c.ready(t, "web-go"), "Go") },
	"pair": func(t *testing.T, c clusterOfExamples) {
		pod := c.ready(t, "pair")
		if got := ask(t, "GET", pod.Status.PodIP, "8080", "/", ""); got != "localhost:8081 says: Hello from Rust in back\n" {
			t.Errorf("front says %q", got)
		}
	},
	"tcp-echo":    func(t *testing.T, c clusterOfExamples) { checkEcho(t, c.ready(t, "tcp-echo").Status.PodIP) },
	"grpc-health": func(t *testing.T, c clusterOfExamples) { c.ready(t, "grpc-health") },
	"job":         checkJob,
}

func TestAClusterRunsEveryExample(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		t.Parallel()
		inOwnNetwork(t)
		return
	}
	nodeNetwork(t)
	manifests, err := filepath.Glob(filepath.Join(examples, "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// node/ is the configuration of a kubelet without a cluster.
	manifests = slices.DeleteFunc(manifests, func(path string) bool { return filepath.Base(filepath.Dir(path)) == "node" })
	guests := []string{
		"hello", "ticker", "wordcount", "report", "idle", "crash",
		"web-rust", "web-js", "web-python", "web-go", "grpc-health", "tcp-echo", "pair", "primes",
	}
	environment := harness.Need(t, []string{"kubelet", "kubectl", "cluster", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, guests)
	place := harness.NewPlace(t)
	cluster := clusterOfExamples{harness.StartCluster(t, environment, place)}
	cluster.RunControllers(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	for _, guest := range guests {
		registry.PushArtifact(t, guest, "1", environment.Guest(guest))
	}
	kubelet := harness.StartKubelet(t, environment, place, daemon, harness.KubeletOptions{Cluster: cluster.Cluster, Node: "node", Address: nodeAddress})

	harness.Step(t, "manifests are taken as they are", func(t *testing.T) {
		harness.Until(t, time.Minute, "the node is ready for pods", func() error {
			var node core.Node
			if err := cluster.JSON(&node, "get", "node", "node"); err != nil {
				return err
			}
			if len(node.Spec.Taints) > 0 {
				return fmt.Errorf("%+v", node.Spec.Taints)
			}
			return nil
		})
		for _, path := range append([]string{filepath.Join(examples, "runtimeclass.yaml")}, manifests...) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The registry that they name is the one of whoever tries them.
			cluster.Do(t, strings.ReplaceAll(string(content), "localhost:5000/", registry.Host+"/"), "apply", "-f", "-")
		}
	})
	for _, path := range manifests {
		name := filepath.Base(filepath.Dir(path))
		harness.Step(t, name+" does what it is for", func(t *testing.T) {
			check, known := exampleChecks[name]
			if !known {
				t.Fatalf("%s has no check", path)
			}
			check(t, cluster)
		})
	}
	harness.Step(t, "they go", func(t *testing.T) {
		cluster.Do(t, "", "delete", "deployment,job,pod", "--all", "--wait", "--timeout", "50s")
	})
	clearNode(t, kubelet, daemon, network)
}

func (c clusterOfExamples) pod(name string) (core.Pod, error) {
	var pod core.Pod
	return pod, c.JSON(&pod, "get", "pod", name)
}

// ready waits until a pod is ready: until its probes have said so, where it has any.
func (c clusterOfExamples) ready(t *testing.T, name string) core.Pod {
	t.Helper()
	var pod core.Pod
	harness.Until(t, 2*time.Minute, name+" is ready", func() (err error) {
		if pod, err = c.pod(name); err != nil {
			return err
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == core.PodReady && condition.Status == core.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%+v", pod.Status)
	})
	for _, status := range pod.Status.ContainerStatuses {
		if status.RestartCount != 0 {
			t.Errorf("%s was restarted: %+v", status.Name, status.LastTerminationState)
		}
	}
	return pod
}

// says waits until the log of a container has these.
func (c clusterOfExamples) says(t *testing.T, pod, container string, words ...string) {
	t.Helper()
	harness.Until(t, 2*time.Minute, pod+" says what it has to", func() error {
		text, err := c.Kubectl("logs", pod, "-c", container)
		if err != nil {
			return err
		}
		return wants(text, words...)
	})
}

// ask makes a request of a pod and returns the body of what must be a good answer.
func ask(t *testing.T, method, address, port, path, body string) string {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+net.JoinHostPort(address, port)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s %s: %s, %v: %q", method, path, response.Status, err, content)
	}
	return string(content)
}

// checkWeb asks for everything that the services in four languages have.
func checkWeb(t *testing.T, pod core.Pod, language string) {
	t.Helper()
	if got, want := ask(t, "GET", pod.Status.PodIP, "8080", "/", ""), fmt.Sprintf("Hello from %s in %s\n", language, pod.Name); got != want {
		t.Errorf("/ says %q, not %q", got, want)
	}
	if got := ask(t, "GET", pod.Status.PodIP, "8080", "/healthz", ""); got != "ok\n" {
		t.Errorf("/healthz says %q", got)
	}
	if much := strings.Repeat("Straße\n", 30_000); ask(t, "POST", pod.Status.PodIP, "8080", "/echo", much) != much {
		t.Error("/echo does not say what it was told")
	}
}

func checkDeployment(t *testing.T, cluster clusterOfExamples) {
	cluster.Do(t, "", "rollout", "status", "deployment/web-rust", "--timeout=50s")
	var pods core.PodList
	if err := cluster.JSON(&pods, "get", "pods", "-l", "app=web-rust"); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]bool{}
	for _, pod := range pods.Items {
		checkWeb(t, pod, "Rust")
		addresses[pod.Status.PodIP] = true
	}
	if len(addresses) != 2 {
		t.Errorf("%d pods", len(addresses))
	}
	harness.Until(t, 30*time.Second, "the Service has both addresses", func() error {
		var slices discovery.EndpointSliceList
		if err := cluster.JSON(&slices, "get", "endpointslices", "-l", "kubernetes.io/service-name=web-rust"); err != nil {
			return err
		}
		found := 0
		for _, slice := range slices.Items {
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready && addresses[endpoint.Addresses[0]] && *slice.Ports[0].Port == 8080 {
					found++
				}
			}
		}
		if found != 2 {
			return fmt.Errorf("%d: %+v", found, slices.Items)
		}
		return nil
	})
}

// checkEcho has two clients at once, of which the first is slow.
func checkEcho(t *testing.T, address string) {
	t.Helper()
	dial := func() net.Conn {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(address, "7000"), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
		return connection
	}
	first, second := dial(), dial()
	defer func() { _, _ = first.Close(), second.Close() }()
	for _, step := range []struct {
		connection net.Conn
		text       string
	}{{first, "one"}, {second, strings.Repeat("two ", 50_000)}, {first, "three"}} {
		go func() { _, _ = io.WriteString(step.connection, step.text) }()
		back := make([]byte, len(step.text))
		if _, err := io.ReadFull(step.connection, back); err != nil || string(back) != step.text {
			t.Errorf("it sends back %.20q, %v", back, err)
		}
	}
}

func checkJob(t *testing.T, cluster clusterOfExamples) {
	harness.Until(t, 2*time.Minute, "the Job is done", func() error {
		var job batch.Job
		if err := cluster.JSON(&job, "get", "job", "primes"); err != nil {
			return err
		}
		for _, condition := range job.Status.Conditions {
			if condition.Type == batch.JobComplete && condition.Status == core.ConditionTrue && job.Status.Succeeded == 4 && job.Status.Failed == 0 {
				return nil
			}
		}
		status, _ := json.Marshal(job.Status)
		return fmt.Errorf("%s", status)
	})
	said := cluster.Do(t, "", "logs", "-l", "job-name=primes", "--tail=-1")
	lines := strings.Split(strings.TrimSpace(said), "\n")
	slices.Sort(lines)
	want := []string{
		"part 0: 5133 primes from 0 to 49999", "part 1: 4459 primes from 50000 to 99999",
		"part 2: 4256 primes from 100000 to 149999", "part 3: 4136 primes from 150000 to 199999",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("its pods say %q", lines)
	}
}
