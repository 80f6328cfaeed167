//! `streamjob-worker`: see `streamjob-worker --help`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    streamjob_worker::cli::main().into()
}
