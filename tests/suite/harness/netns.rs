//! A network of the test's own, and code that runs in another network namespace.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::LinkNameSpaceType;

/// Makes a network namespace with lo up, and returns its file. It goes with the place of its name.
pub fn make(name: &str) -> PathBuf {
    run(&["netns", "add", name]);
    run(&["-n", name, "link", "set", "lo", "up"]);
    Path::new("/run/netns").join(name)
}

/// The output of `ip` with these arguments.
pub fn run(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("the program ip");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs code in the network namespace of a file, on a thread that ends with it.
pub fn inside<T: Send>(namespace: &Path, code: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            let file = std::fs::File::open(namespace).expect("a network namespace");
            rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("a network namespace");
            code()
        });
        entered.join().expect("the code does not panic")
    })
}
