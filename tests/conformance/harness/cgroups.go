package harness

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies are the directories where cgroups are made: one in all on cgroup v2, one a controller on v1.
func hierarchies() []string {
	var found []string
	directories := []string{cgroupRoot}
	entries, _ := os.ReadDir(cgroupRoot)
	for _, entry := range entries {
		if entry.IsDir() {
			directories = append(directories, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	for _, directory := range directories {
		var filesystem unix.Statfs_t
		if unix.Statfs(directory, &filesystem) != nil {
			continue
		}
		if filesystem.Type == unix.CGROUP2_SUPER_MAGIC && directory == cgroupRoot {
			return []string{directory}
		}
		if filesystem.Type == unix.CGROUP_SUPER_MAGIC || filesystem.Type == unix.CGROUP2_SUPER_MAGIC {
			found = append(found, directory)
		}
	}
	return found
}

// MakeCgroup makes a cgroup in every hierarchy, for a kubelet to make its own below.
func MakeCgroup(t *testing.T, path string) {
	t.Helper()
	for _, hierarchy := range hierarchies() {
		directory := filepath.Join(hierarchy, path)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		// A cpuset of v1 begins empty and takes no process until it has CPUs and memory nodes: take the parent's.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if content, err := os.ReadFile(filepath.Join(hierarchy, file)); err == nil {
				_ = os.WriteFile(filepath.Join(directory, file), content, 0o644)
			}
		}
	}
}

// cgroupsBelow lists the cgroups below one, in all hierarchies.
func cgroupsBelow(path string) []string {
	var found []string
	for _, hierarchy := range hierarchies() {
		top := filepath.Join(hierarchy, path)
		_ = filepath.WalkDir(top, func(directory string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() && directory != top {
				found = append(found, directory)
			}
			return nil
		})
	}
	return found
}

// removeCgroups removes a cgroup with everything below it. A process that is still in one is killed, and fails the test.
func removeCgroups(t *testing.T, path string) {
	t.Helper()
	for _, pid := range processesIn(path) {
		t.Errorf("process %d is still in the cgroup %s: killed", pid, path)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	err := TryUntil(5*time.Second, func() error {
		directories := cgroupsBelow(path)
		// Children come after their parents in the list.
		slices.Reverse(directories)
		for _, hierarchy := range hierarchies() {
			directories = append(directories, filepath.Join(hierarchy, path))
		}
		var last error
		for _, directory := range directories {
			if err := os.Remove(directory); err != nil && !os.IsNotExist(err) {
				last = err
			}
		}
		return last
	})
	if err != nil {
		t.Errorf("removing the cgroup %s: %v", path, err)
	}
}

// processesIn lists the processes in a cgroup and below it.
func processesIn(path string) []int {
	var pids []int
	for _, hierarchy := range hierarchies() {
		for _, directory := range append(cgroupsBelow(path), filepath.Join(hierarchy, path)) {
			content, _ := os.ReadFile(filepath.Join(directory, "cgroup.procs"))
			for _, line := range strings.Fields(string(content)) {
				// 0 is a process of another PID namespace.
				if pid, err := strconv.Atoi(line); err == nil && pid > 0 && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

// PodCgroups lists the cgroups of pods that a kubelet has made below its root.
func PodCgroups(root string) []string {
	var pods []string
	for _, directory := range cgroupsBelow(root) {
		base := filepath.Base(directory)
		if len(base) > 3 && base[:3] == "pod" {
			pods = append(pods, directory)
		}
	}
	return pods
}

// CgroupFiles are the files of this name in the cgroups, of all hierarchies, that are called so: a container's by its id.
func CgroupFiles(cgroup, name string) []string {
	var found []string
	for _, directory := range cgroupsBelow("/") {
		if filepath.Base(directory) != cgroup {
			continue
		}
		if _, err := os.Stat(filepath.Join(directory, name)); err == nil {
			found = append(found, filepath.Join(directory, name))
		}
	}
	return found
}
