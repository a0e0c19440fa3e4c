//! What every backend of the disk must do, as cases over an empty log directory.
//!
//! The real backends and the simulated disk pass the same cases, so what is proved on the simulated one holds for the
//! others as far as these cases reach.

mod queues;

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    thread,
};

use duramen::storage::{
    Access, EntryKind, File, MappedFile, Op, Storage, read_at, read_exact_at, read_file, send, send_all, sync,
    write_at, write_atomically,
};

/// A case: it is given an empty log directory.
pub type Case = fn(&dyn Storage);

/// Every case by name.
pub const CASES: &[(&str, Case)] = &[
    ("write_then_read_gives_the_bytes", write_then_read_gives_the_bytes),
    ("read_at_the_end_is_short", read_at_the_end_is_short),
    ("write_beyond_the_end_leaves_zeros", write_beyond_the_end_leaves_zeros),
    ("empty_operations_succeed", empty_operations_succeed),
    ("run_of_many_operations_ends_them_all", run_of_many_operations_ends_them_all),
    ("run_with_failing_operations_spares_the_others", run_with_failing_operations_spares_the_others),
    ("position_beyond_any_file_is_an_error", position_beyond_any_file_is_an_error),
    ("open_missing_or_taken_name_is_refused", open_missing_or_taken_name_is_refused),
    ("open_directory_is_refused", open_directory_is_refused),
    ("path_out_of_the_directory_is_refused", path_out_of_the_directory_is_refused),
    ("list_sorts_and_describes", list_sorts_and_describes),
    ("rename_replaces_the_file", rename_replaces_the_file),
    ("rename_moves_a_directory_with_its_files", rename_moves_a_directory_with_its_files),
    ("rename_onto_the_wrong_kind_is_refused", rename_onto_the_wrong_kind_is_refused),
    ("remove_of_the_wrong_kind_is_refused", remove_of_the_wrong_kind_is_refused),
    ("removed_file_lives_while_open", removed_file_lives_while_open),
    ("set_len_cuts_and_extends_with_zeros", set_len_cuts_and_extends_with_zeros),
    ("allocate_keeps_the_length", allocate_keeps_the_length),
    ("set_modified_ms_is_what_is_seen_until_the_next_write", set_modified_ms_is_what_is_seen_until_the_next_write),
    ("sync_of_a_missing_directory_is_refused", sync_of_a_missing_directory_is_refused),
    ("lock_excludes_until_dropped", lock_excludes_until_dropped),
    ("write_atomically_replaces_whole_and_cleans_up", write_atomically_replaces_whole_and_cleans_up),
    ("read_file_keeps_its_limit", read_file_keeps_its_limit),
    ("map_checks_the_length_first", map_checks_the_length_first),
    ("send_to_a_slow_reader_sends_every_byte", send_to_a_slow_reader_sends_every_byte),
    ("send_past_the_end_is_an_error", send_past_the_end_is_an_error),
];

/// Runs every case, each in a directory of its own, which `with_empty` makes and passes on.
pub fn run_all(with_empty: impl Fn(&dyn Fn(&Arc<dyn Storage>))) {
    for (name, case) in CASES {
        eprintln!("case {name}");
        with_empty(&|disk| case(&**disk));
    }
    for (name, case) in queues::CASES {
        eprintln!("case {name}");
        with_empty(case);
    }
}

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn create(disk: &dyn Storage, name: &str) -> File {
    disk.open(path(name), Access::Create).unwrap()
}

fn create_with(disk: &dyn Storage, name: &str, bytes: &[u8]) -> File {
    let file = create(disk, name);
    write_at(disk, &file, 0, bytes).unwrap();
    file
}

fn bytes_of(disk: &dyn Storage, name: &str) -> Option<Vec<u8>> {
    read_file(disk, path(name), 1 << 30).unwrap()
}

fn names_in(disk: &dyn Storage, dir: &str) -> Vec<String> {
    disk.list(path(dir)).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
}

/// Bytes in which every position can be told from its neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 251).unwrap()).collect()
}

fn write_then_read_gives_the_bytes(disk: &dyn Storage) {
    let bytes = pattern(100_000);
    let file = create_with(disk, "a", &bytes);
    let mut into = vec![0; 50_000];
    read_exact_at(disk, &file, 25_000, &mut into).unwrap();
    assert_eq!(into, bytes[25_000..75_000]);
    sync(disk, &file).unwrap();
    assert_eq!(disk.len(&file).unwrap(), 100_000);
    let again = disk.open(path("a"), Access::Write).unwrap();
    write_at(disk, &again, 1, b"xyz").unwrap();
    read_exact_at(disk, &file, 0, &mut into[..5]).unwrap();
    assert_eq!(into[..5], [bytes[0], b'x', b'y', b'z', bytes[4]], "two opens of one file see the same bytes");
}

