package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"conformance/harness"
)

// critest's five benchmarks, beside Debian's containerd with runc, each runtime with an image of its own kind. benches/critest
// runs this; it prints, and judges nothing but that all of them ran.
func TestCritestBenchmarks(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("CRI_WASM_BENCH"))
	if err != nil || count < 1 {
		t.Skip("skipped: a bench, which benches/critest runs (CRI_WASM_BENCH is the number of samples)")
	}
	if os.Getenv(ownNetwork) == "" {
		inOwnNetwork(t)
		return
	}
	if output, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("the loopback interface: %v: %s", err, output)
	}
	environment := harness.Need(t, []string{"critest", "docker-registry", "cni/bridge", "cni/host-local", "cni/portmap"}, []string{"toolbox"})
	place := harness.NewPlace(t)
	registry := harness.StartRegistry(t, environment, place)
	network := harness.NewNetwork(t, place)
	network.Older(t)
	daemon := harness.StartDaemon(t, environment, place, network)
	toolbox := registry.PushToolbox(t, environment, place, "bench/toolbox:v1")
	peer := harness.StartPeer(t, environment, place, network, registry, "../../benches/cri/native.c")

	own := measure(t, place, "own", count, harness.NewCritest(t, environment, place, daemon.Socket, toolbox, toolbox), toolbox)
	other := measure(t, place, "peer", count, harness.NewCritest(t, environment, place, peer.Socket, peer.Image, peer.Image), peer.Image)
	fmt.Printf("%-45s %12s %12s %8s\n", fmt.Sprintf("medians of %d", count), "cri-wasm", "containerd", "times")
	for _, name := range slices.Sorted(maps.Keys(own)) {
		fmt.Printf("%-45s %12v %12v %8.1f\n", name, own[name].Round(time.Microsecond), other[name].Round(time.Microsecond),
			float64(other[name])/float64(own[name]))
	}
}

// measure runs the benchmarks and gives the median of each operation.
func measure(t *testing.T, place harness.Place, name string, count int, critest harness.Critest, image harness.Pushed) map[string]time.Duration {
	t.Helper()
	results := filepath.Join(place.Disk, "bench-"+name)
	if err := os.MkdirAll(results, 0o755); err != nil {
		t.Fatal(err)
	}
	parameters := place.Write(t, "bench-"+name+".yaml", fmt.Sprintf("containersNumber: %[1]d\npodsNumber: %[1]d\nimagesNumber: %[1]d\n"+
		"containersNumberParallel: 1\npodsNumberParallel: 1\nimagesNumberParallel: 1\n"+
		"containerBenchmarkTimeoutSeconds: 300\npodBenchmarkTimeoutSeconds: 300\nimageBenchmarkTimeoutSeconds: 300\n"+
		"podContainerStartBenchmarkTimeoutSeconds: 60\nimagePullingBenchmarkImage: %[2]s\nimageListingBenchmarkImages: [%[2]s]\n", count, image.Reference))
	medians := map[string]time.Duration{}
	specs := critest.Run(t, nil, "-benchmark", "-benchmarking-params-file", parameters, "-benchmarking-output-dir", results)
	for _, spec := range specs {
		if spec.State != "passed" {
			t.Errorf("%s: %s: %s: %s", name, spec.Name, spec.State, spec.Message)
		}
		for what, durations := range spec.Durations {
			medians[what] = median(durations)
		}
	}
	if len(specs) != 5 {
		t.Errorf("%s: %d benchmarks ran, not 5", name, len(specs))
	}
	files, err := filepath.Glob(filepath.Join(results, "*.json"))
	if err != nil || len(files) != 4 {
		t.Errorf("%s: results of %d benchmarks, not 4: %v", name, len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var set struct {
			OperationsNames []string `json:"operationsNames"`
			Datapoints      []struct {
				Durations []time.Duration `json:"operationsDurationsNs"`
			} `json:"datapoints"`
		}
		if err := json.Unmarshal(content, &set); err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(filepath.Base(file), "_benchmark")
		for i, operation := range set.OperationsNames {
			var durations []time.Duration
			for _, point := range set.Datapoints {
				durations = append(durations, point.Durations[i])
			}
			medians[kind+": "+operation] = median(durations)
		}
	}
	return medians
}

func median(durations []time.Duration) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	slices.Sort(durations)
	return durations[len(durations)/2]
}
