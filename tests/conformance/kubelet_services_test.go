package conformance

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	core "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"conformance/harness"
)

// Services of wasi:http and of sockets under a kubelet: each kind of probe against them, and their end.

// %[1]s is the image of the service with tests/guests/web, and with the guest probe beside it; %[2]s the echo, %[3]s the gRPC
// service, %[4]s a directory of the node.
const services = `apiVersion: v1
kind: Pod
metadata: {name: services, namespace: default}
spec:
  terminationGracePeriodSeconds: 20
  containers:
  - name: http
    image: %[1]s
    ports: [{name: web, containerPort: 8080}]
    startupProbe: {httpGet: {path: /hello, port: web}, periodSeconds: 1, timeoutSeconds: 5}
    readinessProbe: {httpGet: {path: "/file?/data/ready", port: web}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 5}
    livenessProbe: {httpGet: {path: "/file?/data/alive", port: web}, periodSeconds: 1, failureThreshold: 2, timeoutSeconds: 5}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: exec
    image: %[1]s
    ports: [{containerPort: 8082}]
    readinessProbe: {exec: {command: [probe, stat, /data/ready]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 5}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: slow
    image: %[1]s
    ports: [{name: web, containerPort: 8083}]
    readinessProbe: {httpGet: {path: "/slow?3000", port: 8083}, periodSeconds: 1, timeoutSeconds: 1}
  - name: tcp
    image: %[2]s
    args: ["7000"]
    readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1, timeoutSeconds: 5}
    livenessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1, timeoutSeconds: 5}
  - name: elsewhere
    image: %[2]s
    args: ["7001"]
    readinessProbe: {tcpSocket: {port: 7002}, periodSeconds: 1, timeoutSeconds: 5}
  - name: grpc
    image: %[3]s
    ports: [{containerPort: 9090}]
    readinessProbe: {grpc: {port: 9090, service: ready}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 5}
    livenessProbe: {grpc: {port: 9090}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 5}
    volumeMounts: [{name: data, mountPath: /run}]
  - name: unknown
    image: %[3]s
    ports: [{containerPort: 9091}]
    readinessProbe: {grpc: {port: 9091, service: unheard-of}, periodSeconds: 1, timeoutSeconds: 5}
  volumes: [{name: data, hostPath: {path: %[4]s}}]
`

