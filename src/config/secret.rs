//! References to secrets, and the vault that resolves them: values are asked for at each use and never kept in a configuration.

mod sources;
mod vault;

pub(super) use sources::read_here;
pub use vault::Vault;

use serde::de::{self, Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How `main` lets the rest of the program see the environment.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where a value is kept: `env:NAME`, `file:/path`, `ssm:/name` or `secretsmanager:name#key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// An environment variable of this process.
    Env(String),
    /// A file; its last line break is left out.
    File(PathBuf),
    /// A parameter of AWS Systems Manager Parameter Store, decrypted.
    Ssm(String),
    /// A secret of AWS Secrets Manager by name or ARN, and the key in its JSON; without a key the secret as it is.
    SecretsManager(String, Option<String>),
}

/// What a reference has to look like, for messages.
pub(super) const FORMS: &str = "env:NAME, file:/path, ssm:/name or secretsmanager:name#key";

/// Tells the reader of a configuration that the reference itself is wanted, and not what it holds.
pub(super) const WRITTEN: &str = "datapulse::written";

/// A text of the configuration: as it is, or a reference to where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// The value itself.
    Plain(String),
    /// Where the value is kept.
    Kept(Reference),
}

impl Text {
    /// Nothing, where a key may be left out.
    pub fn none() -> Self {
        Self::Plain(String::new())
    }

    /// Where it is kept, unless it stands in the configuration itself.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Plain(_) => None,
            Self::Kept(reference) => Some(reference),
        }
    }
}

/// A value that must not be seen: no `Display`, no `Serialize`, and zeroed when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The value, for the one place that hands it over.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Reference {
    /// Reads a reference; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        match scheme {
            "env" if !rest.is_empty() => Some(Self::Env(rest.to_owned())),
            "file" if !rest.is_empty() => Some(Self::File(PathBuf::from(rest))),
            "ssm" if !rest.is_empty() => Some(Self::Ssm(rest.to_owned())),
            "secretsmanager" => match rest.split_once('#') {
                Some((name, key)) if !name.is_empty() && !key.is_empty() => {
                    Some(Self::SecretsManager(name.to_owned(), Some(key.to_owned())))
                }
                None if !rest.is_empty() => Some(Self::SecretsManager(rest.to_owned(), None)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Ssm(name) => write!(f, "ssm:{name}"),
            Self::SecretsManager(name, None) => write!(f, "secretsmanager:{name}"),
            Self::SecretsManager(name, Some(key)) => write!(f, "secretsmanager:{name}#{key}"),
        }
    }
}

/// Refuses what looks like a reference and is none; taken for a plain text it would be sent to a server.
fn complete<E: de::Error>(text: &str) -> Result<(), E> {
    if text.starts_with("ssm-path:") {
        return Err(E::custom("a path names a whole target; write it as `from:` of a target"));
    }
    let schemes = ["env:", "file:", "ssm:", "secretsmanager:"];
    match schemes.iter().find(|scheme| text.starts_with(**scheme)) {
        Some(_) if Reference::parse(text).is_none() => {
            Err(E::custom(format!("not a whole reference; write {FORMS}")))
        }
        _ => Ok(()),
    }
}

/// Reads a value without looking behind its reference: secrets are asked for when they are needed.
///
/// # Errors
/// What the value is refused for.
pub(super) fn as_written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Written<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Written<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a reference")
        }
        fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
            T::deserialize(deserializer)
        }
    }
    deserializer.deserialize_newtype_struct(WRITTEN, Written(PhantomData))
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(as_written::<D, String>(deserializer)?);
        complete(&text)?;
        // The text may be a password in clear: it is not repeated in the fault.
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("a secret in clear text is not accepted here; write {FORMS}"))
        })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: String = as_written(deserializer)?;
        complete(&text)?;
        Ok(Reference::parse(&text).map_or(Self::Plain(text), Self::Kept))
    }
}

impl schemars::JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^(env|file|ssm|secretsmanager):.+$",
            "description": "where a secret is kept: env:NAME, file:/path, ssm:/name or secretsmanager:name#key; a secret in clear text is refused"
        })
    }
}

impl schemars::JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a text, or where it is kept: env:NAME, file:/path, ssm:/name or secretsmanager:name#key" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_plain_texts() {
        assert_eq!(Reference::parse("env:A"), Some(Reference::Env("A".into())));
        assert_eq!(Reference::parse("file:/a:b"), Some(Reference::File("/a:b".into())));
        assert_eq!(Reference::parse("hunter2"), None);
        assert_eq!(Reference::parse("env:"), None);
        assert_eq!(Reference::parse("ssm:/a/b"), Some(Reference::Ssm("/a/b".into())));
        let secret = |key: Option<&str>| Reference::SecretsManager("a/b".into(), key.map(str::to_owned));
        assert_eq!(Reference::parse("secretsmanager:a/b"), Some(secret(None)));
        assert_eq!(Reference::parse("secretsmanager:a/b#k"), Some(secret(Some("k"))));
        assert_eq!(Reference::parse("secretsmanager:a/b#"), None);
        for text in ["env:A", "file:/a", "ssm:/a/b", "secretsmanager:a/b", "secretsmanager:a/b#k"] {
            assert_eq!(Reference::parse(text).map(|reference| reference.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret(Zeroizing::new("canary".into()))), "Secret(***)");
    }
}
