//! Calls of a storage as an input says, and what each answered.

use super::{Input, path};
use duramen::storage::{
    Access, BufferPool, DIRECT_BYTES, EndedWrite, File, Op, Queue, QueuedWrite, Storage, StorageError, Wait, queue,
};
use std::{io, ops::Range, sync::Arc};

/// Names for everything: plain, in a directory, and of that directory itself.
const NAMES: [&str; 6] = ["a", "b", "d/a", "d/b", "d", "missing/a"];
const SLOTS: u8 = 4;
/// Operations of one call keep to a part of the file each, so that their order does not show.
const PART_BYTES: u64 = 12 << 10;
const MAX_CALLS: usize = 40;
const QUEUE_DEPTH: u32 = 4;

struct Opened {
    file: Arc<File>,
    is_direct: bool,
}

/// A disk, what is open on it, and what it has answered.
struct Caller<'a> {
    storage: &'a Arc<dyn Storage>,
    slots: [Option<Opened>; SLOTS as usize],
    queue: Box<dyn Queue>,
    pool: Arc<BufferPool>,
    answers: Vec<String>,
}

/// Runs the calls and gives their answers.
pub(super) fn run(storage: &Arc<dyn Storage>, data: &[u8]) -> Vec<String> {
    let mut caller = Caller {
        storage,
        slots: [const { None }; SLOTS as usize],
        queue: queue(storage, QUEUE_DEPTH).unwrap(),
        pool: BufferPool::new(1 << 20),
        answers: Vec::new(),
    };
    let mut input = Input(data);
    for _ in 0..MAX_CALLS {
        if input.is_empty() {
            break;
        }
        caller.call(&mut input);
    }
    caller.answers
}

fn answer<T: std::fmt::Debug>(what: &str, result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{what}: {value:?}"),
        Err(error) => format!("{what}: {:?}", error.kind()),
    }
}

fn io_of<T>(result: Result<T, StorageError>) -> io::Result<T> {
    result.map_err(|error| error.source)
}

fn op_of(write: &QueuedWrite) -> Op<'_> {
    if write.durable {
        Op::write_durable(&write.file, write.at, write.bytes())
    } else {
        Op::write(&write.file, write.at, write.bytes())
    }
}

