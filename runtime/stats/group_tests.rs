//! Groups as the kernel shows them, recorded and made odd.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::group::{GroupUsage, Meter};
use super::kept::Budget;
use super::parse::{Pressure, Stall};
use crate::cgroup::layout::Layout;
use crate::cgroup::{CgroupPath, Cgroups, Version};

/// A tree with one group `/pod/app`.
struct Tree {
    root: tempfile::TempDir,
    cgroups: Cgroups,
    v1: bool,
}

impl Tree {
    fn v1() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mounts: String = ["cpu", "cpuacct", "memory", "pids"]
            .map(|name| format!("1 0 0:1 / {}/{name} rw - cgroup cgroup rw,{name}\n", root.path().display()))
            .concat();
        let cgroups = Cgroups::with_layout(Layout::from_proc(&mounts, ""));
        assert_eq!(cgroups.version(), Version::V1);
        Self { root, cgroups, v1: true }
    }

    fn v2() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        let mounts = format!("1 0 0:1 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let cgroups = Cgroups::with_layout(Layout::from_proc(&mounts, ""));
        assert_eq!(cgroups.version(), Version::V2);
        Self { root, cgroups, v1: false }
    }

    fn write(&self, file: &str, text: &str) {
        let hierarchy = if self.v1 { file.split('.').next().unwrap() } else { "" };
        let path = self.root.path().join(hierarchy).join("pod/app").join(file);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
    }

    fn meter(&self) -> Meter {
        let group = self.cgroups.open(&CgroupPath::from_cri("/pod/app").unwrap());
        Meter::new(&group, self.cgroups.version(), &Budget::of_process())
    }

    fn read(&self) -> GroupUsage {
        self.meter().read(&mut Vec::new())
    }
}

/// Linux 6.18, a guest with a limit of 64 MiB.
fn recorded_v1() -> Tree {
    let tree = Tree::v1();
    tree.write("cpuacct.usage", "12345678901\n");
    tree.write("memory.usage_in_bytes", "5242880\n");
    tree.write("memory.limit_in_bytes", "67108864\n");
    tree.write("pids.current", "3\n");
    tree.write(
        "memory.stat",
        "cache 1\nrss 2\nswap 0\ninactive_file 3\nhierarchical_memory_limit 67108864\nhierarchical_memsw_limit 100663296\n\
         total_cache 1048576\ntotal_rss 4194304\ntotal_mapped_file 8192\ntotal_swap 4096\ntotal_pgfault 2000\ntotal_pgmajfault 7\n\
         total_inactive_file 262144\n",
    );
    tree
}

#[test]
fn a_group_of_v1_is_read_from_its_hierarchies() {
    let usage = recorded_v1().read();
    let (cpu, memory, swap) = (usage.cpu.unwrap(), usage.memory.unwrap(), usage.swap.unwrap());
    assert_eq!((cpu.usage_ns, cpu.nano_cores, cpu.pressure), (12_345_678_901, None, None));
    assert!(cpu.timestamp > 0);
    assert_eq!((memory.usage, memory.working_set, memory.rss), (5_242_880, 5_242_880 - 262_144, 4_194_304));
    assert_eq!((memory.limit, memory.available()), (Some(64 << 20), Some((64 << 20) - (5_242_880 - 262_144))));
    assert_eq!((memory.page_faults, memory.major_page_faults), (2000, 7));
    assert_eq!((memory.cache, memory.mapped_file), (1_048_576, 8192));
    assert_eq!((swap.usage, swap.available), (4096, Some((32 << 20) - 4096)));
    assert_eq!((usage.tasks, usage.io_pressure), (Some(3), None));
}

#[test]
fn a_group_of_v2_is_read_from_its_directory() {
    let tree = Tree::v2();
    tree.write("cpu.stat", "usage_usec 12345678\nuser_usec 12000000\nsystem_usec 345678\n");
    tree.write("memory.current", "5242880\n");
    tree.write("memory.max", "67108864\n");
    tree.write("memory.swap.current", "4096\n");
    tree.write("memory.swap.max", "33554432\n");
    tree.write("pids.current", "3\n");
    tree.write("memory.stat", "anon 4194304\nfile 1048576\nfile_mapped 8192\ninactive_file 262144\npgfault 2000\npgmajfault 7\n");
    for (file, total) in [("cpu.pressure", 1), ("memory.pressure", 2), ("io.pressure", 3)] {
        let stall = format!("avg10=0.25 avg60=0.00 avg300=0.00 total={total}");
        tree.write(file, &format!("some {stall}\nfull {stall}\n"));
    }
    let usage = tree.read();
    let pressure = |total_us| {
        let stall = Stall { total_us, avg10: 0.25, ..Stall::default() };
        Some(Pressure { some: stall, full: stall })
    };
    let (cpu, memory, swap) = (usage.cpu.unwrap(), usage.memory.unwrap(), usage.swap.unwrap());
    assert_eq!((cpu.usage_ns, cpu.pressure), (12_345_678_000, pressure(1)));
    assert_eq!((memory.usage, memory.working_set, memory.rss), (5_242_880, 5_242_880 - 262_144, 4_194_304));
    assert_eq!((memory.limit, memory.pressure), (Some(64 << 20), pressure(2)));
    assert_eq!((memory.page_faults, memory.major_page_faults), (2000, 7));
    assert_eq!((memory.cache, memory.mapped_file), (1_048_576, 8192));
    assert_eq!((swap.usage, swap.available), (4096, Some((32 << 20) - 4096)));
    assert_eq!((usage.tasks, usage.io_pressure), (Some(3), pressure(3)));
}