fn read_at_the_end_is_short(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"12345");
    let mut into = [9; 8];
    assert_eq!(read_at(disk, &file, 3, &mut into).unwrap(), 2);
    assert_eq!(into, [b'4', b'5', 9, 9, 9, 9, 9, 9]);
    assert_eq!(read_at(disk, &file, 5, &mut into).unwrap(), 0);
    assert_eq!(read_at(disk, &file, 500, &mut into).unwrap(), 0);
    assert_eq!(read_exact_at(disk, &file, 3, &mut into).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let mut others = [[0; 4]; 2];
    let [first, second] = &mut others;
    let mut ops = [Op::read(&file, 3, first), Op::read(&file, 1, second)];
    disk.run(&mut ops);
    let lengths = ops.each_mut().map(|op| op.take_result().unwrap());
    assert_eq!((lengths, others), ([2, 4], [*b"45\0\0", *b"2345"]));
}

fn write_beyond_the_end_leaves_zeros(disk: &dyn Storage) {
    let file = create(disk, "a");
    write_at(disk, &file, 10, b"x").unwrap();
    assert_eq!(bytes_of(disk, "a").unwrap(), b"\0\0\0\0\0\0\0\0\0\0x");
}

fn empty_operations_succeed(disk: &dyn Storage) {
    let file = create(disk, "a");
    let mut ops = [Op::write(&file, 7, b""), Op::read(&file, 0, &mut []), Op::sync(&file)];
    disk.run(&mut ops);
    assert_eq!(ops.each_mut().map(|op| op.take_result().unwrap()), [0, 0, 0]);
    assert_eq!(disk.len(&file).unwrap(), 0);
    disk.run(&mut []);
}

fn run_of_many_operations_ends_them_all(disk: &dyn Storage) {
    let files: Vec<File> = (0..50).map(|i| create(disk, &format!("f{i}"))).collect();
    let blocks: Vec<Vec<u8>> = (0..600).map(|i| pattern(100 + i)).collect();
    let place = |i: usize| (&files[i % 50], u64::try_from(i / 50 * 1000).unwrap());
    let mut ops: Vec<Op<'_>> = (0..600).map(|i| Op::write(place(i).0, place(i).1, &blocks[i])).collect();
    disk.run(&mut ops);
    for (op, block) in ops.iter_mut().zip(&blocks) {
        assert_eq!(op.take_result().unwrap(), block.len());
        assert!(op.take_result().is_err(), "a result is taken once");
    }
    let mut syncs: Vec<Op<'_>> = files.iter().map(Op::sync).collect();
    disk.run(&mut syncs);
    assert!(syncs.iter_mut().all(|op| op.take_result().unwrap() == 0));
    let mut read: Vec<Vec<u8>> = blocks.iter().map(|block| vec![0; block.len()]).collect();
    let mut reads: Vec<Op<'_>> =
        read.iter_mut().enumerate().map(|(i, into)| Op::read(place(i).0, place(i).1, into)).collect();
    disk.run(&mut reads);
    for (op, block) in reads.iter_mut().zip(&blocks) {
        assert_eq!(op.take_result().unwrap(), block.len());
    }
    assert_eq!(read, blocks);
}

fn run_with_failing_operations_spares_the_others(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"");
    let read_only = disk.open(path("a"), Access::Read).unwrap();
    let mut ops: Vec<Op<'_>> =
        (0..10).map(|i| Op::write(if i % 3 == 0 { &read_only } else { &file }, i, b"x")).collect();
    disk.run(&mut ops);
    let ok: Vec<bool> = ops.iter_mut().map(|op| op.take_result().is_ok()).collect();
    assert_eq!(ok, (0..10).map(|i| i % 3 != 0).collect::<Vec<_>>());
    assert!(write_at(disk, &read_only, 0, b"x").is_err() && disk.set_len(&read_only, 0).is_err());
    assert_eq!(bytes_of(disk, "a").unwrap(), b"\0xx\0xx\0xx");
}

