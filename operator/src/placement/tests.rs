//! Slots move when they must, as few as possible, and never with a lower term.

use super::*;

fn workers(standings: &[(u32, Standing)]) -> Vec<Worker> {
    let worker = |(ordinal, standing): &(u32, Standing)| Worker {
        pod: format!("job-{ordinal}"),
        standing: *standing,
    };
    standings.iter().map(worker).collect()
}

fn fit(count: u32) -> Vec<Worker> {
    let all: Vec<_> = (0..count).map(|ordinal| (ordinal, Standing::Fit)).collect();
    workers(&all)
}

fn loads(placement: &Placement) -> BTreeMap<&str, usize> {
    let mut loads = BTreeMap::new();
    for place in placement.slots.values() {
        *loads.entry(place.pod.as_str()).or_default() += 1;
    }
    loads
}

fn moved(before: &Placement, after: &Placement) -> Vec<u32> {
    let changed = |slot: &u32| before.slots.get(slot) != after.slots.get(slot);
    after.slots.keys().copied().filter(changed).collect()
}

/// Places until nothing moves any more, and checks each round.
fn settle(mut placement: Placement, workers: &[Worker]) -> (Placement, usize) {
    let mut all = 0;
    for round in 0..100 {
        let next = place(&placement, 0, workers, true, 100);
        let moves = moved(&placement, &next);
        for slot in &moves {
            assert!(next.slots[slot].term > placement.slots[slot].term);
        }
        if moves.is_empty() {
            return (placement, all);
        }
        all += moves.len();
        placement = next;
        assert!(round < 99, "it does not come to rest");
    }
    (placement, all)
}

#[test]
fn the_first_placement_is_even() {
    let placement = place(&Placement::default(), 8, &fit(3), false, 100);
    assert_eq!(placement.slots.len(), 8);
    assert_eq!(
        loads(&placement).into_values().collect::<Vec<_>>(),
        [3, 3, 2]
    );
    assert!(
        placement
            .slots
            .values()
            .all(|place| place.term == 100 && place.from.is_none())
    );
    assert_eq!(place(&placement, 8, &fit(3), true, 200), placement);
}

#[test]
fn without_a_worker_all_stays() {
    let placement = place(&Placement::default(), 4, &fit(1), true, 100);
    assert_eq!(place(&placement, 4, &[], true, 200), placement);
    let ending = workers(&[(0, Standing::Ending)]);
    assert_eq!(place(&placement, 4, &ending, true, 200), placement);
}

#[test]
fn scaling_up_moves_as_few_as_possible_one_to_a_worker_at_a_time() {
    let one = place(&Placement::default(), 8, &fit(1), true, 100);
    let first = place(&one, 8, &fit(4), true, 200);
    assert_eq!(moved(&one, &first).len(), 3);
    for slot in moved(&one, &first) {
        assert_eq!(first.slots[&slot].from.as_deref(), Some("job-0"));
        assert_eq!(first.slots[&slot].term, 200);
    }
    assert_eq!(
        place(&first, 8, &fit(4), false, 300),
        first,
        "some are on their way"
    );
    let (four, moves) = settle(one, &fit(4));
    assert_eq!(moves, 6);
    assert!(loads(&four).values().all(|load| *load == 2));
}

#[test]
fn scaling_down_drains_first() {
    let four = place(&Placement::default(), 8, &fit(4), true, 100);
    let mut leaving = fit(4);
    leaving[2].standing = Standing::Leaving;
    leaving[3].standing = Standing::Leaving;
    let first = place(&four, 8, &leaving, true, 200);
    assert_eq!(moved(&four, &first).len(), 2, "one to each that receives");
    let (two, moves) = settle(four, &leaving);
    assert_eq!(moves, 4, "slots of workers that stay do not move");
    assert_eq!(loads(&two), BTreeMap::from([("job-0", 4), ("job-1", 4)]));
}

#[test]
fn the_slots_of_a_dead_worker_move_at_once_and_wait_for_nobody() {
    let three = place(&Placement::default(), 9, &fit(3), true, 100);
    let left = workers(&[(0, Standing::Fit), (2, Standing::Fit)]);
    let after = place(&three, 9, &left, false, 50);
    let moves = moved(&three, &after);
    assert_eq!(moves.len(), 3);
    for slot in moves {
        assert_eq!(three.slots[&slot].pod, "job-1");
        assert_eq!(
            after.slots[&slot].term, 101,
            "a clock that went back lowers no term"
        );
        assert_eq!(after.slots[&slot].from, None);
    }
    assert_eq!(loads(&after).into_values().max(), Some(5));
}

#[test]
fn an_ending_worker_hands_over() {
    let two = place(&Placement::default(), 4, &fit(2), true, 100);
    let ending = workers(&[(0, Standing::Fit), (1, Standing::Ending)]);
    let after = place(&two, 4, &ending, false, 200);
    assert_eq!(loads(&after), BTreeMap::from([("job-0", 4)]));
    let slots = moved(&two, &after);
    assert_eq!(slots.len(), 2);
    assert_eq!(after.slots[&slots[0]].from.as_deref(), Some("job-1"));
}

#[test]
fn any_history_of_workers_ends_even() {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for slots in [1, 5, 8, 64] {
        let mut placement = place(&Placement::default(), slots, &fit(1), true, 1);
        for _ in 0..50 {
            let standing = |number| match number {
                0 => Standing::Leaving,
                1 => Standing::Ending,
                _ => Standing::Fit,
            };
            let count = 1 + random(9) as u32;
            let mut some: Vec<_> = (0..count)
                .map(|ordinal| (ordinal, standing(random(6))))
                .collect();
            some[0].1 = Standing::Fit;
            let some = workers(&some);
            placement = settle(placement, &some).0;
            let loads = loads(&placement);
            let fit = of_standing(&some, Standing::Fit);
            let most = (slots as usize).div_ceil(fit.len());
            assert!(
                loads
                    .iter()
                    .all(|(pod, load)| fit.contains(pod) && *load <= most),
                "{loads:?}"
            );
        }
    }
}
