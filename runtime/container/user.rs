//! Who a guest runs as: the request over the image's USER, with names looked up in the image's `/etc/passwd` and `/etc/group`.
//!
//! The rules are those that clusters know from containerd: a user given by number need not be in the image; one given by name
//! must be. Policy Merge adds the groups in which the image lists the user; Strict takes the request's alone.

use super::metadata::{GuestUser, UserRequest};

/// Why nobody can be told from the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// CRI: run_as_group must only be given with run_as_user or run_as_username.
    #[error("run_as_group {0} is given without run_as_user or run_as_username")]
    GroupWithoutUser(i64),
    /// A negative number, or one above 32 bits.
    #[error("{what} {number} is no valid id")]
    Number {
        /// Which field.
        what: &'static str,
        /// Its value.
        number: i64,
    },
    /// The image does not know the name.
    #[error("the user {0:?} is not in the image's /etc/passwd")]
    UnknownUser(String),
    /// The image does not know the name.
    #[error("the group {0:?} is not in the image's /etc/group")]
    UnknownGroup(String),
}

/// A user, and its home directory if the image names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Ids.
    pub user: GuestUser,
    /// From `/etc/passwd`.
    pub home: Option<String>,
}

/// Tells the user. `image_user` is the image's USER: empty, or `user[:group]` with names or numbers.
pub fn resolve(request: &UserRequest, image_user: &str, passwd: &str, group: &str) -> Result<Resolved, UserError> {
    if let (Some(gid), None, "") = (request.gid, request.uid, request.name.as_str()) {
        return Err(UserError::GroupWithoutUser(gid));
    }
    let (user_text, image_group) = match (request.uid, request.name.as_str()) {
        (Some(uid), _) => (id("run_as_user", uid)?.to_string(), ""),
        (None, "") => match image_user.split_once(':') {
            Some((user, group)) => (user.to_owned(), group),
            None => (image_user.to_owned(), ""),
        },
        (None, name) => (name.to_owned(), ""),
    };
    let known = Account::find(passwd, &user_text);
    let uid = match (user_text.as_str(), &known) {
        ("", _) => 0,
        (_, Some(account)) => account.uid,
        (text, None) => text.parse().map_err(|_| UserError::UnknownUser(user_text.clone()))?,
    };
    // An account found by its number lends its primary group and its home as well.
    let known = known.or_else(|| Account::find(passwd, &uid.to_string()));
    let gid = match (request.gid, image_group) {
        (Some(gid), _) => id("run_as_group", gid)?,
        (None, "") => known.as_ref().map_or(0, |account| account.gid),
        (None, name) => group_id(group, name)?,
    };
    let mut groups = vec![gid];
    let mut add = |id: u32| {
        if !groups.contains(&id) {
            groups.push(id);
        }
    };
    for group in &request.groups {
        add(id("supplemental group", *group)?);
    }
    if let (false, Some(account)) = (request.strict_groups, &known) {
        memberships(group, &account.name).for_each(&mut add);
    }
    Ok(Resolved { user: GuestUser { uid, gid, groups }, home: known.map(|account| account.home).filter(|home| !home.is_empty()) })
}

fn id(what: &'static str, number: i64) -> Result<u32, UserError> {
    // The last one is the kernel's "leave it as it is".
    u32::try_from(number).ok().filter(|id| *id != u32::MAX).ok_or(UserError::Number { what, number })
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Account {
    /// By name, or by number where no name is so.
    fn find(passwd: &str, user: &str) -> Option<Self> {
        let mut by_number = None;
        for line in passwd.lines() {
            // name:password:uid:gid:gecos:home:shell
            let mut fields = line.split(':');
            let (Some(name), _, Some(uid), Some(gid)) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>()) else { continue };
            let account = || Self { name: name.to_owned(), uid, gid, home: line.split(':').nth(5).unwrap_or("").to_owned() };
            if name == user && !name.is_empty() {
                return Some(account());
            }
            if by_number.is_none() && user.parse() == Ok(uid) {
                by_number = Some(account());
            }
        }
        by_number
    }
}