fn position_beyond_any_file_is_an_error(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"12345");
    for at in [i64::MAX as u64, 1 << 63, u64::MAX] {
        assert!(write_at(disk, &file, at, b"xy").is_err(), "{at}");
        let mut ops = [Op::write(&file, at, b"xy"), Op::write(&file, at, b"z"), Op::write(&file, 4, b"6")];
        disk.run(&mut ops);
        assert_eq!(ops.each_mut().map(|op| op.take_result().is_ok()), [false, false, true], "{at}");
    }
    assert!(disk.set_len(&file, u64::MAX).is_err());
    assert!(disk.allocate(&file, u64::MAX).is_err());
    assert_eq!(bytes_of(disk, "a").unwrap(), b"12346");
}

fn open_missing_or_taken_name_is_refused(disk: &dyn Storage) {
    for access in [Access::Read, Access::Write] {
        assert!(disk.open(path("missing"), access).unwrap_err().is_not_found());
    }
    assert!(disk.open(path("missing/a"), Access::Create).unwrap_err().is_not_found());
    create(disk, "a");
    assert_eq!(disk.open(path("a"), Access::Create).unwrap_err().source.kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.open(path("a/b"), Access::Create).unwrap_err().source.kind(), ErrorKind::NotADirectory);
    disk.create_dir(path("d")).unwrap();
    assert_eq!(disk.create_dir(path("d")).unwrap_err().source.kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.create_dir(path("a")).unwrap_err().source.kind(), ErrorKind::AlreadyExists);
}

fn open_directory_is_refused(disk: &dyn Storage) {
    disk.create_dir(path("d")).unwrap();
    for access in [Access::Read, Access::Write] {
        assert_eq!(disk.open(path("d"), access).unwrap_err().source.kind(), ErrorKind::IsADirectory);
    }
}

fn path_out_of_the_directory_is_refused(disk: &dyn Storage) {
    disk.create_dir(path("d")).unwrap();
    for bad in ["", "/etc/passwd", "..", "../x", "d/../../x", "d/..", "./x"] {
        let invalid = |error: duramen::storage::StorageError| assert_eq!(error.source.kind(), ErrorKind::InvalidInput);
        invalid(disk.open(path(bad), Access::Read).unwrap_err());
        invalid(disk.open(path(bad), Access::Create).unwrap_err());
        invalid(disk.create_dir(path(bad)).unwrap_err());
        invalid(disk.rename(path("d"), path(bad)).unwrap_err());
        invalid(disk.rename(path(bad), path("e")).unwrap_err());
        invalid(disk.unlink(path(bad)).unwrap_err());
        invalid(disk.remove_dir(path(bad)).unwrap_err());
        invalid(disk.lock(path(bad)).unwrap_err());
        if !bad.is_empty() {
            invalid(disk.list(path(bad)).unwrap_err());
            invalid(disk.sync_dir(path(bad)).unwrap_err());
        }
    }
    assert_eq!(names_in(disk, ""), ["d"]);
}

fn list_sorts_and_describes(disk: &dyn Storage) {
    for name in ["b", "a.log", "B", "a"] {
        create_with(disk, name, name.as_bytes());
    }
    disk.create_dir(path("d")).unwrap();
    create(disk, "d/inner");
    let entries = disk.list(path("")).unwrap();
    let described: Vec<_> = entries.iter().map(|e| (e.name.to_str().unwrap(), e.kind, e.len)).collect();
    let file = EntryKind::File;
    assert_eq!(
        described,
        [("B", file, 1), ("a", file, 1), ("a.log", file, 5), ("b", file, 1), ("d", EntryKind::Directory, 0)]
    );
    assert_eq!(names_in(disk, "d"), ["inner"]);
    assert!(disk.list(path("missing")).unwrap_err().is_not_found());
    assert_eq!(disk.list(path("a")).unwrap_err().source.kind(), ErrorKind::NotADirectory);
}

fn rename_replaces_the_file(disk: &dyn Storage) {
    create_with(disk, "a", b"old");
    let file = create_with(disk, "b", b"new");
    disk.rename(path("b"), path("a")).unwrap();
    assert_eq!(bytes_of(disk, "a").unwrap(), b"new");
    assert_eq!(names_in(disk, ""), ["a"]);
    write_at(disk, &file, 3, b"er").unwrap();
    assert_eq!(bytes_of(disk, "a").unwrap(), b"newer", "an open file follows its name");
    disk.rename(path("a"), path("a")).unwrap();
    assert_eq!(bytes_of(disk, "a").unwrap(), b"newer");
    assert!(disk.rename(path("missing"), path("a")).unwrap_err().is_not_found());
    assert!(disk.rename(path("a"), path("missing/a")).unwrap_err().is_not_found());
}

