package harness

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Found is a process that belongs to a daemon.
type Found struct {
	PID    int
	What   string
	parent int
}

func (f Found) String() string { return fmt.Sprintf("process %d (%s)", f.PID, f.What) }

// Processes lists the processes other than the daemon that are its own: those in its cgroups, those that name its place on
// their command line, and those that have files of it open. All of them carry the place's name.
func (d *Daemon) Processes() []Found {
	var found []Found
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() || pid == d.process.PID() && !d.process.Ended() {
			continue
		}
		directory := filepath.Join("/proc", entry.Name())
		status, _ := os.ReadFile(filepath.Join(directory, "stat"))
		if strings.Contains(string(status), ") Z ") || !d.owns(directory) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(directory, "cmdline"))
		found = append(found, Found{
			PID:    pid,
			What:   strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")),
			parent: parentOf(string(status)),
		})
	}
	return found
}

// parentOf is the parent in /proc/PID/stat: the second field after the name, which stands in parentheses.
func parentOf(stat string) int {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

func (d *Daemon) owns(directory string) bool {
	executable, err := os.Readlink(filepath.Join(directory, "exe"))
	// Others, such as the kubelet and the registry, work in the same place. A replaced program has " (deleted)" after it.
	if err != nil || filepath.Base(strings.TrimSuffix(executable, " (deleted)")) != filepath.Base(d.environment.Daemon) {
		return false
	}
	for _, name := range []string{"cgroup", "cmdline"} {
		text, _ := os.ReadFile(filepath.Join(directory, name))
		if strings.Contains(string(text), d.place.Name) {
			return true
		}
	}
	descriptors, _ := os.ReadDir(filepath.Join(directory, "fd"))
	for _, descriptor := range descriptors {
		target, _ := os.Readlink(filepath.Join(directory, "fd", descriptor.Name()))
		if strings.Contains(target, d.place.Name) {
			return true
		}
	}
	return false
}

// ownGroups are the cgroups of the daemon's supervisor and of its compile processes, beside those of pods that name no parent.
var ownGroups = []string{"supervisor", "compile"}

// Guests lists the processes of the daemon that run a guest: all but the supervisor, which is their
// parent and lives as long as the daemon's state directory.
func (d *Daemon) Guests() []string {
	var guests []string
	all := d.Processes()
	for _, process := range all {
		if !strings.Contains(process.What, " host ") || slices.ContainsFunc(all, func(other Found) bool { return other.PID == process.parent }) {
			guests = append(guests, process.String())
		}
	}
	return guests
}

// Leftovers lists what there is of pods and containers: nothing, once all of them are removed.
func (d *Daemon) Leftovers() []string {
	left := d.Guests()
	// The kubelet's own mounts lie elsewhere in the place.
	for _, mount := range append(mountsBelow(d.Root), mountsBelow(d.place.Memory)...) {
		left = append(left, "mount "+mount)
	}
	for _, directory := range []string{
		filepath.Join(d.place.Memory, "netns"),
		filepath.Join(d.State, "guests"), filepath.Join(d.State, "containers"), filepath.Join(d.State, "sandboxes"),
		filepath.Join(d.Root, "containers"), filepath.Join(d.Root, "sandboxes"),
		filepath.Join(d.place.Disk, "cni-cache", "results"),
	} {
		entries, _ := os.ReadDir(directory)
		for _, entry := range entries {
			left = append(left, filepath.Join(directory, entry.Name()))
		}
	}
	for _, directory := range cgroupsBelow(d.CgroupParent) {
		if !slices.Contains(ownGroups, filepath.Base(directory)) {
			left = append(left, directory)
		}
	}
	return left
}

// ImageLeftovers lists the files of images: nothing, once all of them are removed.
func (d *Daemon) ImageLeftovers() []string {
	var left []string
	for _, name := range []string{"blobs", "layers", "compiled", "ingest", "partial", "aside", "records"} {
		_ = filepath.WalkDir(filepath.Join(d.Root, "images", name), func(path string, entry fs.DirEntry, err error) error {
			// The list of names is always there.
			if err == nil && !entry.IsDir() && entry.Name() != "names.json" {
				left = append(left, path)
			}
			return nil
		})
	}
	return left
}

// Descriptors counts the daemon's open files.
func (d *Daemon) Descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// NothingLeft is an error that lists what is left.
func NothingLeft(left ...[]string) error {
	var all []string
	for _, some := range left {
		all = append(all, some...)
	}
	return nothing(all)
}

func nothing[T any](left []T) error {
	if len(left) == 0 {
		return nil
	}
	var lines strings.Builder
	for _, one := range left {
		fmt.Fprintf(&lines, "\n  %v", one)
	}
	return fmt.Errorf("left behind:%s", lines.String())
}
