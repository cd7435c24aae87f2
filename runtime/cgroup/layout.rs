//! Which hierarchies the node has mounted, and which controllers stand on each.
//!
//! Reads the text of `/proc/self/mountinfo` (proc(5), section "/proc/pid/mountinfo") and `/proc/cgroups`
//! (cgroups(7)); nothing is looked up on the disk but the controllers of a v2 root.

use std::path::{Path, PathBuf};

use super::CgroupError;

/// A controller that this runtime uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Shares and quota; on v2 also the time that was used.
    Cpu,
    /// The time that was used, v1 only: often mounted together with `cpu`.
    CpuAccount,
    /// Memory, swap, and who is killed for it.
    Memory,
    /// The number of tasks.
    Pids,
    /// Which processors and memory nodes.
    Cpuset,
    /// Huge pages.
    Hugetlb,
}

impl Controller {
    const ALL: [Controller; 6] =
        [Controller::Cpu, Controller::CpuAccount, Controller::Memory, Controller::Pids, Controller::Cpuset, Controller::Hugetlb];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::CpuAccount => "cpuacct",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpuset => "cpuset",
            Controller::Hugetlb => "hugetlb",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|controller| controller.name() == name)
    }
}

/// Which version of the kernel's interface the controllers stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Hierarchies per controller; also the hybrid form.
    V1,
    /// One hierarchy.
    V2,
    /// No hierarchy is mounted: no limits, no counts.
    None,
}

/// Why a controller is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The kernel was built without it.
    NotInKernel,
    /// The kernel has it, and a boot parameter (`cgroup_disable=`) keeps it off.
    DisabledAtBoot,
    /// The kernel has it, and no hierarchy that carries it is mounted here.
    NotMounted,
}

impl Absence {
    /// The reason, and with it the remedy, as part of a sentence.
    pub fn reason(self) -> &'static str {
        match self {
            Absence::NotInKernel => "the kernel was built without it",
            Absence::DisabledAtBoot => "it is switched off at boot: add cgroup_enable=NAME to the kernel's command line",
            Absence::NotMounted => "no hierarchy that carries it is mounted",
        }
    }
}

/// One mounted hierarchy that carries something we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// What stands on it.
    pub controllers: Vec<Controller>,
}

/// All hierarchies in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    version: Version,
    hierarchies: Vec<Hierarchy>,
    /// v1: where hierarchies without controllers are mounted in which systemd finds processes again.
    tracking: Vec<PathBuf>,
    /// The options of the mounted v2 hierarchy, if there is one, also where v1 is used.
    unified_options: Option<Vec<String>>,
    /// `/proc/cgroups`: each controller the kernel has, and whether it is enabled.
    known: Vec<(String, bool)>,
}

struct Mount {
    root: String,
    point: PathBuf,
    filesystem: String,
    options: Vec<String>,
}

impl Layout {
    /// Puts the layout together from the texts of `/proc/self/mountinfo` and `/proc/cgroups`.
    pub fn from_proc(mountinfo: &str, proc_cgroups: &str) -> Layout {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(parse_mount).collect();
        let unified = choose(mounts.iter().filter(|mount| mount.filesystem == "cgroup2"));
        let mut layout = Layout {
            version: Version::None,
            hierarchies: v1_hierarchies(&mounts),
            tracking: Vec::new(),
            unified_options: unified.map(|mount| mount.options.clone()),
            known: parse_proc_cgroups(proc_cgroups),
        };
        // Freezer or a named hierarchy of systemd alone do not make a v1 node: such nodes keep their controllers on v2.
        if layout.carries(Controller::Cpu) || layout.carries(Controller::Memory) || layout.carries(Controller::Pids) {
            layout.version = Version::V1;
            let named = mounts.iter().filter(|mount| mount.options.iter().any(|option| option == "name=systemd"));
            layout.tracking = named.chain(unified).map(|mount| mount.point.clone()).collect();
        } else if let Some(unified) = unified {
            layout.version = Version::V2;
            let controllers = read_controllers(&unified.point);
            layout.hierarchies = vec![Hierarchy { mount: unified.point.clone(), controllers }];
        }
        layout
    }

    /// The version that is used.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The hierarchies in use; one on v2.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Where systemd finds the processes of its units on v1.
    pub(super) fn tracking(&self) -> &[PathBuf] {
        &self.tracking
    }

    /// The options of the mounted v2 hierarchy, if one is mounted.
    pub(super) fn unified_options(&self) -> Option<&[String]> {
        self.unified_options.as_deref()
    }