fn rename_moves_a_directory_with_its_files(disk: &dyn Storage) {
    disk.create_dir(path("t-0")).unwrap();
    create_with(disk, "t-0/f", b"x");
    disk.rename(path("t-0"), path("t-0.gone-delete")).unwrap();
    assert_eq!(bytes_of(disk, "t-0.gone-delete/f").unwrap(), b"x");
    assert_eq!(names_in(disk, ""), ["t-0.gone-delete"]);
    disk.create_dir(path("other")).unwrap();
    disk.rename(path("t-0.gone-delete/f"), path("other/g")).unwrap();
    assert_eq!((names_in(disk, "t-0.gone-delete"), names_in(disk, "other")), (vec![], vec!["g".into()]));
    disk.rename(path("other"), path("t-0.gone-delete")).unwrap();
    assert_eq!(bytes_of(disk, "t-0.gone-delete/g").unwrap(), b"x", "an empty directory is replaced");
    let inner = disk.rename(path("t-0.gone-delete"), path("t-0.gone-delete/inner"));
    assert_eq!(inner.unwrap_err().source.kind(), ErrorKind::InvalidInput);
}

fn rename_onto_the_wrong_kind_is_refused(disk: &dyn Storage) {
    create(disk, "f");
    disk.create_dir(path("d")).unwrap();
    disk.create_dir(path("full")).unwrap();
    create(disk, "full/f");
    let kind = |from, to| disk.rename(path(from), path(to)).unwrap_err().source.kind();
    assert_eq!(kind("f", "d"), ErrorKind::IsADirectory);
    assert_eq!(kind("d", "f"), ErrorKind::NotADirectory);
    assert_eq!(kind("d", "full"), ErrorKind::DirectoryNotEmpty);
    assert_eq!(names_in(disk, ""), ["d", "f", "full"]);
}

fn remove_of_the_wrong_kind_is_refused(disk: &dyn Storage) {
    create(disk, "f");
    disk.create_dir(path("d")).unwrap();
    create(disk, "d/f");
    assert_eq!(disk.remove_dir(path("d")).unwrap_err().source.kind(), ErrorKind::DirectoryNotEmpty);
    assert_eq!(disk.remove_dir(path("f")).unwrap_err().source.kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.unlink(path("d")).unwrap_err().source.kind(), ErrorKind::IsADirectory);
    assert!(disk.unlink(path("missing")).unwrap_err().is_not_found());
    assert!(disk.remove_dir(path("missing")).unwrap_err().is_not_found());
    disk.unlink(path("d/f")).unwrap();
    disk.remove_dir(path("d")).unwrap();
    disk.unlink(path("f")).unwrap();
    assert_eq!(names_in(disk, ""), Vec::<String>::new());
}

fn removed_file_lives_while_open(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"12345");
    disk.unlink(path("a")).unwrap();
    create_with(disk, "a", b"another");
    let mut into = [0; 5];
    read_exact_at(disk, &file, 0, &mut into).unwrap();
    assert_eq!(&into, b"12345");
    write_at(disk, &file, 5, b"6").unwrap();
    sync(disk, &file).unwrap();
    assert_eq!(disk.len(&file).unwrap(), 6);
    assert_eq!(bytes_of(disk, "a").unwrap(), b"another");
}

fn set_len_cuts_and_extends_with_zeros(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"12345");
    disk.set_len(&file, 3).unwrap();
    assert_eq!(bytes_of(disk, "a").unwrap(), b"123");
    disk.set_len(&file, 6).unwrap();
    assert_eq!(bytes_of(disk, "a").unwrap(), b"123\0\0\0");
}

fn allocate_keeps_the_length(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"123");
    disk.allocate(&file, 1 << 20).unwrap();
    disk.allocate(&file, 0).unwrap();
    assert_eq!(disk.len(&file).unwrap(), 3);
    assert_eq!(bytes_of(disk, "a").unwrap(), b"123");
}

fn set_modified_ms_is_what_is_seen_until_the_next_write(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"123");
    for ms in [1_700_000_000_123, 0, -1] {
        disk.set_modified_ms(&file, ms).unwrap();
        assert_eq!(disk.modified_ms(&file).unwrap(), ms);
        assert_eq!(disk.list(path("")).unwrap()[0].modified_ms, ms);
    }
    write_at(disk, &file, 3, b"4").unwrap();
    assert_ne!(disk.modified_ms(&file).unwrap(), -1);
}

