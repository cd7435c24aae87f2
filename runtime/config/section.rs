//! The macro that declares a table of the configuration once.

/// A table of the configuration, as the macro below describes it.
pub(super) trait Section {
    /// Each key with its doc comment, line by line, in the order of declaration.
    const KEYS: &'static [(&'static str, &'static [&'static str])];
}

/// Declares a struct with `/// comment  pub key: Type = default,` lines, and from them: serde that refuses unknown
/// keys and takes defaults for those that are not given, `Default`, and [`Section::KEYS`].
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ pub $key:ident : $type:ty = $default:expr, )*
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $key: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $key: $default, )* }
            }
        }

        impl $crate::config::section::Section for $name {
            const KEYS: &'static [(&'static str, &'static [&'static str])] =
                &[ $( (stringify!($key), &[ $($doc),+ ]), )* ];
        }
    };
}
