//! Landlock: a second lock on the file system, after the mount namespace.
//!
//! Below the container's root everything stays as the mounts and modes say, except what no guest needs and an escape would want:
//! executing a file, making device nodes, device ioctls; and, where the kernel can, signals and abstract sockets to the outside.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};

use super::JailError;

/// The newest Landlock whose rights are named here; older kernels enforce the part of it that they know.
const NEWEST: ABI = ABI::V6;

/// Restricts the calling thread, and all that it starts, for good.
pub(super) fn restrict() -> Result<(), JailError> {
    let handled = AccessFs::from_all(NEWEST);
    let allowed = handled & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let apply = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(handled)?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rule(PathBeneath::new(PathFd::new("/")?, allowed))?
            .restrict_self()?;
        Ok(())
    };
    apply().map_err(|error| JailError::new("restricting file access with Landlock", std::io::Error::other(error)))
}