fn sync_of_a_missing_directory_is_refused(disk: &dyn Storage) {
    disk.sync_dir(path("")).unwrap();
    disk.create_dir(path("d")).unwrap();
    disk.sync_dir(path("d")).unwrap();
    assert!(disk.sync_dir(path("missing")).unwrap_err().is_not_found());
}

fn lock_excludes_until_dropped(disk: &dyn Storage) {
    let held = disk.lock(path(".lock")).unwrap();
    assert_eq!(disk.lock(path(".lock")).unwrap_err().source.kind(), ErrorKind::WouldBlock);
    let other = disk.lock(path(".other")).unwrap();
    drop(held);
    let again = disk.lock(path(".lock")).unwrap();
    drop((again, other));
    assert_eq!(names_in(disk, ""), [".lock", ".other"], "the files stay");
}

fn write_atomically_replaces_whole_and_cleans_up(disk: &dyn Storage) {
    disk.create_dir(path("d")).unwrap();
    for name in ["a", "d/a"] {
        create_with(disk, &format!("{name}.tmp"), b"left over from a crash, and longer");
        write_atomically(disk, path(name), b"first, long").unwrap();
        write_atomically(disk, path(name), b"second").unwrap();
        assert_eq!(bytes_of(disk, name).unwrap(), b"second");
    }
    assert_eq!((names_in(disk, ""), names_in(disk, "d")), (vec!["a".into(), "d".into()], vec!["a".into()]));
    let error = write_atomically(disk, path("d"), b"no").unwrap_err();
    assert_eq!((error.operation, error.source.kind()), ("rename", ErrorKind::IsADirectory));
    assert_eq!(names_in(disk, ""), ["a", "d"], "nothing is left of the attempt");
}

fn read_file_keeps_its_limit(disk: &dyn Storage) {
    assert_eq!(read_file(disk, path("missing"), 10).unwrap(), None);
    create_with(disk, "a", b"12345");
    assert_eq!(read_file(disk, path("a"), 5).unwrap().unwrap(), b"12345");
    assert_eq!(read_file(disk, path("a"), 4).unwrap_err().source.kind(), ErrorKind::FileTooLarge);
}

fn map_checks_the_length_first(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"12345");
    let map = MappedFile::open(&file, 3).unwrap();
    assert_eq!((map.as_slice(), map.is_map()), (&b"123"[..], true));
    assert_eq!(MappedFile::open(&file, 6).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(MappedFile::open(&file, u64::MAX).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(MappedFile::open(&file, 0).unwrap().as_slice(), b"");
}

/// A connection whose sending side does not block.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    sender.set_nonblocking(true).unwrap();
    (sender, listener.accept().unwrap().0)
}

fn send_to_a_slow_reader_sends_every_byte(disk: &dyn Storage) {
    let bytes = pattern(16 << 20);
    let file = create_with(disk, "a", &bytes);
    let (sender, mut reader) = connection();
    let len = u64::try_from(bytes.len()).unwrap() - 1000;
    let mut sent = 0;
    let full = loop {
        match send(&file, 1000 + sent, len - sent, sender.as_fd()) {
            Ok(more) => sent += more,
            Err(error) => break error,
        }
        assert!(sent < len, "the socket takes less than the file");
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    assert!(sent > 0);
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        let mut chunk = vec![0; 3001];
        loop {
            match reader.read(&mut chunk).unwrap() {
                0 => return received,
                read => received.extend_from_slice(&chunk[..read]),
            }
            thread::yield_now();
        }
    });
    send_all(&file, 1000 + sent, len - sent, sender.as_fd(), None).unwrap();
    drop(sender);
    assert!(reading.join().unwrap() == bytes[1000..], "the bytes differ");
}

fn send_past_the_end_is_an_error(disk: &dyn Storage) {
    let file = create_with(disk, "a", b"12345");
    let (sender, mut reader) = connection();
    assert_eq!(send(&file, 0, 6, sender.as_fd()).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(send_all(&file, 3, 6, sender.as_fd(), None).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(send(&file, 9, 1, sender.as_fd()).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(send(&file, u64::MAX, 1, sender.as_fd()).is_err());
    assert_eq!(send(&file, 9, 0, sender.as_fd()).unwrap(), 0);
    drop(sender);
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"1234545");
}