fn group_id(group: &str, wanted: &str) -> Result<u32, UserError> {
    let named = group_lines(group).find(|(name, ..)| *name == wanted).map(|(_, gid, _)| gid);
    named.or_else(|| wanted.parse().ok()).ok_or_else(|| UserError::UnknownGroup(wanted.to_owned()))
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> {
    group_lines(group).filter(move |(.., members)| members.split(',').any(|member| member == user)).map(|(_, gid, _)| gid)
}

/// name:password:gid:member,member
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:\ndefault-user:x:1000:1000::/home/d:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\ngroup-defined-in-image:x:50000:default-user,other\nwww:x:33:www-data\n";

    fn told(request: &UserRequest, image_user: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        resolve(request, image_user, PASSWD, GROUP).map(|found| (found.user.uid, found.user.gid, found.user.groups))
    }

    fn uid(uid: i64) -> UserRequest {
        UserRequest { uid: Some(uid), ..UserRequest::default() }
    }

    #[test]
    fn without_a_request_the_images_user_runs_or_else_root() {
        let request = UserRequest::default();
        assert_eq!(told(&request, "").unwrap(), (0, 0, vec![0]));
        assert_eq!(told(&request, "1002").unwrap(), (1002, 0, vec![0]));
        assert_eq!(told(&request, "nobody").unwrap(), (65534, 65533, vec![65533]));
        assert_eq!(told(&request, "1003:1004").unwrap(), (1003, 1004, vec![1004]));
        assert_eq!(told(&request, "nobody:www").unwrap(), (65534, 33, vec![33]));
        assert_eq!(told(&request, "www-data"), Err(UserError::UnknownUser("www-data".into())));
        assert_eq!(told(&request, "0:nogroup"), Err(UserError::UnknownGroup("nogroup".into())));
    }

    #[test]
    fn a_requested_user_takes_the_place_of_the_images() {
        assert_eq!(told(&uid(1001), "1003:1004").unwrap(), (1001, 0, vec![0]));
        let request = UserRequest { gid: Some(1002), ..uid(1001) };
        assert_eq!(told(&request, "").unwrap(), (1001, 1002, vec![1002]));
        let request = UserRequest { name: "nobody".into(), ..UserRequest::default() };
        assert_eq!(told(&request, "0").unwrap().0, 65534);
    }

    #[test]
    fn a_group_without_a_user_is_refused() {
        let request = UserRequest { gid: Some(1002), ..UserRequest::default() };
        assert_eq!(told(&request, "1000"), Err(UserError::GroupWithoutUser(1002)));
    }

    #[test]
    fn groups_of_the_image_are_merged_unless_the_policy_is_strict() {
        let merge = UserRequest { groups: vec![1234], ..UserRequest::default() };
        assert_eq!(told(&merge, "1000").unwrap(), (1000, 1000, vec![1000, 1234, 50000]));
        let strict = UserRequest { strict_groups: true, ..merge };
        assert_eq!(told(&strict, "1000").unwrap(), (1000, 1000, vec![1000, 1234]));
    }

    #[test]
    fn numbers_that_are_no_ids_are_refused() {
        assert!(matches!(told(&uid(-1), ""), Err(UserError::Number { .. })));
        assert!(matches!(told(&uid(i64::from(u32::MAX)), ""), Err(UserError::Number { .. })));
        let request = UserRequest { groups: vec![1 << 40], ..UserRequest::default() };
        assert!(matches!(told(&request, ""), Err(UserError::Number { .. })));
    }

    #[test]
    fn the_home_directory_is_the_images() {
        let found = resolve(&uid(1000), "", PASSWD, GROUP).unwrap();
        assert_eq!(found.home.as_deref(), Some("/home/d"));
        assert_eq!(resolve(&uid(7), "", PASSWD, GROUP).unwrap().home, None);
    }
}
