//! A real Kubernetes of one node: its components are built once from their sources, containers run by containerd. Needs root.
//!
//! Everything runs in a mount and pid namespace of its own, whose first process is a child of the test: nothing outlives it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::install;
use crate::machine;
use crate::process::{Process, wait_until};
use crate::scratch::{Scratch, cache_folder};
use crate::worker::binary;

const CLUSTER: &str = include_str!("../../servers/kubernetes/cluster");
const PAUSE: &str = include_str!("../../servers/kubernetes/pause.c");
const START_LIMIT: Duration = Duration::from_secs(180);

/// The host, as pods and the host itself reach it: servers that pods dial listen here.
pub const HOST: &str = "10.244.0.1";
/// The image of operator and workers.
pub const REPOSITORY: &str = "localhost/streamjob";
pub const TAG: &str = "test";
/// That of [`Kubernetes::add_next_image`].
pub const NEXT_TAG: &str = "next";

/// A version that is as long as this one, and another.
pub fn next_version() -> String {
    let mut version = env!("CARGO_PKG_VERSION").to_owned();
    let patch = version.pop();
    version.push(if patch == Some('1') { '2' } else { '1' });
    version
}

pub struct Kubernetes {
    // The namespace goes first, then what it left on the machine, then the folder.
    namespace: Option<Process>,
    bin: PathBuf,
    script: PathBuf,
    scratch: Scratch,
    /// One cluster a machine.
    _lock: fs::File,
}

impl Kubernetes {
    /// Starts a cluster that has the image of this workspace's binaries.
    pub fn start() -> Result<Kubernetes> {
        let missing: Vec<&str> = ["containerd", "runc", "nft", "ip", "openssl", "gcc", "strip"]
            .into_iter()
            .filter(|tool| !is_installed(tool))
            .collect();
        ensure!(
            missing.is_empty(),
            "a cluster needs {missing:?}: apt-get install containerd runc containernetworking-plugins nftables iptables iproute2 conntrack ethtool socat kmod openssl g++"
        );
        let lock = fs::File::create(cache_folder().join("cluster.lock"))?;
        lock.lock().context("waiting for another test's cluster")?;
        let bin = install::kubernetes()?;
        let scratch = Scratch::new("kubernetes");
        let script = scratch.write("cluster", CLUSTER);
        images(scratch.path())?;
        let mut kubernetes = Kubernetes {
            namespace: None,
            bin,
            script,
            scratch,
            _lock: lock,
        };
        kubernetes.script("clean")?; // what a machine that went away may have left
        kubernetes.script("prepare")?;
        kubernetes.launch()?;
        kubernetes.await_ready()?;
        Ok(kubernetes)
    }

