//! The backends of the disk: one suite for all, and what only a real kernel can show.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, symlink},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use duramen::storage::{
    Access, Backend, EntryKind, MappedFile, Op, Posix, Storage, StorageError, Uring, open_best, read_file, send,
    send_all, write_at,
};
use duramen_tests::{disk::SimDisk, storage_suite};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigSet, Signal},
        stat::Mode,
    },
    unistd::mkfifo,
};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};

/// Set in a child process, which is this test binary again: the child's part of a test.
const CHILD: &str = "DURAMEN_TEST_CHILD";

/// What a child prints when its part has succeeded, so that a child which ran nothing is noticed.
const DONE: &str = "the child is done";

fn run_suite(open: impl Fn(&Path) -> Arc<dyn Storage>) {
    storage_suite::run_all(|case| {
        let dir = tempfile::tempdir().unwrap();
        case(&open(dir.path()));
    });
}

fn posix(dir: &Path) -> Arc<dyn Storage> {
    Arc::new(Posix::open(dir).unwrap())
}

fn uring(dir: &Path) -> Arc<dyn Storage> {
    Arc::new(Uring::open(dir, 64).unwrap())
}

fn uring_of_two(dir: &Path) -> Arc<dyn Storage> {
    Arc::new(Uring::open(dir, 2).unwrap())
}

#[test]
fn posix_passes_the_suite() {
    run_suite(posix);
}

#[test]
fn uring_passes_the_suite() {
    run_suite(uring);
}

#[test]
fn uring_with_a_ring_of_two_entries_passes_the_suite() {
    run_suite(uring_of_two);
}

#[test]
fn simulated_disk_passes_the_suite() {
    for seed in 0..10 {
        storage_suite::run_all(|case| case(&(Arc::new(SimDisk::new(seed)) as Arc<dyn Storage>)));
    }
}

#[test]
fn open_best_with_io_uring_allowed_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, backend) = open_best(dir.path()).unwrap();
    assert_eq!(backend, Backend::Uring);
    assert!(format!("{disk:?}").starts_with("Uring"));
}

#[test]
fn open_best_with_io_uring_refused_falls_back_and_passes_the_suite() {
    let refusals = [
        (libc::SYS_io_uring_setup, Errno::EPERM, "seccomp"),
        (libc::SYS_io_uring_setup, Errno::ENOSYS, "kernel"),
        (libc::SYS_io_uring_setup, Errno::ENOMEM, "locked memory"),
        (libc::SYS_io_uring_enter, Errno::EPERM, "seccomp"),
    ];
    for (syscall, errno, reason) in refusals {
        // A filter holds for the thread that sets it and those that it starts.
        thread::spawn(move || {
            refuse(syscall, errno);
            run_suite(|dir| fallen_back(dir, reason));
        })
        .join()
        .unwrap();
    }
}

/// The backend that is left without io_uring.
fn fallen_back(dir: &Path, reason: &str) -> Arc<dyn Storage> {
    let (disk, backend) = open_best(dir).unwrap();
    let Backend::Posix { why } = backend else { panic!("the filter does not work: {disk:?}") };
    assert!(why.contains(reason), "{why}");
    assert!(format!("{disk:?}").starts_with("Posix"));
    assert!(Uring::open(dir, 2).is_err());
    disk
}