    /// The hierarchy that carries a controller.
    pub fn hierarchy(&self, controller: Controller) -> Option<&Hierarchy> {
        // v2 counts time in every group, with the controller `cpu` or without.
        if self.version == Version::V2 && controller == Controller::CpuAccount {
            return self.hierarchies.first();
        }
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// As [`Layout::hierarchy`]; without one the error names `limit`, which needs it, in words of the CRI.
    pub(super) fn require(&self, controller: Controller, limit: &str) -> Result<&Hierarchy, CgroupError> {
        self.hierarchy(controller).ok_or_else(|| CgroupError::MissingController {
            limit: limit.to_owned(),
            controller: controller.name(),
            reason: self.absence(controller.name()).map_or("unknown", Absence::reason),
        })
    }

    fn carries(&self, controller: Controller) -> bool {
        self.hierarchy(controller).is_some()
    }

    /// The controllers that are not there. The v1 account of time counts as part of `cpu`.
    pub fn missing(&self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(|controller| *controller != Controller::CpuAccount && !self.carries(*controller))
    }

    /// Why the controller of this name is not there; `None` if it is, or if this runtime does not use it.
    pub fn absence(&self, name: &str) -> Option<Absence> {
        let controller = Controller::from_name(name)?;
        if self.carries(controller) {
            return None;
        }
        Some(match self.known.iter().find(|(known, _)| known == name) {
            Some((_, true)) => Absence::NotMounted,
            Some((_, false)) => Absence::DisabledAtBoot,
            None => Absence::NotInKernel,
        })
    }
}

/// The controllers that a v2 group may hand to the groups below it.
fn read_controllers(directory: &Path) -> Vec<Controller> {
    let text = super::files::read(&directory.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().filter_map(Controller::from_name).collect()
}

fn v1_hierarchies(mounts: &[Mount]) -> Vec<Hierarchy> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for controller in Controller::ALL {
        let carriers = mounts.iter().filter(|m| m.filesystem == "cgroup" && m.options.iter().any(|o| o == controller.name()));
        let Some(mount) = choose(carriers) else { continue };
        match hierarchies.iter_mut().find(|hierarchy| hierarchy.mount == mount.point) {
            Some(hierarchy) => hierarchy.controllers.push(controller),
            None => hierarchies.push(Hierarchy { mount: mount.point.clone(), controllers: vec![controller] }),
        }
    }
    hierarchies
}

/// The mount that shows the whole hierarchy, or else the first: a part of one is what a container sees.
fn choose<'a>(mounts: impl Iterator<Item = &'a Mount>) -> Option<&'a Mount> {
    let mut first = None;
    for mount in mounts {
        if mount.root == "/" {
            return Some(mount);
        }
        first = first.or(Some(mount));
    }
    first
}

/// A line is `id parent dev root point options [optional…] - type source super-options`.
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (filesystem, options) = (after.next()?, after.nth(1)?);
    if !filesystem.starts_with("cgroup") {
        return None;
    }
    Some(Mount {
        root: unescape(root),
        point: PathBuf::from(unescape(point)),
        filesystem: filesystem.to_owned(),
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let (escapes, plain) = ([("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")], text.to_owned());
    escapes.into_iter().fold(plain, |text, (escape, character)| text.replace(escape, character))
}

/// Lines are `name hierarchy groups enabled`, after a heading that starts with `#`.
fn parse_proc_cgroups(text: &str) -> Vec<(String, bool)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.to_owned(), fields.nth(2)? == "1"))
    };
    text.lines().filter(|text| !text.starts_with('#')).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
        cpuset\t3\t1\t1\ncpu\t1\t1\t1\ncpuacct\t2\t1\t1\nmemory\t4\t20\t0\npids\t8\t1\t1\n";

    #[test]
    fn controllers_mounted_together_share_one_hierarchy() {
        let layout = Layout::from_proc(
            "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             31 25 0:27 / /sys/fs/cgroup/pids rw shared:10 - cgroup cgroup rw,pids\n\
             32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n",
            KNOWN,
        );
        assert_eq!(layout.version(), Version::V1);
        assert_eq!(layout.hierarchies().len(), 2);
        assert_eq!(layout.hierarchies()[0].controllers, [Controller::Cpu, Controller::CpuAccount]);
        assert_eq!(layout.hierarchies()[0].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        let missing: Vec<_> = layout.missing().map(Controller::name).collect();
        assert_eq!(missing, ["memory", "cpuset", "hugetlb"]);
        assert_eq!(layout.absence("memory"), Some(Absence::DisabledAtBoot));
        assert_eq!(layout.absence("cpuset"), Some(Absence::NotMounted));
        assert_eq!(layout.absence("hugetlb"), Some(Absence::NotInKernel));
        assert_eq!(layout.absence("cpu"), None);
    }

    #[test]
    fn v1_controllers_beside_an_empty_v2_make_a_v1_node() {
        let layout = Layout::from_proc(
            "1 0 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             2 0 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
            KNOWN,
        );
        assert_eq!(layout.version(), Version::V1);
        assert_eq!(layout.unified_options(), Some(&["rw".to_owned(), "nsdelegate".to_owned()][..]));
    }

    #[test]
    fn a_v2_root_tells_its_controllers() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids rdma\n").unwrap();
        let mounts = format!("2 0 0:2 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let layout = Layout::from_proc(&mounts, KNOWN);
        assert_eq!(layout.version(), Version::V2);
        assert_eq!(layout.missing().collect::<Vec<_>>(), [Controller::Hugetlb]);
        assert!(layout.hierarchy(Controller::CpuAccount).is_some());
    }

    #[test]
    fn a_systemd_hierarchy_alone_does_not_hide_v2() {
        let layout = Layout::from_proc(
            "1 0 0:1 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             2 0 0:2 / /nonexistent rw - cgroup2 cgroup2 rw\n",
            "",
        );
        assert_eq!(layout.version(), Version::V2);
        assert_eq!(layout.missing().count(), 5);
    }

    #[test]
    fn a_node_without_hierarchies_lacks_everything_and_is_no_error() {
        let layout = Layout::from_proc("22 27 0:21 / /proc rw,relatime - proc proc rw\nnonsense\n", KNOWN);
        assert_eq!(layout.version(), Version::None);
        assert_eq!(layout.missing().count(), 5);
    }

    #[test]
    fn the_mount_of_a_whole_hierarchy_is_preferred_and_names_are_unescaped() {
        let layout = Layout::from_proc(
            "1 0 0:1 /docker/1 /part rw - cgroup cgroup rw,pids\n\
             2 0 0:1 / /whole\\040one rw - cgroup cgroup rw,pids\n",
            "",
        );
        assert_eq!(layout.hierarchies()[0].mount, Path::new("/whole one"));
    }
}
