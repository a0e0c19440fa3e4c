//! A thread that helps, the one whose work it is, and whoever else waits.

use super::{
    super::sync::{AtomicBool, AtomicI64},
    *,
};

/// Records that are flushed one at a time, begun in one step and ended in the next, as the journal's writer does.
struct Records {
    watch: Arc<Watch>,
    shared: Arc<Appended>,
    begun: i64,
    ended: i64,
    news: Wakes,
}

/// What appenders share with whoever has the turn.
#[derive(Default)]
struct Appended {
    records: AtomicI64,
    /// Those that were begun when somebody let go.
    seen: AtomicI64,
    is_over: AtomicBool,
}

impl Records {
    fn step(&mut self) {
        self.ended = self.begun;
        self.news.append(self.watch.advance(&[(Position::Flushed, mark(self.ended))]));
        self.begun = self.shared.records.load(SeqCst);
    }
}

impl Work for Records {
    fn may_rest(&mut self) -> bool {
        self.shared.seen.store(self.begun, SeqCst);
        self.begun == self.ended && self.news.is_empty() && self.shared.records.load(SeqCst) == self.begun
    }
}

struct Flushing {
    turns: Turns<Records>,
    shared: Arc<Appended>,
}

impl std::fmt::Debug for Flushing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flushing")
    }
}

impl Mover for Flushing {
    fn move_on(&self, is_done: &dyn Fn() -> bool) {
        let step = |records: &mut Records| {
            let mut steps = 0;
            while !is_done() && records.news.is_empty() && steps < 3 {
                records.step();
                steps += 1;
            }
        };
        self.turns.help(step, || self.shared.records.load(SeqCst) > self.shared.seen.load(SeqCst));
    }
}

impl Flushing {
    /// With a watch, of which it is the mover, and the thread of its own.
    fn start() -> (Arc<Self>, Arc<Watch>, JoinHandle<()>) {
        let flushing = Arc::new(Self { turns: Turns::default(), shared: Arc::default() });
        let mover = Arc::downgrade(&flushing);
        let watch = Watch::new(Position::ALL.map(|_| mark(0))).moved_by(mover, Arc::clone(flushing.turns.sleeper()));
        let (watch, shared) = (Arc::new(watch), Arc::clone(&flushing.shared));
        let records = Records { watch: Arc::clone(&watch), shared, begun: 0, ended: 0, news: Wakes::default() };
        let thread = spawn({
            let flushing = Arc::clone(&flushing);
            move || flushing.run()
        });
        flushing.turns.put(records);
        (flushing, watch, thread)
    }

    fn run(&self) {
        self.turns.run(
            || self.shared.is_over.load(SeqCst),
            |records| {
                while !self.shared.is_over.load(SeqCst) && !records.may_rest() {
                    records.step();
                    std::mem::take(&mut records.news).fire();
                }
            },
        );
    }

    fn append(&self, watch: &Arc<Watch>) -> Ticket {
        let end = self.shared.records.fetch_add(1, SeqCst) + 1;
        self.turns.sleeper().mention();
        watch.ticket(Position::Flushed, end)
    }

    fn stop(&self) {
        self.shared.is_over.store(true, SeqCst);
        self.turns.sleeper().wake();
    }
}

#[test]
fn thread_that_helps_and_those_that_wait_are_all_answered() {
    explore(|| {
        let (flushing, watch, own) = Flushing::start();
        let waits = [(); 2].map(|()| {
            let (flushing, watch) = (Arc::clone(&flushing), Arc::clone(&watch));
            spawn(move || {
                for _ in 0..2 {
                    assert_eq!(flushing.append(&watch).wait(None), Ok(()));
                }
            })
        });
        waits.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(watch.get(Position::Flushed), 4);
        flushing.stop();
        own.join().unwrap();
        assert!(is_idle(&watch));
    });
}

#[test]
fn callback_is_answered_though_nobody_helps_and_beside_one_that_does() {
    explore(|| {
        let (flushing, watch, own) = Flushing::start();
        let (answers, queue) = (Answers::default(), CompletionQueue::new().unwrap());
        let helps = spawn({
            let (flushing, watch) = (Arc::clone(&flushing), Arc::clone(&watch));
            move || assert_eq!(flushing.append(&watch).wait(None), Ok(()))
        });
        flushing.append(&watch).on_done(answers.callback());
        flushing.append(&watch).enqueue(&queue, 7);
        assert!(queue.wait(None));
        helps.join().unwrap();
        assert_eq!(block_on(flushing.append(&watch)), Ok(()));
        assert_eq!(answers.taken(), [Ok(())]);
        flushing.stop();
        own.join().unwrap();
    });
}

#[test]
fn stop_ends_the_own_thread_whoever_has_the_turn() {
    explore(|| {
        let (flushing, watch, own) = Flushing::start();
        let helps = spawn({
            let (flushing, watch) = (Arc::clone(&flushing), Arc::clone(&watch));
            move || drop(flushing.append(&watch).wait(None))
        });
        flushing.stop();
        own.join().unwrap();
        assert!(flushing.turns.take().is_some());
        watch.close().fire();
        helps.join().unwrap();
    });
}
