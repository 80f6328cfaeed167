//! Secrets: values that a job names but never holds, read from `<secrets dir>/<name>/<key>`, as Kubernetes mounts them.

use std::fmt;
use std::path::{Path, PathBuf};

use streamjob_crds::SecretKeyRef;

/// The folder that holds one folder per Secret.
#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
}

/// A secret value. It cannot be printed by accident: ask for it with [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "secret `{name}` has no key `{key}`: expected the file {path} (--secrets-dir names the folder of the secrets)"
    )]
    Missing {
        name: String,
        key: String,
        path: PathBuf,
    },
    #[error("cannot read the secret file {path}: {error}")]
    Unreadable {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("the secret file {path} is not UTF-8 text")]
    NotText { path: PathBuf },
    #[error("the secret file {path} is empty")]
    Empty { path: PathBuf },
    #[error("`{0}` is not the name of a secret or key: letters, digits, `-`, `_` and `.` only")]
    BadName(String),
}

impl Secrets {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Secrets { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn read(&self, reference: &SecretKeyRef) -> Result<Secret, SecretError> {
        self.read_key(&reference.name, &reference.key)
    }

    /// The value without the newline that editors leave at its end.
    pub fn read_key(&self, name: &str, key: &str) -> Result<Secret, SecretError> {
        let path = self.dir.join(plain(name)?).join(plain(key)?);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => SecretError::Missing {
                name: name.to_owned(),
                key: key.to_owned(),
                path: path.clone(),
            },
            _ => SecretError::Unreadable {
                path: path.clone(),
                error,
            },
        })?;
        let text =
            String::from_utf8(bytes).map_err(|_| SecretError::NotText { path: path.clone() })?;
        let value = text.trim_end_matches(['\r', '\n']);
        match value.is_empty() {
            true => Err(SecretError::Empty { path }),
            false => Ok(Secret(value.to_owned())),
        }
    }
}

/// Refuses names that would lead out of the secrets' folder.
fn plain(name: &str) -> Result<&str, SecretError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && name != "." && name != ".." && name.chars().all(allowed) {
        true => Ok(name),
        false => Err(SecretError::BadName(name.to_owned())),
    }
}

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_trimmed_and_hides() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("kafka-user")).unwrap();
        std::fs::write(dir.path().join("kafka-user/password"), " pass word \r\n").unwrap();
        let secret = Secrets::new(dir.path())
            .read_key("kafka-user", "password")
            .unwrap();
        assert_eq!(secret.reveal(), " pass word ");
        assert!(!format!("{secret:?}").contains("pass"));
    }

    #[test]
    fn says_which_file_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(dir.path());
        let error = secrets
            .read_key("s3", "accessKeyId")
            .unwrap_err()
            .to_string();
        let path = dir.path().join("s3/accessKeyId");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        for (name, key) in [
            ("..", "key"),
            ("a/b", "key"),
            ("s3", "../../etc/passwd"),
            ("s3", ""),
        ] {
            let refused = secrets.read_key(name, key);
            assert!(
                matches!(refused, Err(SecretError::BadName(_))),
                "{name} {key}"
            );
        }
    }
}
