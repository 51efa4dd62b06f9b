use super::*;

#[test]
fn what_was_synced_survives_and_what_was_not_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = disk.create("a", 0).unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        file.sync().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(2048, &[2; 2048]).unwrap();
        disk.crash();
        let bytes = disk.contents("a");
        assert_eq!(bytes.get(..2048), Some([1; 2048].as_slice()));
        lost += usize::from(bytes.get(2048..) != Some([2; 2048].as_slice()));
        assert!(file.read_at(0, &mut [0]).is_err(), "a handle from before");
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn a_file_whose_directory_was_not_synced_may_be_gone() {
    let gone = (0..50).filter(|seed| {
        let disk = SimDisk::new(*seed);
        disk.create("a", 0).unwrap().sync().unwrap();
        disk.crash();
        disk.files().is_empty()
    });
    assert!((10..40).contains(&gone.count()));
}

#[test]
fn a_removed_file_may_be_back_with_what_was_synced_in_it() {
    let back = (0..50).filter(|seed| {
        let disk = SimDisk::new(*seed);
        let file = disk.create("a", 0).unwrap();
        file.write_at(0, &[1; 100]).unwrap();
        file.sync().unwrap();
        disk.remove("a").unwrap();
        assert!(disk.files().is_empty());
        disk.crash();
        disk.contents("a") == [1; 100]
    });
    assert!((5..25).contains(&back.count()));
}

#[test]
fn a_failed_sync_of_the_directory_may_have_done_its_work() {
    let there = (0..50).filter(|seed| {
        let disk = SimDisk::new(*seed);
        disk.create("a", 0).unwrap();
        disk.set_faults(Faults {
            sync: 100,
            ..Faults::default()
        });
        disk.sync_dir().unwrap_err();
        disk.remove("a").unwrap();
        disk.crash();
        !disk.files().is_empty()
    });
    // Half of them by the sync, half of those kept by the lost removal; others by the crash.
    assert!((10..40).contains(&there.count()));
}

#[test]
fn a_failed_sync_loses_what_the_next_one_says_is_durable() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = disk.create("a", 0).unwrap();
        disk.sync_dir().unwrap();
        disk.set_faults(Faults {
            sync: 100,
            ..Faults::default()
        });
        file.write_at(0, &[1; 100]).unwrap();
        file.sync().unwrap_err();
        disk.set_faults(Faults::default());
        file.sync().unwrap();
        disk.crash();
        lost += usize::from(disk.contents("a").first() != Some(&1));
    }
    assert!(lost > 5, "{lost}");
}
