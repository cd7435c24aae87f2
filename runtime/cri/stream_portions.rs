//! The lists of the Stream… calls: the same items as those of the List… calls, in messages of a modest size.
//!
//! What matches is settled when the call comes, and each item is looked at when its message is made, which is when the client takes
//! it. So a list of any length costs a reference per object, and a message.

use futures_util::stream::{self, Stream};
use prost::Message;

use super::error::Error;

/// A message is sent once its items have this size together, in bytes: large enough that messages do not count, and far below what
/// clients take (the kubelet: 16 MiB), however long the last item is.
const PORTION: usize = 64 << 10;

/// Messages with the items of these objects, each item in one of them. No objects: no message.
pub(super) fn portions<T, I, A>(
    objects: Vec<T>,
    item: impl Fn(T) -> I + Send + 'static,
    message: impl Fn(Vec<I>) -> A + Send + 'static,
) -> impl Stream<Item = Result<A, Error>> + Send + 'static
where
    T: Send + 'static,
    I: Message,
{
    let mut objects = objects.into_iter();
    stream::iter(std::iter::from_fn(move || {
        let mut items = Vec::new();
        let mut size = 0;
        while size < PORTION
            && let Some(object) = objects.next()
        {
            let item = item(object);
            size += item.encoded_len();
            items.push(item);
        }
        (!items.is_empty()).then(|| Ok(message(items)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    async fn sizes(items: Vec<String>) -> Vec<usize> {
        let portions = portions(items, |item| item, |portion| portion.len());
        portions.map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn each_item_is_in_one_message_and_none_is_much_longer_than_a_portion() {
        assert!(sizes(Vec::new()).await.is_empty());
        assert_eq!(sizes(vec!["small".to_owned(); 7]).await, [7]);
        assert_eq!(sizes(vec!["x".repeat(PORTION / 2); 5]).await, [2, 2, 1]);
        assert_eq!(sizes(vec!["x".repeat(3 * PORTION); 3]).await, [1, 1, 1]);
    }
}
