package conformance

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"conformance/harness"
)

// The crictl suite: people's way to a runtime, each command and what it shows.

func TestCrictlWalksThroughTheLifeOfAnArtifactOnTheHostNetwork(t *testing.T) {
	t.Parallel()
	walk(t, harness.Registry.PushArtifact, true)
}

func TestCrictlWalksThroughTheLifeOfAnImageOnABridge(t *testing.T) {
	t.Parallel()
	walk(t, harness.Registry.PushImage, false)
}

type push func(registry harness.Registry, t *testing.T, repository, tag, file string) harness.Pushed

// walk goes with one pod from an empty node to an empty node.
func walk(t *testing.T, push push, hostNetwork bool) {
	environment := harness.Need(t, []string{"crictl", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"hello", "ticker", "crash"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	daemon := harness.StartDaemon(t, environment, place, network)
	crictl := harness.NewCrictl(t, environment, place, daemon)
	hello := push(registry, t, "walk/hello", "v1", environment.Guest("hello"))
	ticker := push(registry, t, "walk/ticker", "v1", environment.Guest("ticker"))
	crash := push(registry, t, "walk/crash", "v1", environment.Guest("crash"))
	images := []harness.Pushed{hello, ticker, crash}

	harness.Step(t, "version names the runtime and the API", func(t *testing.T) {
		output := crictl.Run(t, "version")
		for _, want := range []string{`Version:\s+0\.1\.0`, `RuntimeName:\s+cri-wasm`, `RuntimeVersion:\s+\S+`, `RuntimeApiVersion:\s+v1\b`} {
			if !regexp.MustCompile(want).MatchString(output) {
				t.Errorf("no %s in:\n%s", want, output)
			}
		}
	})
	harness.Step(t, "info says that runtime and network are ready", func(t *testing.T) {
		var info struct{ Status status }
		crictl.JSON(t, &info, "info")
		for _, condition := range []string{"RuntimeReady", "NetworkReady"} {
			if !slices.ContainsFunc(info.Status.Conditions, func(c struct {
				Type   string
				Status bool
			}) bool {
				return c.Type == condition && c.Status
			}) {
				t.Errorf("%s is not true in %+v", condition, info.Status)
			}
		}
	})
	harness.Step(t, "pull fetches by tag and by digest", func(t *testing.T) {
		for _, image := range images {
			if output := crictl.Run(t, "pull", image.Reference); !strings.Contains(output, image.Digest) {
				t.Errorf("%s is not in: %s", image.Digest, output)
			}
		}
		crictl.Run(t, "pull", hello.ByDigest(t))
	})
	harness.Step(t, "pull says what the registry does not have", func(t *testing.T) {
		reference := registry.Host + "/walk/nothing:v1"
		_, stderr, err := crictl.Try("pull", reference)
		if err == nil || !strings.Contains(stderr, "walk/nothing") {
			t.Errorf("%v: %s", err, stderr)
		}
	})
	harness.Step(t, "images lists each image with its names", func(t *testing.T) {
		var list struct{ Images []image }
		crictl.JSON(t, &list, "images")
		if len(list.Images) != len(images) {
			t.Errorf("%d images, not %d: %+v", len(list.Images), len(images), list.Images)
		}
		for _, want := range images {
			checkImage(t, list.Images, want)
		}
	})
	harness.Step(t, "inspecti shows one image", func(t *testing.T) {
		var one struct{ Status image }
		crictl.JSON(t, &one, "inspecti", ticker.Reference)
		checkImage(t, []image{one.Status}, ticker)
		if _, stderr, err := crictl.Try("inspecti", registry.Host+"/walk/nothing:v1"); err == nil {
			t.Errorf("an image that is not here is shown: %s", stderr)
		}
	})

	pod := harness.Pod{Name: "walk-" + place.Name, HostNetwork: hostNetwork, Labels: map[string]string{"walk": place.Name}}
	podFile, logs := pod.Write(t, place)
	var podID, tickerID, helloID, crashID string
	descriptors := 0

	harness.Step(t, "runp makes a pod", func(t *testing.T) {
		podID = crictl.Run(t, "runp", podFile)
		var inspected struct{ Status sandbox }
		crictl.JSON(t, &inspected, "inspectp", podID)
		got := inspected.Status
		if got.ID != podID || got.State != "SANDBOX_READY" || got.Metadata.Name != pod.Name || got.Metadata.Namespace != "walk" {
			t.Errorf("%+v", got)
		}
		if got.Labels["walk"] != place.Name || got.Annotations["conformance/pod"] != pod.Name {
			t.Errorf("labels and annotations did not come back: %+v", got)
		}
		if ip := net.ParseIP(got.Network.IP); hostNetwork != (ip == nil) || ip != nil && !network.Range.Contains(ip) {
			t.Errorf("its address is %q, host network is %v, the range is %s", got.Network.IP, hostNetwork, network.Range)
		}
		descriptors = daemon.Descriptors(t)
	})
	create := func(t *testing.T, container harness.Container) string {
		t.Helper()
		return crictl.Run(t, "create", podID, container.Write(t, place), podFile)
	}
	inspect := func(t *testing.T, id string) container {
		t.Helper()
		var inspected struct{ Status container }
		crictl.JSON(t, &inspected, "inspect", id)
		return inspected.Status
	}
	harness.Step(t, "create makes containers and runs nothing", func(t *testing.T) {
		tickerID = create(t, harness.Container{Name: "ticker", Image: ticker.Reference, Args: []string{"0.2"}, Labels: map[string]string{"kind": "ticker"}})
		helloID = create(t, harness.Container{Name: "hello", Image: hello.Reference, Args: []string{"one", "two words"}, Env: map[string]string{"GREETING": "Moin"}})
		crashID = create(t, harness.Container{Name: "crash", Image: crash.Reference})
		for _, id := range []string{tickerID, helloID, crashID} {
			got := inspect(t, id)
			if got.State != "CONTAINER_CREATED" || got.Metadata.Attempt != 2 {
				t.Errorf("%+v", got)
			}
		}
		if entries, _ := os.ReadDir(logs); len(entries) != 0 {
			for _, entry := range entries {
				if info, err := entry.Info(); err == nil && info.Size() > 0 {
					t.Errorf("%s has content before any start", entry.Name())
				}
			}
		}
	})
	harness.Step(t, "start runs them", func(t *testing.T) {
		for _, id := range []string{tickerID, helloID, crashID} {
			if output := crictl.Run(t, "start", id); output != id {
				t.Errorf("it printed %q, not the id", output)
			}
		}
	})
	harness.Step(t, "logs shows what a guest writes, with its arguments and environment", func(t *testing.T) {
		var output string
		harness.Until(t, 10*time.Second, "hello's lines", func() error {
			output = crictl.Run(t, "logs", helloID)
			return wants(output, "Moin from WebAssembly!", `"one", "two words"`, "environment: GREETING=Moin", "files at /:")
		})
		if !hostNetwork {
			if err := wants(output, "hostname: "+pod.Name); err != nil {
				t.Error(err)
			}
		}
		harness.Until(t, 10*time.Second, "ticker's lines", func() error {
			return wants(crictl.Run(t, "logs", tickerID), "tick 1 at", "tick 2 at")
		})
		if output := crictl.Run(t, "logs", "--tail", "1", tickerID); strings.Count(output, "tick") != 1 {
			t.Errorf("the last line is:\n%s", output)
		}
	})
	harness.Step(t, "log files have the CRI's format", func(t *testing.T) {
		content, err := os.ReadFile(filepath.Join(logs, "hello.log"))
		if err != nil {
			t.Fatal(err)
		}
		line := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] `)
		for _, text := range strings.Split(strings.TrimRight(string(content), "\n"), "\n") {
			if !line.MatchString(text) {
				t.Errorf("no CRI log line: %q", text)
			}
		}
	})
	harness.Step(t, "ps shows who runs, ps -a who has ended", func(t *testing.T) {
		harness.Until(t, 10*time.Second, "hello and crash have ended", func() error {
			for _, id := range []string{helloID, crashID} {
				if state := inspect(t, id).State; state != "CONTAINER_EXITED" {
					return fmt.Errorf("%s is %s", id, state)
				}
			}
			return nil
		})
		ids := func(arguments ...string) []string {
			var list struct{ Containers []container }
			crictl.JSON(t, &list, "ps", arguments...)
			var ids []string
			for _, container := range list.Containers {
				ids = append(ids, container.ID)
			}
			slices.Sort(ids)
			return ids
		}
		all := []string{tickerID, helloID, crashID}
		slices.Sort(all)
		if got := ids(); !slices.Equal(got, []string{tickerID}) {
			t.Errorf("running: %v, not %s", got, tickerID)
		}
		if got := ids("-a", "--pod", podID); !slices.Equal(got, all) {
			t.Errorf("all: %v, not %v", got, all)
		}
		if got := ids("-a", "--label", "kind=ticker"); !slices.Equal(got, []string{tickerID}) {
			t.Errorf("labelled: %v, not %s", got, tickerID)
		}
		if got := ids("-a", "--state", "exited", "--name", "hello"); !slices.Equal(got, []string{helloID}) {
			t.Errorf("exited and named hello: %v, not %s", got, helloID)
		}
	})
	harness.Step(t, "pods shows the pod", func(t *testing.T) {
		var list struct{ Items []sandbox }
		crictl.JSON(t, &list, "pods", "--state", "ready", "--label", "walk="+place.Name)
		if len(list.Items) != 1 || list.Items[0].ID != podID {
			t.Errorf("%+v", list.Items)
		}
		if crictl.JSON(t, &list, "pods", "--state", "notready"); len(list.Items) != 0 {
			t.Errorf("not ready: %+v", list.Items)
		}
	})
	harness.Step(t, "inspect tells how a guest ended", func(t *testing.T) {
		if got := inspect(t, helloID); got.ExitCode != 0 || got.Reason != "Completed" {
			t.Errorf("hello: code %d, reason %q", got.ExitCode, got.Reason)
		}
		got := inspect(t, crashID)
		if got.ExitCode != 134 || got.Reason != "Trap" {
			t.Errorf("crash: code %d, reason %q", got.ExitCode, got.Reason)
		}
		if err := wants(got.Message, "divide by zero", "average_of_nothing"); err != nil {
			t.Errorf("crash: %v", err)
		}
		if got := inspect(t, tickerID); got.State != "CONTAINER_RUNNING" || got.PodSandboxID != "" && got.PodSandboxID != podID {
			t.Errorf("ticker: %+v", got)
		}
	})
	harness.Step(t, "a command on what is not there fails", func(t *testing.T) {
		for _, command := range []string{"inspect", "inspectp", "start"} {
			if _, stderr, err := crictl.Try(command, "0123456789abcdef"); err == nil {
				t.Errorf("%s succeeded: %s", command, stderr)
			}
		}
	})
	harness.Step(t, "stop ends a guest by SIGTERM", func(t *testing.T) {
		start := time.Now()
		crictl.Run(t, "stop", "--timeout", "10", tickerID)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v: the grace period was waited for", took)
		}
		if got := inspect(t, tickerID); got.State != "CONTAINER_EXITED" || got.ExitCode != 143 {
			t.Errorf("state %s, code %d", got.State, got.ExitCode)
		}
	})
	harness.Step(t, "rm removes containers", func(t *testing.T) {
		for _, id := range []string{tickerID, helloID, crashID} {
			crictl.Run(t, "rm", id)
		}
		var list struct{ Containers []container }
		if crictl.JSON(t, &list, "ps", "-a"); len(list.Containers) != 0 {
			t.Errorf("%+v", list.Containers)
		}
	})
	harness.Step(t, "stopp and rmp remove the pod", func(t *testing.T) {
		crictl.Run(t, "stopp", podID)
		var inspected struct{ Status sandbox }
		if crictl.JSON(t, &inspected, "inspectp", podID); inspected.Status.State != "SANDBOX_NOTREADY" {
			t.Errorf("it is %s", inspected.Status.State)
		}
		crictl.Run(t, "rmp", podID)
		var list struct{ Items []sandbox }
		if crictl.JSON(t, &list, "pods"); len(list.Items) != 0 {
			t.Errorf("%+v", list.Items)
		}
	})
	harness.Step(t, "nothing of the pod is left", func(t *testing.T) {
		harness.Until(t, 5*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(daemon.Leftovers(), network.Leftovers())
		})
		// One pod was there when they were counted, so there can only be fewer now; a connection may be about to close.
		harness.Until(t, 5*time.Second, "descriptors go", func() error {
			if now := daemon.Descriptors(t); now > descriptors {
				return fmt.Errorf("%d descriptors, %d before the containers", now, descriptors)
			}
			return nil
		})
	})
	harness.Step(t, "run pulls, makes a pod, makes a container and starts it", func(t *testing.T) {
		pod := harness.Pod{Name: "run-" + place.Name, HostNetwork: hostNetwork}
		podFile, _ := pod.Write(t, place)
		crictl.Run(t, "rmi", hello.Reference)
		container := harness.Container{Name: "run", Image: hello.Reference, Args: []string{"by run"}}
		id := crictl.Run(t, "run", container.Write(t, place), podFile)
		harness.Until(t, 10*time.Second, "its lines", func() error {
			return wants(crictl.Run(t, "logs", id), "from WebAssembly!", "by run")
		})
		var list struct{ Items []sandbox }
		if crictl.JSON(t, &list, "pods"); len(list.Items) != 1 {
			t.Fatalf("%+v", list.Items)
		}
		crictl.Run(t, "rmp", "--force", list.Items[0].ID)
		harness.Until(t, 5*time.Second, "leftovers go", func() error {
			return harness.NothingLeft(daemon.Leftovers(), network.Leftovers())
		})
	})
	harness.Step(t, "rmi removes the images, and nothing of them is left", func(t *testing.T) {
		for _, image := range images {
			crictl.Run(t, "rmi", image.Reference)
		}
		var list struct{ Images []image }
		if crictl.JSON(t, &list, "images"); len(list.Images) != 0 {
			t.Errorf("%+v", list.Images)
		}
		harness.Until(t, 10*time.Second, "files of images go", func() error { return harness.NothingLeft(daemon.ImageLeftovers()) })
	})
}