impl Caller<'_> {
    fn say<T: std::fmt::Debug>(&mut self, what: &str, result: io::Result<T>) {
        self.answers.push(answer(what, result));
    }

    fn call(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 | 1 => self.open(input, "create"),
            2 => self.open(input, "read"),
            3 => self.open(input, "write"),
            4 => self.open(input, "direct"),
            5 | 6 => self.write_many(input),
            7 => self.read_many(input),
            8 | 9 => self.write_queued(input),
            10 => self.change_length(input),
            11 => self.change_names(input),
            12 => self.change_directories(input),
            13 => self.list(),
            14 => self.look(input),
            _ => {
                let slot = input.below(SLOTS);
                self.slots[slot] = None;
            }
        }
    }

    fn open(&mut self, input: &mut Input<'_>, how: &'static str) {
        let name = path(NAMES[input.below(6)]);
        let slot = input.below(SLOTS);
        let opened = io_of(match how {
            "create" => self.storage.open(name, Access::Create),
            "read" => self.storage.open(name, Access::Read),
            "write" => self.storage.open(name, Access::Write),
            _ => self.storage.open_direct(name),
        });
        let opened = opened.map(|file| Opened { file: Arc::new(file), is_direct: how == "direct" });
        self.answers.push(answer(how, opened.as_ref().map(drop).map_err(|error| error.kind().into())));
        if let Ok(opened) = opened {
            self.slots[slot] = Some(opened);
        }
    }

    /// Writes for one call: file, position, buffer and which of its bytes. Direct ones are aligned, as they have to be.
    fn writes(&self, input: &mut Input<'_>, most: u8) -> Vec<QueuedWrite> {
        let mut writes = Vec::new();
        let count = 1 + u64::try_from(input.below(most)).unwrap();
        for tag in 0..count {
            let (slot, place, len, durable) = (input.below(SLOTS), input.byte(), input.byte(), input.below(4) == 0);
            let Some(opened) = &self.slots[slot] else {
                continue;
            };
            let place = u64::from(place);
            let (at, range): (u64, Range<usize>) = if opened.is_direct {
                ((place % 2) << 12, 0..DIRECT_BYTES * usize::from(1 + len % 2))
            } else {
                (place * 16, usize::from(len % 7)..usize::from(len % 7) + 1 + usize::from(len) * 30)
            };
            let mut writer = self.pool.take(2 * DIRECT_BYTES).unwrap();
            let bytes: Vec<u8> = (0..=250).cycle().take(writer.room()).map(|byte: u8| byte ^ len).collect();
            assert!(writer.append(&bytes));
            let file = Arc::clone(&opened.file);
            writes.push(QueuedWrite { file, at: tag * PART_BYTES + at, buffer: writer.share(), range, durable, tag });
        }
        writes
    }

    fn write_many(&mut self, input: &mut Input<'_>) {
        let (writes, with_sync) = (self.writes(input, 6), input.below(4) == 0);
        let mut ops: Vec<Op<'_>> = writes.iter().map(op_of).collect();
        if with_sync {
            ops.extend(writes.first().map(|write| Op::sync(&write.file)));
        }
        self.storage.run(&mut ops);
        let answers: Vec<String> = ops.iter_mut().map(|op| answer("write", op.take_result())).collect();
        drop(ops);
        self.answers.extend(answers);
    }

    /// Reads of one call see no write, so that it does not matter where they are.
    fn read_many(&mut self, input: &mut Input<'_>) {
        let mut wanted = Vec::new();
        for _ in 0..=input.below(5) {
            let (slot, place, len) = (input.below(SLOTS), input.byte(), input.byte());
            let plain = self.slots[slot].as_ref().filter(|opened| !opened.is_direct);
            wanted
                .extend(plain.map(|opened| (Arc::clone(&opened.file), u64::from(place) * 200, usize::from(len) * 50)));
        }
        let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|(_, _, len)| vec![0xee; *len]).collect();
        let reads = wanted.iter().zip(&mut buffers);
        let mut ops: Vec<Op<'_>> = reads.map(|((file, at, _), into)| Op::read(file, *at, into)).collect();
        self.storage.run(&mut ops);
        let results: Vec<_> = ops.iter_mut().map(Op::take_result).collect();
        drop(ops);
        for (result, buffer) in results.into_iter().zip(buffers) {
            self.say("read", result.map(|len| (len, crc32c::crc32c(&buffer))));
        }
    }

    fn write_queued(&mut self, input: &mut Input<'_>) {
        // More than fit in flight at once.
        let writes = self.writes(input, 8);
        let (count, mut ended): (usize, Vec<EndedWrite>) = (writes.len(), Vec::new());
        writes.into_iter().for_each(|write| self.queue.submit(write));
        while ended.len() < count {
            self.queue.reap(Wait::UntilWoken, &mut ended);
        }
        assert_eq!((ended.len(), self.queue.in_flight()), (count, 0));
        ended.sort_by_key(|ended| ended.write.tag);
        for EndedWrite { write, result } in ended {
            self.say(&format!("queued write {}", write.tag), result);
        }
    }

    fn change_length(&mut self, input: &mut Input<'_>) {
        let (slot, len, allocate) = (input.below(SLOTS), u64::from(input.byte()) * 150, input.below(3) == 0);
        let Some(opened) = &self.slots[slot] else {
            return;
        };
        let result = match allocate {
            true => self.storage.allocate(&opened.file, len),
            false => self.storage.set_len(&opened.file, len),
        };
        self.say("length", result);
    }

    fn change_names(&mut self, input: &mut Input<'_>) {
        let (from, to) = (path(NAMES[input.below(6)]), path(NAMES[input.below(6)]));
        match input.below(2) {
            0 => self.say("rename", io_of(self.storage.rename(from, to))),
            _ => self.say("unlink", io_of(self.storage.unlink(from))),
        }
    }

    fn change_directories(&mut self, input: &mut Input<'_>) {
        let dir = path(NAMES[input.below(6)]);
        match input.below(4) {
            0 => self.say("remove directory", io_of(self.storage.remove_dir(dir))),
            1 => self.say("sync directory", io_of(self.storage.sync_dir(dir))),
            2 => self.say("create directory", io_of(self.storage.create_dir(dir))),
            _ => self.say("create directory", io_of(self.storage.create_dir(path("d")))),
        }
    }

    fn list(&mut self) {
        for dir in ["", "d", "a", "missing"] {
            let listed = io_of(self.storage.list(path(dir)));
            let listed = listed.map(|all| all.into_iter().map(|it| (it.name, it.kind, it.len)).collect::<Vec<_>>());
            self.say("list", listed);
        }
    }

    fn look(&mut self, input: &mut Input<'_>) {
        let (slot, modified_ms) = (input.below(SLOTS), i64::from(input.byte()) * 1001);
        let Some(opened) = &self.slots[slot] else {
            return;
        };
        let (storage, file) = (self.storage, Arc::clone(&opened.file));
        self.say("length", storage.len(&file));
        self.say("forget", storage.forget_cached(&file));
        storage.begin_writing_out(&file, 0, 4096);
        self.say("set modified", storage.set_modified_ms(&file, modified_ms));
        self.say("modified", storage.modified_ms(&file));
    }
}