#[test]
fn no_limit_leaves_nothing_available_to_tell() {
    let tree = recorded_v1();
    tree.write("memory.limit_in_bytes", "9223372036854771712\n");
    tree.write(
        "memory.stat",
        "hierarchical_memory_limit 9223372036854771712\nhierarchical_memsw_limit 9223372036854771712\ntotal_swap 5\n",
    );
    let usage = tree.read();
    assert_eq!(usage.memory.unwrap().available(), None);
    assert_eq!((usage.swap.unwrap().usage, usage.swap.unwrap().available), (5, None));

    let tree = Tree::v2();
    tree.write("memory.current", "1\n");
    tree.write("memory.stat", "");
    tree.write("memory.max", "max\n");
    tree.write("memory.swap.current", "0\n");
    tree.write("memory.swap.max", "max\n");
    let usage = tree.read();
    assert_eq!(usage.memory.unwrap().available(), None);
    assert_eq!(usage.swap.unwrap().available, None);
}

#[test]
fn a_kernel_that_counts_no_swap_tells_none() {
    let tree = recorded_v1();
    tree.write("memory.stat", "hierarchical_memory_limit 67108864\ntotal_rss 1\n");
    assert_eq!(tree.read().swap, None);
    let tree = Tree::v2();
    tree.write("cpu.stat", "usage_usec 1\n");
    assert_eq!(tree.read().swap, None);
}

#[test]
fn more_inactive_cache_than_usage_is_a_working_set_of_nothing() {
    let tree = recorded_v1();
    tree.write("memory.stat", "total_inactive_file 18446744073709551615\n");
    assert_eq!(tree.read().memory.unwrap().working_set, 0);
}

#[test]
fn odd_empty_and_missing_files_are_parts_that_are_absent() {
    for tree in [Tree::v1(), Tree::v2()] {
        assert_eq!(tree.read(), GroupUsage::default(), "nothing is there");
    }
    for odd in ["", "\n", "garbage\n", "-5\n", "99999999999999999999999\n"] {
        let tree = recorded_v1();
        for file in ["cpuacct.usage", "memory.usage_in_bytes", "memory.stat", "pids.current"] {
            tree.write(file, odd);
        }
        assert_eq!(tree.read(), GroupUsage::default(), "{odd:?}");
        let tree = Tree::v2();
        for file in ["cpu.stat", "memory.current", "memory.stat", "memory.swap.current", "pids.current", "io.pressure"] {
            tree.write(file, odd);
        }
        assert_eq!(tree.read(), GroupUsage::default(), "{odd:?}");
    }
}

#[test]
fn huge_times_of_v2_do_not_overflow() {
    let tree = Tree::v2();
    tree.write("cpu.stat", "usage_usec 18446744073709551615\n");
    assert_eq!(tree.read().cpu.unwrap().usage_ns, u64::MAX);
}

#[test]
fn a_missing_controller_of_v1_takes_only_its_own_part_away() {
    let root = tempfile::tempdir().unwrap();
    let mounts = format!("1 0 0:1 / {}/pids rw - cgroup cgroup rw,pids\n", root.path().display());
    let cgroups = Cgroups::with_layout(Layout::from_proc(&mounts, ""));
    let tree = Tree { root, cgroups, v1: true };
    tree.write("pids.current", "9\n");
    assert_eq!(tree.read(), GroupUsage { tasks: Some(9), ..GroupUsage::default() });
}

#[test]
fn a_node_without_hierarchies_reads_nothing() {
    let cgroups = Cgroups::with_layout(Layout::from_proc("", ""));
    let group = cgroups.open(&CgroupPath::from_cri("/pod/app").unwrap());
    let mut meter = Meter::new(&group, cgroups.version(), &Budget::of_process());
    assert_eq!(meter.read(&mut Vec::new()), GroupUsage::default());
}

#[test]
fn what_a_meter_holds_is_given_back() {
    let tree = recorded_v1();
    let budget = Budget::of_process();
    let group = tree.cgroups.open(&CgroupPath::from_cri("/pod/app").unwrap());
    let mut meter = Meter::new(&group, Version::V1, &budget);
    assert_eq!(Arc::strong_count(&budget), 6, "a file holds its budget");
    meter.read(&mut Vec::new());
    assert_eq!(Arc::strong_count(&budget), 11, "and a place in it once it is open");
    drop(meter);
    assert_eq!(Arc::strong_count(&budget), 1);
}
