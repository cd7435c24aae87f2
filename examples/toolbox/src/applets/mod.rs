//! The tools. Each is an `async fn` of its context; this is their table.

pub mod basic;
pub mod bytes;
pub mod columns;
pub mod copy;
pub mod date;
pub mod diff;
pub mod expr;
pub mod files;
pub mod find;
pub mod format;
pub mod grep;
pub mod gzip;
pub mod kernel;
pub mod lines;
pub mod links;
pub mod ls;
pub mod numbers;
pub mod pager;
pub mod process;
pub mod refused;
pub mod sed;
pub mod signals;
pub mod sort;
pub mod status;
pub mod stream;
pub mod sums;
pub mod tail;
pub mod tar;
pub mod test;
pub mod users;
pub mod xargs;

use crate::applet;
use crate::context::Applet;
use crate::shell;

static TABLES: &[&[Applet]] = &[
    &[applet!("sh", shell::shell), applet!("ash", shell::shell), applet!("bash", shell::shell), applet!("dash", shell::shell)],
    basic::APPLETS,
    bytes::APPLETS,
    columns::APPLETS,
    copy::APPLETS,
    date::APPLETS,
    diff::APPLETS,
    expr::APPLETS,
    files::APPLETS,
    find::APPLETS,
    grep::APPLETS,
    gzip::APPLETS,
    kernel::APPLETS,
    lines::APPLETS,
    links::APPLETS,
    ls::APPLETS,
    pager::APPLETS,
    process::APPLETS,
    refused::APPLETS,
    sed::APPLETS,
    sort::APPLETS,
    status::APPLETS,
    stream::APPLETS,
    sums::APPLETS,
    tail::APPLETS,
    tar::APPLETS,
    test::APPLETS,
    users::APPLETS,
    xargs::APPLETS,
];

/// All applets.
pub fn all() -> impl Iterator<Item = &'static Applet> {
    TABLES.iter().copied().flatten()
}

/// The applet of a name.
pub fn find(name: &str) -> Option<&'static Applet> {
    all().find(|applet| applet.name == name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_image_has_a_link_for_every_applet() {
        let mut names: Vec<&str> = super::all().map(|applet| applet.name).collect();
        names.sort_unstable();
        let listed: Vec<&str> = include_str!("../../applets.txt").lines().collect();
        assert_eq!(names, listed, "toolbox --list >examples/toolbox/applets.txt");
        names.dedup();
        assert_eq!(names.len(), listed.len(), "a name twice");
    }
}