    fn launch(&mut self) -> Result<()> {
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
        ]);
        unshare.arg(&self.script).arg("run");
        unshare.arg(self.scratch.path()).arg(&self.bin);
        self.namespace = Some(Process::start(unshare, "namespace", self.scratch.path())?);
        Ok(())
    }

    fn await_ready(&self) -> Result<()> {
        let ready = wait_until(START_LIMIT, || {
            let nodes = self.try_kubectl([
                "wait",
                "--for=condition=Ready",
                "node/node1",
                "--timeout=1s",
            ]);
            let account = self.try_kubectl(["-n", "default", "get", "serviceaccount", "default"]);
            let dns = self.namespace.as_ref()?.stdout().contains("started");
            (dns && succeeded(&nodes) && succeeded(&account)).then_some(())
        });
        let log = || {
            self.namespace
                .as_ref()
                .map(Process::tail)
                .unwrap_or_default()
        };
        ready.with_context(|| {
            let logs = self.scratch.path().join("logs");
            format!(
                "the cluster does not get ready: see {}; {}",
                logs.display(),
                log()
            )
        })
    }

    fn script(&self, action: &str) -> Result<()> {
        let mut bash = Command::new("bash");
        bash.arg(&self.script).arg(action);
        install::run(bash.arg(self.scratch.path()).arg(&self.bin))
    }

    /// `kubectl <arguments>`: what it printed.
    pub fn kubectl<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        let output = self.try_kubectl(arguments)?;
        printed("kubectl", output)
    }

    /// `kubectl <arguments>`, whatever comes of it.
    pub fn try_kubectl<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Output> {
        Ok(self.tool("kubectl").args(arguments).output()?)
    }

    pub fn helm<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        printed("helm", self.tool("helm").args(arguments).output()?)
    }

    /// Applies a manifest.
    pub fn apply(&self, namespace: &str, name: &str, manifest: &str) -> Result<String> {
        let file = self.scratch.write(name, manifest);
        let file = file.to_string_lossy();
        self.kubectl(["-n", namespace, "apply", "-f", file.as_ref()])
    }

    /// Sends a signal to a component of the cluster. One that ends is started again.
    pub fn signal(&self, component: &str, signal: i32) -> Result<()> {
        let state = self.scratch.path().to_string_lossy();
        let pids = machine::running(component, &state);
        machine::signal(&pids, signal).with_context(|| component.to_owned())
    }

    /// Sends a signal to a program in a pod, from outside of it.
    pub fn signal_pod(&self, program: &str, pod: &str, signal: i32) -> Result<()> {
        let pids = machine::running_with(program, &format!("POD_NAME={pod}"));
        machine::signal(&pids, signal).with_context(|| pod.to_owned())
    }

    /// What was asked of the apiserver by accounts that are not its own, a JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.scratch.path().join("logs/audit.log")
    }

    /// Another image of this workspace's binaries, which call themselves another version: see [`next_version`].
    pub fn add_next_image(&self) -> Result<()> {
        let folder = self.scratch.path().join("next");
        fs::create_dir_all(&folder)?;
        let (this, next) = (env!("CARGO_PKG_VERSION"), next_version());
        let mut binaries = Vec::new();
        for name in ["streamjob-worker", "streamjob-operator"] {
            let mut bytes = fs::read(binary(name)?)?;
            let found = replace(&mut bytes, this.as_bytes(), next.as_bytes());
            ensure!(found > 0, "{name} does not know its version");
            let path = folder.join(name);
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            binaries.push(path);
        }
        let tar = folder.join("next.tar");
        image(&tar, &format!("{REPOSITORY}:{NEXT_TAG}"), &binaries)?;
        let mut ctr = Command::new("ctr");
        ctr.arg("-a")
            .arg(self.scratch.path().join("run/containerd.sock"));
        ctr.args(["-n", "k8s.io", "images", "import"]).arg(&tar);
        install::run(&mut ctr)
    }

    /// One of the cluster's command-line tools, as its administrator.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .env("KUBECONFIG", self.scratch.path().join("admin.kubeconfig"))
            .env("HOME", self.scratch.path())
            .current_dir(self.scratch.path());
        command
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        if crate::failure::failing()
            && let Ok(told) = self.kubectl(["get", "pods,streamjobs,events", "-A", "-o", "wide"])
        {
            eprintln!("{told}");
        }
        self.namespace = None;
        if let Err(error) = self.script("clean") {
            eprintln!("cleaning up after the cluster: {error:#}");
        }
    }
}

/// Writes `by` over each `what`, which is as long, and says how many there were.
fn replace(bytes: &mut [u8], what: &[u8], by: &[u8]) -> usize {
    let starts: Vec<usize> = bytes
        .windows(what.len())
        .enumerate()
        .filter_map(|(start, window)| (window == what).then_some(start))
        .collect();
    for start in &starts {
        bytes[*start..start + by.len()].copy_from_slice(by);
    }
    starts.len()
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

fn succeeded(output: &Result<Output>) -> bool {
    output.as_ref().is_ok_and(|output| output.status.success())
}

fn printed(tool: &str, output: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{tool} failed ({}): {text}{error}", output.status);
    }
    Ok(text)
}

/// The images that the cluster starts with, as files.
fn images(state: &Path) -> Result<()> {
    let folder = state.join("images");
    fs::create_dir_all(&folder)?;
    let source = state.join("pause.c");
    fs::write(&source, PAUSE)?;
    let pause = state.join("pause");
    let mut gcc = Command::new("gcc");
    gcc.args(["-Os", "-static", "-s", "-o"]).arg(&pause);
    install::run(gcc.arg(&source))?;
    image(&folder.join("pause.tar"), "localhost/pause:1", &[pause])?;
    image(
        &folder.join("streamjob.tar"),
        &format!("{REPOSITORY}:{TAG}"),
        &[binary("streamjob-worker")?, binary("streamjob-operator")?],
    )
}

/// As everybody makes it: `image/build`.
fn image(out: &Path, name: &str, binaries: &[PathBuf]) -> Result<()> {
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../image/build");
    install::run(Command::new(build).arg(out).arg(name).args(binaries))
}
