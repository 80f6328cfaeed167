//! Checkpoints in a local folder. (On a real S3 server: in the scenarios.)

use super::*;

fn data(epoch: u64) -> CheckpointData {
    CheckpointData {
        job: "shop.orders".to_owned(),
        slot: 3,
        epoch,
        term: 2,
        incarnation: "a1b2".to_owned(),
        plan: "kind: StreamJob\n".to_owned(),
        parts: vec![
            (
                "0/clicks".to_owned(),
                Bytes::from_static(b"state of clicks"),
            ),
            ("1/empty".to_owned(), Bytes::new()),
            ("1/big".to_owned(), Bytes::from(vec![7; 3 << 20])),
        ],
    }
}

fn local(root: &Path) -> Checkpoints {
    let config = StorageConfig::Local {
        root: root.to_owned(),
    };
    Checkpoints::open(&config, "shop.orders", &Secrets::new("none")).unwrap()
}

fn put(checkpoints: &Checkpoints, data: CheckpointData) -> CheckpointRef {
    let outcome = checkpoints.upload(data).wait(Duration::from_secs(60));
    outcome.unwrap().unwrap().reference
}

/// All files below a folder.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn comes_back_as_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = local(dir.path());
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    let reference = put(&checkpoints, data(5));
    assert!(reference.manifest.starts_with("shop.orders/3/5-2-a1b2-"));
    assert_eq!(checkpoints.fetch(&reference).unwrap(), data(5));
    assert_eq!(local(dir.path()).fetch(&reference).unwrap(), data(5));
}

#[test]
fn every_damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = local(dir.path());
    let reference = put(&checkpoints, data(5));
    for path in files(dir.path()) {
        let whole = std::fs::read(&path).unwrap();
        let broken = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            let error = checkpoints.fetch(&reference).unwrap_err();
            assert!(error.is_damage(), "{path:?}: {error}");
        };
        for at in [0, whole.len() / 2, whole.len().saturating_sub(2)] {
            let mut flipped = whole.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1;
                broken(&flipped);
                broken(&whole[..at]);
            }
        }
        std::fs::remove_file(&path).unwrap();
        let error = checkpoints.fetch(&reference).unwrap_err();
        assert!(error.is_damage(), "{path:?}: {error}");
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(checkpoints.fetch(&reference).unwrap(), data(5));
    let other = CheckpointRef {
        epoch: 6,
        ..reference
    };
    assert!(checkpoints.fetch(&other).unwrap_err().is_damage());
}

#[test]
fn deletes_one_and_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = local(dir.path());
    let (old, new) = (put(&checkpoints, data(5)), put(&checkpoints, data(6)));
    checkpoints.delete(old.clone());
    checkpoints.settle(Duration::from_secs(20));
    assert!(checkpoints.fetch(&old).unwrap_err().is_damage());
    let folder = dir.path().join(folder_of(&old.manifest));
    assert!(!folder.exists(), "{folder:?}");
    assert_eq!(checkpoints.fetch(&new).unwrap(), data(6));
}

#[test]
fn an_upload_that_failed_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = local(dir.path());
    let folder = dir.path().join("shop.orders/3/5-2-a1b2-0");
    // The manifest's place is taken, by something else.
    std::fs::create_dir_all(folder.join(manifest::NAME)).unwrap();
    let outcome = checkpoints
        .upload(data(5))
        .wait(Duration::from_secs(60))
        .unwrap();
    assert!(outcome.is_err());
    std::fs::remove_dir(folder.join(manifest::NAME)).unwrap();
    checkpoints.settle(Duration::from_secs(20));
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    put(&checkpoints, data(5));
}

#[test]
fn creating_twice_is_one_if_the_content_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let storage = local::Local::new(dir.path().to_owned());
    let create =
        |text: &'static [u8]| runtime.block_on(storage.create("a/b", Bytes::from_static(text)));
    create(b"one").unwrap();
    create(b"one").unwrap();
    assert!(matches!(create(b"two"), Err(StorageError::Taken { .. })));
    assert_eq!(files(dir.path()), [dir.path().join("a/b")]);
    assert_eq!(std::fs::read(dir.path().join("a/b")).unwrap(), b"one");
}

#[test]
fn a_folder_that_cannot_be_used_is_said_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = StorageConfig::Local {
        root: file.path().join("below"),
    };
    let error = Checkpoints::open(&config, "u", &Secrets::new("none"))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains(file.path().to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn an_unreachable_server_is_told_from_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = StorageConfig::S3 {
        connection: S3Connection {
            endpoint: Some(format!("http://{address}")),
            region: None,
            bucket: "streams".to_owned(),
            path_style: true,
            credentials_secret_ref: Some(streamjob_crds::SecretRef {
                name: "s3".to_owned(),
            }),
        },
        prefix: String::new(),
    };
    let secrets = Secrets::new(dir.path());
    let open = || match Checkpoints::open(&config, "u", &secrets) {
        Err(CheckpointError::Storage(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    };
    assert!(matches!(open(), StorageError::Refused { .. }));
    std::fs::create_dir(dir.path().join("s3")).unwrap();
    for key in ["accessKeyId", "secretAccessKey"] {
        std::fs::write(dir.path().join("s3").join(key), "secret0\n").unwrap();
    }
    let error = open();
    assert!(matches!(error, StorageError::Unreachable { .. }), "{error}");
    assert!(!error.to_string().contains("secret0"));
}

#[test]
fn a_job_is_forgotten_with_all_that_nobody_knows_of() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = local(dir.path());
    put(&checkpoints, data(5));
    checkpoints
        .create("shop.orders/3/left-behind", Bytes::new())
        .unwrap();
    let other = CheckpointData {
        job: "shop.orders2".into(),
        ..data(5)
    };
    let kept = put(&checkpoints, other.clone());
    assert!(checkpoints.delete_all("shop.orders").unwrap() >= 3);
    assert_eq!(checkpoints.delete_all("shop.orders").unwrap(), 0);
    assert_eq!(checkpoints.fetch(&kept).unwrap(), other);
}
