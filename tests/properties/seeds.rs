//! Which random cases are tried, and on how many threads.

use std::ops::Range;
use std::thread;

/// The usual ones; `STREAMJOB_SEEDS=<first>..<last>` tells others.
pub fn seeds(usual: Range<u64>) -> Range<u64> {
    let given = std::env::var("STREAMJOB_SEEDS").ok();
    let parsed = given.as_deref().and_then(|text| {
        let (first, last) = text.split_once("..")?;
        Some(first.parse().ok()?..last.parse().ok()?)
    });
    parsed.unwrap_or(usual)
}

/// Checks all cases on all cores; what `check` makes of each is put together with `and`.
pub fn on_all_cores<T: Default + Send>(
    seeds: Range<u64>,
    check: fn(u64) -> T,
    and: fn(T, T) -> T,
) -> T {
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    thread::scope(|scope| {
        let each: Vec<_> = (0..threads)
            .map(|thread| {
                let mine = seeds.clone().filter(move |seed| seed % threads == thread);
                scope.spawn(move || mine.map(check).fold(T::default(), and))
            })
            .collect();
        let all = each
            .into_iter()
            .map(|one| one.join().expect("all seeds of a thread hold"));
        all.fold(T::default(), and)
    })
}
