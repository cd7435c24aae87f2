//! From our images to CRI's messages.

use images::Image;

use crate::proto::runtime::v1 as cri;

/// An image; the same image is always the same message. Who has `pinned` images asks that they be kept.
pub fn image(image: &Image, pinned: bool) -> cri::Image {
    // `1002`, `1003:1004`, `www-data`, `www-data:1004`: the kubelet checks runAsNonRoot by the first part.
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    cri::Image {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: uid.map(|value| cri::Int64Value { value }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: None,
        pinned,
    }
}
