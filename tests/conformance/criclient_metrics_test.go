package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The metrics that later versions of critest than the pinned one ask for: a kubelet with PodAndContainerStatsFromCRI shows
// them as /metrics/cadvisor.

// measured are the names that must have a value for a pod whose container runs, without the container_ before each.
var measured = strings.Fields(`
	cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total cpu_system_seconds_total
	cpu_usage_seconds_total cpu_user_seconds_total
	file_descriptors fs_inodes_free fs_inodes_total fs_limit_bytes fs_usage_bytes last_seen
	memory_cache memory_failcnt memory_failures_total memory_kernel_usage memory_mapped_file memory_max_usage_bytes memory_rss
	memory_swap memory_usage_bytes memory_working_set_bytes
	network_receive_bytes_total network_receive_errors_total network_receive_packets_dropped_total network_receive_packets_total
	network_transmit_bytes_total network_transmit_errors_total network_transmit_packets_dropped_total network_transmit_packets_total
	oom_events_total processes sockets
	spec_cpu_period spec_cpu_shares spec_memory_limit_bytes spec_memory_swap_limit_bytes start_time_seconds threads threads_max`)

// mayBeMissing are names that the kernel may have no value for: without block devices, pressure or a quota.
var mayBeMissing = strings.Fields(`
	blkio_device_usage_total fs_reads_bytes_total fs_reads_total fs_writes_bytes_total fs_writes_total
	hugetlb_max_usage_bytes hugetlb_usage_bytes pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total
	pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total pressure_memory_stalled_seconds_total
	pressure_memory_waiting_seconds_total spec_cpu_quota spec_memory_reservation_limit_bytes ulimits_soft`)

// descriptors are an error unless every name is described, by a help and the keys of its labels.
func (w *wire) descriptors(t *testing.T) (map[string]*cri.MetricDescriptor, error) {
	t.Helper()
	list, err := w.runtime.ListMetricDescriptors(t.Context())
	if err != nil {
		return nil, err
	}
	described := map[string]*cri.MetricDescriptor{}
	for _, descriptor := range list {
		if descriptor.Help == "" || len(descriptor.LabelKeys) == 0 || described[descriptor.Name] != nil {
			err = errors.Join(err, fmt.Errorf("described twice, or without help or labels: %v", descriptor))
		}
		described[descriptor.Name] = descriptor
	}
	for _, name := range measured {
		if described["container_"+name] == nil {
			err = errors.Join(err, fmt.Errorf("container_%s is not described", name))
		}
	}
	return described, err
}

// metricsOf are an error unless a pod with a network of its own has a value of everything that is described and not excused.
func (w *wire) metricsOf(t *testing.T) error {
	t.Helper()
	podConfig := w.podConfig()
	podConfig.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_POD
	pod := good(w.runtime.RunPodSandbox(t.Context(), podConfig, ""))(t, "RunPodSandbox")
	defer w.remove(t, pod)
	container := good(w.runtime.CreateContainer(t.Context(), pod, w.containerConfig(), podConfig))(t, "CreateContainer")
	fine(t, "StartContainer", w.runtime.StartContainer(t.Context(), container))
	list, err := w.runtime.ListPodSandboxMetrics(t.Context())
	if err := one(err, list, func(item *cri.PodSandboxMetrics) string { return item.PodSandboxId }, pod); err != nil {
		return err
	}
	described, err := w.descriptors(t)
	all := list[0].Metrics
	for _, container := range list[0].ContainerMetrics {
		all = append(all, container.Metrics...)
	}
	seen := map[string]bool{}
	for _, metric := range all {
		descriptor := described[metric.Name]
		if descriptor == nil || len(metric.LabelValues) != len(descriptor.LabelKeys) || metric.Value == nil {
			err = errors.Join(err, fmt.Errorf("not as it is described (%v): %v", descriptor, metric))
		}
		seen[metric.Name] = true
	}
	for name := range described {
		if !seen[name] && !slices.Contains(mayBeMissing, strings.TrimPrefix(name, "container_")) {
			err = errors.Join(err, fmt.Errorf("%s has no value", name))
		}
	}
	return err
}
