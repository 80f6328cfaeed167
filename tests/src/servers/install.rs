//! Installs the servers when they are missing, once a machine: Kafka's jars by Maven, the S3 server and Kubernetes by Go.
//!
//! Everything lands in the cache folder, under a name with a digest of the coordinates: new coordinates are a new
//! folder. A lock file makes concurrent test processes wait for the one that installs.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::scratch::cache_folder;

const KAFKA_POM: &str = include_str!("../../servers/kafka/pom.xml");
const S3_GO_MOD: &str = include_str!("../../servers/s3/go.mod");
const S3_GO_SUM: &str = include_str!("../../servers/s3/go.sum");
const KUBERNETES: [(&str, &str); 4] = [
    ("go.mod", include_str!("../../servers/kubernetes/go.mod")),
    ("go.sum", include_str!("../../servers/kubernetes/go.sum")),
    ("main.go", include_str!("../../servers/kubernetes/main.go")),
    ("dns.go", include_str!("../../servers/kubernetes/dns.go")),
];

/// The folder with Kafka's jars.
pub fn kafka_jars() -> Result<PathBuf> {
    installed("kafka", KAFKA_POM, |folder| {
        fs::write(folder.join("pom.xml"), KAFKA_POM)?;
        let mut maven = Command::new("mvn");
        maven.args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=lib",
        ]);
        run(maven.current_dir(folder))
    })
    .map(|folder| folder.join("lib"))
}

/// The S3 server's binary.
pub fn s3_binary() -> Result<PathBuf> {
    installed("s3", &format!("{S3_GO_MOD}{S3_GO_SUM}"), |folder| {
        fs::write(folder.join("go.mod"), S3_GO_MOD)?;
        fs::write(folder.join("go.sum"), S3_GO_SUM)?;
        go_build(
            folder,
            "versitygw",
            "",
            "github.com/versity/versitygw/cmd/versitygw",
        )
    })
    .map(|folder| folder.join("versitygw"))
}

/// The folder with Kubernetes' components, `kubectl` and `helm`. Two cores take five minutes to build them.
pub fn kubernetes() -> Result<PathBuf> {
    let coordinates: String = KUBERNETES.iter().map(|(_, text)| *text).collect();
    installed("kubernetes", &coordinates, |folder| {
        for (name, text) in KUBERNETES {
            fs::write(folder.join(name), text)?;
        }
        let version = "-X k8s.io/component-base/version.gitVersion=v1.33.13";
        go_build(folder, "kubernetes", version, ".")?;
        go_build(folder, "helm", "", "helm.sh/helm/v3/cmd/helm")?;
        for component in [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
            "cluster-dns",
        ] {
            std::os::unix::fs::symlink("kubernetes", folder.join(component))?;
        }
        Ok(())
    })
}

fn go_build(folder: &Path, out: &str, flags: &str, package: &str) -> Result<()> {
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-ldflags", &format!("-s -w {flags}")]);
    go.args(["-o", out, package]);
    go.env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("CGO_ENABLED", "0");
    run(go.current_dir(folder))
}

/// Runs `install` in an empty folder, unless an earlier run of it succeeded.
fn installed(
    name: &str,
    coordinates: &str,
    install: impl Fn(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let servers = cache_folder().join("servers");
    fs::create_dir_all(&servers).with_context(|| format!("creating {}", servers.display()))?;
    let folder = servers.join(format!("{name}-{:016x}", digest(coordinates)));
    let lock = File::create(servers.join(format!("{name}.lock")))?;
    lock.lock()
        .context("waiting for another process that installs")?;
    if !folder.exists() {
        eprintln!("installing {name} into {} (once)", folder.display());
        let draft = folder.with_extension("draft");
        let _ = fs::remove_dir_all(&draft);
        fs::create_dir_all(&draft)?;
        install(&draft).with_context(|| format!("installing {name}"))?;
        fs::rename(&draft, &folder)?;
    }
    Ok(folder)
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Runs a command to its end; its output is in the error if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!(
            "{command:?} failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&text)
        );
    }
    Ok(())
}