func TestAKubeletProbesServices(t *testing.T) {
	t.Parallel()
	node, kubelet := startNode(t)
	environment := harness.Need(t, nil, []string{"web.p2", "tcp-echo", "grpc-health"})
	data := filepath.Join(node.place.Disk, "data")
	if err := os.Mkdir(data, 0o777); err != nil {
		t.Fatal(err)
	}
	put := func(t *testing.T, name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(data, name), []byte("there\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, name string) {
		t.Helper()
		if err := os.Remove(filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, "alive")
	web := harness.Layered{
		Files:  map[string]string{"bin/web": environment.Guest("web.p2"), "bin/probe": environment.Guest("probe")},
		Config: v1.Config{Entrypoint: []string{"/bin/web"}, Env: []string{"PATH=/bin"}},
	}.Push(t, node.registry, "services/web", "v1")
	echo := node.registry.PushArtifact(t, "services/echo", "v1", environment.Guest("tcp-echo"))
	health := node.registry.PushArtifact(t, "services/health", "v1", environment.Guest("grpc-health"))
	kubelet.Run(t, "services", fmt.Sprintf(services, web.Reference, echo.Reference, health.Reference, data))
	pod := allRun(t, kubelet, "services")
	status := func() (map[string]core.ContainerStatus, error) {
		found, err := kubelet.Pod("services")
		byName := map[string]core.ContainerStatus{}
		for _, status := range found.Status.ContainerStatuses {
			byName[status.Name] = status
		}
		return byName, err
	}
	// become waits until exactly these are ready.
	become := func(t *testing.T, ready ...string) {
		t.Helper()
		harness.Until(t, 30*time.Second, fmt.Sprint(ready, " are ready and no others"), func() error {
			now, err := status()
			if err != nil {
				return err
			}
			for name, status := range now {
				wanted := false
				for _, other := range ready {
					wanted = wanted || other == name
				}
				if status.Ready != wanted {
					return fmt.Errorf("%s: ready is %v", name, status.Ready)
				}
			}
			return nil
		})
	}

	harness.Step(t, "tcp and grpc probes find who listens and who serves", func(t *testing.T) { become(t, "tcp", "grpc") })
	harness.Step(t, "http and exec probes of a service go by its answers", func(t *testing.T) {
		put(t, "ready")
		become(t, "tcp", "grpc", "http", "exec")
		remove(t, "ready")
		become(t, "tcp", "grpc")
		put(t, "ready")
		become(t, "tcp", "grpc", "http", "exec")
	})
	harness.Step(t, "a gRPC service that says NOT_SERVING is not ready, and lives", func(t *testing.T) {
		put(t, "busy")
		become(t, "tcp", "http", "exec")
		remove(t, "busy")
		become(t, "tcp", "grpc", "http", "exec")
	})
	harness.Step(t, "a service that turns unhealthy is ended well and started again", func(t *testing.T) {
		if now, err := status(); err != nil || now["http"].RestartCount != 0 {
			t.Fatalf("before: %v, %+v: %q", err, now["http"], kubelet.Said(t, "robe failed"))
		}
		remove(t, "alive")
		harness.Until(t, 60*time.Second, "its restart", func() error {
			now, err := status()
			if err != nil {
				return err
			}
			if now["http"].RestartCount != 1 || now["http"].LastTerminationState.Terminated == nil {
				return fmt.Errorf("%+v", now["http"])
			}
			if last := now["http"].LastTerminationState.Terminated; last.ExitCode != 0 {
				t.Errorf("a service that was told to end: %+v", last)
			}
			return nil
		})
		put(t, "alive")
		become(t, "tcp", "grpc", "http", "exec")
		now, err := status()
		if err != nil {
			t.Fatal(err)
		}
		for name, status := range now {
			if name != "http" && status.RestartCount != 0 {
				t.Errorf("%s was started again: %+v", name, status.LastTerminationState)
			}
		}
	})
	harness.Step(t, "a request under way is answered when the pod goes, and the service ends with 0", func(t *testing.T) {
		now, err := status()
		if err != nil {
			t.Fatal(err)
		}
		runtime, _, hangUp := node.daemon.Clients(t)
		defer hangUp()
		answered := slowly(t.Context(), net.JoinHostPort(pod.Status.PodIP, "8080"))
		// It has been taken: the guest is in it.
		time.Sleep(time.Second)
		removed := time.Now()
		kubelet.Remove(t, "services")
		answer := <-answered
		t.Logf("the answer came %v after the pod was taken away", time.Since(removed).Round(10*time.Millisecond))
		if answer != "200 at last\n" {
			t.Errorf("the answer is %q", answer)
		}
		id := now["http"].ContainerID[len("cri-wasm://"):]
		harness.Until(t, 30*time.Second, "its end", func() error {
			answer, err := runtime.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: id})
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status.State != cri.ContainerState_CONTAINER_EXITED {
				return fmt.Errorf("%v", answer.Status.State)
			}
			if answer.Status.ExitCode != 0 || answer.Status.Reason != "Completed" {
				t.Errorf("it ended with %d, %s: %s", answer.Status.ExitCode, answer.Status.Reason, answer.Status.Message)
			}
			return nil
		})
	})
	finishNode(t, node, kubelet)
}

// slowly asks for what takes six seconds, and says how it was answered.
func slowly(context context.Context, address string) <-chan string {
	answered := make(chan string, 1)
	go func() {
		request, err := http.NewRequestWithContext(context, http.MethodGet, "http://"+address+"/slow?6000", nil)
		if err != nil {
			answered <- err.Error()
			return
		}
		response, err := (&http.Client{Timeout: 20 * time.Second}).Do(request)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			answered <- err.Error()
			return
		}
		answered <- fmt.Sprint(response.StatusCode, " ", string(body))
	}()
	return answered
}