fn refuse(syscall: i64, errno: Errno) {
    let filter = SeccompFilter::new(
        [(syscall, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(u32::try_from(errno as i32).unwrap()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

#[test]
fn uring_used_by_many_threads_keeps_their_operations_apart() {
    let dir = tempfile::tempdir().unwrap();
    let disk = uring_of_two(dir.path());
    thread::scope(|scope| {
        for worker in 0..8_u8 {
            let disk = &*disk;
            scope.spawn(move || {
                let name = format!("f{worker}");
                let file = disk.open(Path::new(&name), Access::Create).unwrap();
                for round in 0..50 {
                    let mut ops: Vec<_> = (0..5).map(|i| Op::write(&file, round * 5 + i, b"a")).collect();
                    ops.push(Op::sync(&file));
                    disk.run(&mut ops);
                    assert!(ops.iter_mut().all(|op| op.take_result().is_ok()));
                }
                assert_eq!(read_file(disk, Path::new(&name), 250).unwrap().unwrap(), [b'a'; 250]);
            });
        }
    });
}

#[test]
fn link_is_never_followed() {
    for open in [posix, uring] {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), b"x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        symlink(outside.path(), dir.path().join("folder")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        let disk = open(dir.path());
        let is_loop = |error: StorageError| assert_eq!(error.source.raw_os_error(), Some(libc::ELOOP), "{error}");
        for access in [Access::Read, Access::Write] {
            is_loop(disk.open(Path::new("file"), access).unwrap_err());
            is_loop(disk.open(Path::new("folder/secret"), access).unwrap_err());
        }
        is_loop(disk.open(Path::new("folder/new"), Access::Create).unwrap_err());
        is_loop(disk.list(Path::new("folder")).unwrap_err());
        is_loop(disk.sync_dir(Path::new("folder")).unwrap_err());
        is_loop(disk.create_dir(Path::new("folder/new")).unwrap_err());
        is_loop(disk.unlink(Path::new("folder/secret")).unwrap_err());
        is_loop(disk.rename(Path::new("folder/secret"), Path::new("stolen")).unwrap_err());
        is_loop(disk.lock(Path::new("file")).unwrap_err());
        is_loop(disk.lock(Path::new("dangling")).unwrap_err());
        let taken = disk.open(Path::new("dangling"), Access::Create).unwrap_err();
        assert_eq!(taken.source.kind(), ErrorKind::AlreadyExists);
        assert!(disk.list(Path::new("")).unwrap().iter().all(|entry| entry.kind == EntryKind::Other && entry.len == 0));
        disk.unlink(Path::new("file")).unwrap();
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"x", "only the link is removed");
    }
}

#[test]
fn pipe_is_refused_without_waiting_for_its_other_end() {
    let dir = tempfile::tempdir().unwrap();
    mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
    let disk = posix(dir.path());
    for access in [Access::Read, Access::Write] {
        let error = disk.open(Path::new("pipe"), access).unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(disk.lock(Path::new("pipe")).unwrap_err().source.kind(), ErrorKind::InvalidInput);
}

#[test]
fn created_files_are_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk = posix(dir.path());
    disk.create_dir(Path::new("d")).unwrap();
    disk.open(Path::new("f"), Access::Create).unwrap();
    drop(disk.lock(Path::new(".lock")).unwrap());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim();
    let umask = u32::from_str_radix(umask, 8).unwrap();
    let mode = |name| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!([mode("d"), mode("f"), mode(".lock")], [0o750 & !umask, 0o640 & !umask, 0o640 & !umask]);
}

#[test]
fn two_opens_of_one_directory_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (posix(dir.path()), uring(dir.path()));
    let held = first.lock(Path::new(".lock")).unwrap();
    assert_eq!(second.lock(Path::new(".lock")).unwrap_err().source.kind(), ErrorKind::WouldBlock);
    drop(fs::File::open(dir.path().join(".lock")).unwrap()); // closing an alias would free a plain POSIX lock
    assert_eq!(second.lock(Path::new(".lock")).unwrap_err().source.kind(), ErrorKind::WouldBlock);
    drop(held);
    drop(second.lock(Path::new(".lock")).unwrap());
}

#[test]
fn lock_held_by_another_process_as_kafka_does_excludes() {
    const TEST: &str = "lock_held_by_another_process_as_kafka_does_excludes";
    if let Ok(dir) = std::env::var(CHILD) {
        return hold_posix_lock(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = posix(dir.path());
    let held = disk.lock(Path::new(".lock")).unwrap();
    let mut refused = spawn_child(TEST, dir.path().to_str().unwrap());
    assert!(said(&mut refused, "refused"), "our lock is not seen by the other process");
    refused.wait().unwrap();
    drop(held);

    let mut holder = spawn_child(TEST, dir.path().to_str().unwrap());
    assert!(said(&mut holder, "held"));
    assert_eq!(disk.lock(Path::new(".lock")).unwrap_err().source.kind(), ErrorKind::WouldBlock);
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    drop(disk.lock(Path::new(".lock")).unwrap());
}

/// The child's part: takes the lock that Java's `FileChannel.tryLock` takes and holds it until its input ends.
fn hold_posix_lock(dir: &Path) {
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(dir.join(".lock")).unwrap();
    let lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: i64::MAX,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&lock)) {
        Ok(_) => println!("\nheld"),
        Err(_) => return println!("\nrefused"),
    }
    std::io::stdout().flush().unwrap();
    std::io::stdin().lines().for_each(drop);
}

/// Starts this test binary again to run the child's part of `test`.
fn spawn_child(test: &str, part: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the child prints a line; false if it ends without.
fn said(child: &mut Child, line: &str) -> bool {
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    output.lines().map_while(Result::ok).any(|found| found == line)
}

fn child_succeeds(test: &str, part: &str) {
    let mut child = spawn_child(test, part);
    let done = said(&mut child, DONE);
    assert!(child.wait_with_output().unwrap().status.success() && done, "the child's part failed: {part}");
}

#[test]
fn write_cut_short_by_the_kernel_is_continued_until_it_fails() {
    const TEST: &str = "write_cut_short_by_the_kernel_is_continued_until_it_fails";
    match std::env::var(CHILD).as_deref() {
        Err(_) => ["posix", "uring"].into_iter().for_each(|backend| child_succeeds(TEST, backend)),
        Ok("posix") => write_across_the_limit(posix),
        Ok(_) => write_across_the_limit(uring),
    }
}

/// The child's part: under a limit on the file size the kernel shortens the write that crosses it.
fn write_across_the_limit(open: fn(&Path) -> Arc<dyn Storage>) {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGXFSZ); // else the limit kills the process
    blocked.thread_block().unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 10_000, 20_000).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let file = disk.open(Path::new("f"), Access::Create).unwrap();
    let mut ops = [Op::write(&file, 0, &[1; 4096]), Op::write(&file, 4096, &[2; 8192])];
    disk.run(&mut ops);
    assert_eq!(ops[0].take_result().unwrap(), 4096);
    assert_eq!(ops[1].take_result().unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(write_at(&*disk, &file, 9_000, &[3; 4096]).unwrap_err().kind(), ErrorKind::FileTooLarge);
    let expected = [vec![1; 4096], vec![2; 4904], vec![3; 1000]].concat();
    assert_eq!(read_file(&*disk, Path::new("f"), 10_000).unwrap().unwrap(), expected);
    println!("\n{DONE}");
}

#[test]
fn map_refused_by_the_kernel_is_read_into_memory() {
    const TEST: &str = "map_refused_by_the_kernel_is_read_into_memory";
    if std::env::var(CHILD).is_err() {
        return child_succeeds(TEST, "maps");
    }
    let limit: usize = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk = posix(dir.path());
    let file = disk.open(Path::new("f"), Access::Create).unwrap();
    write_at(&*disk, &file, 0, &[7; 4096]).unwrap();
    let mut maps = Vec::with_capacity(limit + 2);
    let refused = loop {
        assert!(maps.len() <= limit, "the kernel grants more maps than its limit");
        let map = MappedFile::open(&file, 4096).unwrap();
        if !map.is_map() {
            break map;
        }
        maps.push(map);
    };
    let right = refused.as_slice() == [7; 4096];
    drop(maps); // without room for maps even a panic could not be printed
    assert!(right);
    println!("\n{DONE}");
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    sender.set_nonblocking(true).unwrap();
    (sender, listener.accept().unwrap().0)
}

#[test]
fn send_all_to_a_peer_that_takes_nothing_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let disk = posix(dir.path());
    let file = disk.open(Path::new("f"), Access::Create).unwrap();
    disk.set_len(&file, 64 << 20).unwrap();
    let (sender, _reader) = connection();
    let result = send_all(&file, 0, 64 << 20, sender.as_fd(), Some(Duration::from_millis(1)));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn send_to_a_peer_that_has_gone_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let disk = posix(dir.path());
    let file = disk.open(Path::new("f"), Access::Create).unwrap();
    disk.set_len(&file, 64 << 20).unwrap();
    let (sender, reader) = connection();
    sender.shutdown(Shutdown::Write).unwrap();
    assert_eq!(send(&file, 0, 1, sender.as_fd()).unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop((sender, reader));
    let (sender, reader) = connection();
    drop(reader);
    let error = send_all(&file, 0, 64 << 20, sender.as_fd(), Some(Duration::from_secs(60))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}
